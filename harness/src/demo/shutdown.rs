//! The signals that end the demo.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that end the demo. A closed terminal sends one of them.
pub(crate) struct ShutdownSignals([Signal; 3]);

impl ShutdownSignals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    pub(crate) async fn received(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
