//! The handshake: protocol, credentials, device, pairing, scopes, then the hello.

mod credentials;
mod hello;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    error::RpcError,
    faults::{Disruption, FaultAction},
    frames::{error_response, ok_response},
    gateway::{Gateway, RequestFrame},
    profile::Profile,
    signature,
    world::records::Outcome,
    world::{ProcessState, World, connections::Client},
};

/// Client ids that the gateway accepts.
const KNOWN_CLIENT_IDS: &[&str] =
    &["gateway-client", "cli", "test", "openclaw-control-ui", "openclaw-tui", "openclaw-probe", "webchat"];

/// The reply to the first request of a connection.
#[derive(Debug, Default)]
pub(crate) struct HandshakeReply {
    pub(crate) frame: Option<String>,
    pub(crate) close: Option<(u16, String)>,
    pub(crate) abort: bool,
}

/// A refused handshake: the error, and the close frame after it.
struct Refusal {
    error: RpcError,
    code: u16,
    reason: String,
}

impl Refusal {
    /// An error whose message is also the close reason.
    fn closing(error: RpcError) -> Box<Self> {
        let reason = error.message.clone();
        Self::with(error, 1008, reason)
    }

    fn with(error: RpcError, code: u16, reason: impl Into<String>) -> Box<Self> {
        Box::new(Self { error, code, reason: reason.into() })
    }
}

/// An accepted client.
struct AcceptedClient {
    client: Client,
    method: &'static str,
    issued: Option<(String, i64)>,
}

/// Handles the first request of a connection.
pub(crate) async fn answer(gateway: &Arc<Gateway>, request: &RequestFrame, nonce: &str) -> HandshakeReply {
    let (call, fault) = {
        let mut world = gateway.world();
        let call = world.record_call(&request.method, &request.params);
        (call, world.faults.take_match(&request.method, &request.params, false))
    };
    match &fault {
        Some(FaultAction::Delay(delay)) => tokio::time::sleep(*delay).await,
        Some(FaultAction::Hang) => return HandshakeReply::default(),
        Some(FaultAction::Before(disruption) | FaultAction::During(disruption)) => {
            return disrupted(gateway, request, *disruption);
        }
        Some(FaultAction::Refuse(error)) => {
            let close = Some((1008, error.message.clone()));
            return HandshakeReply { frame: Some(error_response(&request.id, error)), close, abort: false };
        }
        Some(FaultAction::Answer(payload)) => {
            let frame = Some(ok_response(&request.id, &payload.to_string()));
            return HandshakeReply { frame, ..HandshakeReply::default() };
        }
        Some(FaultAction::Unsettle(time)) => gateway.leave_unsettled(*time),
        Some(FaultAction::After(_) | FaultAction::LoseReply | FaultAction::RepeatReply | FaultAction::HoldReply(_))
        | None => {}
    }
    let answer = decide(gateway, request, call, nonce);
    match fault {
        Some(FaultAction::LoseReply) => HandshakeReply::default(),
        Some(FaultAction::After(disruption)) => disrupted(gateway, request, disruption),
        Some(FaultAction::HoldReply(time)) => {
            tokio::time::sleep(time).await;
            answer
        }
        _ => answer,
    }
}

/// Disrupts the connection. The client gets no reply.
fn disrupted(gateway: &Arc<Gateway>, request: &RequestFrame, disruption: Disruption) -> HandshakeReply {
    gateway.disrupt(request, None, disruption);
    HandshakeReply {
        abort: !matches!(disruption, Disruption::Silence | Disruption::Restart),
        ..HandshakeReply::default()
    }
}

fn decide(gateway: &Gateway, request: &RequestFrame, call: usize, nonce: &str) -> HandshakeReply {
    let mut world = gateway.world();
    let result = check(&mut world, request, nonce);
    let (outcome, answer) = match result {
        Ok(accepted) => {
            let hello = hello::hello(&mut world, request.connection_id, &accepted);
            world.connections.admit(request.connection_id, accepted.client);
            (
                Outcome::Ok,
                HandshakeReply {
                    frame: Some(ok_response(&request.id, &hello.to_string())),
                    ..HandshakeReply::default()
                },
            )
        }
        Err(refusal) => {
            let Refusal { error, code, reason } = *refusal;
            let outcome = Outcome::Error { code: error.code.clone(), message: error.message.clone() };
            let close = Some((code, reason.chars().take(120).collect()));
            (outcome, HandshakeReply { frame: Some(error_response(&request.id, &error)), close, abort: false })
        }
    };
    world.calls.set_outcome(call, outcome);
    world.calls.set_answered(call);
    answer
}

fn check(world: &mut World, request: &RequestFrame, nonce: &str) -> Result<AcceptedClient, Box<Refusal>> {
    if request.method != "connect" {
        return Err(Refusal::closing(RpcError::invalid("invalid handshake: first request must be connect")));
    }
    if matches!(world.process_state(), ProcessState::Starting(_)) {
        let error = RpcError::unavailable("gateway starting; retry shortly")
            .retryable()
            .after(Duration::from_millis(500))
            .with_details(json!({"reason": "startup-sidecars"}));
        return Err(Refusal::with(error, 1013, "gateway starting"));
    }
    let params = &request.params;
    well_formed(params)?;
    protocol(params, &world.profile)?;
    let remote = world.connections.get(request.connection_id).is_some_and(|connection| connection.remote);
    if !params["device"].is_null() {
        device(params, nonce, world.clock.now_ms())?;
    }
    let method = credentials::check(world, params, remote)?;
    let requested: Vec<String> = params["scopes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|scope| scope.as_str().map(str::to_owned))
        .collect();
    let (scopes, issued) = credentials::grant_scopes(world, params, remote, method, requested)?;
    let client = Client {
        scopes: scopes.into_iter().collect(),
        device: params["device"]["id"].as_str().map(str::to_owned),
        sessions_subscribed: false,
        unauthorized: 0,
    };
    Ok(AcceptedClient { client, method, issued })
}

fn well_formed(params: &Value) -> Result<(), Box<Refusal>> {
    let bad = |what: &str| Err(Refusal::closing(RpcError::invalid(format!("invalid connect params: {what}"))));
    for name in ["minProtocol", "maxProtocol"] {
        if !params[name].is_u64() {
            return bad(&format!("must have required property '{name}'"));
        }
    }
    if !params["client"]["id"].as_str().is_some_and(|id| KNOWN_CLIENT_IDS.contains(&id)) {
        return bad("at /client/id: must be equal to one of the allowed values");
    }
    Ok(())
}

fn protocol(params: &Value, profile: &Profile) -> Result<(), Box<Refusal>> {
    let (min, max) = (params["minProtocol"].as_u64().unwrap_or(0), params["maxProtocol"].as_u64().unwrap_or(0));
    if (min..=max).contains(&profile.protocol) {
        return Ok(());
    }
    let details = if profile.protocol < 4 {
        json!({"expectedProtocol": profile.protocol})
    } else {
        json!({
            "code": "PROTOCOL_MISMATCH",
            "clientMinProtocol": min,
            "clientMaxProtocol": max,
            "expectedProtocol": profile.protocol,
            "minimumProbeProtocol": profile.probe_protocol,
        })
    };
    let error = RpcError::invalid("protocol mismatch").with_details(details);
    Err(Refusal::with(error, 1002, "protocol mismatch"))
}

fn device(params: &Value, nonce: &str, now_ms: i64) -> Result<(), Box<Refusal>> {
    signature::check(params, nonce, now_ms).map_err(|rejected| {
        let details = json!({"code": rejected.code, "reason": rejected.reason});
        Refusal::closing(RpcError::invalid(rejected.message).with_details(details))
    })
}
