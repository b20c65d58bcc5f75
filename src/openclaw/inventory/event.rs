//! The gateway's events for the informer. The connection task parses them, so that no long payload waits in the queue.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::openclaw::limits::{self, Exceeded};
use crate::openclaw::model::GatewayClock;
use crate::openclaw::model::heartbeat_jobs::RawJob;
use crate::openclaw::model::readers::{List, lax, optional};
use crate::openclaw::model::run_event::RunEvent;
use crate::openclaw::model::text::word;

/// An event of the gateway.
#[derive(Debug)]
pub(crate) enum GatewayEvent {
    /// The config changed.
    Config,
    /// The config may have changed.
    Hint,
    /// The ids of the agents in the gateway's `health` event.
    Health(BTreeSet<String>),
    /// The heartbeat job of an agent was added, changed or removed.
    Job,
    /// An event about a session or a run.
    Run(RunEvent),
    /// The gateway's clock in a `tick`.
    Clock(GatewayClock),
}

/// The payload of `tick`.
#[derive(Deserialize)]
struct RawTick {
    ts: i64,
}

/// The payload of `health`.
#[derive(Deserialize)]
struct RawHealth {
    agents: List<RawAgentHealth, { limits::AGENTS }>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawAgentHealth {
    #[serde(deserialize_with = "word")]
    agent_id: Option<String>,
}

impl GatewayEvent {
    /// Reads an event; `None` for an event that the informer does not need.
    ///
    /// # Errors
    /// The bound that the event exceeds.
    pub(crate) fn read(event: &str, payload: &RawValue) -> Result<Option<Self>, Exceeded> {
        Ok(match event {
            "config.changed" => Some(Self::Config),
            "chat.metadata.changed" => Some(Self::Hint),
            "tick" => optional(payload)?.map(|RawTick { ts }| Self::Clock(GatewayClock::observed(ts, Instant::now()))),
            "health" => optional(payload)?.map(agents_of_health).map(Self::Health),
            "cron" => match RunEvent::read(event, payload)? {
                Some(run) => Some(Self::Run(run)),
                None => optional(payload)?.and_then(job_change),
            },
            _ => RunEvent::read(event, payload)?.map(Self::Run),
        })
    }

    /// The estimated memory of the event, in bytes.
    pub(crate) fn size(&self) -> usize {
        const PER_EVENT: usize = 256;
        const PER_AGENT: usize = 64;
        PER_EVENT
            + match self {
                Self::Config | Self::Hint | Self::Job | Self::Clock(_) => 0,
                Self::Health(agents) => agents.iter().map(|id| PER_AGENT + id.len()).sum(),
                Self::Run(event) => event.size(),
            }
    }
}

/// The payload of `cron`, as far as it is about a change of a job.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RawJobChange {
    #[serde(deserialize_with = "lax")]
    action: Option<String>,
    #[serde(deserialize_with = "lax")]
    job: Option<RawJob>,
}

fn job_change(change: RawJobChange) -> Option<GatewayEvent> {
    let is_change = matches!(change.action.as_deref(), Some("added" | "updated" | "removed"));
    change.job.filter(|job| is_change && job.heartbeat_agent().is_some()).map(|_| GatewayEvent::Job)
}

/// The ids of the agents in a `health` event.
fn agents_of_health(health: RawHealth) -> BTreeSet<String> {
    health.agents.0.into_iter().filter_map(|agent| agent.agent_id).collect()
}
