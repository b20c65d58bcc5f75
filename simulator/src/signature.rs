//! The device block of a handshake: identity, freshness, nonce and signature, in this order.

use base64::Engine as _;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::clock::hex;

/// The largest difference between a signature's time and the gateway's, in milliseconds.
const MAX_SKEW_MS: i64 = 120_000;

/// The error of a device block: the detail code, the reason and the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceRejection {
    pub(crate) code: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: &'static str,
}

const fn rejection(code: &'static str, reason: &'static str, message: &'static str) -> DeviceRejection {
    DeviceRejection { code, reason, message }
}

/// Checks the device block of `params` against the challenge of this connection.
pub(crate) fn check(params: &Value, nonce: &str, now_ms: i64) -> Result<(), DeviceRejection> {
    let device = &params["device"];
    let key = bytes(&device["publicKey"]).and_then(|key| <[u8; 32]>::try_from(key).ok());
    let key = key.filter(|key| device["id"] == hex(&Sha256::digest(key)));
    let Some(key) = key else {
        return Err(rejection("DEVICE_AUTH_DEVICE_ID_MISMATCH", "device-id-mismatch", "device identity mismatch"));
    };
    let signed_at = device["signedAt"].as_i64();
    let Some(signed_at) = signed_at.filter(|at| (now_ms - at).abs() <= MAX_SKEW_MS) else {
        return Err(rejection("DEVICE_AUTH_SIGNATURE_EXPIRED", "device-signature-stale", "device signature expired"));
    };
    match device["nonce"].as_str().map(str::trim).unwrap_or_default() {
        "" => {
            return Err(rejection("DEVICE_AUTH_NONCE_REQUIRED", "device-nonce-missing", "device nonce required"));
        }
        given if given != nonce => {
            return Err(rejection("DEVICE_AUTH_NONCE_MISMATCH", "device-nonce-mismatch", "device nonce mismatch"));
        }
        _ => {}
    }
    if verified(params, &key, signed_at, nonce) {
        Ok(())
    } else {
        Err(rejection("DEVICE_AUTH_SIGNATURE_INVALID", "device-signature", "device signature invalid"))
    }
}

fn verified(params: &Value, key: &[u8; 32], signed_at: i64, nonce: &str) -> bool {
    let signature = bytes(&params["device"]["signature"]).and_then(|raw| <[u8; 64]>::try_from(raw).ok());
    let (Some(signature), Ok(key)) = (signature, VerifyingKey::from_bytes(key)) else {
        return false;
    };
    let signature = Signature::from_bytes(&signature);
    payloads(params, signed_at, nonce).iter().any(|payload| key.verify_strict(payload.as_bytes(), &signature).is_ok())
}

/// The two payloads that a device may have signed.
fn payloads(params: &Value, signed_at: i64, nonce: &str) -> [String; 2] {
    let client = &params["client"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let scopes: Vec<String> = params["scopes"].as_array().into_iter().flatten().map(text).collect();
    let auth = &params["auth"];
    // The payload never contains a password.
    let signed = ["token", "deviceToken", "bootstrapToken"].iter().find_map(|name| auth[*name].as_str());
    let common = [
        text(&params["device"]["id"]),
        text(&client["id"]),
        text(&client["mode"]),
        text(&params["role"]),
        scopes.join(","),
        signed_at.to_string(),
        signed.unwrap_or_default().to_owned(),
        nonce.to_owned(),
    ]
    .join("|");
    let plain = |value: &Value| text(value).trim().to_ascii_lowercase();
    let (platform, family) = (plain(&client["platform"]), plain(&client["deviceFamily"]));
    [format!("v2|{common}"), format!("v3|{common}|{platform}|{family}")]
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(value.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A handshake of a real client with a real gateway.
    fn recorded() -> Value {
        json!({
            "role": "operator",
            "scopes": ["operator.read", "operator.write", "operator.admin", "operator.approvals", "operator.pairing"],
            "client": {"id": "gateway-client", "version": "1.0.0", "platform": "linux", "mode": "backend"},
            "auth": {"token": "t"},
            "device": {
                "id": "f9fd9592a87edd2fd24bc5a5b13043e4e2554d55420d07860ad52fefaabd3acf",
                "publicKey": "TWHRb4Qx6hYtrNQRmiF6QzAmovZqpFXRxgOnlBk7DaM",
                "signature": "RxEQ2T8nt2Y6VmgO1OTCNQWrbbXJIOcSF_BxQFZ07hTO9arqCyD9W2VA1IYASEaKd6TRJwsoMWAjDQ_K9IekCg",
                "signedAt": 1_795_433_761_786_i64,
                "nonce": "2fe137a2-85ef-4fce-9eae-6f72c72d2e87",
            },
        })
    }

    const NONCE: &str = "2fe137a2-85ef-4fce-9eae-6f72c72d2e87";
    const SIGNED_AT: i64 = 1_795_433_761_786;

    #[test]
    fn a_recorded_signature_is_accepted() {
        assert_eq!(check(&recorded(), NONCE, SIGNED_AT), Ok(()));
    }

    #[test]
    fn another_nonce_is_refused() {
        let reason = check(&recorded(), "another", SIGNED_AT).unwrap_err().reason;
        assert_eq!(reason, "device-nonce-mismatch");
    }

    #[test]
    fn an_old_signature_is_refused() {
        let code = check(&recorded(), NONCE, SIGNED_AT + MAX_SKEW_MS + 1).unwrap_err().code;
        assert_eq!(code, "DEVICE_AUTH_SIGNATURE_EXPIRED");
    }

    #[test]
    fn a_signature_over_other_scopes_is_refused() {
        let mut params = recorded();
        params["scopes"] = json!(["operator.admin"]);
        assert_eq!(check(&params, NONCE, SIGNED_AT).unwrap_err().code, "DEVICE_AUTH_SIGNATURE_INVALID");
    }
}
