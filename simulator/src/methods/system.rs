//! `health`, `status`, `last-heartbeat`, `cron.status`, `cron.list`.

use serde_json::{Value, json};

use super::method::{Caller, MethodOutput, reply};
use crate::{
    config::{heartbeats, roster},
    error::RpcError,
    schema::{Param, ParamType, optional},
    world::World,
};

/// Most jobs in a page of `cron.list`.
const CRON_PAGE: usize = 200;

pub(crate) const CRON_LIST: &[Param] = &[
    optional("includeDisabled", ParamType::Flag),
    optional("limit", ParamType::Integer),
    optional("offset", ParamType::Integer),
    optional("query", ParamType::Text),
    optional("enabled", ParamType::Text),
    optional("agentId", ParamType::NonEmpty),
    optional("compact", ParamType::Flag),
    optional("includeDeliveryPreviews", ParamType::Flag),
];

/// Returns the gateway's health; no scope is required.
pub(crate) fn health(world: &mut World, _: &Caller, _: &Value) -> Result<MethodOutput, RpcError> {
    reply(snapshot(world))
}

/// The payload of the method `health` and of the event `health`.
pub(crate) fn snapshot(world: &World) -> Value {
    let applied = &world.config.applied.value;
    let enrolled = heartbeats::enrolled(applied, &world.profile);
    let agents = world
        .applied_agents()
        .iter()
        .map(|(id, entry)| {
            let every = heartbeats::every(applied, entry);
            let every_ms = heartbeats::every_ms(applied, entry).filter(|_| enrolled.contains(id));
            let count = world.sessions.of_agent(id).count();
            json!({
                "agentId": id,
                "isDefault": *id == roster::MAIN,
                "heartbeat": {
                    "enabled": every_ms.is_some(),
                    "every": if every_ms.is_some() { every } else { "disabled" },
                    "everyMs": every_ms,
                    "target": entry["heartbeat"]["target"].as_str().unwrap_or("owner"),
                },
                "sessions": {"count": count, "recent": []},
            })
        })
        .collect();
    let mut snapshot = json!({
        "ok": true,
        "ts": world.clock.now_ms(),
        "durationMs": 1,
        "configReload": {"hotReloadStatus": "active"},
        "channels": {},
        "channelOrder": [],
        "channelLabels": {},
        "heartbeatSeconds": 0,
        "defaultAgentId": roster::MAIN,
    });
    snapshot["agents"] = Value::Array(agents);
    snapshot
}

/// Returns the gateway's version and the agents with heartbeats.
pub(crate) fn status(world: &mut World, _: &Caller, _: &Value) -> Result<MethodOutput, RpcError> {
    let heartbeat = |agent: &Value| {
        let heartbeat = &agent["heartbeat"];
        json!({
            "agentId": agent["agentId"],
            "enabled": heartbeat["enabled"],
            "every": heartbeat["every"],
            "everyMs": heartbeat["everyMs"],
        })
    };
    let agents: Vec<Value> = snapshot(world)["agents"].as_array().into_iter().flatten().map(heartbeat).collect();
    reply(json!({
        "runtimeVersion": world.profile.version,
        "heartbeat": {"defaultAgentId": roster::MAIN, "agents": agents},
        "channelSummary": [],
        "queuedSystemEvents": [],
    }))
}

/// Returns the last heartbeat of any agent; the simulator keeps none.
pub(crate) fn last_heartbeat(_: &mut World, _: &Caller, _: &Value) -> Result<MethodOutput, RpcError> {
    reply(Value::Null)
}

/// Returns the state of the scheduler. A scheduler that is off lists its jobs all the same.
pub(crate) fn cron_status(world: &mut World, _: &Caller, _: &Value) -> Result<MethodOutput, RpcError> {
    let enabled = world.config.applied.value["cron"]["enabled"] != false;
    reply(json!({"enabled": enabled, "jobs": world.cron.jobs().count(), "nextWakeAtMs": null}))
}

/// Lists the jobs; disabled jobs only on request. `query` is a part of the name, in any case.
pub(crate) fn cron_list(world: &mut World, _: &Caller, params: &Value) -> Result<MethodOutput, RpcError> {
    let disabled = params["includeDisabled"].as_bool() == Some(true);
    let agent = params["agentId"].as_str();
    let query = params["query"].as_str().unwrap_or_default().to_lowercase();
    let jobs: Vec<&Value> = world
        .cron
        .jobs()
        .filter(|job| disabled || job["enabled"] == true)
        .filter(|job| agent.is_none_or(|agent| job["agentId"] == agent))
        .filter(|job| job["name"].as_str().is_some_and(|name| name.to_lowercase().contains(&query)))
        .collect();
    let total = jobs.len();
    let offset = params["offset"].as_u64().and_then(|offset| usize::try_from(offset).ok()).unwrap_or(0).min(total);
    let limit = params["limit"].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(CRON_PAGE);
    let end = total.min(offset + limit.clamp(1, CRON_PAGE));
    reply(json!({
        "jobs": jobs[offset..end],
        "total": total,
        "offset": offset,
        "limit": limit,
        "hasMore": end < total,
        "nextOffset": (end < total).then_some(end),
        "deliveryPreviews": {},
    }))
}
