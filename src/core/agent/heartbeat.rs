//! The heartbeat of an agent on its gateway. The config entry and the HTTP API follow from one function.

use std::time::Duration;

use crate::api::agent::Agent;
use crate::api::shared::{Heartbeat, Interval};
use crate::api::text::with_reason;
use crate::api::{AgentGateway, Board};

/// The time between two heartbeats without a setting.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_mins(5);

/// The prompt of a heartbeat run without a setting. The gateway's own prompt asks for no check-in
/// (`docs/gateway-facts.md#heartbeats`).
pub(crate) const CHECK_IN_PROMPT: &str = "This is your heartbeat. First check in once: run the command under \"Check in\" in the Tools section of your instructions (AGENTS.md, or TOOLS.md). Then follow the Heartbeat section (AGENTS.md, or HEARTBEAT.md). Do not infer or repeat old tasks from earlier messages. If nothing needs attention, reply HEARTBEAT_OK.";

/// The heartbeat of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentHeartbeat {
    /// The settings of the Agent. A setting that the Agent does not have comes from its gateway.
    pub settings: Heartbeat,
    /// The time between two heartbeats while the agent is not suspended.
    pub interval: Duration,
    /// The time between two heartbeats of the gateway; zero turns heartbeats off. `None` leaves the heartbeats of an adopted agent
    /// unchanged: Muster could not restore settings outside its spec after a pause.
    pub every: Option<Duration>,
}

impl AgentHeartbeat {
    /// The heartbeat of an Agent on its Board and its gateway, as far as they exist. An adopted agent keeps its settings, except those
    /// in its own spec.
    #[must_use]
    pub fn of(agent: &Agent, board: Option<&Board>, gateway: Option<&AgentGateway>, adopted: bool) -> Self {
        let default = gateway.and_then(|gateway| gateway.spec.heartbeat.as_ref()).filter(|_| !adopted);
        let settings = merge(agent.spec.heartbeat.as_deref(), default);
        let interval = settings.interval.map_or(DEFAULT_INTERVAL, Interval::get);
        let is_left = adopted && settings.interval.is_none() && settings.enabled.is_none();
        let is_off = paused(agent, board).is_some() || settings.enabled == Some(false);
        let every = (!is_left).then_some(if is_off { Duration::ZERO } else { interval });
        Self { settings, interval, every }
    }
}

/// The field that suspends an agent and the given reason, if the agent is suspended.
#[must_use]
pub fn paused(agent: &Agent, board: Option<&Board>) -> Option<String> {
    if agent.spec.suspend {
        return Some(with_reason("spec.suspend of the Agent is true", agent.spec.suspend_reason.as_deref()));
    }
    let board = board.filter(|board| board.spec.suspend)?;
    Some(with_reason("spec.suspend of its Board is true", board.spec.suspend_reason.as_deref()))
}

/// The agent's own heartbeat settings, completed by the gateway's.
fn merge(own: Option<&Heartbeat>, default: Option<&Heartbeat>) -> Heartbeat {
    let own = own.cloned().unwrap_or_default();
    let default = default.cloned().unwrap_or_default();
    Heartbeat {
        enabled: own.enabled.or(default.enabled),
        interval: own.interval.or(default.interval),
        target: own.target.or(default.target),
        prompt: own.prompt.or(default.prompt),
        model: own.model.or(default.model),
        active_hours: own.active_hours.or(default.active_hours),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn every(spec: &Value, gateway: &Value, adopted: bool) -> Option<u64> {
        let agent = Agent::new("one", serde_json::from_value(spec.clone()).unwrap());
        let spec = json!({
            "url": "ws://gw", "auth": { "tokenSecretRef": { "name": "a", "key": "token" } }, "workspaceRoot": "~/w",
            "apiUrl": "http://muster", "heartbeat": gateway,
        });
        let gateway = AgentGateway::new("gw", serde_json::from_value(spec).unwrap());
        AgentHeartbeat::of(&agent, None, Some(&gateway), adopted).every.map(|every| every.as_secs())
    }

    #[test]
    fn the_interval_comes_from_the_agent_else_from_the_gateway_else_the_default() {
        assert_eq!(every(&json!({ "heartbeat": { "interval": "1m" } }), &json!({ "interval": "2m" }), false), Some(60));
        assert_eq!(every(&json!({}), &json!({ "interval": "2m" }), false), Some(120));
        assert_eq!(every(&json!({}), &Value::Null, false), Some(300));
    }

    #[test]
    fn a_suspended_agent_and_a_disabled_heartbeat_have_the_interval_zero() {
        assert_eq!(every(&json!({ "suspend": true }), &Value::Null, false), Some(0));
        assert_eq!(every(&json!({}), &json!({ "enabled": false }), false), Some(0));
    }

    #[test]
    fn an_adopted_agent_keeps_its_heartbeat_unless_its_own_spec_names_it() {
        assert_eq!(every(&json!({ "suspend": true }), &json!({ "interval": "2m" }), true), None);
        assert_eq!(every(&json!({ "heartbeat": { "enabled": true } }), &json!({ "interval": "2m" }), true), Some(300));
    }
}
