//! Builds the desired state of an agent from its Agent and the references. Pure. No other module validates and renders.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::desired::{Delivery, Desired, DesiredFile, Origin, RenderedText, Rotation, Wake};
use super::heartbeat::{AgentHeartbeat, CHECK_IN_PROMPT, paused};
use super::passed_config;
use super::references::References;
use super::templates::GivenTemplate;
use super::variables::variables;
use crate::api::Reason;
use crate::api::agent::{Agent, DriftPolicy, FilePolicy, Role, TokenDelivery};
use crate::api::requests::RequestKind;
use crate::api::shared::{Interval, duration_text};
use crate::api::text::one_line;
use crate::core::agent::{deletion_policy, soul_files};
use crate::core::error::ReconcileError;
use crate::openclaw::model::entry::config_duration;
use crate::openclaw::model::{
    AgentEntry, EntryActiveHours, EntryFallbacks, EntryIdentity, EntryModel, FileLimit, HeartbeatEntry, Inventory,
    Rewritten,
};
use crate::templates::{self, Budget, FileName, Template};

/// Builds the desired state of an agent.
///
/// `inventory` names the files that the gateway accepts, and its default models. While the gateway is unreachable, `inventory` is `None`
/// and no file is folded.
/// Templates are rendered, and thereby checked, before there is a token. Without a token the result has no files.
///
/// # Errors
/// Names the invalid field, template or file, and the next step.
pub fn build(agent: &Agent, references: &References, inventory: Option<&Inventory>) -> Result<Desired, ReconcileError> {
    let gateway = &references.gateway.spec;
    if gateway.workspace_root.contains("${") && !references.names.adopted {
        let message = "spec.workspaceRoot of the AgentGateway contains ${, which the gateway would replace by a variable of its environment; write the directory without a variable";
        return Err(ReconcileError::permanent(Reason::InvalidSpec, message));
    }
    let further_keys = passed_config::by_path(&agent.spec.config)?;
    let paused = paused(agent, references.board.as_deref());
    let heartbeat =
        AgentHeartbeat::of(agent, references.board.as_deref(), Some(&references.gateway), references.names.adopted);
    let expected = heartbeat.every.unwrap_or_default();
    let interval = duration_text(heartbeat.interval);
    let variables = variables(agent, references, &interval, token_for_files(agent, references));
    let old = agent.status.as_ref().and_then(|status| status.soul.as_deref());
    let (rendered, soul) = soul_files::files(&references.soul, old, |soul| {
        files(agent, references, &variables.clone().with_role_soul(soul), inventory)
    })?;
    let wake = &agent.spec.wake;
    let is_woken = wake.enabled || references.requests.due(RequestKind::Wake).is_some();
    let rotation = agent.spec.token.as_ref().map(|token| token.rotation).unwrap_or_default();
    let entry = AgentEntry {
        model: model(agent, references, inventory),
        retired: retired_keys(agent, &further_keys),
        passed: further_keys,
        ..entry(agent, references, heartbeat, inventory)
    };
    check_escapes(&entry, inventory)?;
    Ok(Desired {
        uid: agent.metadata.uid.clone().unwrap_or_default(),
        generation: agent.metadata.generation.unwrap_or_default(),
        gateway: references.gateway_key.clone(),
        address: references.address.clone(),
        identity: references.names.identity.clone(),
        origin: origin(agent, references),
        claimed_for: references.names.claimed_for.clone(),
        deletion_policy: deletion_policy::declared(agent, &references.gateway),
        keeps_folder: keeps_folder(references),
        entry,
        label: agent.display_name(),
        files: references.token.value.is_some().then_some(rendered),
        soul,
        token_secret: agent.token_secret_name(),
        secret_only: secret_only(agent),
        rotation: Rotation { interval: rotation.interval.map(Interval::get), grace_period: rotation.grace_period() },
        requests: references.requests.clone(),
        reset_on_update: agent.spec.session.reset_on_update,
        api_url: references.api_url.clone(),
        wake: (is_woken && paused.is_none()).then(|| Wake {
            deliver: wake.deliver,
            deadline: wake.deadline(),
            max_attempts: wake.max_attempts,
        }),
        paused,
        heartbeat_interval: expected,
        resync_interval: gateway.resync_interval(),
        silence_counts_from: references.silence_counts_from,
        content_check_interval: gateway.content_check_interval(),
    })
}

/// On a gateway that loses escapes, an entry has no text that needs one: the gateway would show a variable of its environment there, or could
/// not read its config any more.
fn check_escapes(entry: &AgentEntry, inventory: Option<&Inventory>) -> Result<(), ReconcileError> {
    if !inventory.is_some_and(Inventory::loses_escapes) {
        return Ok(());
    }
    let keys = entry.escaped_keys();
    if keys.is_empty() {
        return Ok(());
    }
    let keys = keys.into_iter().collect::<Vec<_>>().join(", ");
    let message = format!(
        "the agent's config entry has a text of the form ${{NAME}} in {keys}; this version of the gateway, with agents.list, may read a variable of its environment there once another agent is deleted; write the text without ${{NAME}}, or upgrade the gateway to a version with agents.entries"
    );
    Err(ReconcileError::permanent(Reason::InvalidSpec, message))
}

/// Whether the agent stays in the folder of its binding, although new agents get theirs in another one.
fn keeps_folder(references: &References) -> bool {
    let root = references.gateway.spec.workspace_root.trim_end_matches('/');
    let folder = references.names.identity.workspace.rsplit_once('/').map(|(folder, _)| folder);
    !references.names.adopted && folder != Some(root)
}

fn origin(agent: &Agent, references: &References) -> Origin {
    match (&agent.spec.agent_id, agent.spec.role) {
        (_, _) if references.names.adopted => Origin::Adopted,
        (_, _) if references.names.taken_up => Origin::TakenUp,
        (Some(_), _) => Origin::Chosen,
        (None, _) if references.names.claimed_for.is_some() => Origin::Claimed,
        (None, Role::Worker) => Origin::Derived,
        (None, Role::Lead | Role::Main) if parent_id_was_used(references) => Origin::ParentReused,
        (None, Role::Lead | Role::Main) => Origin::ParentDerived,
    }
}

/// Whether a lead of the board, or a main agent of the gateway, was set up under this id before.
fn parent_id_was_used(references: &References) -> bool {
    let former = match &references.board {
        Some(board) => board.status.as_ref().and_then(|status| status.lead_agent_id.as_ref()),
        None => references.gateway.status.as_ref().and_then(|status| status.main_agent_id.as_ref()),
    };
    former == Some(&references.names.identity.agent_id)
}

/// The token for the files. `None` with `delivery: SecretOnly`.
fn token_for_files<'a>(agent: &Agent, references: &'a References) -> Option<&'a SecretString> {
    references.token.value.as_ref().filter(|_| !secret_only(agent))
}

/// Whether the token is kept out of the workspace.
#[must_use]
pub fn secret_only(agent: &Agent) -> bool {
    agent.spec.token.as_ref().is_some_and(|token| token.delivery == TokenDelivery::SecretOnly)
}

/// The agent's entry in the gateway's config. The entry of an adopted agent has only the fields in its spec; other fields stay.
fn entry(
    agent: &Agent,
    references: &References,
    heartbeat: AgentHeartbeat,
    inventory: Option<&Inventory>,
) -> AgentEntry {
    let AgentHeartbeat { settings: heartbeat, every, .. } = heartbeat;
    let adopted = references.names.adopted;
    // A setting that the defaults have is one that the gateway knows. The runs would see no check-in command.
    let inherited = inventory.map(|inventory| &inventory.heartbeat_defaults).filter(|_| !adopted);
    let spec = &agent.spec;
    let name = if adopted { single_line(spec.display_name.as_ref()) } else { Some(agent.display_name()) };
    AgentEntry {
        id: references.names.identity.agent_id.clone(),
        workspace: references.names.identity.workspace.clone(),
        identity: EntryIdentity {
            name: name.clone(),
            emoji: single_line(spec.emoji.as_ref()).or_else(|| single_line(spec.identity_profile.emoji.as_ref())),
            avatar: single_line(spec.avatar.as_ref()),
        },
        heartbeat: HeartbeatEntry {
            every: every.map(config_duration),
            target: single_line(heartbeat.target.as_ref()).or_else(|| (!adopted).then(|| "none".into())),
            prompt: heartbeat.prompt.or_else(|| (!adopted).then(|| CHECK_IN_PROMPT.to_owned())),
            light_context: inherited.filter(|defaults| defaults.light_context()).map(|_| false),
            isolated_session: inherited.filter(|defaults| defaults.isolated_session()).map(|_| false),
            model: single_line(heartbeat.model.as_ref()),
            active_hours: heartbeat.active_hours.map(|h| EntryActiveHours {
                start: h.start,
                end: h.end,
                timezone: h.timezone,
            }),
        },
        keeps_the_rest: adopted,
        rewritten: agent.status.iter().flat_map(|status| &status.rewritten).map(Rewritten::from).collect(),
        name,
        ..AgentEntry::default()
    }
}

/// The keys that an earlier `spec.config` may have brought into the entry, and that are no longer named.
fn retired_keys(agent: &Agent, named: &BTreeMap<String, Value>) -> BTreeSet<String> {
    let recorded = agent.status.iter().flat_map(|status| &status.config_keys);
    recorded.filter(|key| !named.contains_key(*key)).cloned().collect()
}

/// The model of the entry. A name alone does not turn off the gateway's fallbacks, and changes none that the entry has. An adopted agent
/// whose own model has no fallbacks stays without.
fn model(agent: &Agent, references: &References, inventory: Option<&Inventory>) -> Option<EntryModel> {
    let spec = &agent.spec;
    let primary = single_line(spec.model.as_ref())?;
    let defaults = inventory.map(|inventory| inventory.default_fallbacks.clone()).unwrap_or_default();
    let fallbacks = match &spec.model_fallbacks {
        Some(named) => EntryFallbacks::Named(named.iter().filter_map(|name| one_line(name)).collect()),
        None if references.names.adopted => EntryFallbacks::KeptWithModel(defaults),
        None => EntryFallbacks::Kept(defaults),
    };
    Some(EntryModel { primary, fallbacks })
}

/// A text of the spec on one line. A gateway may trim the text.
fn single_line(text: Option<&String>) -> Option<String> {
    text.and_then(|text| one_line(text))
}

/// Renders every file, checks its length and folds the files that the gateway refuses into AGENTS.md.
fn files(
    agent: &Agent,
    references: &References,
    variables: &templates::Variables,
    inventory: Option<&Inventory>,
) -> Result<Vec<DesiredFile>, ReconcileError> {
    let accepted = inventory.map(|inventory| &inventory.capabilities.accepted_files);
    let mut texts = BTreeMap::new();
    let mut policies = Vec::new();
    let mut budget = Budget::default();
    for name in file_names(agent)? {
        let policy = policy(agent, &name);
        if policy != FilePolicy::Unmanaged {
            let template = template(agent, references, &name)?;
            let text = templates::render(&template, variables, &mut budget).map_err(|e| {
                ReconcileError::permanent(Reason::TemplateError, format!("{name} was not rendered: {e}"))
            })?;
            texts.insert(name.clone(), text);
        }
        policies.push((name, policy));
    }
    let refused = |name: &FileName| accepted.is_some_and(|names| !names.contains(name.as_str()));
    let folded: Vec<_> = policies
        .iter()
        .filter(|(name, policy)| refused(name) && *policy != FilePolicy::Unmanaged)
        .filter_map(|(name, _)| Some((name.clone(), texts.get(name)?.clone())))
        .collect();
    if !folded.is_empty() {
        fold_into_agents(&mut texts, &policies, &folded)?;
    }
    let limits = limits(references, inventory, &texts);
    let token = token_for_files(agent, references);
    let carries = |text: &String| token.is_some_and(|token| text.contains(token.expose_secret()));
    let deliver = |(name, policy): (FileName, FilePolicy)| {
        let carries_token = !refused(&name) && texts.get(&name).is_some_and(carries);
        let delivery = match texts.remove(&name) {
            None => Delivery::Unmanaged,
            Some(_) if refused(&name) => Delivery::Folded { into: FileName::AGENTS.as_str().to_owned() },
            Some(text) => delivery(limits[&name], policy, drift(agent, &name), text),
        };
        let is_adopted = references.names.adopted || references.names.taken_up;
        DesiredFile { name: name.as_str().to_owned(), carries_token, is_adopted, delivery }
    };
    Ok(policies.into_iter().map(deliver).collect())
}

fn fold_into_agents(
    texts: &mut BTreeMap<FileName, String>,
    policies: &[(FileName, FilePolicy)],
    folded: &[(FileName, String)],
) -> Result<(), ReconcileError> {
    let policy = policies.iter().find(|(name, _)| *name == FileName::AGENTS).map(|(_, policy)| *policy);
    if policy != Some(FilePolicy::Always) {
        let names: Vec<_> = folded.iter().map(|(name, _)| name.as_str()).collect();
        let message = format!(
            "this gateway refuses {}, so that these files become sections of AGENTS.md; set the policy of AGENTS.md in spec.files to Always, or their policy to Unmanaged",
            names.join(", ")
        );
        return Err(ReconcileError::permanent(Reason::InvalidSpec, message));
    }
    let agents = texts.remove(&FileName::AGENTS).unwrap_or_default();
    texts.insert(FileName::AGENTS, templates::fold(&agents, folded));
    Ok(())
}

fn delivery(limit: FileLimit, policy: FilePolicy, drift: DriftPolicy, text: String) -> Delivery {
    let units = prompt_units(&text);
    if units > limit.units {
        return Delivery::TooLarge { units, limit };
    }
    Delivery::Write { policy, drift, content: RenderedText::of(text) }
}

/// How much of each file reaches the agent's prompt. Without an inventory, the limits of gateways without settings.
fn limits(
    references: &References,
    inventory: Option<&Inventory>,
    texts: &BTreeMap<FileName, String>,
) -> BTreeMap<FileName, FileLimit> {
    let lengths: BTreeMap<_, _> = texts.iter().map(|(name, text)| (name.as_str(), prompt_units(text))).collect();
    let settings = inventory.map(|inventory| inventory.prompt_limits).unwrap_or_default();
    let entry = inventory.and_then(|inventory| inventory.entry(&references.names.identity.agent_id));
    let limits = settings.of_files(&lengths, entry.as_ref());
    texts.keys().map(|name| (name.clone(), limits[name.as_str()])).collect()
}

/// The length of a text as the gateway counts it for the prompt.
fn prompt_units(text: &str) -> usize {
    text.trim_end().encode_utf16().count()
}

/// The standard files of the role, then the files that the Agent adds.
///
/// # Errors
/// `InvalidSpec`: a name is not valid.
pub fn file_names(agent: &Agent) -> Result<Vec<FileName>, ReconcileError> {
    let mut names = templates::standard_files(agent.spec.role).to_vec();
    for file in &agent.spec.files {
        let name = FileName::parse(&file.name).map_err(|e| {
            ReconcileError::permanent(Reason::InvalidSpec, format!("spec.files: {:?} is no file name: {e}", file.name))
        })?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn drift(agent: &Agent, name: &FileName) -> DriftPolicy {
    agent.spec.files.iter().find(|f| f.name == name.as_str()).and_then(|f| f.drift).unwrap_or_default()
}

fn policy(agent: &Agent, name: &FileName) -> FilePolicy {
    let given = agent.spec.files.iter().find(|f| f.name == name.as_str()).and_then(|f| f.policy);
    given.unwrap_or(match name.as_str() {
        "BOOTSTRAP.md" => FilePolicy::Once,
        "MEMORY.md" => FilePolicy::IfMissing,
        "USER.md" if agent.spec.role != Role::Main => FilePolicy::IfMissing,
        _ => FilePolicy::Always,
    })
}

/// The template of a file: a given template, or the built-in template.
fn template<'a>(agent: &Agent, references: &'a References, name: &FileName) -> Result<Template<'a>, ReconcileError> {
    Ok(match references.templates.given.get(name.as_str()) {
        Some(GivenTemplate::Text { origin, source }) => Template::given(origin, source),
        Some(GivenTemplate::Binary(error)) => return Err(error.clone()),
        None => templates::built_in(agent.spec.role, name).ok_or_else(|| no_template(name))?,
    })
}

fn no_template(name: &FileName) -> ReconcileError {
    let message = format!(
        "there is no built-in {name}; give spec.files[{name}].template, or a ConfigMap with that key in spec.templates"
    );
    ReconcileError::permanent(Reason::InvalidSpec, message)
}
