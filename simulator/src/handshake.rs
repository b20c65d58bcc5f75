//! The handshake: protocol, credentials, device, pairing, scopes, then the hello.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    config,
    connection::MAX_PAYLOAD,
    error::RpcError,
    faults::Action,
    gateway::{Gateway, Request, answered, refused},
    inspect::{Call, Outcome},
    methods::system,
    profile::{AuthMode, Profile},
    signature,
    world::{
        Power, World,
        devices::{self, Paired},
        links::Client,
    },
};

/// Client ids that the gateway knows; any other is refused.
const CLIENTS: &[&str] = &[
    "gateway-client",
    "cli",
    "test",
    "openclaw-control-ui",
    "openclaw-tui",
    "openclaw-probe",
    "webchat",
];
/// How many bad tokens a remote address may send.
const BAD_TOKENS: usize = 10;

/// What the connection is to do after its first request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) frame: Option<Value>,
    pub(crate) close: Option<(u16, String)>,
    pub(crate) abort: bool,
}

/// Why a handshake ends: error, close code and close reason.
type Refusal = (RpcError, u16, String);

/// Who was admitted.
struct Admitted {
    client: Client,
    method: &'static str,
    issued: Option<(String, i64)>,
}

/// Answers the first request of a connection.
pub(crate) async fn answer(gateway: &Arc<Gateway>, request: &Request, nonce: &str) -> Answer {
    let (call, strike) = {
        let mut world = gateway.world();
        let call = world.calls.len();
        world
            .calls
            .push(Call::new(&request.method, &request.params));
        (
            call,
            world.faults.strike(&request.method, &request.params, false),
        )
    };
    match &strike {
        Some(Action::Delay(delay)) => tokio::time::sleep(*delay).await,
        Some(Action::Hang) => return Answer::default(),
        Some(Action::DropBefore) => {
            return Answer {
                abort: true,
                ..Answer::default()
            };
        }
        Some(Action::KillBefore) => {
            gateway.kill();
            return Answer {
                abort: true,
                ..Answer::default()
            };
        }
        Some(Action::Refuse(error)) => {
            let close = Some((1008, error.message.clone()));
            return Answer {
                frame: Some(refused(&request.id, error)),
                close,
                abort: false,
            };
        }
        Some(Action::LoseReply | Action::DropAfter | Action::KillAfter) | None => {}
    }
    let answer = admitted(gateway, request, call, nonce);
    match strike {
        Some(Action::LoseReply) => Answer::default(),
        Some(Action::DropAfter) => Answer {
            abort: true,
            ..Answer::default()
        },
        Some(Action::KillAfter) => {
            gateway.kill();
            Answer {
                abort: true,
                ..Answer::default()
            }
        }
        _ => answer,
    }
}

fn admitted(gateway: &Gateway, request: &Request, call: usize, nonce: &str) -> Answer {
    let mut world = gateway.world();
    let result = check(&mut world, request, nonce);
    let (outcome, answer) = match result {
        Ok(admitted) => {
            let hello = hello(&mut world, request.link, &admitted);
            world.links.admit(request.link, admitted.client);
            (
                Outcome::Ok,
                Answer {
                    frame: Some(answered(&request.id, &hello)),
                    ..Answer::default()
                },
            )
        }
        Err((error, code, reason)) => {
            let outcome = Outcome::Error {
                code: error.code.clone(),
                message: error.message.clone(),
            };
            let close = Some((code, reason.chars().take(120).collect()));
            (
                outcome,
                Answer {
                    frame: Some(refused(&request.id, &error)),
                    close,
                    abort: false,
                },
            )
        }
    };
    if let Some(call) = world.calls.get_mut(call) {
        call.outcome = outcome;
        call.answered = true;
    }
    answer
}

fn check(world: &mut World, request: &Request, nonce: &str) -> Result<Admitted, Refusal> {
    if request.method != "connect" {
        return Err(closing(RpcError::invalid(
            "invalid handshake: first request must be connect",
        )));
    }
    if matches!(world.power(), Power::Starting(_)) {
        let error = RpcError::unavailable("gateway starting; retry shortly")
            .retryable()
            .after(Duration::from_millis(500))
            .with_details(json!({"reason": "startup-sidecars"}));
        return Err((error, 1013, "gateway starting".into()));
    }
    let params = &request.params;
    well_formed(params)?;
    protocol(params, &world.profile)?;
    let remote = world
        .links
        .get(request.link)
        .is_some_and(|link| link.remote);
    if !params["device"].is_null() {
        device(params, nonce, world.clock.now_ms())?;
    }
    let method = credentials(world, params, remote)?;
    let requested: Vec<String> = params["scopes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|scope| scope.as_str().map(str::to_owned))
        .collect();
    let (scopes, issued) = granted(world, params, remote, method, requested)?;
    let client = Client {
        scopes: scopes.into_iter().collect(),
        device: params["device"]["id"]
            .as_str()
            .filter(|_| remote)
            .map(str::to_owned),
        follows_sessions: false,
        unauthorized: 0,
    };
    Ok(Admitted {
        client,
        method,
        issued,
    })
}

/// An error whose message is also the reason of the close.
fn closing(error: RpcError) -> Refusal {
    let reason = error.message.clone();
    (error, 1008, reason)
}

fn well_formed(params: &Value) -> Result<(), Refusal> {
    let bad = |what: &str| {
        Err(closing(RpcError::invalid(format!(
            "invalid connect params: {what}"
        ))))
    };
    for name in ["minProtocol", "maxProtocol"] {
        if !params[name].is_u64() {
            return bad(&format!("must have required property '{name}'"));
        }
    }
    if !params["client"]["id"]
        .as_str()
        .is_some_and(|id| CLIENTS.contains(&id))
    {
        return bad("at /client/id: must be equal to one of the allowed values");
    }
    Ok(())
}

fn protocol(params: &Value, profile: &Profile) -> Result<(), Refusal> {
    let (min, max) = (
        params["minProtocol"].as_u64().unwrap_or(0),
        params["maxProtocol"].as_u64().unwrap_or(0),
    );
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
    Err((
        RpcError::invalid("protocol mismatch").with_details(details),
        1002,
        "protocol mismatch".into(),
    ))
}

fn device(params: &Value, nonce: &str, now_ms: i64) -> Result<(), Refusal> {
    signature::check(params, nonce, now_ms).map_err(|rejected| {
        let details = json!({"code": rejected.code, "reason": rejected.reason});
        closing(RpcError::invalid(rejected.message).with_details(details))
    })
}

/// Checks what the client has sent as its credentials; returns how it is authenticated.
fn credentials(world: &mut World, params: &Value, remote: bool) -> Result<&'static str, Refusal> {
    if remote && world.bad_tokens >= BAD_TOKENS {
        return Err(unauthorized(
            params,
            "rate_limited",
            "AUTH_RATE_LIMITED",
            "too many failed authentication attempts (retry later)",
        ));
    }
    let auth = &params["auth"];
    let (name, what) = match world.profile.auth_mode {
        AuthMode::Token => ("token", "gateway token"),
        AuthMode::Password => ("password", "gateway password"),
    };
    let upper = name.to_uppercase();
    let device_token = paired(world, params).and_then(|paired| paired.token.clone());
    let given = auth[name].as_str();
    if given.is_some_and(|given| given == world.profile.token) {
        return Ok(if name == "token" { "token" } else { "password" });
    }
    let of_device = auth["deviceToken"].as_str().or(auth["token"].as_str());
    if of_device.is_some() && of_device == device_token.as_deref() {
        return Ok("device-token");
    }
    if given.is_none() && auth["deviceToken"].is_string() && params["device"].is_object() {
        return Err(unauthorized(
            params,
            "device_token_mismatch",
            "AUTH_DEVICE_TOKEN_MISMATCH",
            "device token mismatch (rotate/reissue device token)",
        ));
    }
    if given.is_none() && auth["deviceToken"].is_null() {
        let message = format!("{what} missing (provide gateway auth {name})");
        return Err(unauthorized(
            params,
            &format!("{name}_missing"),
            &format!("AUTH_{upper}_MISSING"),
            &message,
        ));
    }
    if remote {
        world.bad_tokens += 1;
    }
    let message = format!("{what} mismatch (provide gateway auth {name})");
    Err(unauthorized(
        params,
        &format!("{name}_mismatch"),
        &format!("AUTH_{upper}_MISMATCH"),
        &message,
    ))
}

fn unauthorized(params: &Value, reason: &str, code: &str, message: &str) -> Refusal {
    let retry = params["device"].is_object() && reason == "token_mismatch";
    let step = match reason {
        _ if retry => "retry_with_device_token",
        "rate_limited" => "wait_then_retry",
        "token_missing" | "password_missing" => "update_auth_configuration",
        "scope_mismatch" => "review_auth_configuration",
        _ => "update_auth_credentials",
    };
    let error = RpcError::invalid(format!("unauthorized: {message}")).with_details(json!({
        "code": code,
        "authReason": reason,
        "canRetryWithDeviceToken": retry,
        "recommendedNextStep": step,
    }));
    closing(if reason == "rate_limited" {
        error.retryable().after(Duration::from_secs(300))
    } else {
        error
    })
}

fn paired<'a>(world: &'a World, params: &Value) -> Option<&'a Paired> {
    world.devices.paired.get(params["device"]["id"].as_str()?)
}

type Grant = (Vec<String>, Option<(String, i64)>);

/// The scopes that the client gets, and the token of its device.
fn granted(
    world: &mut World,
    params: &Value,
    remote: bool,
    method: &str,
    requested: Vec<String>,
) -> Result<Grant, Refusal> {
    if !remote && method != "device-token" {
        return Ok((requested, None));
    }
    if params["device"].is_null() {
        let kept = if world.profile.deviceless_remote {
            requested
        } else {
            Vec::new()
        };
        return Ok((kept, None));
    }
    let Some(known) = paired(world, params).cloned() else {
        return Err(pairing(world, params, &requested, "not-paired", None));
    };
    let Some(token) = known.token.clone() else {
        return Err(pairing(
            world,
            params,
            &requested,
            "role-upgrade",
            Some(&known),
        ));
    };
    let wider = requested
        .iter()
        .any(|scope| !known.request.scopes.contains(scope));
    if wider && method == "device-token" {
        let message = "device token scope mismatch (re-pair or approve scope upgrade)";
        return Err(unauthorized(
            params,
            "scope_mismatch",
            "AUTH_SCOPE_MISMATCH",
            message,
        ));
    }
    if wider {
        return Err(pairing(
            world,
            params,
            &requested,
            "scope-upgrade",
            Some(&known),
        ));
    }
    Ok((requested, Some((token, known.approved_ms))))
}

/// Asks for the approval of a device: a retry reuses the request that waits.
fn pairing(
    world: &mut World,
    params: &Value,
    requested: &[String],
    reason: &str,
    known: Option<&Paired>,
) -> Refusal {
    let request = waiting(world, params, requested, known.is_some());
    let (requirement, hint) = match reason {
        "role-upgrade" => (
            "device is asking for a higher role than currently approved",
            "Review the requested role upgrade, then approve the pending request.",
        ),
        "scope-upgrade" => (
            "device is asking for more scopes than currently approved",
            "Review the requested scopes, then approve the pending upgrade.",
        ),
        _ => (
            "device is not approved yet",
            "Approve this device from the pending pairing requests.",
        ),
    };
    let mut details = json!({
        "code": "PAIRING_REQUIRED",
        "reason": reason,
        "requestId": request.request_id,
        "remediationHint": hint,
        "deviceId": request.device_id,
        "requestedRole": "operator",
        "requestedScopes": requested,
    });
    if let Some(known) = known {
        let mut approved = known.request.scopes.clone();
        approved.sort();
        details["approvedRoles"] = json!(["operator"]);
        details["approvedScopes"] = json!(approved);
    }
    let message = format!("pairing required: {requirement}");
    let reason = format!("{message} (requestId: {})", request.request_id);
    (
        RpcError::new("NOT_PAIRED", message).with_details(details),
        1008,
        reason,
    )
}

fn waiting(
    world: &mut World,
    params: &Value,
    requested: &[String],
    repair: bool,
) -> devices::Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let device_id = text(&params["device"]["id"]);
    if let Some(request) = world.devices.pending_of(&device_id) {
        return request.clone();
    }
    let request = devices::Request {
        request_id: world.ids.uuid(),
        device_id,
        public_key: text(&params["device"]["publicKey"]),
        platform: text(&params["client"]["platform"]),
        client_id: text(&params["client"]["id"]),
        client_mode: text(&params["client"]["mode"]),
        scopes: requested.to_vec(),
        repair,
        at_ms: world.clock.now_ms(),
    };
    world
        .devices
        .pending
        .insert(request.request_id.clone(), request.clone());
    world.emit("device.pair.requested", &request.to_json());
    request
}

fn hello(world: &mut World, link: u64, admitted: &Admitted) -> Value {
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
        "snapshot": snapshot(world, link, admitted),
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

fn snapshot(world: &World, link: u64, admitted: &Admitted) -> Value {
    let profile = &world.profile;
    let mut snapshot = json!({
        "presence": [],
        "health": system::snapshot(world),
        "stateVersion": {"presence": 1, "health": link},
        "uptimeMs": millis(world.clock.uptime()),
        "sessionDefaults": {
            "defaultAgentId": "main", "mainKey": "main", "mainSessionKey": "agent:main:main", "scope": "per-sender",
        },
    });
    if profile.opaque_hashes {
        snapshot["suspension"] = json!({"phase": "accepting"});
        snapshot["appliedConfigHash"] = json!(world.config.applied_hash(profile));
    }
    if admitted.client.may("operator.admin") || profile.protocol < 4 {
        snapshot["configPath"] = json!(config::path(profile));
        snapshot["stateDir"] = json!(format!("{}/.openclaw", profile.home));
        snapshot["authMode"] = json!(if profile.auth_mode == AuthMode::Token {
            "token"
        } else {
            "password"
        });
    }
    snapshot
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
