//! The manifests in files. Pure but for [`read`].

use std::fmt;

use serde_json::Value;

use super::files::ManifestFile;
use super::merge::with_data;
use super::resources::{self, ResourceType};
use super::table::plain;
use crate::api::names::{is_namespace, is_object_name};

/// Where a manifest was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DocumentPlace {
    /// The file as the user named it.
    file: String,
    /// The number of the document in it, from 1 on.
    number: usize,
}

impl fmt::Display for DocumentPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.file, self.number)
    }
}

/// An object of a file.
#[derive(Clone, Debug)]
pub(super) struct FileManifest {
    /// Where it was read.
    pub(super) place: DocumentPlace,
    /// The kind.
    pub(super) resource: &'static ResourceType,
    /// The namespace of the object, if its kind has one.
    pub(super) namespace: Option<String>,
    /// The name of the object.
    pub(super) name: String,
    /// The object, with its namespace. A Secret has all values in `data`.
    pub(super) object: Value,
}

impl FileManifest {
    /// The object as kubectl prints it.
    pub(super) fn label(&self) -> String {
        self.resource.label(&self.name)
    }

    /// A failure of this manifest. Values of a Secret do not appear in it.
    pub(super) fn failure(&self, cause: &str) -> String {
        let mut text = format!("{}: {}: {cause}", self.place, self.label());
        if self.resource.is_secret() {
            for value in secret_values(&self.object) {
                text = text.replace(&value, "***");
            }
        }
        text
    }
}

/// The values of a Secret as texts, and what they encode.
fn secret_values(secret: &Value) -> Vec<String> {
    use base64::Engine;
    let mut values = Vec::new();
    for value in secret["data"].as_object().into_iter().flat_map(serde_json::Map::values) {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let decoded = base64::engine::general_purpose::STANDARD.decode(&text).ok();
        values.extend(decoded.and_then(|bytes| String::from_utf8(bytes).ok()));
        values.push(text);
    }
    values.retain(|value| !value.is_empty());
    values.sort_by_key(|value| std::cmp::Reverse(value.len()));
    values
}

/// The namespace of objects that name none, and whether others are refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamespaceRule<'a> {
    /// The namespace of `-n` or of the kubeconfig.
    pub(super) default: &'a str,
    /// Whether `-n` gave it.
    pub(super) is_given: bool,
}

/// The manifests of files, in the order in which they are applied, and sentences about the documents that are none.
pub(super) fn read(files: &[ManifestFile], rule: NamespaceRule<'_>) -> (Vec<FileManifest>, Vec<String>) {
    let (mut manifests, mut failures) = (Vec::new(), Vec::new());
    for file in files {
        for document in documents(&file.text) {
            let place = DocumentPlace { file: file.name.clone(), number: document.number };
            let objects = match parse(&document) {
                Ok(Value::Null) => continue,
                Ok(object) => items(object),
                Err(error) => {
                    failures.push(format!("{place}: {error}"));
                    continue;
                }
            };
            for object in objects {
                match manifest(&place, object, rule) {
                    Ok(manifest) => manifests.push(manifest),
                    Err(error) => failures.push(format!("{place}: {error}")),
                }
            }
        }
    }
    // A stable sort: objects of a kind stay in the order of the files.
    manifests.sort_by_key(|one| one.resource.rank());
    (manifests, failures)
}

/// One document of a file.
#[derive(Debug, PartialEq)]
struct YamlDocument {
    number: usize,
    /// The document, after as many empty lines as there are lines before it.
    text: String,
}

/// The documents of a YAML stream, each by itself, so that an error in one leaves the others.
fn documents(text: &str) -> Vec<YamlDocument> {
    let mut documents: Vec<YamlDocument> = Vec::new();
    let mut current = YamlDocument { number: 1, text: String::new() };
    for (index, line) in text.lines().enumerate() {
        let after = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        if let Some(rest) = after {
            let is_empty = current.text.lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
            let number = if is_empty && documents.is_empty() { 1 } else { current.number + 1 };
            let next = YamlDocument { number, text: "\n".repeat(index) + rest + "\n" };
            documents.push(std::mem::replace(&mut current, next));
        } else {
            current.text.push_str(line);
            current.text.push('\n');
        }
    }
    documents.push(current);
    documents
}

/// A document as JSON. The error for a Secret has no text of the document.
fn parse(document: &YamlDocument) -> Result<Value, String> {
    let text = document.text.trim_end();
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#') || line == "...") {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let cause = if text.contains("Secret") {
            "look for a wrong indentation or a missing quote".to_owned()
        } else {
            plain(error.without_snippet().to_string().lines().next().unwrap_or_default())
        };
        let place = error.location().map(|at| format!(" in line {}, column {}", at.line(), at.column()));
        format!("the YAML cannot be read{}: {cause}", place.unwrap_or_default())
    })
}

/// The objects of a document: it has one, or is a list.
fn items(mut object: Value) -> Vec<Value> {
    let is_list = object["apiVersion"] == "v1" && object["kind"] == "List";
    match object.get_mut("items").filter(|_| is_list) {
        Some(Value::Array(items)) => std::mem::take(items),
        _ => vec![object],
    }
}

fn manifest(place: &DocumentPlace, mut object: Value, rule: NamespaceRule<'_>) -> Result<FileManifest, String> {
    if !object.is_object() {
        return Err("a manifest is an object with apiVersion, kind and metadata".into());
    }
    let text = |field: &str| {
        object[field]
            .as_str()
            .filter(|text| !text.is_empty())
            .ok_or_else(|| format!("{field} is missing or is no text"))
    };
    let resource = resources::of_manifest(text("apiVersion")?, text("kind")?)?;
    let name = match object.pointer("/metadata/name") {
        Some(Value::String(name)) if is_object_name(name) => name.clone(),
        None | Some(Value::Null) => return Err(format!("{}: metadata.name is missing", resource.qualified_kind())),
        Some(name) => {
            let kind = resource.qualified_kind();
            return Err(format!(
                "{kind}: metadata.name {name} is no name of an object; a name is a text of lower-case letters, digits, hyphens and dots"
            ));
        }
    };
    let label = resource.label(&name);
    let namespace = if resource.is_namespaced {
        let namespace = own_namespace(&object, rule).map_err(|error| format!("{label}: {error}"))?;
        object["metadata"]["namespace"] = Value::from(namespace.as_str());
        Some(namespace)
    } else {
        None
    };
    let object = if resource.is_secret() { with_data(object) } else { object };
    Ok(FileManifest { place: place.clone(), resource, namespace, name, object })
}

fn own_namespace(object: &Value, rule: NamespaceRule<'_>) -> Result<String, String> {
    match &object["metadata"]["namespace"] {
        Value::Null => Ok(rule.default.to_owned()),
        Value::String(name) if !is_namespace(name) => {
            Err(format!("metadata.namespace {name:?} is no name of a namespace"))
        }
        Value::String(name) if rule.is_given && name != rule.default => {
            Err(format!("metadata.namespace is {name} and -n gives {}; leave out one of them", rule.default))
        }
        Value::String(name) => Ok(name.clone()),
        _ => Err("metadata.namespace is no text".into()),
    }
}

#[cfg(test)]
#[path = "manifests_tests.rs"]
mod tests;
