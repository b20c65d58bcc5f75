//! The conditions of an agent.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::blocked::Blocker;
use super::desired::{Desired, Origin};
use super::heartbeat_condition::heartbeat_condition;
use super::label::LabelResult;
use super::liveness::Liveness;
use super::observed::{Observed, Registration};
use super::status_input::StatusInput;
use super::token::rules::{self, TokenState};
use super::wake::{self, WakeDecision};
use crate::api::agent::{AgentStatus, FileState, RewrittenField, SessionLabelStatus};
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
    let missing =
        || conditions.iter().find(|v| READY_CONDITIONS.contains(&v.kind) && v.status != ConditionStatus::True);
    let ready = match (input.blocker, input.desired, missing()) {
        (Some(blocker), _, _) if blocker.is_suspension() => {
            kept_ready(last_observed(&input.old.conditions), &blocker.error().message)
        }
        (Some(blocker), _, _) => not_ready(blocker.error()),
        (None, Some(_), Some(flaw)) => {
            ConditionUpdate::new(ConditionType::Ready, false, flaw.reason, flaw.message.clone())
        }
        (None, Some(_), None) if input.observed.is_some() => ConditionUpdate::new(
            ConditionType::Ready,
            true,
            Reason::Reconciled,
            "the agent is provisioned as specified",
        ),
        (None, _, _) => {
            ConditionUpdate::new(ConditionType::Ready, false, Reason::Progressing, "the agent is being set up")
        }
    };
    AgentConditions { conditions, ready }
}

/// What was observed before a suspension. A fault of the spec is disproved when only the suspension holds up the agent.
fn last_observed(conditions: &[Condition]) -> &[Condition] {
    let reason = find(conditions, ConditionType::Ready).and_then(|ready| Reason::parse(&ready.reason));
    if reason.is_some_and(Reason::is_of_the_spec) { &[] } else { conditions }
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

/// Why an agent counts as online.
fn online_because(desired: &Desired, liveness: &Liveness, now: Timestamp) -> &'static str {
    if liveness.is_silent(desired, now) {
        "a run of the agent goes on; silence counts from the end of the run"
    } else if desired.heartbeat_interval.is_zero() {
        "the agent has called Muster's API; without a heartbeat no further call is expected"
    } else if !liveness.expects_calls(desired) || liveness.is_excused(desired, now) {
        "the agent has called Muster's API; no further call is due, see HeartbeatConfigured"
    } else if liveness.called_lately(desired, now) {
        "the agent calls Muster's API within two heartbeat intervals"
    } else {
        "the agent has called Muster's API, and less than two heartbeat intervals in which a call was due have passed since"
    }
}

fn checked_in(desired: &Desired, new: &AgentStatus, input: &StatusInput<'_>) -> ConditionUpdate {
    let (seen, now) = (new.heartbeat.as_ref().map(|h| h.last_seen.0), input.now);
    let liveness = Liveness::of(seen, new, input.observed);
    let say = |reason, message: &str| ConditionUpdate::new(ConditionType::CheckedIn, false, reason, message);
    if desired.paused.is_some() {
        return say(Reason::Suspended, "the agent is suspended, and Muster neither wakes it nor expects a check-in");
    }
    let decision = wake::decide(desired, new.wake.as_ref(), &liveness, now);
    // While no call is due, only the answer to a wake shows whether the agent is online. A new wake, for a changed spec for example, has
    // until its deadline.
    let is_in_time = decision == WakeDecision::Nothing || liveness.checked_in && decision.is_open();
    let unanswered = !liveness.expects_calls(desired) && !is_in_time;
    if liveness.is_fresh(desired, now) && !unanswered {
        return ConditionUpdate::new(
            ConditionType::CheckedIn,
            true,
            Reason::CheckedIn,
            online_because(desired, &liveness, now),
        );
    }
    if let Some(suspension) = input.blocker.filter(|blocker| blocker.is_suspension()) {
        let message = format!("{}; Muster wakes no agent there", suspension.error().message);
        return say(Reason::Suspended, &message);
    }
    let attempts = new.wake.as_ref().map_or(0, |wake| wake.attempts);
    let was_exhausted = desired.wake.is_some_and(|wake| attempts > wake.max_attempts);
    match decision {
        WakeDecision::AwaitCheckIn(deadline) if was_exhausted => say(
            Reason::MaxWakeAttempts,
            &format!(
                "the agent did not check in after the wakes that spec.wake.maxAttempts allows; it was woken once more and has until {deadline} to check in"
            ),
        ),
        WakeDecision::AwaitCheckIn(deadline) => {
            say(Reason::WaitingForCheckIn, &format!("the agent was woken and has until {deadline} to check in"))
        }
        WakeDecision::RetryAt(at) => say(
            Reason::DeadlineExceeded,
            &format!("the agent was woken and did not check in by its deadline; Muster wakes it again at {at}"),
        ),
        WakeDecision::Busy(_) => say(
            Reason::WaitingForCheckIn,
            "a run of the agent goes on; Muster does not wake the agent before the end of the run",
        ),
        WakeDecision::OutOfHours(opening) => say(
            Reason::OutsideActiveHours,
            &format!(
                "it is outside the active hours of the agent; Muster wakes it at {opening} if it does not call before"
            ),
        ),
        WakeDecision::Exhausted(until) => say(
            Reason::MaxWakeAttempts,
            &format!(
                "the agent did not check in after the wakes that spec.wake.maxAttempts allows, and its wakes are paused until {until}; check its session on the gateway, and its access to spec.apiUrl. A check-in, a changed spec or the annotation {} ends the pause",
                crate::api::keys::WAKE_REQUESTED_AT,
            ),
        ),
        WakeDecision::OverBudget(until) => say(
            Reason::WakesPaused,
            &format!(
                "the agent falls silent again after each wake; Muster sends at most {} wakes a day, and pauses them until {until}. Find out why its heartbeats bring no check-in: see HeartbeatConfigured, and its session on the gateway",
                wake::MAX_WAKES_A_DAY
            ),
        ),
        WakeDecision::Send { .. } | WakeDecision::Nothing if seen.is_some() => {
            say(Reason::Stale, "the agent has not called for two heartbeat intervals")
        }
        WakeDecision::Send { .. } => say(Reason::WaitingForCheckIn, "the agent is about to be woken"),
        WakeDecision::Nothing => say(Reason::NotWoken, "the agent is not woken and has not called yet"),
    }
}
