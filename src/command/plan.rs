//! `muster plan`: what the operator would do on a gateway for the Agents of manifests. Nothing is written.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueEnum;
use futures::{StreamExt, stream};
use serde_json::Value;
use url::Url;

use super::comparison::{Comparison, conclude_comparison};
use super::offline_manifests::{self, DEFAULT_NAMESPACE, ManifestSource, OfflineManifests, key_of};
use super::plan_report::{PlanReport, PlannedAgent};
use super::print::DataFormat;
use super::session::{Cluster, CommandError, Streams, namespace};
use crate::api::AgentGateway;
use crate::api::agent::{Agent, DeletionPolicy};
use crate::api::object_key::ObjectKey;
use crate::api::shared::SecretKeyRef;
use crate::core::agent::binding::Binding;
use crate::core::agent::deletion_policy::of_removal;
use crate::core::agent::preview::references;
use crate::core::gateway::credential;
use crate::core::gateway_ref::resolved_gateway;
use crate::gateway_connection::{self, GatewayConnectionOptions, gateway_url, is_in_clear};
use crate::openclaw::model::Inventory;
use crate::openclaw::{Auth, ConnectionSettings, Dial, Fingerprint, Trust};
use crate::preview::PreviewedGateway;

/// The number of Agents that are compared with the gateway at the same time.
const MAX_AGENTS: usize = 8;

/// The options of `muster plan`.
#[derive(Debug, clap::Args)]
pub struct PlanOptions {
    /// Files or folders with manifests, or - for standard input, as muster apply reads them.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true, num_args = 1..)]
    filename: Vec<PathBuf>,
    /// The AgentGateway of the files whose Agents are planned, if the files have several.
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    agent_gateway: Option<String>,
    /// The gateway's address, `ws://` or `wss://`, without credentials. Default: spec.url of the AgentGateway, if it
    /// has TLS or is on this host. A credential of the options or of the environment goes to this address alone.
    // Not parsed by clap, whose error would repeat a credential in the URL.
    #[arg(long, value_name = "URL")]
    gateway: Option<String>,
    #[command(flatten)]
    access: GatewayConnectionOptions,
    /// Namespace of objects that name none.
    #[arg(long, short, value_name = "NAMESPACE", value_parser = namespace, default_value = DEFAULT_NAMESPACE)]
    namespace: String,
    /// URL of Muster's HTTP API for gateways without spec.apiUrl: the flag --api-url of the operator.
    #[arg(long, value_name = "URL")]
    api_url: Option<String>,
    /// Format of the output. Default: a text.
    #[arg(long, short, value_name = "FORMAT")]
    output: Option<PlanFormat>,
    /// Read the status of the objects from a cluster, so that the plan goes on from what the operator has done there.
    #[arg(long)]
    pub(super) cluster: bool,
    /// Kubeconfig file, for --cluster. Default: $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig, for --cluster. Default: its current context.
    #[arg(long, value_name = "NAME", requires = "cluster")]
    pub(super) context: Option<String>,
}

/// A format of `muster plan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PlanFormat {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl PlanOptions {
    /// The URL of `--gateway`. A credential of the options belongs to this gateway, and to no other: the author of the files chooses the
    /// addresses in them.
    ///
    /// # Errors
    /// The URL is wrong, or there is a credential without a URL.
    fn given_url(&self) -> Result<Option<Url>, String> {
        if let Some(text) = &self.gateway {
            return gateway_url("--gateway", text).map(Some);
        }
        let files = [("--token-file", &self.access.token_file), ("--password-file", &self.access.password_file)];
        match files.into_iter().find(|(_, file)| file.is_some()) {
            Some((flag, _)) => Err(format!(
                "{flag} is for the gateway of --gateway, and not for an address in the files; add --gateway URL, or leave {flag} out \
                 and give the file with the Secret that spec.auth names"
            )),
            None => Ok(None),
        }
    }
}

/// Plans with these streams. With a `cluster`, its objects give the status.
///
/// # Errors
/// The command line is wrong; a manifest is wrong; the gateway does not answer; or an Agent cannot be set up. Each failure was reported.
pub async fn run(
    options: &PlanOptions,
    dial: Arc<dyn Dial>,
    cluster: Option<&Cluster>,
    streams: &mut Streams<'_>,
) -> Result<Comparison, CommandError> {
    let given = options.given_url().map_err(CommandError::Usage)?;
    let source = ManifestSource {
        paths: &options.filename,
        namespace: &options.namespace,
        api_url: options.api_url.clone(),
        with_secrets: true,
        cluster,
    };
    let mut read = offline_manifests::read(&source, streams.input).await?;
    let mut failures = std::mem::take(&mut read.failures);
    for failure in &failures {
        streams.note(failure);
    }
    let (key, gateway) = chosen(options, &read).map_err(CommandError::Failed)?;
    let selected = agents_of(&key, &read, &mut failures, streams);
    let settings = settings(options, given, &key, &gateway, &read).map_err(CommandError::Failed)?;
    let url = settings.url.clone();
    let report = &mut |line: &str| streams.note(line);
    let opened = gateway_connection::open(settings, dial, options.access.limit(), report).await;
    let opened = opened.map_err(CommandError::Failed)?;
    let previewed = PreviewedGateway::new(key.clone(), opened, gateway.spec.resync_interval());
    if gateway.spec.soul_directory.as_ref().is_some_and(|directory| directory.enabled) {
        streams.note(&format!(
            "the soul directory of AgentGateway {key} is not read: the files are compared without souls"
        ));
    }
    let mut plan = PlanReport::new(&key, &url, previewed.inventory());
    let now = cluster.map_or(jiff::Timestamp::now as fn() -> _, |cluster| cluster.now)();
    let preview = async |agent: Arc<Agent>| {
        let outcome = previewed.agent(&read.objects, &agent, now).await;
        (ObjectKey::of(&agent.metadata), outcome)
    };
    let mut outcomes = stream::iter(selected.planned).map(preview).buffered(MAX_AGENTS);
    while let Some((agent, outcome)) = outcomes.next().await {
        let planned = outcome.map(|one| PlannedAgent::of(&agent, &one, previewed.inventory()));
        plan.add(planned.unwrap_or_else(|error| PlannedAgent::failed(&agent, &error)));
    }
    drop(outcomes);
    for agent in &selected.deleted {
        plan.add(deletion(agent, &gateway, previewed.inventory()));
    }
    plan.conclude(&selected.declared);
    let text = match options.output {
        None => plan.text(),
        Some(PlanFormat::Json) => DataFormat::Json.text(&plan.data()),
        Some(PlanFormat::Yaml) => DataFormat::Yaml.text(&plan.data()),
    };
    streams.print(&text)?;
    let failed = failures.len() + plan.blocked();
    conclude_comparison(failed, "object", plan.has_changes())
}

/// The AgentGateway that the options mean.
fn chosen(options: &PlanOptions, read: &OfflineManifests) -> Result<(ObjectKey, Arc<AgentGateway>), String> {
    let gateways = read.objects.gateways.all();
    let names = || gateways.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let found = match &options.agent_gateway {
        Some(text) => {
            let (namespace, name) = text.split_once('/').unwrap_or((&options.namespace, text));
            let key = ObjectKey::new(namespace, name);
            gateways.get_key_value(&key).ok_or_else(|| {
                format!("--agent-gateway {text}: AgentGateway {key} is in none of the files, which have: {}", names())
            })?
        }
        None => match gateways.len() {
            0 => return Err("there is no AgentGateway in the files; give the file that has it".into()),
            1 => gateways.iter().next().ok_or("there is no AgentGateway in the files")?,
            _ => {
                return Err(format!(
                    "the files have several AgentGateways; choose one with --agent-gateway: {}",
                    names()
                ));
            }
        },
    };
    Ok((found.0.clone(), Arc::clone(found.1)))
}

/// The Agents of an AgentGateway.
#[derive(Default)]
struct ChosenAgents {
    planned: Vec<Arc<Agent>>,
    /// The Agents that are being deleted.
    deleted: Vec<Arc<Agent>>,
    /// The ids that the files name. Agents with a failure are included.
    declared: BTreeSet<String>,
}

/// What the operator would do for an Agent that is being deleted.
fn deletion(agent: &Agent, gateway: &AgentGateway, inventory: &Inventory) -> PlannedAgent {
    let key = ObjectKey::of(&agent.metadata);
    let binding = Binding::of(agent).filter(|binding| binding.gateway == ObjectKey::of(&gateway.metadata));
    let removed = binding.filter(|binding| of_removal(agent, Some(gateway), binding) != DeletionPolicy::Orphan);
    let id = removed.map(|binding| binding.identity.agent_id).filter(|id| inventory.agents.contains_key(id));
    PlannedAgent::deleted(&key, id)
}

/// The ids that the manifest and the status of an Agent name.
fn ids(manifest: &Value, agent: Option<&Agent>) -> impl Iterator<Item = String> {
    let named = manifest["spec"]["agentId"].as_str().map(str::to_owned);
    let status = agent.and_then(|agent| agent.status.as_ref());
    let bound = status.and_then(|status| status.binding.as_ref()).map(|binding| binding.agent_id.clone());
    [named, status.and_then(|status| status.agent_id.clone()), bound].into_iter().flatten()
}

/// The Agents of an AgentGateway. Agents without a gateway are failures.
fn agents_of(
    gateway: &ObjectKey,
    read: &OfflineManifests,
    failures: &mut Vec<String>,
    streams: &mut Streams<'_>,
) -> ChosenAgents {
    let (mut agents, mut others) = (ChosenAgents::default(), 0);
    for manifest in read.manifests.iter().filter(|one| one.resource.kind == "Agent") {
        let Some(agent) = read.objects.agents.get(&key_of(manifest)) else {
            agents.declared.extend(ids(&manifest.object, None));
            continue;
        };
        let key = resolved_gateway(&read.objects, agent).filter(|key| read.objects.gateways.get(key).is_some());
        if key.as_ref().is_some_and(|key| key != gateway) {
            others += 1;
            continue;
        }
        agents.declared.extend(ids(&manifest.object, Some(agent)));
        match key {
            Some(_) if agent.metadata.deletion_timestamp.is_some() => agents.deleted.push(Arc::clone(agent)),
            Some(_) => agents.planned.push(Arc::clone(agent)),
            None => {
                let now = jiff::Timestamp::UNIX_EPOCH;
                let cause = references(&read.objects, agent, now).err().map(|error| error.message).unwrap_or_default();
                let failure = manifest.failure(&cause);
                streams.note(&failure);
                failures.push(failure);
            }
        }
    }
    if others > 0 {
        streams.note(&format!("{others} Agents of other AgentGateways are not planned; see --agent-gateway"));
    }
    agents
}

/// The settings of the connection.
///
/// # Guarantees
/// What the options and the environment say of credentials goes to the URL of `--gateway` alone. `spec.tls` of the files does not count
/// there. The credential of a Secret in the files goes to the URL in the files, or to that of `--gateway`.
fn settings(
    options: &PlanOptions,
    given: Option<Url>,
    key: &ObjectKey,
    gateway: &AgentGateway,
    read: &OfflineManifests,
) -> Result<ConnectionSettings, String> {
    if let Some(url) = given {
        let trust = options.access.trust(&url)?.unwrap_or(Trust::Platform);
        let auth = match options.access.auth()? {
            Some(auth) => auth,
            None => auth_of(key, gateway, read)?,
        };
        return gateway_connection::settings(&url, auth, trust);
    }
    let field = format!("spec.url of AgentGateway {key}");
    let url = gateway_url(&field, &gateway.spec.url)?;
    if is_in_clear(&url) {
        return Err(format!(
            "{field}: {url} would take the credential over the network in clear; run kubectl port-forward to the gateway and give \
             --gateway ws://127.0.0.1:PORT, or give --gateway {url} if nobody else can listen"
        ));
    }
    let trust = match options.access.trust(&url)? {
        Some(trust) => trust,
        None => trust_of(key, gateway, read)?,
    };
    gateway_connection::settings(&url, auth_of(key, gateway, read)?, trust)
}

fn auth_of(key: &ObjectKey, gateway: &AgentGateway, read: &OfflineManifests) -> Result<Auth, String> {
    let auth = &gateway.spec.auth;
    let (reference, field, wrap): (_, _, fn(_) -> Auth) = match (&auth.token_secret_ref, &auth.password_secret_ref) {
        (Some(reference), _) => (reference, "spec.auth.tokenSecretRef", Auth::Token),
        (None, Some(reference)) => (reference, "spec.auth.passwordSecretRef", Auth::Password),
        (None, None) => {
            let advice = "give --gateway URL with --token-file";
            return Err(format!("spec.auth of AgentGateway {key} names no Secret; {advice}"));
        }
    };
    let advice =
        "give the file with the Secret, or --gateway URL with --token-file, --password-file or MUSTER_GATEWAY_TOKEN";
    let value = secret_value(&key.namespace, reference, field, read).map_err(|cause| format!("{cause}; {advice}"))?;
    Ok(wrap(credential::of_file(&value).into()))
}

fn trust_of(key: &ObjectKey, gateway: &AgentGateway, read: &OfflineManifests) -> Result<Trust, String> {
    let Some(tls) = &gateway.spec.tls else { return Ok(Trust::Platform) };
    if tls.insecure_skip_verify {
        return Ok(Trust::Unchecked);
    }
    let pem = tls.ca_secret_ref.as_ref().map(|reference| {
        let value = secret_value(&key.namespace, reference, "spec.tls.caSecretRef", read);
        value
            .map(String::into_bytes)
            .map_err(|cause| format!("{cause}; give --ca-file, or give the file with the Secret"))
    });
    let fingerprint = tls.fingerprint.as_deref().map(|text| {
        Fingerprint::parse(text)
            .ok_or_else(|| format!("spec.tls.fingerprint of AgentGateway {key} is no SHA-256 in hexadecimal"))
    });
    Ok(match (fingerprint.transpose()?, pem.transpose()?) {
        (Some(fingerprint), pem) => Trust::Pinned { fingerprint, pem },
        (None, Some(pem)) => Trust::Pem(pem),
        (None, None) => Trust::Platform,
    })
}

/// The text of a key of a Secret in the files.
fn secret_value(
    namespace: &str,
    SecretKeyRef { name, key }: &SecretKeyRef,
    field: &str,
    read: &OfflineManifests,
) -> Result<String, String> {
    let secret = ObjectKey::new(namespace, name);
    let data = read.secrets.get(&secret);
    let data = data.ok_or_else(|| format!("Secret {secret}, which {field} names, is in none of the files"))?;
    let encoded = data.get(key).and_then(Value::as_str);
    let text = encoded.and_then(|text| STANDARD.decode(text).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    text.filter(|text| !text.trim().is_empty())
        .ok_or_else(|| format!("Secret {secret}, which {field} names, has no text under the key {key:?}"))
}
