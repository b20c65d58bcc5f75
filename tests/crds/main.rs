//! The CustomResourceDefinitions: the files match the types, and the schemas follow conventions.
//!
//! `MUSTER_WRITE_CRDS=1 cargo test --test crds` writes them (`make crds`).

use std::fs;
use std::path::Path;

use kube::core::cel::{Validator, compile_schema};
use muster::api::crds;
use serde_json::Value;

mod commands;
mod compatibility;
mod conventions;
mod flags;
mod real_world;
mod reference;

/// The kinds and their schemas.
fn schemas() -> Vec<(String, Value)> {
    let all = crds::all().into_iter().map(|(_, crd)| {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap_or_default();
        (crd.spec.names.kind, schema["openAPIV3Schema"].clone())
    });
    all.collect()
}

#[test]
fn the_files_in_crds_match_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
    for (name, crd) in crds::all() {
        let text = crds::yaml(&crd).unwrap();
        let path = folder.join(name);
        if std::env::var_os("MUSTER_WRITE_CRDS").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "crds/{name} does not match the types: run `make crds`");
    }
}

#[test]
fn no_pipeline_prunes_a_definition() {
    for (name, crd) in crds::all() {
        let annotations = crd.metadata.annotations.unwrap_or_default();
        for (key, value) in [
            ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
            ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
            ("helm.sh/resource-policy", "keep"),
            ("muster.dev/protected", "true"),
        ] {
            assert_eq!(annotations.get(key).map(String::as_str), Some(value), "{name}: {key}");
        }
    }
}

#[test]
fn every_field_is_described_and_every_string_list_and_map_is_bounded() {
    let mut missing = Vec::new();
    for (name, crd) in crds::all() {
        for version in &crd.spec.versions {
            let schema = serde_json::to_value(version.schema.as_ref().unwrap()).unwrap();
            check(&schema["openAPIV3Schema"], name.trim_end_matches(".yaml"), &mut missing);
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_rights_on_gateways_aggregate_into_admin_alone() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/base/rbac.yaml");
    let text = fs::read_to_string(path).unwrap();
    let roles = text.split("\n---\n").map(|role| serde_saphyr::from_str::<Value>(role).unwrap());
    let writes = |role: &Value| {
        let has = |rule: &Value, list: &str, word: &str| {
            rule[list].as_array().is_some_and(|list| list.iter().any(|item| item == word))
        };
        let granted = role["rules"].as_array().cloned().unwrap_or_default();
        let verbs = ["create", "update", "patch", "delete"];
        granted
            .iter()
            .any(|rule| has(rule, "resources", "agentgateways") && verbs.iter().any(|verb| has(rule, "verbs", verb)))
    };
    let aggregated: Vec<_> = ["admin", "edit", "view"]
        .into_iter()
        .filter(|to| {
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{to}");
            roles.clone().any(|role| role["metadata"]["labels"][&label] == "true" && writes(&role))
        })
        .collect();
    assert_eq!(aggregated, ["admin"]);
}

/// Collects the fields below `schema` that are not described or not bounded.
fn check(schema: &Value, path: &str, missing: &mut Vec<String>) {
    let in_spec = path.contains(".spec");
    let no = |key: &str| schema.get(key).is_none();
    match schema["type"].as_str() {
        Some("string") if in_spec && no("maxLength") && no("enum") && no("format") => {
            missing.push(format!("{path}: a string without maxLength"));
        }
        Some("array") if in_spec && no("maxItems") => missing.push(format!("{path}: a list without maxItems")),
        Some("object") if in_spec && !no("additionalProperties") && no("maxProperties") => {
            missing.push(format!("{path}: a map without maxProperties"));
        }
        Some("integer") if in_spec && (no("minimum") || no("maximum")) => {
            missing.push(format!("{path}: a number without a range"));
        }
        _ => {}
    }
    for (field, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{field}");
        if below["description"].as_str().is_none_or(str::is_empty) {
            missing.push(format!("{path}: not described"));
        }
        check(below, &path, missing);
    }
    for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[key].is_object() {
            check(&schema[key], &format!("{path}{mark}"), missing);
        }
    }
}

#[test]
fn every_object_reference_has_a_name_pattern() {
    let mut missing = Vec::new();
    for (name, crd) in crds::all() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        names(&schema["openAPIV3Schema"]["properties"]["spec"], name, &mut missing);
    }
    assert!(missing.is_empty(), "without a pattern: {missing:?}");
}

/// Collects the names and keys in references below `schema`, and the names of Secrets, without a pattern.
fn names(schema: &Value, path: &str, missing: &mut Vec<String>) {
    for (field, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{field}");
        let within = if field.ends_with("Ref") { &["name", "namespace", "key"][..] } else { &[] };
        let named = within.iter().map(|key| (format!("{path}.{key}"), &below["properties"][key]));
        let own = (field == "secretName").then_some((path.clone(), below));
        missing.extend(named.chain(own).filter(|(_, s)| s.is_object() && s["pattern"].is_null()).map(|(path, _)| path));
        names(below, &path, missing);
    }
    if schema["items"].is_object() {
        names(&schema["items"], &format!("{path}[]"), missing);
    }
}

#[test]
fn a_too_long_name_is_refused_for_a_new_object_and_accepted_for_an_existing_one() {
    for (file, crd) in crds::all() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).unwrap();
        let rules = &schema["openAPIV3Schema"]["x-kubernetes-validations"];
        let mut rules = rules.as_array().unwrap().iter();
        let rule = rules.find(|rule| rule["rule"].as_str().unwrap().contains("236")).unwrap();
        // Only this rule of the whole object: this schema has none of its fields.
        let compiled = compile_schema(&serde_json::json!({ "type": "object", "x-kubernetes-validations": [rule] }));
        assert!(!compiled.has_errors(), "{file}: {:?}", compiled.compilation_errors());
        let named = |length: usize| serde_json::json!({ "metadata": { "name": "a".repeat(length) } });
        let taken = |length| Validator::new().validate_compiled(&compiled, &named(length), None).is_ok();
        assert_eq!([taken(236), taken(237)], [true, false], "{file}");
        // The validator has no optional types. On the API server, Muster can still remove its finalizer.
        assert!(rule["rule"].as_str().unwrap().starts_with("oldSelf.hasValue() || "), "{rule}");
        assert_eq!(rule["optionalOldSelf"], true, "{rule}");
    }
}
