//! The `connect` request: how the client introduces itself.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::device_key::ConnectClaim;
use crate::openclaw::settings::{Auth, ConnectionSettings, Presented};

/// The lowest and the highest protocol version that are offered.
const PROTOCOLS: (u32, u32) = (3, 4);
const CLIENT_ID: &str = "gateway-client";
const CLIENT_MODE: &str = "backend";
const ROLE: &str = "operator";
const PLATFORM: &str = "linux";
/// Reading, waking, and all that changes agents. `operator.admin` implies the others on every measured version.
const SCOPES: [&str; 3] = ["operator.read", "operator.write", "operator.admin"];
/// The parameters of `connect`, with this credential.
pub(crate) fn connect(settings: &ConnectionSettings, presented: &Presented, nonce: &str, challenge_ms: i64) -> Value {
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
            "id": settings.identity.device_id(),
            "publicKey": settings.identity.public_key(),
            "signature": settings.identity.sign(&claim),
            "signedAt": challenge_ms,
            "nonce": nonce,
        },
    })
}

/// The credential as the gateway takes it, and the token that the device signs with it.
fn auth(presented: &Presented) -> (Value, String) {
    let signed = |secret: &SecretString| secret.expose_secret().to_owned();
    match presented {
        Presented::Device(token) => (json!({ "deviceToken": token.expose_secret() }), signed(token)),
        Presented::Shared(Auth::Token(token)) => (json!({ "token": token.expose_secret() }), signed(token)),
        Presented::Shared(Auth::Password(password)) => (json!({ "password": password.expose_secret() }), String::new()),
    }
}
