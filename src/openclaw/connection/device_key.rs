//! The device identity: an Ed25519 key by which a gateway knows this client again.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};

use crate::hash::sha256_hex;

/// A device identity.
pub struct DeviceKey {
    key: SigningKey,
    device_id: String,
}

impl std::fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("device_id", &self.device_id).finish_non_exhaustive()
    }
}

/// What a device signs when it connects (payload version 3, accepted by all measured versions that pair).
#[derive(Clone, Copy, Debug)]
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
    /// A new identity.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seed = [0_u8; 32];
        getrandom::fill(&mut seed)?;
        Ok(Self::from_seed(&seed))
    }

    /// The identity that was generated with this seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let key = SigningKey::from_bytes(seed);
        let device_id = sha256_hex(key.verifying_key().as_bytes());
        Self { key, device_id }
    }

    /// The seed. Whoever has it is this device.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// The SHA-256 of the public key, in hexadecimal.
    #[must_use]
    pub fn device_id(&self) -> &str {
        &self.device_id
    }

    /// The public key, base64url without padding.
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
        let identity = DeviceKey::generate().unwrap();
        let again = DeviceKey::from_seed(&identity.seed());
        assert_eq!(identity.device_id(), again.device_id());
        assert_eq!(identity.public_key(), again.public_key());
        assert_eq!(identity.device_id().len(), 64);
    }

    #[test]
    fn a_debug_print_does_not_show_the_key() {
        let identity = DeviceKey::from_seed(&[7; 32]);
        assert!(!format!("{identity:?}").contains("7, 7"));
    }
}
