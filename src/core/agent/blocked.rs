//! The reasons for an incomplete agent, with the messages of its conditions.

use super::desired::Desired;
use super::observed::Observed;
use crate::api::object_key::ObjectKey;
use crate::api::text::with_reason;
use crate::api::{AgentGateway, Reason};
use crate::core::error::ReconcileError;

/// The reason for an incomplete agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blocker {
    /// The gateway is at work. A change on the gateway triggers the next reconcile.
    Pending(ReconcileError),
    /// A Step failed, or a resource is wrong. `transient` of the error says whether a retry may be enough.
    Failed(ReconcileError),
}

impl Blocker {
    /// The error that conditions and `status.lastError` show.
    #[must_use]
    pub fn error(&self) -> &ReconcileError {
        match self {
            Self::Pending(error) | Self::Failed(error) => error,
        }
    }

    /// Whether the AgentGateway is suspended, so that the state stays as last observed.
    #[must_use]
    pub fn is_suspension(&self) -> bool {
        self.error().reason == Reason::Suspended
    }
}

/// Why nothing is done on a suspended gateway.
#[must_use]
pub fn gateway_suspended(gateway: &AgentGateway) -> Option<ReconcileError> {
    let key = ObjectKey::of(&gateway.metadata);
    let message = || with_reason(&format!("AgentGateway {key} is suspended"), gateway.spec.suspend_reason.as_deref());
    gateway.spec.suspend.then(|| ReconcileError::transient(Reason::Suspended, message()))
}

pub(crate) fn id_taken(desired: &Desired) -> ReconcileError {
    let id = &desired.identity.agent_id;
    ReconcileError::permanent(
        Reason::AgentIdTaken,
        format!(
            "gateway {} already has an agent with the id {id:?} that this Agent did not make; choose another spec.agentId, remove that agent, or, to adopt it, create the Agent with spec.agentId {id:?} and spec.adoptionPolicy IfExists",
            desired.gateway
        ),
    )
}

/// The gateway knows the id and has no entry of this id. The effect of a second entry on the gateway is unknown.
pub(crate) fn no_entry(desired: &Desired) -> ReconcileError {
    let id = &desired.identity.agent_id;
    ReconcileError::permanent(
        Reason::AgentIdTaken,
        format!(
            "gateway {} shows an agent with the id {id:?} that has no entry of exactly this id in its openclaw.json; give it one there (an id in another spelling, or in an included file, is not enough), or choose another spec.agentId",
            desired.gateway
        ),
    )
}

pub(crate) fn secret_conflict(desired: &Desired) -> ReconcileError {
    ReconcileError::permanent(
        Reason::SecretConflict,
        format!(
            "Secret {:?} exists and does not belong to this Agent; remove it, or name another one in spec.token.secretName",
            desired.token_secret
        ),
    )
}

/// The blocker of an entry that is not in place yet.
pub(crate) fn entry_blocker(observed: &Observed) -> Blocker {
    if let Some((code, message)) = &observed.refused {
        let text = format!(
            "the gateway refuses this agent's config entry: {message}; change the field of the spec that it names"
        );
        return Blocker::Failed(ReconcileError::permanent(Reason::EntryRefused, text).with_code(code));
    }
    if let Some((code, message)) = &observed.delayed {
        let text = format!("this agent's config entry had no effect and is retried: {message}");
        return Blocker::Pending(ReconcileError::transient(Reason::EntryDelayed, text).with_code(code));
    }
    if observed.over_budget {
        let text = "the gateway's limit of config writes is used up; the entry is written when the gateway accepts writes again";
        return Blocker::Pending(ReconcileError::transient(Reason::RateLimited, text));
    }
    if !observed.settled {
        let text = "the gateway has not applied its own last config yet; the entry waits (up to 5 minutes after a crash of the gateway)";
        return Blocker::Pending(ReconcileError::transient(Reason::NotSettled, text));
    }
    let text = "the entry waits for the gateway's next config write; condition ConfigSynced of the AgentGateway shows a failed write";
    Blocker::Pending(ReconcileError::transient(Reason::WaitingForConfigWrite, text))
}

pub(crate) fn too_large(desired: &Desired) -> Option<ReconcileError> {
    desired.files.iter().flatten().find_map(|file| match &file.delivery {
        super::desired::Delivery::TooLarge { units, limit } => Some(ReconcileError::permanent(
            Reason::FileTooLarge,
            format!(
                "{} was not written: it has {units} characters, and the gateway passes on at most {} ({}); shorten its template or the fields in the template, or raise that setting",
                file.name, limit.units, limit.setting
            ),
        )),
        super::desired::Delivery::Write { .. }
        | super::desired::Delivery::Held { .. }
        | super::desired::Delivery::Folded { .. } | super::desired::Delivery::Unmanaged => None,
    })
}
