//! What an event of the gateway says to the informer. It is read at the connection, so that no long event waits in a queue.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::openclaw::limits;
use crate::openclaw::model::GatewayClock;
use crate::openclaw::model::readers::List;
use crate::openclaw::model::run_event::RunEvent;
use crate::openclaw::model::text::word;

/// What an event says.
#[derive(Debug)]
pub(crate) enum GatewayEvent {
    /// The config has changed.
    Config,
    /// The config may have changed.
    Hint,
    /// The agents that the gateway's health names.
    Health(BTreeSet<String>),
    /// Something happened to a session or a run.
    Run(RunEvent),
    /// What the gateway's clock shows, as each tick says it.
    Clock(GatewayClock),
}

#[derive(Deserialize)]
struct Tick {
    ts: i64,
}

#[derive(Deserialize)]
struct Health {
    agents: List<HealthOfAgent, { limits::AGENTS }>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct HealthOfAgent {
    #[serde(deserialize_with = "word")]
    agent_id: Option<String>,
}

impl GatewayEvent {
    /// Reads an event; `None` for one that the informer does not need.
    pub(crate) fn read(event: &str, payload: &RawValue) -> Option<Self> {
        match event {
            "config.changed" => Some(Self::Config),
            "chat.metadata.changed" => Some(Self::Hint),
            "tick" => serde_json::from_str(payload.get())
                .ok()
                .map(|Tick { ts }| Self::Clock(GatewayClock::shows(ts, Instant::now()))),
            "health" => named(payload).map(Self::Health),
            _ => RunEvent::read(event, payload).map(Self::Run),
        }
    }

    /// About the memory that it takes, in bytes.
    pub(crate) fn size(&self) -> usize {
        const EACH: usize = 256;
        EACH + match self {
            Self::Config | Self::Hint | Self::Clock(_) => 0,
            Self::Health(agents) => agents.iter().map(|id| 64 + id.len()).sum(),
            Self::Run(event) => event.size(),
        }
    }
}

/// The agents that a word of the gateway's health names.
pub(crate) fn named(health: &RawValue) -> Option<BTreeSet<String>> {
    let health: Health = serde_json::from_str(health.get()).ok()?;
    Some(health.agents.0.into_iter().filter_map(|agent| agent.agent_id).collect())
}
