//! The Secrets and the ConfigMaps that objects name: which keys they have, never the values.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::contents::BundleContents;
use super::scrub::values_of_secret;
use crate::api::agent::Agent;
use crate::api::gateway::AgentGateway;
use crate::api::keys;
use crate::command::object::{name, namespace};
use crate::command::requests::ObjectPath;
use crate::command::resources::ResourceType;

/// The most objects of a kind that are read.
const MAX_NAMED: usize = 500;

/// The namespace and the name of an object, and the fields that name it with the key that each of them names.
pub(super) type NamedObjects = BTreeMap<(String, String), Vec<(String, Option<String>)>>;

/// The Secrets that an object names, or has by its name.
pub(super) fn secrets_of(object: &Value, found: &mut NamedObjects) {
    let (spec, status) = (&object["spec"], &object["status"]);
    match object["kind"].as_str().unwrap_or_default() {
        "AgentGateway" => {
            for (field, reference) in [
                ("spec.auth.tokenSecretRef", &spec["auth"]["tokenSecretRef"]),
                ("spec.auth.passwordSecretRef", &spec["auth"]["passwordSecretRef"]),
                ("spec.tls.caSecretRef", &spec["tls"]["caSecretRef"]),
            ] {
                add(object, field, &reference["name"], reference["key"].as_str(), found);
            }
            let made = json!(AgentGateway::default_device_secret(name(object)));
            let given =
                [&status["deviceSecret"], &spec["device"]["secretName"]].into_iter().find(|one| one.is_string());
            add(object, "the device", given.unwrap_or(&made), None, found);
        }
        "Agent" => {
            let made = json!(Agent::default_token_secret(name(object)));
            let given = [&status["token"]["secretName"], &spec["token"]["secretName"]];
            let given = given.into_iter().find(|one| one.is_string()).unwrap_or(&made);
            add(object, "the token", given, Some(keys::TOKEN_KEY), found);
        }
        _ => {}
    }
}

/// The ConfigMaps that an object names.
pub(super) fn config_maps_of(object: &Value, found: &mut NamedObjects) {
    let templates = &object["spec"]["templates"]["configMapRef"];
    add(object, "spec.templates.configMapRef", &templates["name"], None, found);
    for file in object["spec"]["files"].as_array().into_iter().flatten() {
        let reference = &file["template"]["configMapKeyRef"];
        add(object, "spec.files", &reference["name"], reference["key"].as_str(), found);
    }
}

fn add(object: &Value, field: &str, name: &Value, key: Option<&str>, found: &mut NamedObjects) {
    let Some(named) = name.as_str() else { return };
    let kind = object["kind"].as_str().unwrap_or_default();
    let label = format!("{kind} {}/{}: {field}", namespace(object), self::name(object));
    let fields = found.entry((namespace(object).to_owned(), named.to_owned())).or_default();
    fields.push((label, key.map(str::to_owned)));
}

/// Reads the named objects. Returns what is known of them without their values, and adds the secret values to `known`.
pub(super) async fn read(
    resource: &'static ResourceType,
    named: &NamedObjects,
    client: &Client,
    contents: &mut BundleContents,
    known: &mut Vec<SecretString>,
) -> Vec<Value> {
    let mut facts = Vec::new();
    if named.len() > MAX_NAMED {
        let cause = format!("only {MAX_NAMED} of {} were read", named.len());
        contents.fail(&format!("{}s", resource.kind), &cause);
    }
    for ((place, name), fields) in named.iter().take(MAX_NAMED) {
        let answer = ObjectPath { resource, namespace: Some(place) }.get(client, name).await;
        let label: Vec<_> = fields.iter().map(|(label, _)| label).collect();
        let mut fact = json!({ "namespace": place, "name": name, "namedBy": label });
        match answer {
            Ok(object) => {
                if resource.is_secret() {
                    let keys: Vec<_> = fields.iter().filter_map(|(_, key)| key.as_deref()).collect();
                    known.extend(values_of_secret(&object, &keys));
                }
                describe(&object, &mut fact);
            }
            Err(error) if error.code() == Some(404) => fact["exists"] = json!(false),
            Err(error) => {
                fact["error"] = json!(error.to_string());
                contents.fail(&format!("{} {place}/{name}", resource.kind), &error.to_string());
            }
        }
        facts.push(fact);
    }
    facts
}

/// The keys with the sizes of their values, and who made the object and when.
fn describe(object: &Value, fact: &mut Value) {
    let sizes = |field: &str, size: fn(&str) -> usize| {
        let values = object[field].as_object().into_iter().flatten();
        values.map(move |(key, value)| {
            (key.clone(), json!(format!("{} bytes", size(value.as_str().unwrap_or_default()))))
        })
    };
    let of_base64 = |text: &str| STANDARD.decode(text).unwrap_or_default().len();
    let is_secret = object["type"].is_string();
    let data = if is_secret { sizes("data", of_base64) } else { sizes("data", str::len) };
    fact["exists"] = json!(true);
    fact["keys"] = data.chain(sizes("binaryData", of_base64)).collect();
    let metadata = &object["metadata"];
    fact["created"] = metadata["creationTimestamp"].clone();
    fact["managedBy"] = metadata["labels"][keys::MANAGED_BY_LABEL].clone();
    fact["owners"] =
        metadata["ownerReferences"].as_array().into_iter().flatten().map(|one| one["name"].clone()).collect();
    fact["finalizers"] = metadata["finalizers"].clone();
    fact["deleted"] = metadata["deletionTimestamp"].clone();
    fact["type"] = object["type"].clone();
    if let Some(fields) = fact.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}
