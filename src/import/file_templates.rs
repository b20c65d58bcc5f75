//! The workspace files of an agent as templates in a ConfigMap. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::manifests::Names;
use super::secret_texts::secret_line;
use super::workspace::{AgentFiles, ReadFile};
use crate::api::agent::Role;
use crate::hash::sha256_hex;
use crate::openclaw::model::{FileContent, PromptLimits, has_format_characters};
use crate::templates::{Budget, FileName, Template, Variables, render, verbatim};

/// What the templates of an agent depend on.
#[derive(Clone, Copy)]
pub(super) struct FileRules<'a> {
    /// How much of a file the gateway passes on.
    pub(super) limits: PromptLimits,
    /// The agent's config entry, which may have limits of its own.
    pub(super) entry: Option<&'a Map<String, Value>>,
    /// The credential of the gateway, which no manifest may hold.
    pub(super) credential: &'a str,
}

/// The templates of an agent, and sentences about files without one.
#[derive(Debug, Default, PartialEq)]
pub(super) struct FileTemplates {
    /// By file name. Each renders to the text of the file.
    pub(super) sources: BTreeMap<String, String>,
    /// The files that Muster can keep from now on: their template renders to the same bytes.
    pub(super) kept: Vec<FileName>,
    /// Sentences for the person who imports.
    pub(super) notes: Vec<String>,
}

/// Makes templates from the files of an agent.
pub(super) fn templates(id: &str, files: &AgentFiles, rules: FileRules<'_>) -> FileTemplates {
    let mut made = FileTemplates::default();
    let (mut lengths, mut exact) = (BTreeMap::new(), BTreeMap::new());
    for (name, file) in files {
        match template(file, rules.credential) {
            Ok(Some(source)) => {
                let FileSource { template, text, is_exact } = source;
                lengths.insert(name.as_str(), text.trim_end().encode_utf16().count());
                made.sources.insert(name.as_str().to_owned(), template);
                exact.insert(name.as_str(), is_exact);
            }
            Ok(None) => {}
            Err(cause) => made.notes.push(format!("{id}: the text of {name} is left out: {cause}")),
        }
    }
    let limits = rules.limits.of_files(&lengths, rules.entry);
    for (name, length) in lengths {
        let limit = limits[name];
        if length > limit.units {
            made.sources.remove(name);
            made.notes.push(format!(
                "{id}: the text of {name} is left out: it has {length} characters, and the gateway passes {} on to the agent, so that Muster \
                 would not write it; shorten the file",
                limit.units
            ));
        }
    }
    for name in files.keys().filter(|name| made.sources.contains_key(name.as_str())) {
        if exact[name.as_str()] {
            made.kept.push(name.clone());
        } else {
            made.notes.push(format!(
                "{id}: {name} stays Unmanaged, because it does not end in one newline; its text is in the ConfigMap, and Muster writes it with one \
                 newline when you remove the name from spec.files"
            ));
        }
    }
    made
}

/// A template and the text that it stands for.
struct FileSource<'a> {
    template: String,
    text: &'a str,
    /// Whether the template renders to the same bytes.
    is_exact: bool,
}

/// The template of a file; `None` for an empty file.
///
/// # Errors
/// Why the text cannot be in a manifest, and what to do.
fn template<'a>(file: &'a ReadFile, credential: &str) -> Result<Option<FileSource<'a>>, String> {
    let content = match file {
        ReadFile::Content(content) if content.text.is_empty() => return Ok(None),
        ReadFile::Content(content) => content,
        ReadFile::Long(size) => return Err(format!("it has {size} bytes, more than a template; shorten the file")),
        ReadFile::Refused(message) => return Err(format!("the gateway refuses it: {message}")),
    };
    let text = content.text.as_str();
    obstacle(content, credential).map_or(Ok(()), Err)?;
    let template = verbatim(text);
    let rendered = render(&Template::given("it", &template), &Variables::new(Role::Worker), &mut Budget::default());
    let rendered = rendered.map_err(|error| format!("its template is refused: {error}"))?;
    Ok(Some(FileSource { template, text, is_exact: rendered == text }))
}

fn obstacle(content: &FileContent, credential: &str) -> Option<String> {
    let text = content.text.as_str();
    let is_decoded = match &content.hash {
        Some(hash) => *hash == sha256_hex(text),
        None => !text.contains('\u{fffd}'),
    };
    if !is_decoded {
        return Some("it is not UTF-8; save the file as UTF-8".to_owned());
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return Some("it has control characters; remove them from the file".to_owned());
    }
    // Some emoji consist of several characters with a joiner (U+200D) between them.
    if has_format_characters(&text.replace('\u{200d}', "")) || text.contains(['\u{2028}', '\u{2029}']) {
        return Some("it has characters that reorder or hide text; remove them from the file".to_owned());
    }
    if !credential.is_empty() && text.contains(credential) {
        return Some("it holds the gateway's credential; remove it from the file".to_owned());
    }
    if let Some(line) = secret_line(text) {
        return Some(format!(
            "line {line} looks like a secret; remove the secret from the file, or write the text yourself"
        ));
    }
    let is_folded = text.contains("muster:begin");
    is_folded.then(|| "Muster wrote other files into it; give it a template of your own".to_owned())
}

/// Adds the templates of an agent to its manifest. Returns the ConfigMap, if there is a template.
pub(super) fn add(manifest: &mut Value, made: &FileTemplates, names: &Names) -> Option<Value> {
    if made.sources.is_empty() {
        return None;
    }
    let name = format!("{}-files", manifest["metadata"]["name"].as_str().unwrap_or_default());
    manifest["spec"]["templates"] = json!({ "configMapRef": { "name": name } });
    let files = manifest["spec"]["files"].as_array_mut().into_iter().flatten();
    for file in files.filter(|file| made.kept.iter().any(|kept| file["name"] == kept.as_str())) {
        file["policy"] = json!("Always");
        file["drift"] = json!("Report");
    }
    let mut metadata = json!({ "name": name });
    if let Some(namespace) = &names.namespace {
        metadata["namespace"] = json!(namespace);
    }
    Some(json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": made.sources }))
}

#[cfg(test)]
#[path = "file_templates_tests.rs"]
mod tests;
