//! An agent's entry in the gateway client's words.

use std::time::Duration;

use crate::api::agent::RewrittenField;
use crate::gateway::{self, AgentEntry, EntryIdentity, HeartbeatEntry, Rewritten};
use crate::plan::Entry;

/// An agent's entry in the gateway client's words.
#[must_use]
pub fn entry(id: &str, entry: &Entry) -> AgentEntry {
    let heartbeat = &entry.heartbeat;
    AgentEntry {
        id: id.to_owned(),
        name: entry.name.clone(),
        workspace: entry.workspace.clone(),
        model: entry.model.clone(),
        identity: EntryIdentity { name: entry.name.clone(), emoji: entry.emoji.clone(), avatar: entry.avatar.clone() },
        heartbeat: HeartbeatEntry {
            every: heartbeat.every.map(every),
            target: heartbeat.target.clone(),
            prompt: heartbeat.prompt.clone(),
            model: heartbeat.model.clone(),
            active_hours: heartbeat.active_hours.clone().map(|(start, end, timezone)| gateway::ActiveHours {
                start,
                end,
                timezone,
            }),
        },
        keeps_the_rest: entry.keeps_the_rest,
        rewritten: entry.rewritten.iter().map(rewritten).collect(),
    }
}

fn rewritten(known: &RewrittenField) -> Rewritten {
    let RewrittenField { field, sent, stored } = known.clone();
    Rewritten { field, sent, stored }
}

/// What the gateway stores otherwise, as the status says it.
#[must_use]
pub fn rewritten_field(seen: &Rewritten) -> RewrittenField {
    let Rewritten { field, sent, stored } = seen.clone();
    RewrittenField { field, sent, stored }
}

/// A length of time as Muster writes it into the gateway's config; `0m` turns heartbeats off.
#[must_use]
pub fn every(time: Duration) -> String {
    match time.as_secs() {
        0 => "0m".to_owned(),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}
