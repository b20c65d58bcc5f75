//! The bounds of what a gateway sends without being asked.

use tokio::time::Instant;

use crate::openclaw::bucket::Bucket;
use crate::openclaw::limits;

/// Counts the messages that no request asked for.
#[derive(Debug)]
pub(crate) struct Inflow {
    before_login: u32,
    messages: Bucket,
    bytes: Bucket,
}

impl Default for Inflow {
    fn default() -> Self {
        Self {
            before_login: 0,
            messages: Bucket::new(limits::UNREQUESTED_MESSAGES),
            bytes: Bucket::new(limits::UNREQUESTED_BYTES),
        }
    }
}

impl Inflow {
    /// Counts a message of this length.
    ///
    /// # Errors
    /// The bound that the gateway exceeds.
    pub(crate) fn count(&mut self, bytes: usize, is_up: bool, now: Instant) -> Result<(), String> {
        if !is_up {
            self.before_login += 1;
            let most = limits::PRE_AUTH_MESSAGES;
            return if self.before_login > most {
                Err(format!("the gateway sent more than {most} messages before the login"))
            } else {
                Ok(())
            };
        }
        if !self.messages.take(1, now) {
            let rate = limits::UNREQUESTED_MESSAGES;
            return Err(format!(
                "the gateway sent more than {} messages that nobody asked for, and more than {} a minute",
                rate.burst, rate.per_minute
            ));
        }
        if !self.bytes.take(bytes as u64, now) {
            let rate = limits::UNREQUESTED_BYTES;
            return Err(format!(
                "the gateway sent more than {} MiB that nobody asked for, and more than {} MiB a minute",
                rate.burst >> 20,
                rate.per_minute >> 20
            ));
        }
        Ok(())
    }
}
