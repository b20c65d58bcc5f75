//! `make demo` and `make demo-cluster`: the operator and a real gateway, until an agent has checked in.

mod cluster;
mod embedded;
mod examples;
mod progress;
mod shutdown;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use muster_harness::Failure;

use crate::progress::Progress;
use crate::shutdown::ShutdownSignals;

const USAGE: &str = "usage: muster-demo embedded|cluster PATH-OF-THE-MUSTER-BINARY SECONDS-SINCE-THE-START";

#[tokio::main]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<(), Failure> {
    let [_, kind, binary, seconds] = std::env::args().collect::<Vec<_>>().try_into().map_err(|_| USAGE)?;
    let (progress, binary) = (Progress::since(seconds.parse().map_err(|_| USAGE)?), Path::new(&binary));
    match kind.as_str() {
        "embedded" => Box::pin(keep(&progress, embedded::bring_up(&progress, binary))).await,
        "cluster" => Box::pin(keep(&progress, cluster::bring_up(&progress, binary))).await,
        _ => Err(USAGE.into()),
    }
}

/// Keeps what was brought up until a signal comes, if somebody may look at it.
async fn keep<T>(progress: &Progress, bring_up: impl Future<Output = Result<T, Failure>>) -> Result<(), Failure> {
    let keep = std::env::var("KEEP").is_ok_and(|v| !v.is_empty() && v != "0");
    let mut shutdown = ShutdownSignals::new()?;
    let running = tokio::select! {
        biased;
        () = shutdown.received() => return Err("a signal stopped the demo before its end".into()),
        running = bring_up => running?,
    };
    if keep || std::io::stdout().is_terminal() {
        println!("Everything runs. Ctrl-C stops the demo.");
        shutdown.received().await;
    }
    progress.step("done; stopping everything");
    drop(running);
    Ok(())
}
