//! Fixed latencies of the methods.

use std::time::Duration;

use super::writes_config;
use crate::profile::Profile;

impl Profile {
    /// Sets one latency for config writes and one for all other calls. The gateway executes one config write at a time.
    #[must_use]
    pub fn with_fixed_latency(self, call: Duration, config_write: Duration) -> Self {
        self.with_latency(move |method, _| if writes_config(method) { config_write } else { call })
    }
}
