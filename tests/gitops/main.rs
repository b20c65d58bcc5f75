//! The health checks for Argo CD and Flux agree with kstatus on every state of the three kinds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of a test may panic")]

#[path = "../kstatus/states.rs"]
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cel::{Context, Program, Value as CelValue};
use mlua::{Lua, LuaSerdeExt};
use serde::Deserialize;
use serde_json::Value;

use states::{Progress, State};

fn shipped(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/gitops").join(file)).unwrap()
}

/// The answer of the health check for Argo CD.
#[derive(Debug, Deserialize)]
struct Health {
    status: String,
    message: String,
}

/// Runs the health check as Argo CD does: Lua 5.1, with the object as `obj`.
fn health(lua: &Lua, check: &str, object: &Value) -> Health {
    lua.globals().set("obj", lua.to_value(object).unwrap()).unwrap();
    lua.from_value(lua.load(check).eval().unwrap()).unwrap()
}

#[test]
fn argo_cd_shows_every_state_as_it_is() {
    let (lua, check) = (Lua::new(), shipped("argocd/health.lua"));
    let mut seen = BTreeSet::new();
    for State { name, object, progress } in states::all() {
        let is_suspended = object["spec"]["suspend"] == true;
        let expected = match progress {
            Progress::Current if is_suspended => "Suspended",
            Progress::Current => "Healthy",
            Progress::InProgress | Progress::Terminating => "Progressing",
            Progress::Failed => "Degraded",
        };
        let found = health(&lua, &check, &object);
        assert_eq!(found.status, expected, "{name}: {object:#}");
        assert!(!found.message.is_empty(), "{name}");
        seen.insert(found.status);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn argo_cd_gets_the_check_of_each_kind() {
    let kustomization: Value = serde_saphyr::from_str(&shipped("argocd/kustomization.yaml")).unwrap();
    let generated = &kustomization["configMapGenerator"][0];
    assert_eq!((generated["name"].as_str(), kustomization["namespace"].as_str()), (Some("argocd-cm"), Some("argocd")));
    let files: Vec<_> = generated["files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    let wanted = ["Agent", "Board", "AgentGateway"]
        .map(|kind| format!("resource.customizations.health.muster.dev_{kind}=health.lua"));
    assert_eq!(files, wanted);
}

/// An entry of `spec.healthCheckExprs`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HealthCheck {
    api_version: String,
    kind: String,
    current: String,
    failed: String,
}

/// Whether an expression holds for an object, whose top-level fields are the variables, as in Flux.
fn holds(expression: &str, object: &Value) -> bool {
    let mut context = Context::default();
    for (field, value) in object.as_object().unwrap() {
        context.add_variable(field.as_str(), value).unwrap();
    }
    let held = Program::compile(expression).unwrap().execute(&context);
    let Ok(CelValue::Bool(held)) = held else { panic!("{expression}: {held:?}: {object:#}") };
    held
}

#[test]
fn flux_waits_for_every_state_as_it_lasts() {
    let checks: Vec<HealthCheck> = serde_saphyr::from_str(&shipped("flux/health.yaml")).unwrap();
    let checks: BTreeMap<_, _> = checks.into_iter().map(|check| (check.kind.clone(), check)).collect();
    assert_eq!(checks.keys().collect::<Vec<_>>(), ["Agent", "AgentGateway", "Board"]);
    for State { name, object, progress } in states::all() {
        let check = &checks[object["kind"].as_str().unwrap()];
        assert_eq!(object["apiVersion"], check.api_version.as_str());
        let found = (holds(&check.current, &object), holds(&check.failed, &object));
        assert_eq!(found, (progress == Progress::Current, progress == Progress::Failed), "{name}: {object:#}");
    }
}
