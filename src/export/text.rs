//! The output of an export. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::manifest::{ExportedKind, NeededSecret, config_maps, manifest, name, namespace, secret_manifest, secrets};

/// An exported object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ExportedObject {
    /// Its kind.
    pub(super) kind: ExportedKind,
    /// The object as the API server has it.
    pub(super) object: Value,
}

impl ExportedObject {
    /// Kind, namespace and name, for people.
    pub(super) fn label(&self) -> String {
        format!("{} {}/{}", self.kind.as_str(), namespace(&self.object), name(&self.object))
    }
}

/// Sorts by kind, namespace and name.
pub(super) fn sort(objects: &mut [ExportedObject]) {
    let key = |one: &ExportedObject| (one.kind, namespace(&one.object).to_owned(), name(&one.object).to_owned());
    objects.sort_by_key(key);
}

/// The Secrets that the objects need, by namespace and name.
pub(super) fn needed_secrets(objects: &[ExportedObject]) -> Vec<NeededSecret> {
    let mut needed: Vec<NeededSecret> = Vec::new();
    // A Secret that an object names is before one of the same name that Muster would make.
    for secret in objects.iter().flat_map(|one| secrets(one.kind, &one.object)).collect::<BTreeSet<_>>() {
        let is_same = |known: &NeededSecret| (&known.namespace, &known.name) == (&secret.namespace, &secret.name);
        if !needed.iter().any(is_same) {
            needed.push(secret);
        }
    }
    needed
}

/// What the comments of an output say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remarks<'a> {
    /// What could not be read.
    pub(super) failures: &'a [String],
    /// The Secrets that the objects need.
    pub(super) secrets: &'a [NeededSecret],
    /// The file with the Secrets.
    pub(super) secrets_file: Option<&'a str>,
    /// The Secrets in that file.
    pub(super) secrets_read: &'a [Value],
}

/// The manifests of the objects as one YAML stream. Comments name what else the other cluster needs.
///
/// # Errors
/// None in practice: JSON serializes.
pub(super) fn manifests(
    objects: &[ExportedObject],
    remarks: &Remarks<'_>,
) -> Result<String, serde_saphyr::SerializeError> {
    let mut text = comments(objects, remarks);
    for ExportedObject { kind, object } in objects {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&manifest(*kind, object))?);
    }
    Ok(text)
}

/// The manifests of Secrets as one YAML stream.
///
/// # Errors
/// None in practice: JSON serializes.
pub(super) fn secret_manifests(secrets: &[Value]) -> Result<String, serde_saphyr::SerializeError> {
    let mut text =
        "# Credentials and tokens. Apply this file before the objects that need it, and delete it then.\n".to_owned();
    for secret in secrets {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&secret_manifest(secret))?);
    }
    Ok(text)
}

fn comments(objects: &[ExportedObject], remarks: &Remarks<'_>) -> String {
    let mut lines = vec![format!("{}, exported by muster {}.", counts(objects), env!("CARGO_PKG_VERSION"))];
    if !remarks.failures.is_empty() {
        lines.push("INCOMPLETE. These could not be read:".to_owned());
        lines.extend(remarks.failures.iter().map(|failure| format!("  {failure}")));
    }
    let namespaces: BTreeSet<_> = objects.iter().map(|one| namespace(&one.object)).collect();
    lines.extend(listed("The namespaces, which have to exist first:", namespaces.into_iter().map(str::to_owned)));
    let is_read = |secret: &&NeededSecret| {
        remarks.secrets_read.iter().any(|read| (namespace(read), name(read)) == (&*secret.namespace, &*secret.name))
    };
    let (read, missing): (Vec<_>, Vec<_>) = remarks.secrets.iter().partition(is_read);
    let keys_of = |secrets: Vec<&NeededSecret>| {
        let names = secrets.into_iter().map(|secret| format!("{}/{}", secret.namespace, secret.name));
        names.collect::<Vec<_>>()
    };
    match remarks.secrets_file {
        Some(file) => {
            lines.extend(listed(&format!("The Secrets, which have to exist first, are in {file}:"), keys_of(read)));
            let (made, missing): (Vec<_>, Vec<_>) = missing.into_iter().partition(|secret| secret.is_made);
            let unread =
                format!("The Secrets, which have to exist first and are not in {file}, because they were not read:");
            lines.extend(listed(&unread, keys_of(missing)));
            let anew = format!("The Secrets that are not in {file}, and that Muster makes anew:");
            lines.extend(listed(&anew, keys_of(made)));
        }
        None => lines.extend(listed(
            "The Secrets, which have to exist first and are not in here (muster export --secrets FILE):",
            keys_of(missing),
        )),
    }
    let named = |one: &ExportedObject| {
        let maps = config_maps(&one.object).into_iter();
        maps.map(|map| format!("{}/{map}", namespace(&one.object))).collect::<Vec<_>>()
    };
    let maps: BTreeSet<_> = objects.iter().flat_map(named).collect();
    lines.extend(listed("The ConfigMaps, which are not in here:", maps));
    lines.iter().map(|line| ["# ", &one_line(line), "\n"].concat()).collect()
}

/// A heading and its list; nothing without items.
fn listed(heading: &str, items: impl IntoIterator<Item = String>) -> Vec<String> {
    let items: Vec<_> = items.into_iter().map(|item| format!("  {item}")).collect();
    if items.is_empty() { items } else { [vec![heading.to_owned()], items].concat() }
}

/// The number of objects of each kind.
pub(super) fn counts(objects: &[ExportedObject]) -> String {
    let count = |kind: ExportedKind| {
        let count = objects.iter().filter(|one| one.kind == kind).count();
        format!("{count} {}{}", kind.as_str(), if count == 1 { "" } else { "s" })
    };
    ExportedKind::ALL.map(count).join(", ")
}

/// A text that ends no comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') { ' ' } else { c }).collect()
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
