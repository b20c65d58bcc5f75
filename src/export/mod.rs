//! `muster export`: writes the objects of an installation as manifests that another cluster takes. The command only reads.

mod manifest;
mod read;
mod text;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kube::Client;
use manifest::{ExportedKind, NeededSecret, is_terminating};
use serde_json::Value;
use text::{ExportedObject, Remarks, counts, needed_secrets};

use crate::api::names::{is_namespace, is_object_name};
use crate::kubeconfig;

type Failure = Box<dyn std::error::Error>;

/// The rights of the file with the Secrets: only its owner reads and writes it.
const SECRETS_MODE: u32 = 0o600;

/// The options of `muster export`.
#[derive(Debug, clap::Args)]
pub struct ExportOptions {
    /// Namespace of the exported objects; may be given several times. Default: the namespace of the kubeconfig's context.
    #[arg(long, short, value_name = "NAMESPACE", value_parser = namespace, conflicts_with = "all_namespaces")]
    pub namespace: Vec<String>,
    /// Export the objects of all namespaces.
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// File for the manifests. Default: standard output.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// New file for the Secrets that the objects need: credentials, device identities and tokens. The file is made for its owner alone
    /// (0600). Without this option no Secret is read.
    #[arg(long, value_name = "FILE")]
    pub secrets: Option<PathBuf>,
    /// Kubeconfig file. Default: $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig. Default: its current context.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
}

/// Writes the manifests, and the notes about them to standard error.
///
/// # Errors
/// A sentence that names the flag, the file or the objects. If only some objects could not be read, the others are written all the same.
pub fn main(options: &ExportOptions) -> Result<(), Failure> {
    if let Some(path) = options.secrets.as_deref().filter(|path| fs::symlink_metadata(path).is_ok()) {
        return Err(taken(path).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exported = runtime.block_on(collect(options))?;
    // An earlier export in the file is better than none.
    if exported.objects.is_empty() && !exported.failures.is_empty() {
        return Err(format!("nothing could be read, and nothing is written: {}", exported.failures.join("; ")).into());
    }
    let secrets_file = options.secrets.as_ref().map(|path| path.display().to_string());
    let remarks = Remarks {
        failures: &exported.failures,
        secrets: &exported.needed,
        secrets_file: secrets_file.as_deref(),
        secrets_read: &exported.secrets,
    };
    // No file says that there is nothing in it.
    let is_any_read = !exported.secrets.is_empty() || exported.needed.is_empty();
    if let Some(path) = options.secrets.as_ref().filter(|_| is_any_read) {
        write_new(path, &text::secret_manifests(&exported.secrets)?)?;
    }
    let manifests = text::manifests(&exported.objects, &remarks)?;
    match &options.output {
        Some(path) => fs::write(path, manifests).map_err(|e| format!("--output {}: {e}", path.display()))?,
        None => std::io::stdout().lock().write_all(manifests.as_bytes())?,
    }
    report(&exported, options.secrets.is_some());
    match exported.failures.len() {
        0 => Ok(()),
        count => Err(format!("{count} objects or lists could not be read, so that the export is incomplete").into()),
    }
}

fn namespace(text: &str) -> Result<String, &'static str> {
    if is_namespace(text) { Ok(text.to_owned()) } else { Err("give the name of a namespace") }
}

/// Writes the notes to standard error.
fn report(exported: &ExportedSet, with_secrets: bool) {
    for note in exported.notes.iter().chain(&exported.failures) {
        eprintln!("{note}");
    }
    eprintln!("{}", counts(&exported.objects));
    match exported.needed.len() {
        0 => {}
        count if with_secrets => eprintln!("{} of {count} needed Secrets", exported.secrets.len()),
        count => eprintln!(
            "{count} Secrets are needed and were not read: the comments of the output name them, and --secrets FILE writes them"
        ),
    }
}

fn taken(path: &Path) -> String {
    format!("--secrets {}: there is something of this name; Secrets are written to a new file only", path.display())
}

/// Writes a file that only its owner may read.
fn write_new(path: &Path, text: &str) -> Result<(), String> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::AlreadyExists => taken(path),
        _ => format!("--secrets {}: {e}", path.display()),
    };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(SECRETS_MODE).open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}

/// What an export has read.
#[derive(Default)]
struct ExportedSet {
    objects: Vec<ExportedObject>,
    /// The Secrets that the objects need.
    needed: Vec<NeededSecret>,
    /// The Secrets that were read.
    secrets: Vec<Value>,
    /// Sentences about objects that a person has to look at.
    notes: Vec<String>,
    /// What could not be read, and why.
    failures: Vec<String>,
}

async fn collect(options: &ExportOptions) -> Result<ExportedSet, Failure> {
    let config = kubeconfig::load(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
    let namespaces = match (options.all_namespaces, options.namespace.is_empty()) {
        (true, _) => vec![None],
        (false, true) => vec![Some(config.default_namespace.clone())],
        (false, false) => options.namespace.iter().cloned().map(Some).collect(),
    };
    let client = Client::try_from(config)?;
    let mut exported = ExportedSet::default();
    for namespace in &namespaces {
        let before = (exported.objects.len(), exported.failures.len());
        for kind in ExportedKind::ALL {
            match read::objects(&client, kind, namespace.as_deref()).await {
                Ok(objects) => {
                    exported.objects.extend(objects.into_iter().map(|object| ExportedObject { kind, object }));
                }
                Err(error) => {
                    let place = namespace.as_ref().map_or("all namespaces".into(), |name| format!("namespace {name}"));
                    exported.failures.push(format!("{}s of {place}: {error}", kind.as_str()));
                }
            }
        }
        let is_empty = (exported.objects.len(), exported.failures.len()) == before;
        if let Some(name) = namespace.as_ref().filter(|_| is_empty) {
            match read::namespace_exists(&client, name).await {
                Some(false) => exported.failures.push(format!("namespace {name} does not exist")),
                Some(true) | None => {
                    exported.notes.push(format!("namespace {name} has no AgentGateway, no Board and no Agent"));
                }
            }
        }
    }
    text::sort(&mut exported.objects);
    exported.objects.dedup();
    let going = exported.objects.iter().filter(|one| is_terminating(&one.object));
    exported.notes.extend(
        going.map(|one| {
            format!("{} is being deleted here; leave its manifest out if it is not to come back", one.label())
        }),
    );
    exported.needed = needed_secrets(&exported.objects);
    if options.secrets.is_some() {
        read_secrets(&client, &mut exported).await;
    }
    Ok(exported)
}

async fn read_secrets(client: &Client, exported: &mut ExportedSet) {
    for needed in &exported.needed {
        let label = format!("Secret {}/{}", needed.namespace, needed.name);
        // A spec from before the rules for names may have a path, which would lead to another object.
        if !is_object_name(&needed.name) || !is_namespace(&needed.namespace) {
            exported.failures.push(format!("{label:?}: no Secret has such a name"));
            continue;
        }
        match read::secret(client, needed).await {
            Ok(Some(secret)) => exported.secrets.push(secret),
            Ok(None) if needed.is_made => exported.notes.push(format!("{label} does not exist; Muster makes it")),
            Ok(None) => exported.failures.push(format!("{label} does not exist")),
            Err(error) => exported.failures.push(format!("{label}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: ExportOptions,
    }

    fn parse(arguments: &[&str]) -> Result<ExportOptions, String> {
        let line = <Line as clap::Parser>::try_parse_from([&["export"], arguments].concat());
        line.map(|line| line.options).map_err(|e| e.to_string())
    }

    #[test]
    fn bad_options_are_refused() {
        assert_eq!(parse(&["-n", "a", "-n", "b"]).unwrap().namespace, ["a", "b"]);
        assert!(parse(&["-n", "../kube-system"]).unwrap_err().contains("give the name of a namespace"));
        assert!(parse(&["-n", "a", "-A"]).unwrap_err().contains("cannot be used with"));
    }

    #[test]
    fn secrets_go_to_a_new_file_of_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.yaml");
        write_new(&path, "text").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for taken in [path.as_path(), Path::new("/dev/stdout"), Path::new("/dev/tty")] {
            assert!(write_new(taken, "other").unwrap_err().contains("to a new file only"), "{}", taken.display());
        }
        assert_eq!(fs::read_to_string(path).unwrap(), "text");
    }

    #[tokio::test]
    async fn a_path_in_the_place_of_a_name_reads_no_secret() {
        let config = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
        let object = json!({ "metadata": { "name": "one", "namespace": "fleet" }, "spec": { "token": { "secretName": "../x" } } });
        let objects = [ExportedObject { kind: ExportedKind::Agent, object }];
        let mut exported = ExportedSet { needed: needed_secrets(&objects), ..ExportedSet::default() };
        read_secrets(&Client::try_from(config).unwrap(), &mut exported).await;
        assert_eq!(exported.failures, ["\"Secret fleet/../x\": no Secret has such a name"]);
    }
}
