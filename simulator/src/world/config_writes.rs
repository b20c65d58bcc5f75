//! What a write to the configuration causes: a rejection, a restart, or nothing until the next start.

use serde_json::Value;

use super::World;
use crate::{config, error::RpcError, profile::RosterShape};

/// The length of a configuration from which a write must not make it much shorter, in bytes.
const SIZE_DROP_FROM: usize = 512;
/// The length up to which the simulator compares configurations. A longer one has many agents, and no write halves it.
const SIZE_DROP_UP_TO: usize = 65_536;

impl World {
    /// Checks that a written configuration does not become much shorter.
    pub(crate) fn check_size(&self, new: &Value) -> Result<(), RpcError> {
        if !self.profile.rejects_size_drops || self.config.document.text().len() > SIZE_DROP_UP_TO {
            return Ok(());
        }
        let size = |value: &Value| format!("{value:#}").len() + self.profile.other_config_bytes;
        let (before, after) = (size(&self.config.document.value), size(new));
        if before < SIZE_DROP_FROM || after >= before / 2 {
            return Ok(());
        }
        let path = config::path(&self.profile);
        Err(RpcError::unavailable(format!(
            "Error: Config write rejected: {path} (size-drop:{before}->{after}). Rejected payload saved to {path}.rejected.2026-11-29T21-37-31-286Z.: code=CONFIG_WRITE_REJECTED"
        )))
    }

    /// `gateway.reload.mode`.
    fn reload_mode(&self) -> &str {
        self.config.document.value["gateway"]["reload"]["mode"].as_str().unwrap_or_default()
    }

    /// Whether a written configuration waits for the next start. Between 2026.3.2 and 2026.9.6 the roster is read from the file.
    pub(crate) fn applies_at_start(&self) -> bool {
        let reads_file = self.profile.roster == RosterShape::List && !self.profile.restarts_on_patch;
        self.reload_mode() == "off" && !reads_file
    }

    /// Whether the gateway restarts itself after a write. From 2026.9 on, the mode `restart` is changed to `hybrid` at the start.
    pub(crate) fn restarts_after(&self, method: &str) -> bool {
        let is_patch = method == "config.patch";
        match self.reload_mode() {
            "off" => is_patch,
            "restart" if self.profile.roster == RosterShape::List => true,
            _ => is_patch && self.profile.restarts_on_patch,
        }
    }
}
