//! The conditions of an agent.

use super::blocked::Blocker;
use super::check_in_condition::checked_in;
use super::desired::{Desired, Origin};
use super::heartbeat_condition::heartbeat_condition;
use super::label::LabelResult;
use super::observed::{Observed, Registration};
use super::status_input::StatusInput;
use super::token::rules::{self, TokenState};
use crate::api::agent::{AgentStatus, FileState, RewrittenField, SessionLabelStatus};
use crate::api::condition::Condition;
use crate::api::conditions::{ConditionStatus, ConditionUpdate, find, kept_ready};
use crate::api::{ConditionType, Reason};
use crate::core::error::ReconcileError;

/// The conditions of an agent, with Ready apart.
pub(crate) struct AgentConditions {
    pub(crate) conditions: Vec<ConditionUpdate>,
    pub(crate) ready: ConditionUpdate,
}

/// The conditions that follow from the new status and its input.
pub(crate) fn evaluate(new: &AgentStatus, input: &StatusInput<'_>) -> AgentConditions {
    let AgentConditions { conditions, ready } = match &input.observer {
        Some(observer) => AgentConditions { conditions: observer.conditions(), ready: observer.ready() },
        None => of_managed(new, input),
    };
    let ready = match input.blocker {
        Some(blocker) if blocker.is_suspension() => kept_ready(last_observed(input), &blocker.error().message),
        Some(blocker) => not_ready(blocker.error()),
        None => ready,
    };
    AgentConditions { conditions, ready }
}

/// The conditions of an agent that Muster manages. Ready is as without a blocker.
fn of_managed(new: &AgentStatus, input: &StatusInput<'_>) -> AgentConditions {
    let mut conditions = Vec::new();
    if let Some(desired) = input.desired {
        conditions.push(paused(desired));
        conditions.push(checked_in(desired, new, input));
        if let Some(token) = input.token {
            conditions.push(token_issued(desired, token, new, input.blocker));
        }
        if let Some(observed) = input.observed {
            conditions.extend(on_gateway(desired, new, observed, input.blocker));
            conditions.push(session_ready(desired, new, observed, input));
        }
    }
    let say = |so: bool, reason, message: &str| ConditionUpdate::new(ConditionType::Ready, so, reason, message);
    let missing = conditions.iter().find(|v| READY_CONDITIONS.contains(&v.kind) && v.status != ConditionStatus::True);
    let ready = match (input.desired, missing) {
        (Some(_), Some(flaw)) => say(false, flaw.reason, &flaw.message),
        (Some(_), None) if input.observed.is_some() => {
            say(true, Reason::Reconciled, "the agent is provisioned as specified")
        }
        (_, _) => say(false, Reason::Progressing, "the agent is being set up"),
    };
    AgentConditions { conditions, ready }
}

/// What was observed before a suspension. A fault of the spec is disproved when only the suspension holds up the agent. What an observer saw
/// says nothing about an Agent that is to manage.
fn last_observed<'a>(input: &StatusInput<'a>) -> &'a [Condition] {
    let conditions = &input.old.conditions;
    let reason = find(conditions, ConditionType::Ready).and_then(|ready| Reason::parse(&ready.reason));
    let of_observer =
        |reason: Reason| matches!(reason, Reason::Observed | Reason::AgentMissing) && input.observer.is_none();
    if reason.is_some_and(|reason| reason.is_of_the_spec() || of_observer(reason)) { &[] } else { conditions }
}

/// The conditions of every Agent.
pub(crate) const ALL: [ConditionType; 8] = [
    ConditionType::Ready,
    ConditionType::TokenIssued,
    ConditionType::Registered,
    ConditionType::HeartbeatConfigured,
    ConditionType::FilesSynced,
    ConditionType::SessionReady,
    ConditionType::CheckedIn,
    ConditionType::Paused,
];

/// The conditions that Ready depends on.
pub(crate) const READY_CONDITIONS: [ConditionType; 3] =
    [ConditionType::TokenIssued, ConditionType::Registered, ConditionType::FilesSynced];

/// Ready with an error. While the gateway is not ready, the state of the agent is unknown.
fn not_ready(error: &ReconcileError) -> ConditionUpdate {
    let status =
        if error.reason == Reason::GatewayNotReady { ConditionStatus::Unknown } else { ConditionStatus::False };
    ConditionUpdate::new(ConditionType::Ready, status, error.reason, error.message.clone())
}

fn paused(desired: &Desired) -> ConditionUpdate {
    match &desired.paused {
        Some(field) => ConditionUpdate::new(ConditionType::Paused, true, Reason::Suspended, field.clone()),
        None => ConditionUpdate::new(ConditionType::Paused, false, Reason::Running, "the agent is not suspended"),
    }
}

fn token_issued(
    desired: &Desired,
    state: &TokenState,
    new: &AgentStatus,
    blocker: Option<&Blocker>,
) -> ConditionUpdate {
    let secret = &desired.token_secret;
    let (so, reason, message) = match state {
        TokenState::Issued(_) if rules::is_recorded(state, new.token.as_ref()) => {
            let previous = new.token.as_ref().and_then(|t| t.previous.as_ref());
            let message = match previous.map(|p| p.valid_until.as_ref().map(|t| t.0)) {
                None => format!("the token is in Secret {secret:?}"),
                Some(None) => format!(
                    "a new token is in Secret {secret:?} and on its way to the agent; the old one works until then"
                ),
                Some(Some(until)) => format!(
                    "a new token is in Secret {secret:?}; the old one works until the agent has used the new one, at most until {until}"
                ),
            };
            (true, Reason::Reconciled, message)
        }
        TokenState::Issued(_) | TokenState::Missing => match blocker.filter(|blocker| blocker.is_suspension()) {
            Some(suspension) => (
                false,
                Reason::Suspended,
                format!("{}; Muster writes no token to Secret {secret:?} meanwhile", suspension.error().message),
            ),
            None => (false, Reason::Progressing, format!("the token is being written to Secret {secret:?}")),
        },
        TokenState::Tampered => (
            false,
            Reason::Progressing,
            format!(
                "the token in Secret {secret:?} was changed by hand; it is being replaced and the old one is refused"
            ),
        ),
        TokenState::Foreign => {
            (false, Reason::SecretConflict, format!("Secret {secret:?} exists and does not belong to this Agent"))
        }
    };
    ConditionUpdate::new(ConditionType::TokenIssued, so, reason, message)
}

fn on_gateway(
    desired: &Desired,
    new: &AgentStatus,
    observed: &Observed,
    blocker: Option<&Blocker>,
) -> Vec<ConditionUpdate> {
    let registered = observed.registration == Registration::Current;
    let because = |message: &str| match blocker {
        Some(blocker) => (blocker.error().reason, blocker.error().message.clone()),
        None => (Reason::Progressing, message.to_owned()),
    };
    let say = |kind, so: bool, yes: &str, no: &str| {
        let (reason, message) = if so { (Reason::Reconciled, yes.to_owned()) } else { because(no) };
        ConditionUpdate::new(kind, so, reason, message)
    };
    let unsynced: Vec<_> = new.files.iter().filter(|f| !settled(f.state)).map(|f| f.name.as_str()).collect();
    let synced = registered && desired.files.is_some() && !new.files.is_empty() && unsynced.is_empty();
    let waiting = format!("to be written: {}", unsynced.join(", "));
    vec![
        say(
            ConditionType::Registered,
            registered,
            &as_registered(desired, &observed.rewritten),
            "the agent is being registered",
        ),
        if registered {
            heartbeat_condition(desired, new, &observed.heartbeat)
        } else {
            say(ConditionType::HeartbeatConfigured, false, "", "the heartbeat is being set up")
        },
        match refused(new, observed).or_else(|| drifted(new).filter(|_| synced)) {
            Some(condition) => condition,
            None => say(ConditionType::FilesSynced, synced, &as_rendered(new), &waiting),
        },
    ]
}

/// Whether the last status says that the gateway refuses every label.
fn was_refused(input: &StatusInput<'_>) -> bool {
    let before = find(&input.old.conditions, ConditionType::SessionReady);
    before.is_some_and(|before| before.reason == Reason::LabelRefused.as_str())
}

/// The message about a current entry.
fn as_registered(desired: &Desired, rewritten: &[RewrittenField]) -> String {
    let folder = &desired.identity.workspace;
    let stays =
        format!("its workspace stays {folder}, and spec.workspaceRoot of the AgentGateway holds for new agents");
    let others: Vec<_> = rewritten.iter().map(|r| format!("{} {} as {}", r.field, r.sent, r.stored)).collect();
    let shown = others.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    let stores = format!("the gateway stores {shown}, and Muster accepts these values (see status.rewritten)");
    let so = "the gateway's roster shows the agent as specified".to_owned();
    let parts = [Some(so), desired.keeps_folder.then_some(stays), (!others.is_empty()).then_some(stores)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// The condition of the label of the agent's session. Ready does not depend on the label.
fn session_ready(
    desired: &Desired,
    new: &AgentStatus,
    observed: &Observed,
    input: &StatusInput<'_>,
) -> ConditionUpdate {
    let say = |so, reason, message: String| ConditionUpdate::new(ConditionType::SessionReady, so, reason, message);
    let registered = observed.registration == Registration::Current;
    if registered && desired.origin == Origin::Adopted {
        return say(true, Reason::Reconciled, "the sessions of an adopted agent are left unchanged".into());
    }
    let label = observed.session.as_ref().and_then(|session| session.label.as_deref()).filter(|_| registered);
    let shown = observed.session.as_ref().and_then(|session| session.shown_label.as_deref());
    if label == Some(desired.label.as_str()) {
        return say(true, Reason::Reconciled, "the session carries the agent's name".into());
    }
    let record = new.session_label.as_ref().filter(|record| record.name == desired.label && registered);
    if let Some(SessionLabelStatus { name, sent, stored, refusal, .. }) = record {
        match (stored, refusal) {
            (Some(_), Some(refusal)) if label == Some(sent) => {
                let message =
                    format!("the session has the label {sent:?}, since the gateway refuses {name:?}: {refusal}");
                return say(true, Reason::Reconciled, message);
            }
            (Some(stored), _) if shown == Some(stored) => {
                let message = format!("the gateway stores the session's label {sent:?} as {stored:?}");
                return say(true, Reason::Reconciled, message);
            }
            // The gateway refuses the name. The label with a suffix is sent next.
            (None, Some(_)) if sent == name && !was_refused(input) => {}
            (None, Some(refusal)) => {
                let message = format!(
                    "the gateway refuses the session's label {sent:?}: {refusal}. Change spec.displayName, or the label of the session that has it; Muster retries every 10 minutes"
                );
                return say(false, Reason::LabelRefused, message);
            }
            (Some(_) | None, _) => {}
        }
    }
    let error = match (input.blocker, input.labelled) {
        (Some(blocker), _) => Some(blocker.error()),
        (None, Some(LabelResult { outcome: Err(error), .. })) => Some(error),
        (None, Some(LabelResult { outcome: Ok(_), .. }) | None) => None,
    };
    match error {
        Some(error) => say(false, error.reason, error.message.clone()),
        None => say(false, Reason::Progressing, "the session is being set up".into()),
    }
}

fn named(new: &AgentStatus, state: FileState) -> Vec<&str> {
    new.files.iter().filter(|f| f.state == state).map(|f| f.name.as_str()).collect()
}

/// The message about files that are as rendered. Held files are named.
fn as_rendered(new: &AgentStatus) -> String {
    match named(new, FileState::Held).join(", ").as_str() {
        "" => "the workspace files are as rendered".to_owned(),
        held => format!(
            "the workspace files are as rendered, except {held}, which takes no change until the soul directory answers. See status.soulDirectory of the AgentGateway, or set its spec.soulDirectory.enabled to false"
        ),
    }
}

/// The condition of files that another client changed and that keep the change.
fn drifted(new: &AgentStatus) -> Option<ConditionUpdate> {
    let names = named(new, FileState::Drifted);
    (!names.is_empty()).then(|| {
        let message = format!(
            "changed on the gateway by somebody else, and left so as spec.files[].drift asks: {}; annotate the Agent with {} to overwrite the changes",
            names.join(", "),
            crate::api::keys::SYNC_REQUESTED_AT,
        );
        ConditionUpdate::new(ConditionType::FilesSynced, true, Reason::Drifted, message)
    })
}

/// The condition of files that the gateway refuses, once all other files are settled.
fn refused(new: &AgentStatus, observed: &Observed) -> Option<ConditionUpdate> {
    let names = named(new, FileState::Refused);
    let first = names.first()?;
    if new.files.iter().any(|f| f.state != FileState::Refused && !settled(f.state)) {
        return None;
    }
    let words = observed.files.get(*first).and_then(|file| file.refused.as_deref()).unwrap_or_default();
    let (more, it) = match &names[1..] {
        [] => (String::new(), "it"),
        others => (format!(" (and {} more: {})", others.len(), others.join(", ")), "each"),
    };
    let path = new.workspace_path.as_deref().unwrap_or_default();
    let message = format!(
        "the gateway neither reads nor writes {first}{more} in {path}, because {it} is a link, has a second name (a hard link), or is no plain file (\"{words}\"). Remove {it} there, or set the policy of {first} in spec.files to Unmanaged"
    );
    Some(ConditionUpdate::new(ConditionType::FilesSynced, false, Reason::FileRefused, message))
}

fn settled(state: FileState) -> bool {
    match state {
        FileState::Synced
        | FileState::Drifted
        | FileState::Ignored
        | FileState::Held
        | FileState::Kept
        | FileState::Left
        | FileState::Folded
        | FileState::Unmanaged => true,
        FileState::Pending | FileState::TooLarge | FileState::Refused => false,
    }
}
