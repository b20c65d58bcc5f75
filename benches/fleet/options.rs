//! The options of the benchmark.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// Measures the operator with many agents on many simulated gateways, on a real control plane. Each figure stands beside the figure of a
/// bare client in the same run. Prints figures and has no pass or fail.
#[derive(Debug, Parser)]
#[command(name = "fleet")]
pub(crate) struct Options {
    /// The scenarios to print. Default: all.
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// The number of Agents.
    #[arg(long, env = "MUSTER_BENCH_AGENTS", default_value_t = 1000)]
    pub(crate) agents: usize,
    /// The number of gateways. Each has one `AgentGateway` and one Board.
    #[arg(long, env = "MUSTER_BENCH_GATEWAYS", default_value_t = 20)]
    pub(crate) gateways: usize,
    /// The maximum number of open requests that create or delete Agents.
    #[arg(long, env = "MUSTER_BENCH_CREATES", default_value_t = 16)]
    pub(crate) creates: usize,
    /// Wake the agents. The runs of woken agents cause status writes for as long as the benchmark runs.
    #[arg(long, env = "MUSTER_BENCH_WAKE")]
    pub(crate) wake: bool,
    /// The limit for each phase, in seconds.
    #[arg(long, env = "MUSTER_BENCH_TIMEOUT", default_value_t = 900)]
    timeout: u64,
    /// Cargo passes this flag to each benchmark.
    #[arg(long, hide = true)]
    bench: bool,
    /// Runs the task in this file as the bare client.
    #[arg(long, hide = true)]
    pub(crate) bare: Option<PathBuf>,
}

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Create all Agents and wait until all are Ready.
    Provision,
    /// Stop the operator and start it again, with nothing changed.
    Restart,
    /// The memory of the operator: without Agents, with all Agents, and after a restart.
    Memory,
    /// Create one Agent and wait until it is Ready, on an idle operator and on an operator that has just started.
    Alone,
    /// Delete all Agents and wait until all are gone.
    Deletion,
}

impl Options {
    /// Whether one of these scenarios is to be printed.
    pub(crate) fn wants(&self, scenarios: &[Scenario]) -> bool {
        self.scenarios.is_empty() || self.scenarios.iter().any(|scenario| scenarios.contains(scenario))
    }

    /// The limit for each phase.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
