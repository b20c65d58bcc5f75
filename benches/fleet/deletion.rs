//! The scenario `deletion`.

use muster_harness::Failure;

use crate::bench::Bench;
use crate::measure::Stopwatch;
use crate::provision::Bare;
use crate::report;

/// Deletes all Agents, waits until they are gone, and prints the figures. The bare client deleted fewer: only the Agents of the
/// scenario `provision`.
pub(crate) async fn run(bench: &mut Bench, bare: &Bare) -> Result<(), Failure> {
    let before = bench.counters().await?;
    let stopwatch = Stopwatch::start(bench.operator.id())?;
    let gone = async { tokio::try_join!(bench.delete_agents(), bench.agents.wait_for(|seen| seen.agents() == 0)) };
    bench.within("deletion", gone).await?;
    let (seconds, cpu) = (stopwatch.seconds(), stopwatch.cpu()?);
    bench.within("deletion, until idle", bench.idle()).await?;
    let counters = bench.counters().await?.since(&before);
    let (agents, of_bare) = (bench.created as f64, bench.options.agents as f64);
    report::head(&format!("deletion (bare: {} Agents, Muster: {})", bench.options.agents, bench.created));
    report::row("until all are gone, s", Some(bare.deletion.seconds), seconds);
    report::row("until all are gone, ms an Agent", Some(bare.deletion.seconds / of_bare * 1e3), seconds / agents * 1e3);
    report::row("CPU of the client, ms an Agent", Some(bare.deletion.cpu / of_bare * 1e3), cpu / agents * 1e3);
    report::row("reconciles of an Agent", None, counters.reconciles as f64 / agents);
    report::counts("requests to the API server", bench.created, None, &counters.api_server.requests);
    report::counts("calls to the gateways", bench.created, None, &counters.calls);
    bench.created = 0;
    Ok(())
}
