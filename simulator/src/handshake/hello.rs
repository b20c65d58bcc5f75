//! The hello: the reply to an accepted client.

use std::time::Duration;

use serde_json::{Value, json};

use super::AcceptedClient;
use crate::{
    config,
    methods::system,
    profile::{AuthMode, MAX_PAYLOAD_BYTES},
    world::World,
};

/// The payload of the hello.
pub(super) fn hello(world: &mut World, connection_id: u64, accepted: &AcceptedClient) -> Value {
    let profile = world.profile.clone();
    let mut server = json!({"version": profile.announced_version, "connId": world.ids.uuid()});
    if profile.opaque_hashes {
        server["bootId"] = json!(world.boot_id);
        server["buildId"] = json!(format!("{}-release-simulated", profile.version));
    }
    let mut hello = json!({
        "type": "hello-ok",
        "protocol": profile.protocol,
        "server": server,
        "features": {
            "methods": profile.methods.lines().collect::<Vec<_>>(),
            "events": profile.events.lines().collect::<Vec<_>>(),
        },
        "snapshot": snapshot(world, connection_id, accepted),
        "policy": {"maxPayload": MAX_PAYLOAD_BYTES, "maxBufferedBytes": 52_428_800, "tickIntervalMs": millis(profile.tick)},
    });
    if profile.protocol >= 4 || accepted.issued.is_some() {
        let mut auth = json!({"role": "operator", "scopes": accepted.client.scopes});
        if profile.opaque_hashes {
            auth["method"] = json!(accepted.method);
        }
        if let Some((token, at)) = &accepted.issued {
            auth["deviceToken"] = json!(token);
            auth["issuedAtMs"] = json!(at);
        }
        hello["auth"] = auth;
    }
    hello
}

fn snapshot(world: &World, connection_id: u64, accepted: &AcceptedClient) -> Value {
    let profile = &world.profile;
    let mut snapshot = json!({
        "presence": [],
        "health": system::snapshot(world),
        "stateVersion": {"presence": 1, "health": connection_id},
        "uptimeMs": millis(world.clock.uptime()),
        "sessionDefaults": {
            "defaultAgentId": "main", "mainKey": "main", "mainSessionKey": "agent:main:main", "scope": "per-sender",
        },
    });
    if profile.opaque_hashes {
        snapshot["suspension"] = json!({"phase": "accepting"});
        snapshot["appliedConfigHash"] = json!(world.config.applied_hash(profile));
    }
    if accepted.client.has_scope("operator.admin") || profile.protocol < 4 {
        snapshot["configPath"] = json!(config::path(profile));
        snapshot["stateDir"] = json!(format!("{}/.openclaw", profile.home));
        snapshot["authMode"] = json!(if profile.auth_mode == AuthMode::Token { "token" } else { "password" });
    }
    snapshot
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
