//! An agent's entry in the gateway client's words.

use std::time::Duration;

use crate::gateway::{self, AgentEntry, EntryIdentity, HeartbeatEntry};
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
    }
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
