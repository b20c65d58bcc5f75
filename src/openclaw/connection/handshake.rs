//! The `connect` request.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::device_key::ConnectClaim;
use crate::openclaw::settings::{Auth, ConnectionSettings, PresentedCredential};

/// The lowest and the highest protocol version that Muster offers (`docs/gateway-facts.md#versions`).
const PROTOCOLS: (u32, u32) = (3, 4);
const CLIENT_ID: &str = "gateway-client";
const CLIENT_MODE: &str = "backend";
const ROLE: &str = "operator";
const PLATFORM: &str = "linux";
/// The scopes for reads, messages and changes of agents. `operator.admin` implies the others (`docs/gateway-facts.md#scopes`).
const SCOPES: [&str; 3] = ["operator.read", "operator.write", "operator.admin"];

/// The parameters of `connect` with this credential.
pub(crate) fn connect(
    settings: &ConnectionSettings,
    presented: &PresentedCredential,
    nonce: &str,
    challenge_ms: i64,
) -> Value {
    let (auth, token) = auth(presented);
    let claim = ConnectClaim {
        client_id: CLIENT_ID,
        mode: CLIENT_MODE,
        role: ROLE,
        scopes: &SCOPES.join(","),
        signed_at_ms: challenge_ms,
        token: &token,
        nonce,
        platform: PLATFORM,
    };
    json!({
        "minProtocol": PROTOCOLS.0,
        "maxProtocol": PROTOCOLS.1,
        "role": ROLE,
        "scopes": SCOPES,
        "client": { "id": CLIENT_ID, "version": env!("CARGO_PKG_VERSION"), "platform": PLATFORM, "mode": CLIENT_MODE },
        "auth": auth,
        "caps": [],
        "device": {
            "id": settings.device_key.device_id(),
            "publicKey": settings.device_key.public_key(),
            "signature": settings.device_key.sign(&claim),
            "signedAt": challenge_ms,
            "nonce": nonce,
        },
    })
}

/// The field `auth` of `connect`, and the token in the signed claim.
fn auth(presented: &PresentedCredential) -> (Value, String) {
    let signed = |secret: &SecretString| secret.expose_secret().to_owned();
    match presented {
        PresentedCredential::Device(token) => (json!({ "deviceToken": token.expose_secret() }), signed(token)),
        PresentedCredential::Shared(Auth::Token(token)) => (json!({ "token": token.expose_secret() }), signed(token)),
        PresentedCredential::Shared(Auth::Password(password)) => {
            (json!({ "password": password.expose_secret() }), String::new())
        }
    }
}
