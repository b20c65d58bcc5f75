//! The origin of each file's template. The order is: the Agent itself, then the ConfigMaps of the Agent, of its Board and of its
//! AgentGateway.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::ObjectMeta;

use crate::api::agent::Agent;
use crate::api::object_key::ObjectKey;
use crate::api::shared::{ConfigMapKeyRef, TemplateSource, TemplatesRef};
use crate::api::{AgentGateway, Board, Reason};
use crate::core::error::ReconcileError;

/// The templates that replace built-in templates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Templates {
    /// By file name.
    pub given: BTreeMap<String, GivenTemplate>,
}

/// A template that replaces a built-in template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GivenTemplate {
    /// The template is text.
    Text {
        /// The origin, for error messages.
        origin: String,
        /// The template.
        source: String,
    },
    /// The template is in `binaryData`, which is an error for an agent with a file of this name.
    Binary(ReconcileError),
}

/// The content of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMapContent {
    /// Its `data`.
    pub data: BTreeMap<String, String>,
    /// The keys of its `binaryData`.
    pub binary: BTreeSet<String>,
}

/// One origin of templates.
#[derive(Debug)]
pub enum TemplateOrigin<'a> {
    /// The text of one file, in the Agent.
    Inline {
        /// The file.
        file: String,
        /// The field of the Agent.
        field: String,
        /// The template.
        text: &'a str,
    },
    /// One key of a ConfigMap, for one file.
    Key {
        /// The file.
        file: String,
        /// The field that names the ConfigMap.
        field: String,
        /// The ConfigMap.
        config_map: ObjectKey,
        /// The key.
        key: String,
    },
    /// Every key of a ConfigMap, for the file of its name.
    All {
        /// The field that names the ConfigMap.
        field: &'static str,
        /// The ConfigMap.
        config_map: ObjectKey,
    },
    /// A field without a template.
    Empty {
        /// The field.
        field: String,
    },
}

impl TemplateOrigin<'_> {
    fn config_map(&self) -> Option<&ObjectKey> {
        match self {
            Self::Key { config_map, .. } | Self::All { config_map, .. } => Some(config_map),
            Self::Inline { .. } | Self::Empty { .. } => None,
        }
    }
}

/// The origins of an agent's templates. If two origins have a template for one file, the first origin wins.
#[must_use]
pub fn origins<'a>(agent: &'a Agent, board: Option<&Board>, gateway: Option<&AgentGateway>) -> Vec<TemplateOrigin<'a>> {
    let namespace = |meta: &ObjectMeta| meta.namespace.clone().unwrap_or_default();
    let here = namespace(&agent.metadata);
    let spec = &agent.spec;
    let own = spec.files.iter().filter_map(|file| {
        let field = format!("spec.files[{}].template", file.name);
        Some(origin(&here, file.name.clone(), field, file.template.as_ref()?))
    });
    let all = |field, namespace: &str, reference: Option<&TemplatesRef>| {
        let name = &reference?.config_map_ref.name;
        Some(TemplateOrigin::All { field, config_map: ObjectKey::new(namespace, name) })
    };
    let of_agent = all("spec.templates of the Agent", &here, spec.templates.as_ref());
    let of_board = board.and_then(|b| all("spec.templates of its Board", &here, b.spec.templates.as_ref()));
    let of_gateway = gateway
        .and_then(|g| all("spec.templates of its AgentGateway", &namespace(&g.metadata), g.spec.templates.as_ref()));
    own.chain(of_agent).chain(of_board).chain(of_gateway).collect()
}

fn origin<'a>(namespace: &str, file: String, field: String, template: &'a TemplateSource) -> TemplateOrigin<'a> {
    match (&template.inline, &template.config_map_key_ref) {
        (Some(text), _) => TemplateOrigin::Inline { file, field, text },
        (None, Some(ConfigMapKeyRef { name, key })) => {
            TemplateOrigin::Key { file, field, config_map: ObjectKey::new(namespace, name), key: key.clone() }
        }
        (None, None) => TemplateOrigin::Empty { field },
    }
}

/// The ConfigMaps of these origins. A change of such a ConfigMap triggers a reconcile of the agent.
#[must_use]
pub fn config_maps(origins: &[TemplateOrigin<'_>]) -> BTreeSet<ObjectKey> {
    origins.iter().filter_map(TemplateOrigin::config_map).cloned().collect()
}

/// The templates of these origins. `contents` has the existing ConfigMaps of [`config_maps`].
///
/// # Errors
/// A ConfigMap or a key does not exist, or a field has no template. The message names the next step.
pub fn collect(
    origins: &[TemplateOrigin<'_>],
    contents: &BTreeMap<ObjectKey, ConfigMapContent>,
) -> Result<Templates, ReconcileError> {
    let mut templates = Templates::default();
    for origin in origins {
        match origin {
            TemplateOrigin::Inline { file, field, text } => {
                let given = GivenTemplate::Text { origin: format!("{field}.inline"), source: (*text).to_owned() };
                templates.given.entry(file.clone()).or_insert(given);
            }
            TemplateOrigin::Key { file, field, config_map, key } => {
                let given = template_of_key(content(contents, config_map, field)?, config_map, key, field)?;
                templates.given.entry(file.clone()).or_insert(given);
            }
            TemplateOrigin::All { field, config_map } => {
                let ConfigMapContent { data, binary } = content(contents, config_map, field)?;
                for (file, source) in data {
                    templates.given.entry(file.clone()).or_insert_with(|| text(config_map, file, source));
                }
                for file in binary {
                    let error = in_binary_data(config_map, file, field);
                    templates.given.entry(file.clone()).or_insert(GivenTemplate::Binary(error));
                }
            }
            TemplateOrigin::Empty { field } => {
                let message = format!("{field} has neither inline nor configMapKeyRef; set one of them");
                return Err(ReconcileError::permanent(Reason::InvalidSpec, message));
            }
        }
    }
    Ok(templates)
}

fn template_of_key(
    content: &ConfigMapContent,
    config_map: &ObjectKey,
    key: &str,
    field: &str,
) -> Result<GivenTemplate, ReconcileError> {
    match content.data.get(key) {
        Some(source) => Ok(text(config_map, key, source)),
        None if content.binary.contains(key) => Ok(GivenTemplate::Binary(in_binary_data(config_map, key, field))),
        None => {
            let message =
                format!("ConfigMap {config_map}, which {field} names, has no key {key:?}; add it or change that field");
            Err(ReconcileError::permanent(Reason::ConfigMapNotFound, message))
        }
    }
}

fn text(config_map: &ObjectKey, key: &str, source: &str) -> GivenTemplate {
    GivenTemplate::Text { origin: format!("ConfigMap {config_map}, key {key}"), source: source.to_owned() }
}

fn content<'a>(
    contents: &'a BTreeMap<ObjectKey, ConfigMapContent>,
    config_map: &ObjectKey,
    field: &str,
) -> Result<&'a ConfigMapContent, ReconcileError> {
    contents.get(config_map).ok_or_else(|| {
        let message =
            format!("ConfigMap {config_map}, which {field} names, does not exist; create it or change that field");
        ReconcileError::permanent(Reason::ConfigMapNotFound, message)
    })
}

fn in_binary_data(config_map: &ObjectKey, key: &str, field: &str) -> ReconcileError {
    let message = format!(
        "ConfigMap {config_map}, which {field} names, has the key {key:?} in binaryData; save the template as UTF-8 text under data"
    );
    ReconcileError::permanent(Reason::TemplateError, message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn agent(spec: &Value) -> Agent {
        let meta = json!({ "name": "a", "namespace": "fleet" });
        serde_json::from_value(json!({
            "apiVersion": "muster.dev/v1alpha1", "kind": "Agent", "metadata": meta, "spec": spec
        }))
        .unwrap()
    }

    fn contents(of: &[(&str, &str, &str)]) -> BTreeMap<ObjectKey, ConfigMapContent> {
        let mut contents: BTreeMap<_, ConfigMapContent> = BTreeMap::new();
        for (name, key, text) in of {
            let map = contents.entry(ObjectKey::new("fleet", *name)).or_default();
            map.data.insert((*key).to_owned(), (*text).to_owned());
        }
        contents
    }

    #[test]
    fn the_agents_own_template_wins_over_a_config_map() {
        let agent = agent(&json!({
            "files": [
                { "name": "SOUL.md", "template": { "inline": "own" } },
                { "name": "USER.md", "template": { "configMapKeyRef": { "name": "keys", "key": "user" } } },
            ],
            "templates": { "configMapRef": { "name": "all" } },
        }));
        let origins = origins(&agent, None, None);
        let names: Vec<_> = config_maps(&origins).into_iter().map(|key| key.name).collect();
        assert_eq!(names, ["all", "keys"]);
        let contents = contents(&[
            ("keys", "user", "key"),
            ("all", "SOUL.md", "all"),
            ("all", "USER.md", "all"),
            ("all", "X.md", "all"),
        ]);
        let templates = collect(&origins, &contents).unwrap();
        let source = |file: &str| match &templates.given[file] {
            GivenTemplate::Text { source, .. } => source.as_str(),
            GivenTemplate::Binary(_) => "binary",
        };
        assert_eq!(["SOUL.md", "USER.md", "X.md"].map(source), ["own", "key", "all"]);
    }

    #[test]
    fn a_missing_config_map_and_a_missing_key_are_errors_that_name_the_field() {
        let key = json!({
            "files": [{ "name": "SOUL.md", "template": { "configMapKeyRef": { "name": "keys", "key": "user" } } }],
        });
        for (present, text) in [(&[][..], "does not exist"), (&[("keys", "other", "x")], "has no key \"user\"")] {
            let error = collect(&origins(&agent(&key), None, None), &contents(present)).unwrap_err();
            assert!(error.message.contains(text) && error.message.contains("spec.files[SOUL.md].template"), "{error}");
        }
    }
}
