//! Deterministic time and identifiers: time is the runtime's, identifiers are hashes of a counter.

use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

/// The start time of every simulated gateway, in Unix milliseconds.
const EPOCH_MS: i64 = 1_795_433_000_000;

/// Unix milliseconds that follow the runtime's clock, so that tests can pause the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    pub(crate) fn now_ms(self) -> i64 {
        EPOCH_MS + i64::try_from(self.origin.elapsed().as_millis()).unwrap_or(i64::MAX - EPOCH_MS)
    }

    pub(crate) fn uptime(self) -> Duration {
        self.origin.elapsed()
    }
}

/// A source of identifiers that are unique in one simulator and equal in every run.
#[derive(Debug, Default)]
pub(crate) struct IdGenerator {
    issued: u64,
}

impl IdGenerator {
    /// The next identifier, in the shape of a UUID of version 4.
    pub(crate) fn uuid(&mut self) -> String {
        let hash = hex(&self.next());
        format!("{}-{}-4{}-8{}-{}", &hash[..8], &hash[8..12], &hash[13..16], &hash[17..20], &hash[20..32])
    }

    /// The next secret of 32 bytes, URL-safe.
    pub(crate) fn secret(&mut self) -> String {
        base64url(&self.next())
    }

    fn next(&mut self) -> [u8; 32] {
        self.issued += 1;
        Sha256::digest(format!("simulator id {}", self.issued)).into()
    }
}

/// The bytes as lower-case hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The SHA-256 of `bytes` in hexadecimal.
pub(crate) fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

/// URL-safe base64 without padding.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
