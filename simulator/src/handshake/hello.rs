//! What a client that was admitted is told.

use std::time::Duration;

use serde_json::{Value, json};

use super::Admitted;
use crate::{
    config,
    methods::system,
    profile::{AuthMode, MAX_PAYLOAD},
    world::World,
};

/// The payload of the hello.
pub(super) fn hello(world: &mut World, connection_id: u64, admitted: &Admitted) -> Value {
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
        "snapshot": snapshot(world, connection_id, admitted),
        "policy": {"maxPayload": MAX_PAYLOAD, "maxBufferedBytes": 52_428_800, "tickIntervalMs": millis(profile.tick)},
    });
    if profile.protocol >= 4 || admitted.issued.is_some() {
        let mut auth = json!({"role": "operator", "scopes": admitted.client.scopes});
        if profile.opaque_hashes {
            auth["method"] = json!(admitted.method);
        }
        if let Some((token, at)) = &admitted.issued {
            auth["deviceToken"] = json!(token);
            auth["issuedAtMs"] = json!(at);
        }
        hello["auth"] = auth;
    }
    hello
}

fn snapshot(world: &World, connection_id: u64, admitted: &Admitted) -> Value {
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
    if admitted.client.has_scope("operator.admin") || profile.protocol < 4 {
        snapshot["configPath"] = json!(config::path(profile));
        snapshot["stateDir"] = json!(format!("{}/.openclaw", profile.home));
        snapshot["authMode"] = json!(if profile.auth_mode == AuthMode::Token { "token" } else { "password" });
    }
    snapshot
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
