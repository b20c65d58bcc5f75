//! The condition ConfigSynced of an AgentGateway, and why a gateway cannot write its config.

use ConditionType as C;

use crate::api::conditions::{ConditionStatus, ConditionUpdate};
use crate::api::{ConditionType, Reason};
use crate::openclaw::model::{ConfigObstacle, ConfigWrites, ConnectionState, Inventory, ObstacleEffect};

/// The number of losses of entries from which on the condition reports them. One may be the act of a person.
const REPORTED_LOSSES: u32 = 2;

/// Why the gateway cannot write its config, and what to do: by the layout of its config, or by its answer to the last write.
#[must_use]
pub fn unwritable(obstacle: Option<&ConfigObstacle>, writes: &ConfigWrites) -> Option<String> {
    let answered = || {
        let refusal = writes.unwritable.as_ref()?;
        let remedy = remedy(&refusal.message);
        Some(format!(
            "the gateway cannot write its config: {} ({}); {remedy}. Muster retries, in 5 minutes at the latest",
            refusal.message, refusal.code
        ))
    };
    obstacle.map(explained).or_else(answered)
}

/// What to do about a config that cannot be written, by the gateway's words (`docs/gateway-facts.md#config-layouts`,
/// `docs/gateway-facts.md#kills`).
fn remedy(message: &str) -> &'static str {
    if message.contains("$include") {
        "put the settings of the $include that it names into openclaw.json, or edit the included file by hand"
    } else if message.contains("immutable") {
        "start the gateway without OPENCLAW_NIX_MODE, or add the agents where its config is made"
    } else if message.contains("file lock timeout for ") {
        "another process holds the lock of openclaw.json, or a kill of the gateway left it: if no other openclaw command runs there, stop the gateway, remove openclaw.json.lock beside openclaw.json, and start it again"
    } else if message.contains("EBUSY") {
        "openclaw.json is mounted as a file of its own (a subPath of a ConfigMap, for example), which no other file can replace: mount its folder instead, on a volume that the gateway may write"
    } else {
        "the file or its folder is read-only for the gateway: give the user of the gateway the right to write both, on a volume that is not mounted read-only"
    }
}

/// The layout of a config that the gateway cannot write, and what to do.
fn explained(obstacle: &ConfigObstacle) -> String {
    let place = match (&obstacle.key, &obstacle.file) {
        (Some(key), Some(file)) => format!("at {key} ({file})"),
        (Some(key), None) => format!("at {key}"),
        (None, Some(file)) => format!("at the top of openclaw.json ({file})"),
        (None, None) => "at the top of openclaw.json".to_owned(),
    };
    match obstacle.effect {
        ObstacleEffect::RefusedUnlessSole if obstacle.key.is_none() => format!(
            "the gateway does not write agents through the $include {place}; put its values into openclaw.json in place of the $include, where agents may be an $include of one file that holds the whole of agents"
        ),
        ObstacleEffect::RefusedUnlessSole => format!(
            "the gateway does not write agents through the $include {place}; move agents.entries into openclaw.json, or let one file hold the whole of agents or of agents.entries, with no key beside the $include and no $include in that file"
        ),
        ObstacleEffect::RefusesFirst => format!(
            "the gateway does not write agents through the $include {place}; move agents.defaults into openclaw.json, or set systemAgent.agentId in the included file"
        ),
        ObstacleEffect::Refused => format!(
            "the gateway does not write agents through the $include {place}; move agents.list into openclaw.json"
        ),
        ObstacleEffect::Replaces => "this version of OpenClaw replaces each $include in openclaw.json by the included values when it writes the file, so Muster writes nothing; put the values into openclaw.json, or upgrade the gateway".to_owned(),
    }
}

/// The condition ConfigSynced.
pub(crate) fn config_synced(
    state: &ConnectionState,
    inventory: Option<&Inventory>,
    writes: &ConfigWrites,
) -> ConditionUpdate {
    if !matches!(state, ConnectionState::Up(_)) {
        return ConditionUpdate::new(
            C::ConfigSynced,
            ConditionStatus::Unknown,
            Reason::NotConnected,
            "not known without a connection",
        );
    }
    if let Some(why) = unwritable(inventory.and_then(|inventory| inventory.obstacle.as_ref()), writes) {
        return ConditionUpdate::new(C::ConfigSynced, false, Reason::ConfigNotWritable, why);
    }
    if let Some((id, error)) = writes.refused.iter().next() {
        let message = format!(
            "the gateway refuses the entries of {} agents; the first: {id}: {} ({})",
            writes.refused.len(),
            error.message,
            error.code
        );
        return ConditionUpdate::new(C::ConfigSynced, false, Reason::EntryRefused, message);
    }
    if let Some((id, error)) = writes.delayed.iter().next().filter(|_| writes.failed.is_none()) {
        let message = format!(
            "the config entries of {} agents had no effect and are retried; the first: {id}: {} ({})",
            writes.delayed.len(),
            error.message,
            error.code
        );
        return ConditionUpdate::new(C::ConfigSynced, false, Reason::EntryDelayed, message);
    }
    if writes.pending.is_empty() && writes.losses >= REPORTED_LOSSES {
        let message = format!(
            "something else removed entries of Muster from the gateway's config {} times, and Muster wrote them again; if a tool writes openclaw.json anew at each start of the gateway, let it keep the agents (docs/beside-other-operators.md)",
            writes.losses
        );
        return ConditionUpdate::new(C::ConfigSynced, true, Reason::ConfigOverwritten, message);
    }
    if writes.pending.is_empty() {
        return ConditionUpdate::new(C::ConfigSynced, true, Reason::Reconciled, "no config write is waiting");
    }
    if let Some(error) = &writes.failed {
        let message = format!(
            "the last config write failed and is retried at least once a minute: {} ({})",
            error.message, error.code
        );
        return ConditionUpdate::new(C::ConfigSynced, false, Reason::GatewayError, message);
    }
    let reason = if writes.budget_until.is_some() { Reason::RateLimited } else { Reason::WaitingForConfigWrite };
    ConditionUpdate::new(C::ConfigSynced, false, reason, "agents' entries wait for the next config write")
}

#[cfg(test)]
#[path = "config_synced_tests.rs"]
mod tests;
