//! The device key: an Ed25519 key that identifies this client to a gateway.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};

use crate::hash::sha256_hex;

/// The Ed25519 key of a device, and the device id that follows from it (`docs/gateway-facts.md#devices-and-pairing`).
pub struct DeviceKey {
    key: SigningKey,
    device_id: String,
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceKey").field("device_id", &self.device_id).finish_non_exhaustive()
    }
}

/// The claim that a device signs in `connect`: payload version 3, which all versions that pair accept
/// (`docs/gateway-facts.md#devices-and-pairing`).
#[derive(Clone, Copy)]
pub(crate) struct ConnectClaim<'a> {
    pub(crate) client_id: &'a str,
    pub(crate) mode: &'a str,
    pub(crate) role: &'a str,
    pub(crate) scopes: &'a str,
    pub(crate) signed_at_ms: i64,
    pub(crate) token: &'a str,
    pub(crate) nonce: &'a str,
    pub(crate) platform: &'a str,
}

impl DeviceKey {
    /// Generates a key.
    ///
    /// # Errors
    /// The system has no random source.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = [0_u8; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self::from_seed(&seed))
    }

    /// The key with this seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let device_id = sha256_hex(key.verifying_key().as_bytes());
        Self { key, device_id }
    }

    /// The seed, which is the secret of the key.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The SHA-256 of the public key, in hexadecimal.
    #[must_use]
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The public key in base64url without padding.
    #[must_use]
    pub fn public_key(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.verifying_key().as_bytes())
    }

    /// Signs a claim. The payload is `v3|id|client|mode|role|scopes|signedAt|token|nonce|platform|deviceFamily`.
    pub(crate) fn sign(&self, claim: &ConnectClaim<'_>) -> String {
        let ConnectClaim { client_id, mode, role, scopes, signed_at_ms, token, nonce, platform } = claim;
        let payload = format!(
            "v3|{}|{client_id}|{mode}|{role}|{scopes}|{signed_at_ms}|{token}|{nonce}|{platform}|",
            self.device_id
        );
        URL_SAFE_NO_PAD.encode(self.key.sign(payload.as_bytes()).to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_device() {
        let key = DeviceKey::generate().unwrap();
        let restored = DeviceKey::from_seed(&key.seed());
        assert_eq!(key.device_id(), restored.device_id());
        assert_eq!(key.public_key(), restored.public_key());
        assert_eq!(key.device_id().len(), 64);
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let key = DeviceKey::from_seed(&[7; 32]);
        assert!(!format!("{key:?}").contains("7, 7"));
    }
}
