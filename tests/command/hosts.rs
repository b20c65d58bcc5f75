//! Simulated gateways by their host names.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use muster::openclaw::{Dial, DialError, DialedStream, Trust};
use muster_simulator::{Origin, Simulator};
use url::Url;

/// Connects to simulated gateways.
#[derive(Clone, Debug, Default)]
pub(crate) struct GatewayHosts {
    hosts: Arc<Mutex<BTreeMap<String, Simulator>>>,
    /// Whether the gateways see the command as remote.
    remote: Arc<AtomicBool>,
    /// Whether nothing answers, as behind a firewall that drops packets.
    silent: Arc<AtomicBool>,
}

impl GatewayHosts {
    pub(crate) fn add(&self, host: &str, simulator: &Simulator) {
        self.hosts.lock().unwrap().insert(host.to_owned(), simulator.clone());
    }

    pub(crate) fn see_the_command_as_remote(&self) {
        self.remote.store(true, Ordering::Relaxed);
    }

    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }
}

impl Dial for GatewayHosts {
    fn dial<'a>(&'a self, url: &'a Url, _: &'a Trust) -> BoxFuture<'a, Result<DialedStream, DialError>> {
        let simulator = self.hosts.lock().unwrap().get(url.host_str().unwrap_or_default()).cloned();
        let from = if self.remote.load(Ordering::Relaxed) { Origin::Remote } else { Origin::Loopback };
        let is_silent = self.silent.load(Ordering::Relaxed);
        Box::pin(async move {
            if is_silent {
                std::future::pending::<()>().await;
            }
            let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
            Ok(DialedStream::new(simulator.ok_or_else(refused)?.connect_from(from)?))
        })
    }
}
