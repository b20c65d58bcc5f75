//! Who the client is: shared secret, device token, pairing, and the scopes that follow.

use std::time::Duration;

use serde_json::{Value, json};

use super::Refusal;
use crate::{
    error::RpcError,
    profile::AuthMode,
    world::{
        World,
        devices::{self, Paired},
    },
};

/// How many bad tokens a remote address may send.
const BAD_TOKENS: usize = 10;
/// How long an address that sent too many is refused.
const LOCKOUT: Duration = Duration::from_mins(5);

/// Checks what the client has sent as its credentials; returns how it is authenticated.
pub(super) fn check(world: &mut World, params: &Value, remote: bool) -> Result<&'static str, Box<Refusal>> {
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
        return Err(unauthorized(params, &format!("{name}_missing"), &format!("AUTH_{upper}_MISSING"), &message));
    }
    if remote {
        world.bad_tokens += 1;
    }
    let message = format!("{what} mismatch (provide gateway auth {name})");
    Err(unauthorized(params, &format!("{name}_mismatch"), &format!("AUTH_{upper}_MISMATCH"), &message))
}

fn unauthorized(params: &Value, reason: &str, code: &str, message: &str) -> Box<Refusal> {
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
    Refusal::closing(if reason == "rate_limited" { error.retryable().after(LOCKOUT) } else { error })
}

fn paired<'a>(world: &'a World, params: &Value) -> Option<&'a Paired> {
    world.devices.paired.get(params["device"]["id"].as_str()?)
}

type Grant = (Vec<String>, Option<(String, i64)>);

/// The scopes that the client gets, and the token of its device.
pub(super) fn granted(
    world: &mut World,
    params: &Value,
    remote: bool,
    method: &str,
    requested: Vec<String>,
) -> Result<Grant, Box<Refusal>> {
    if !remote && method != "device-token" {
        return Ok((requested, None));
    }
    if params["device"].is_null() {
        let kept = if world.profile.deviceless_remote { requested } else { Vec::new() };
        return Ok((kept, None));
    }
    let Some(known) = paired(world, params).cloned() else {
        return Err(pairing(world, params, &requested, "not-paired", None));
    };
    let Some(token) = known.token.clone() else {
        return Err(pairing(world, params, &requested, "role-upgrade", Some(&known)));
    };
    let wider = requested.iter().any(|scope| !known.request.scopes.contains(scope));
    if wider && method == "device-token" {
        let message = "device token scope mismatch (re-pair or approve scope upgrade)";
        return Err(unauthorized(params, "scope_mismatch", "AUTH_SCOPE_MISMATCH", message));
    }
    if wider {
        return Err(pairing(world, params, &requested, "scope-upgrade", Some(&known)));
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
) -> Box<Refusal> {
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
        _ => ("device is not approved yet", "Approve this device from the pending pairing requests."),
    };
    let mut details = json!({
        "code": "PAIRING_REQUIRED",
        "reason": reason,
        "requestId": request.id,
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
    let reason = format!("{message} (requestId: {})", request.id);
    Refusal::with(RpcError::new("NOT_PAIRED", message).with_details(details), 1008, reason)
}

fn waiting(world: &mut World, params: &Value, requested: &[String], repair: bool) -> devices::Request {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let device_id = text(&params["device"]["id"]);
    if let Some(request) = world.devices.pending_of(&device_id) {
        return request.clone();
    }
    let request = devices::Request {
        id: world.ids.uuid(),
        device_id,
        public_key: text(&params["device"]["publicKey"]),
        platform: text(&params["client"]["platform"]),
        client_id: text(&params["client"]["id"]),
        client_mode: text(&params["client"]["mode"]),
        scopes: requested.to_vec(),
        repair,
        at_ms: world.clock.now_ms(),
    };
    world.devices.pending.insert(request.id.clone(), request.clone());
    world.emit("device.pair.requested", &request.to_json());
    request
}
