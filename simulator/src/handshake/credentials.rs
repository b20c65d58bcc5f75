//! Authentication: shared secret, device token, pairing, and the granted scopes.

use std::time::Duration;

use serde_json::{Value, json};

use super::Refusal;
use crate::{
    error::RpcError,
    profile::AuthMode,
    world::{
        World,
        devices::{self, PairedDevice},
    },
};

/// Checks the credentials of the client; returns the authentication method.
///
/// The shared secret is checked first. A device may send its own token in addition to the shared secret, or in its
/// place; failures of device tokens have a limit of their own.
pub(super) fn check(world: &mut World, params: &Value, remote: bool) -> Result<&'static str, Box<Refusal>> {
    let auth = &params["auth"];
    let device = params["device"].is_object();
    let shared = match shared(world, auth, remote) {
        Ok(method) => return Ok(method),
        Err(denied) => denied,
    };
    let counts = shared.counts && remote;
    let candidate = auth["deviceToken"].as_str().or(auth["token"].as_str()).filter(|_| device);
    let denied = match candidate {
        None => shared,
        Some(token) => match device_token(world, params, token, remote) {
            Ok(()) => return Ok("device-token"),
            Err(Some(wait)) => CredentialRefusal::locked(Some(wait)),
            Err(None) if auth["deviceToken"].is_string() => CredentialRefusal::of(
                "device_token_mismatch",
                "AUTH_DEVICE_TOKEN_MISMATCH",
                "device token mismatch (rotate/reissue device token)",
            ),
            // The device's own token failed as well: the error no longer has the retry delay of the shared secret.
            Err(None) if shared.reason == "rate_limited" => CredentialRefusal::locked(None),
            Err(None) => shared,
        },
    };
    if counts {
        world.shared_auth_failures.record();
    }
    Err(denied.refusal(params))
}

/// The error of a credential that is not accepted.
struct CredentialRefusal {
    reason: String,
    code: String,
    message: String,
    wait: Option<Duration>,
    /// Whether the error counts as a failed login with the shared secret.
    counts: bool,
}

impl CredentialRefusal {
    fn of(reason: impl Into<String>, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: reason.into(), code: code.into(), message: message.into(), wait: None, counts: false }
    }

    fn locked(wait: Option<Duration>) -> Self {
        let message = "too many failed authentication attempts (retry later)";
        Self { wait, ..Self::of("rate_limited", "AUTH_RATE_LIMITED", message) }
    }

    fn refusal(self, params: &Value) -> Box<Refusal> {
        let error = unauthorized(params, &self.reason, &self.code, &self.message);
        Refusal::closing(match self.wait {
            Some(wait) => error.retryable().after(wait),
            None => error,
        })
    }
}

fn shared(world: &mut World, auth: &Value, remote: bool) -> Result<&'static str, CredentialRefusal> {
    let (name, what) = match world.profile.auth_mode {
        AuthMode::Token => ("token", "gateway token"),
        AuthMode::Password => ("password", "gateway password"),
    };
    let (upper, given) = (name.to_uppercase(), auth[name].as_str());
    let tried = auth["token"].is_string() || auth["password"].is_string();
    if let Some(wait) = world.shared_auth_failures.locked_for().filter(|_| remote && tried) {
        return Err(CredentialRefusal::locked(Some(wait)));
    }
    if given.is_some_and(|given| given == world.profile.token) {
        if remote {
            world.shared_auth_failures.reset();
        }
        return Ok(name);
    }
    let advice = format!("(provide gateway auth {name})");
    if given.is_none() && auth["deviceToken"].is_null() {
        let message = format!("{what} missing {advice}");
        return Err(CredentialRefusal::of(format!("{name}_missing"), format!("AUTH_{upper}_MISSING"), message));
    }
    let message = format!("{what} mismatch {advice}");
    let denied = CredentialRefusal::of(format!("{name}_mismatch"), format!("AUTH_{upper}_MISMATCH"), message);
    Err(CredentialRefusal { counts: given.is_some(), ..denied })
}

/// Checks the token of a device. The error has the wait if too many logins failed.
fn device_token(world: &mut World, params: &Value, token: &str, remote: bool) -> Result<(), Option<Duration>> {
    if let Some(wait) = world.device_auth_failures.locked_for().filter(|_| remote) {
        return Err(Some(wait));
    }
    let ok = paired(world, params).is_some_and(|paired| paired.token.as_deref() == Some(token));
    match (ok, remote) {
        (true, true) => world.device_auth_failures.reset(),
        (false, true) => world.device_auth_failures.record(),
        (_, false) => {}
    }
    if ok { Ok(()) } else { Err(None) }
}

fn unauthorized(params: &Value, reason: &str, code: &str, message: &str) -> RpcError {
    let retry = params["device"].is_object() && reason == "token_mismatch";
    let step = match reason {
        _ if retry => "retry_with_device_token",
        "rate_limited" => "wait_then_retry",
        "token_missing" | "password_missing" => "update_auth_configuration",
        "scope_mismatch" => "review_auth_configuration",
        _ => "update_auth_credentials",
    };
    RpcError::invalid(format!("unauthorized: {message}")).with_details(json!({
        "code": code,
        "authReason": reason,
        "canRetryWithDeviceToken": retry,
        "recommendedNextStep": step,
    }))
}

fn paired<'a>(world: &'a World, params: &Value) -> Option<&'a PairedDevice> {
    world.devices.paired.get(params["device"]["id"].as_str()?)
}

type Grant = (Vec<String>, Option<(String, i64)>);

/// The scopes that the client gets, and the token of its device.
pub(super) fn grant_scopes(
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
        return Err(CredentialRefusal::of("scope_mismatch", "AUTH_SCOPE_MISMATCH", message).refusal(params));
    }
    if wider {
        return Err(pairing(world, params, &requested, "scope-upgrade", Some(&known)));
    }
    Ok((requested, Some((token, known.approved_ms))))
}

/// Requests approval for a device.
fn pairing(
    world: &mut World,
    params: &Value,
    requested: &[String],
    reason: &str,
    known: Option<&PairedDevice>,
) -> Box<Refusal> {
    let request = pending_request(world, params, requested, known.is_some());
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

/// The pairing request of a device. A retry reuses the pending request, and renews it on versions that do so.
fn pending_request(world: &mut World, params: &Value, requested: &[String], repair: bool) -> devices::PairingRequest {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let device_id = text(&params["device"]["id"]);
    let now_ms = world.clock.now_ms();
    world.devices.expire(now_ms);
    if let Some(request) = world.devices.pending_of(&device_id) {
        if world.profile.retries_renew_pairing {
            request.refreshed_ms = now_ms;
        }
        return request.clone();
    }
    let request = devices::PairingRequest {
        id: world.ids.uuid(),
        device_id,
        public_key: text(&params["device"]["publicKey"]),
        platform: text(&params["client"]["platform"]),
        client_id: text(&params["client"]["id"]),
        client_mode: text(&params["client"]["mode"]),
        scopes: requested.to_vec(),
        repair,
        at_ms: now_ms,
        refreshed_ms: now_ms,
    };
    world.devices.pending.insert(request.id.clone(), request.clone());
    world.emit("device.pair.requested", &request.to_json());
    request
}
