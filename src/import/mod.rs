//! `muster import`: writes manifests for the existing agents of a gateway. The command only reads from the gateway.

mod args;
mod file_templates;
mod manifests;
#[cfg(test)]
mod schema;
mod secret_texts;
mod workspace;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use file_templates::{FileRules, templates};
use manifests::{ImportedAgents, Names, agents, manifest};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use url::Url;

use crate::gateway_connection::{self, GatewayConnectionOptions, OpenGateway, gateway_url, plain_url};
use crate::openclaw::model::Inventory;
use crate::openclaw::{Auth, Dial, Network};
use crate::templates::FileName;

type Failure = Box<dyn std::error::Error>;

/// The options of `muster import`.
#[derive(Debug, clap::Args)]
pub struct ImportOptions {
    /// The gateway, `ws://` or `wss://`, without credentials.
    // Not parsed by clap, whose error would repeat a credential in the URL.
    #[arg(long, value_name = "URL")]
    pub gateway: String,
    /// How the command reaches the gateway.
    #[command(flatten)]
    pub connection: GatewayConnectionOptions,
    /// Namespace that is written into the manifests. Default: none, so that kubectl's applies.
    #[arg(long, short, value_name = "NAMESPACE", value_parser = args::namespace)]
    pub namespace: Option<String>,
    /// Name of the AgentGateway. Default: `gateway-` and the gateway's address, as in gateway-openclaw-example-18789.
    #[arg(long, value_name = "NAME", value_parser = args::object)]
    pub gateway_name: Option<String>,
    /// Name of the agents' Board. Default: `imported-` and the gateway's address.
    #[arg(long, value_name = "NAME", value_parser = args::object)]
    pub board_name: Option<String>,
    /// Base URL of Muster's HTTP API as the agents reach it, for the AgentGateway.
    #[arg(long, default_value = "http://muster.muster-system.svc:8080", value_name = "URL")]
    pub api_url: String,
    /// Write the Agents alone: the AgentGateway and the Board exist already.
    #[arg(long)]
    pub only_agents: bool,
    /// Write the texts of the agents' files too, as templates in a ConfigMap for each agent, so that they can be edited from there: AGENTS.md,
    /// SOUL.md, TOOLS.md, IDENTITY.md and HEARTBEAT.md, as far as the gateway gives them.
    #[arg(long)]
    pub files: bool,
    /// Write no manifests: compare the agents of the gateway with the Agents of the files that -f names, and show what differs. The exit status
    /// is 3 if something differs.
    #[arg(long, requires = "filename", conflicts_with_all = ["files", "only_agents", "board_name"])]
    pub diff: bool,
    /// Files or folders with manifests, or - for standard input, for --diff.
    #[arg(short = 'f', long = "filename", value_name = "PATH", requires = "diff", num_args = 1..)]
    pub filename: Vec<PathBuf>,
}

/// The checked options of an import.
struct ImportRequest<'a> {
    options: &'a ImportOptions,
    url: Url,
    api_url: Url,
    names: Names,
}

impl<'a> ImportRequest<'a> {
    fn read(options: &'a ImportOptions) -> Result<Self, Failure> {
        let url = gateway_url("--gateway", &options.gateway)?;
        let name = |given: &Option<String>, prefix, flag| match given {
            Some(name) => Ok(name.clone()),
            None => args::derived(prefix, flag, &url),
        };
        let names = Names {
            namespace: options.namespace.clone(),
            gateway: name(&options.gateway_name, "gateway", "--gateway-name")?,
            board: name(&options.board_name, "imported", "--board-name")?,
        };
        let api_url = plain_url("--api-url", &options.api_url, ["http", "https"])?;
        Ok(Self { options, url, api_url, names })
    }
}

/// The result of an import.
#[derive(Clone, Debug, PartialEq)]
pub struct Import {
    /// The manifests as one YAML stream.
    pub manifests: String,
    /// Sentences for the person who imports: about agents and settings without a manifest, and the number of agents.
    pub notes: Vec<String>,
    /// The manifests of the Agents.
    pub agents: Vec<Value>,
    /// By agent, the fields of its spec for which the gateway has a value that no spec can express.
    pub left_out: BTreeMap<String, BTreeSet<&'static str>>,
    /// The roster and the config of the gateway.
    pub inventory: Arc<Inventory>,
    /// The URL of the gateway.
    pub url: Url,
}

/// Writes the manifests to standard output, and the notes about them to standard error.
///
/// # Errors
/// A sentence that names the flag, the file or the gateway, and says what to do.
pub fn main(options: &ImportOptions) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let Import { manifests, notes, .. } = runtime.block_on(import(options, Arc::new(Network::default())))?;
    std::io::stdout().lock().write_all(manifests.as_bytes())?;
    for note in &notes {
        eprintln!("{note}");
    }
    Ok(())
}

/// Reads a gateway and builds the manifests that adopt its agents.
///
/// # Errors
/// A sentence that names the flag, the file or the gateway, and says what to do.
pub async fn import(options: &ImportOptions, dial: Arc<dyn Dial>) -> Result<Import, Failure> {
    let request = ImportRequest::read(options)?;
    let settings = options.connection.settings(&request.url)?;
    let report = &mut |line: &str| eprintln!("{line}");
    let credential = settings.auth.clone();
    let gateway = gateway_connection::open(settings, dial, options.connection.limit(), report).await?;
    let mut imported = agents(&gateway.inventory, &request.names);
    if options.files {
        add_files(&gateway, &credential, &request.names, &mut imported).await?;
    }
    imported.notes.push(format!("{} agents of {}", imported.manifests.len(), request.url));
    let manifests = text(&request, &imported)?;
    let ImportedAgents { manifests: agents, notes, left_out, .. } = imported;
    Ok(Import { manifests, notes, agents, left_out, inventory: gateway.inventory, url: request.url })
}

/// Adds the texts of the agents' files.
async fn add_files(
    OpenGateway { client, inventory }: &OpenGateway,
    credential: &Auth,
    names: &Names,
    imported: &mut ImportedAgents,
) -> Result<(), Failure> {
    let id = |manifest: &Value| manifest["spec"]["agentId"].as_str().unwrap_or_default().to_owned();
    let is_served = |id: &String| inventory.agents.get(id).is_some_and(|row| row.in_roster);
    let ids = imported.manifests.iter().map(id).filter(is_served).collect();
    let read = workspace::read(client, inventory, ids).await?;
    for manifest in &mut imported.manifests {
        let id = id(manifest);
        let Some(files) = read.get(&id) else { continue };
        let entry = inventory.entry(&id);
        let credential = credential.secret().expose_secret();
        let rules = FileRules { limits: inventory.prompt_limits, entry: entry.as_ref(), credential };
        let made = templates(&id, files, rules);
        imported.config_maps.extend(file_templates::add(manifest, &made, names));
        imported.notes.extend(made.notes);
    }
    if !imported.config_maps.is_empty() {
        let names = imported.config_maps.iter().filter_map(|one| one["metadata"]["name"].as_str());
        imported.notes.push(format!(
            "kubectl apply changes ConfigMaps of these names that the namespace has already; look before you apply: {}",
            names.collect::<Vec<_>>().join(", ")
        ));
    }
    let accepted: Vec<_> = workspace::accepted(inventory).collect();
    let refused: Vec<_> =
        workspace::FILES.iter().filter(|name| !accepted.contains(name)).map(FileName::as_str).collect();
    if !refused.is_empty() {
        imported.notes.push(format!("the gateway does not give the text of {}", refused.join(", ")));
    }
    Ok(())
}

/// The manifests as one YAML stream.
fn text(request: &ImportRequest, imported: &ImportedAgents) -> Result<String, Failure> {
    let names = &request.names;
    let mut objects = Vec::new();
    if !request.options.only_agents {
        objects.push(gateway(request));
        objects.push(manifest("Board", &names.board, names, &json!({ "gatewayRef": { "name": names.gateway } })));
    }
    let mut text = comments(request, imported.manifests.len());
    for object in objects.iter().chain(&imported.config_maps).chain(&imported.manifests) {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(object)?);
    }
    Ok(text)
}

/// The comments at the top of the YAML stream.
fn comments(ImportRequest { options, url, names, .. }: &ImportRequest, count: usize) -> String {
    let (name, key) = (&names.gateway, key(options));
    let mut lines = vec![if options.files {
        format!(
            "# {count} agents of {url}. Applying this adopts them. A file that changed since this import is written back: run muster plan first."
        )
    } else {
        format!("# {count} agents of {url}. Applying this adopts them and changes nothing there.")
    }];
    if !options.only_agents {
        lines.push("# The credential is not in here. Create its Secret first, in the same namespace:".to_owned());
        lines.push(format!("#   kubectl create secret generic {name}-auth --from-file={key}=FILE"));
        if options.connection.ca_file.is_some() {
            lines.push(format!("#   kubectl create secret generic {name}-ca --from-file=ca.crt=FILE"));
        }
    }
    lines.join("\n") + "\n"
}

/// The key of the credential in its Secret.
fn key(options: &ImportOptions) -> &'static str {
    if options.connection.password_file.is_some() { "password" } else { "token" }
}

/// The AgentGateway.
fn gateway(ImportRequest { options, url, api_url, names }: &ImportRequest) -> Value {
    let (name, key) = (&names.gateway, key(options));
    let mut spec = json!({
        "url": url.as_str(),
        "auth": { format!("{key}SecretRef"): { "name": format!("{name}-auth"), "key": key } },
        // OpenClaw's own default. Adopted agents keep their workspaces.
        "workspaceRoot": "~/.openclaw",
        "apiUrl": api_url.as_str().trim_end_matches('/'),
    });
    if options.connection.ca_file.is_some() {
        spec["tls"]["caSecretRef"] = json!({ "name": format!("{name}-ca"), "key": "ca.crt" });
    }
    if let Some(fingerprint) = options.connection.fingerprint {
        spec["tls"]["fingerprint"] = json!(fingerprint.to_string());
    }
    manifest("AgentGateway", name, names, &spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openclaw::Fingerprint;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: ImportOptions,
    }

    /// The answer of the command line to these arguments: the trust, or the error.
    fn answer(arguments: &[&str]) -> String {
        match <Line as clap::Parser>::try_parse_from([&["import"], arguments].concat()) {
            Ok(line) => {
                let settings = ImportRequest::read(&line.options);
                let settings = settings.and_then(|request| Ok(line.options.connection.settings(&request.url)?));
                settings.map_or_else(|e| e.to_string(), |settings| format!("{:?}", settings.trust))
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn bad_input_is_refused_with_the_flag_and_what_to_do() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        let empty = empty.path().to_str().unwrap();
        let pin = "ab".repeat(32);
        for (arguments, expected) in [
            (
                &["--gateway", "https://gateway"][..],
                "--gateway https://gateway/: give a URL that begins with ws:// or wss://",
            ),
            (
                &["--gateway", "ws://gateway", "--fingerprint", &pin],
                "only wss:// has a certificate for --ca-file or --fingerprint",
            ),
            (
                &["--gateway", "wss://gateway", "--fingerprint", "ab:cd"],
                "'--fingerprint <SHA256>': give the SHA-256 of the certificate: 64 hexadecimal digits",
            ),
            (
                &["--gateway", "ws://gateway", "--timeout", "18446744073709551615"],
                "'--timeout <SECONDS>': 18446744073709551615 is not in 1..=86400",
            ),
            (&["--gateway", "wss://gateway", "--token-file", "/nowhere"], "--token-file /nowhere: No such file"),
            (&["--gateway", "wss://gateway", "--password-file", empty], "it is empty"),
            (&["--gateway", "wss://gateway", "--ca-file", empty], "--ca-file"),
        ] {
            let answer = answer(arguments);
            assert!(answer.contains(expected), "{arguments:?}: {answer}");
        }
    }

    #[test]
    fn names_that_kubernetes_refuses_are_refused_with_the_flag() {
        for (flag, name) in [("--namespace", "a.b"), ("--gateway-name", "My_Gateway"), ("--board-name", "")] {
            let answer = answer(&["--gateway", "ws://gateway", flag, name]);
            assert!(
                answer.contains(&format!("for '{flag} <")) && answer.contains("lower-case letters, digits"),
                "{answer}"
            );
        }
    }

    #[test]
    fn a_url_that_may_hold_a_credential_is_refused_and_not_repeated() {
        for url in ["wss://me:hush@gateway", "wss://gateway?token=hush", "wss://gateway#hush", "hush@gateway"] {
            for arguments in [&["--gateway", url][..], &["--gateway", "ws://gateway", "--api-url", url]] {
                let answer = answer(arguments);
                assert!(answer.contains("no credentials, query or fragment; leave them out"), "{answer}");
                assert!(!answer.contains("hush"), "{answer}");
            }
        }
    }

    /// The AgentGateway of a command line.
    fn imported(line: &str) -> Value {
        let line = <Line as clap::Parser>::parse_from(line.split(' '));
        gateway(&ImportRequest::read(&line.options).unwrap())
    }

    #[test]
    fn the_manifest_has_the_pinned_fingerprint() {
        let pin = "ab".repeat(32);
        let gateway = imported(&format!("import --gateway wss://gateway --ca-file ca.pem --fingerprint {pin}"));
        let pin = Fingerprint::parse(&pin).unwrap().to_string();
        let ca = json!({ "name": "gateway-gateway-ca", "key": "ca.crt" });
        assert_eq!(gateway["spec"]["tls"], json!({ "fingerprint": pin, "caSecretRef": ca }));
        assert_eq!(schema::validation_errors(&gateway), Vec::<String>::new());
    }

    #[test]
    fn the_comment_says_that_files_may_be_written_back() {
        let comment = |line: &str| {
            let line = <Line as clap::Parser>::parse_from(line.split(' '));
            comments(&ImportRequest::read(&line.options).unwrap(), 2)
        };
        assert!(comment("import --gateway ws://gateway").contains("changes nothing there"));
        let with_files = comment("import --gateway ws://gateway --files");
        assert!(
            !with_files.contains("changes nothing") && with_files.contains("run muster plan first"),
            "{with_files}"
        );
    }

    #[test]
    fn objects_of_two_gateways_have_different_names() {
        let names = |line: &str| {
            let line = <Line as clap::Parser>::parse_from(line.split(' '));
            let Names { gateway, board, .. } = ImportRequest::read(&line.options).unwrap().names;
            (gateway, board)
        };
        let first = names("import --gateway ws://one.example:18789");
        assert_eq!(first, ("gateway-one-example-18789".into(), "imported-one-example-18789".into()));
        let second = names("import --gateway ws://two.example:18789");
        assert!(first.0 != second.0 && first.1 != second.1, "{second:?}");
        let given = names("import --gateway ws://one.example --gateway-name blue --board-name ops");
        assert_eq!(given, ("blue".into(), "ops".into()));
    }

    #[test]
    fn the_api_server_accepts_the_agent_gateway() {
        for line in
            ["import --gateway ws://[::1]:18789/a --password-file p", "import --gateway wss://g --api-url http://m/"]
        {
            assert_eq!(schema::validation_errors(&imported(line)), Vec::<String>::new(), "{line}");
        }
    }
}
