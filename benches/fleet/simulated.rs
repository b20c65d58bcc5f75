//! The simulated gateways, each on its own port.

use std::net::Ipv4Addr;
use std::time::Duration;

use muster_harness::Failure;
use muster_simulator::{Call, ListenGuard, Profile, Simulator};

use crate::measure::Counts;

/// The duration of a config write. The gateway makes one config write at a time.
pub(crate) const CONFIG_WRITE: Duration = Duration::from_millis(30);
/// The duration of every other call.
pub(crate) const CALL: Duration = Duration::from_millis(5);

/// Simulated gateways.
pub(crate) struct Gateways(Vec<Gateway>);

struct Gateway {
    simulator: Simulator,
    listener: ListenGuard,
}

impl Gateways {
    /// Starts gateways without agents.
    pub(crate) async fn start(count: usize) -> Result<Self, Failure> {
        let mut gateways = Vec::new();
        for _ in 0..count {
            let simulator = Simulator::new(profile());
            let listener = simulator.listen((Ipv4Addr::LOCALHOST, 0).into()).await?;
            gateways.push(Gateway { simulator, listener });
        }
        Ok(Self(gateways))
    }

    /// The URL of each gateway.
    pub(crate) fn urls(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|gateway| format!("ws://{}", gateway.listener.addr()))
    }

    /// Each gateway.
    pub(crate) fn simulators(&self) -> impl Iterator<Item = &Simulator> {
        self.0.iter().map(|gateway| &gateway.simulator)
    }

    /// The number of calls so far, by method.
    pub(crate) fn counts(&self) -> Counts {
        let methods = || profile().methods.lines().chain(["connect"]);
        let count = |method: &str| self.simulators().map(|simulator| simulator.count(method) as u64).sum::<u64>();
        methods().map(|method| (method.to_owned(), count(method))).filter(|(_, count)| *count > 0).collect()
    }

    /// The number of calls so far that write.
    pub(crate) fn writes(&self) -> usize {
        self.simulators().map(Simulator::writes).sum()
    }

    /// The highest number of calls that one gateway had in progress at one time.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.simulators().map(Simulator::max_in_flight).max().unwrap_or_default()
    }
}

/// The token of each gateway.
pub(crate) fn token() -> String {
    profile().token
}

/// The successful calls of a gateway.
pub(crate) fn successful(simulator: &Simulator) -> impl Iterator<Item = Call> {
    simulator.calls().into_iter().filter(|call| call.outcome == muster_simulator::Outcome::Ok)
}

fn profile() -> Profile {
    Profile::v2026_9_6().with_fixed_latency(CALL, CONFIG_WRITE).with_visibility_delay(Duration::ZERO)
}
