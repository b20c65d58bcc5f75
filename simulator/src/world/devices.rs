//! Device pairings: pending requests and approved devices with their tokens.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// The time after which a pairing request expires.
const REQUEST_LIFETIME: Duration = Duration::from_mins(5);

/// The pairing request of a device.
#[derive(Clone, Debug)]
pub(crate) struct PairingRequest {
    pub(crate) id: String,
    pub(crate) device_id: String,
    pub(crate) public_key: String,
    pub(crate) platform: String,
    pub(crate) client_id: String,
    pub(crate) client_mode: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) repair: bool,
    pub(crate) at_ms: i64,
    /// The time of the device's last attempt, on versions where retries renew the request.
    pub(crate) refreshed_ms: i64,
}

/// An approved device.
#[derive(Clone, Debug)]
pub(crate) struct PairedDevice {
    pub(crate) request: PairingRequest,
    pub(crate) token: Option<String>,
    pub(crate) approved_ms: i64,
}

/// Every pending request by its id and every approved device by its id.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) pending: BTreeMap<String, PairingRequest>,
    pub(crate) paired: BTreeMap<String, PairedDevice>,
}

impl Devices {
    /// Removes expired requests, as a gateway does at each access.
    pub(crate) fn expire(&mut self, now_ms: i64) {
        let life = i64::try_from(REQUEST_LIFETIME.as_millis()).unwrap_or(i64::MAX);
        self.pending.retain(|_, request| now_ms - request.refreshed_ms <= life);
    }

    /// The pending request of a device. A retry reuses this request.
    pub(crate) fn pending_of(&mut self, device_id: &str) -> Option<&mut PairingRequest> {
        self.pending.values_mut().find(|request| request.device_id == device_id)
    }

    /// Approves a request; the device gets `token`.
    pub(crate) fn approve(&mut self, request_id: &str, token: String, now_ms: i64) -> Option<&PairedDevice> {
        self.expire(now_ms);
        let request = self.pending.remove(request_id)?;
        let id = request.device_id.clone();
        self.paired.insert(id.clone(), PairedDevice { request, token: Some(token), approved_ms: now_ms });
        self.paired.get(&id)
    }

    /// Replaces the token of an approved device.
    pub(crate) fn rotate(&mut self, device_id: &str, token: String) -> bool {
        self.paired.get_mut(device_id).is_some_and(|paired| paired.token.replace(token).is_some())
    }

    /// Revokes a device's token. The device's next connection must pair again.
    pub(crate) fn revoke(&mut self, device_id: &str) -> bool {
        self.paired.get_mut(device_id).is_some_and(|paired| paired.token.take().is_some())
    }
}

impl PairingRequest {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "requestId": self.id,
            "deviceId": self.device_id,
            "publicKey": self.public_key,
            "platform": self.platform,
            "clientId": self.client_id,
            "clientMode": self.client_mode,
            "role": "operator",
            "roles": ["operator"],
            "scopes": self.scopes,
            "remoteIp": super::REMOTE_IP,
            "silent": false,
            "isRepair": self.repair,
            "ts": self.at_ms,
        })
    }
}

impl PairedDevice {
    pub(crate) fn to_json(&self) -> Value {
        let mut scopes = self.request.scopes.clone();
        scopes.sort();
        let tokens: Vec<Value> = self
            .token
            .iter()
            .map(|_| json!({"role": "operator", "scopes": scopes, "createdAtMs": self.approved_ms}))
            .collect();
        json!({
            "deviceId": self.request.device_id,
            "publicKey": self.request.public_key,
            "platform": self.request.platform,
            "clientId": self.request.client_id,
            "clientMode": self.request.client_mode,
            "role": "operator",
            "roles": ["operator"],
            "scopes": self.request.scopes,
            "remoteIp": super::REMOTE_IP,
            "approvedVia": "owner",
            "createdAtMs": self.approved_ms,
            "approvedAtMs": self.approved_ms,
            "tokens": tokens,
        })
    }
}
