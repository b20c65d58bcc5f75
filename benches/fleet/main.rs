//! Many agents on many simulated gateways, on a real control plane: the operator beside a bare client that makes the same writes. Prints
//! figures and has no pass or fail.

#![expect(clippy::cast_precision_loss, reason = "the counts of a benchmark are small")]

mod agent_watch;
mod alone;
mod bare;
mod bench;
mod deletion;
mod fleet;
mod measure;
mod options;
mod plan;
mod provision;
#[allow(dead_code, reason = "each benchmark needs a part of it")]
#[path = "../provision/raw.rs"]
mod raw;
mod report;
mod restart;
mod simulated;

use bench::Bench;
use clap::Parser;
use muster_harness::Failure;
use options::{Options, Scenario};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let options = Options::parse();
    if let Some(task) = &options.bare {
        return bare::main(task).await;
    }
    if options.agents < options.gateways || options.gateways == 0 || options.creates == 0 {
        return Err("at least one gateway, one agent for each gateway, and one open request are needed".into());
    }
    let mut terminate = signal(SignalKind::terminate())?;
    // Values that are dropped here end their processes.
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
        done = run(options) => done,
    }
}

async fn run(options: Options) -> Result<(), Failure> {
    println!(
        "{} agents on {} simulated gateways ({} ms for a call, {} ms for a config write), {} creates at a time",
        options.agents,
        options.gateways,
        simulated::CALL.as_millis(),
        simulated::CONFIG_WRITE.as_millis(),
        options.creates
    );
    let mut bench = Bench::start(options).await?;
    let bare = provision::run(&mut bench).await?;
    if bench.options.wants(&[Scenario::Restart, Scenario::Memory]) {
        restart::run(&mut bench).await?;
    }
    if let Some(bare) = &bare {
        if bench.options.wants(&[Scenario::Alone]) {
            alone::run(&mut bench, bare).await?;
        }
        if bench.options.wants(&[Scenario::Deletion]) {
            deletion::run(&mut bench, bare).await?;
        }
    }
    Ok(())
}
