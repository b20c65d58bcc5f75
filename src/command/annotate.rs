//! `muster annotate`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::object::version;
use super::requests::{ObjectPath, RequestError};
use super::session::{Cluster, CommandError, ConnectionOptions, Streams, conclude};
use super::targets::{self, Target};

/// The options of `muster annotate`.
#[derive(Debug, clap::Args)]
pub struct AnnotateOptions {
    /// A kind and names of objects, or KIND/NAME for each object; then KEY=VALUE to set an annotation and KEY- to remove it.
    #[arg(value_name = "KIND [NAME] KEY=VALUE", required = true, num_args = 1..)]
    words: Vec<String>,
    /// Change annotations that have another value already.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    pub(super) connection: ConnectionOptions,
}

/// The annotations to set, and those to remove.
type AnnotationChanges = BTreeMap<String, Option<String>>;

impl AnnotateOptions {
    /// The objects, and the changes.
    pub(super) fn request(&self) -> Result<(Vec<Target>, AnnotationChanges), String> {
        let is_change = |word: &&String| word.contains('=') || word.ends_with('-');
        let (words, names): (Vec<_>, Vec<_>) = self.words.iter().partition(is_change);
        let targets = targets::parse(&names.into_iter().cloned().collect::<Vec<_>>())?;
        if words.is_empty() {
            return Err("give KEY=VALUE to set an annotation, or KEY- to remove it".into());
        }
        if targets.iter().any(|target| target.names.is_empty()) {
            return Err("give names of objects".into());
        }
        let mut changes = AnnotationChanges::new();
        for word in words {
            let (key, value) = match word.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (word.trim_end_matches('-'), None),
            };
            if key.is_empty() {
                return Err(format!("{word:?} names no annotation"));
            }
            if changes.insert(key.to_owned(), value).is_some() {
                return Err(format!("the annotation {key} is given twice"));
            }
        }
        Ok((targets, changes))
    }
}

pub(super) async fn run(
    options: &AnnotateOptions,
    cluster: &Cluster,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    let (targets, changes) = options.request().map_err(CommandError::Usage)?;
    let mut failed = 0;
    for target in &targets {
        let path = ObjectPath { resource: target.resource, namespace: Some(&cluster.namespace) };
        for name in &target.names {
            let label = target.resource.label(name);
            match annotate(path, name, &changes, options.overwrite, cluster).await {
                Ok(()) => streams.print(&format!("{label} annotated\n"))?,
                Err(error) => {
                    streams.note(&format!("{label}: {error}"));
                    failed += 1;
                }
            }
        }
    }
    conclude(failed, "object")
}

async fn annotate(
    path: ObjectPath<'_>,
    name: &str,
    changes: &AnnotationChanges,
    overwrites: bool,
    cluster: &Cluster,
) -> Result<(), String> {
    let text = |error: RequestError| error.to_string();
    let current = path.get(&cluster.client, name).await.map_err(text)?;
    let change = patch(&current, changes, overwrites)?;
    path.patch(&cluster.client, name, &change, false).await.map(drop).map_err(text)
}

/// The patch of the annotations. Without `overwrites` it applies only to the version that was read.
fn patch(current: &Value, changes: &AnnotationChanges, overwrites: bool) -> Result<Value, String> {
    let mut patch = json!({ "metadata": { "annotations": changes } });
    if overwrites {
        return Ok(patch);
    }
    for (key, value) in changes {
        let known = current["metadata"]["annotations"].get(key).and_then(Value::as_str);
        if let (Some(known), Some(value)) = (known, value)
            && known != value
        {
            return Err(format!("the annotation {key} has the value {known:?} already; give --overwrite to change it"));
        }
    }
    patch["metadata"]["resourceVersion"] = json!(version(current));
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_value_is_refused_without_overwrite() {
        let current = json!({ "metadata": { "resourceVersion": "7", "annotations": { "a": "1", "b": "2" } } });
        let changes = |pairs: &[(&str, Option<&str>)]| -> AnnotationChanges {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
        };
        let change = changes(&[("a", Some("2"))]);
        let error = patch(&current, &change, false).unwrap_err();
        assert_eq!(error, "the annotation a has the value \"1\" already; give --overwrite to change it");
        assert_eq!(patch(&current, &change, true), Ok(json!({ "metadata": { "annotations": { "a": "2" } } })));
        let harmless = changes(&[("a", Some("1")), ("b", None), ("c", Some("3"))]);
        let expected = json!({ "resourceVersion": "7", "annotations": { "a": "1", "b": null, "c": "3" } });
        assert_eq!(patch(&current, &harmless, false), Ok(json!({ "metadata": expected })));
    }
}
