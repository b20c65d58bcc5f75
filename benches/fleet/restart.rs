//! The scenarios `restart` and `memory`.

use std::time::Duration;

use muster_harness::Failure;

use crate::bare::{Figures, Job};
use crate::bench::Bench;
use crate::measure::{ApiServer, LOOK_INTERVAL, Memory, Stopwatch, memory, since};
use crate::options::Scenario;
use crate::report;

/// The time after which the operator has forgotten what it keeps for a moment, such as token Secrets, and an allocator that returns memory has done
/// so.
const QUIET_TIME: Duration = Duration::from_mins(1);

/// Stops the operator and starts it again, with nothing changed, and prints the figures.
pub(crate) async fn run(bench: &mut Bench) -> Result<(), Failure> {
    bench.operator.terminate().await?;
    let bare = bench.bare(Job::List, &[]).await?;
    let (api_server, calls) = (ApiServer::read(&bench.client).await?, bench.gateways.counts());
    bench.operator.start_again()?;
    let stopwatch = Stopwatch::start(bench.operator.id())?;
    bench.within("restart, until the watches are in sync", bench.until_synced()).await?;
    let (synced, synced_cpu, listing) = (stopwatch.seconds(), stopwatch.cpu()?, memory(bench.operator.id())?);
    bench.within("restart, until all Agents are reconciled", all_reconciled(bench)).await?;
    let (reconciled, reconciled_cpu) = (stopwatch.seconds(), stopwatch.cpu()?);
    let idle = stopwatch.seconds_to(bench.within("restart, until idle", bench.idle()).await?);
    let idle_cpu = stopwatch.cpu()?;
    if bench.options.wants(&[Scenario::Restart]) {
        let agents = bench.created as f64;
        let requests = ApiServer::read(&bench.client).await?.since(&api_server);
        report::head("restart");
        report::row("until the watches are in sync, s (bare: one list)", Some(bare.seconds), synced);
        report::row("CPU until then, s", Some(bare.cpu), synced_cpu);
        report::row("CPU until then, ms an Agent", Some(bare.cpu / agents * 1e3), synced_cpu / agents * 1e3);
        report::row("until every Agent is reconciled, s", None, reconciled);
        report::row("CPU until then, s", None, reconciled_cpu);
        report::row("CPU until then, ms an Agent", None, reconciled_cpu / agents * 1e3);
        report::row("until nothing is left to do, s", None, idle);
        report::row("CPU until then, ms an Agent", None, idle_cpu / agents * 1e3);
        report::row("reconciles of an Agent", None, bench.reconciles().await? as f64 / agents);
        report::row("CPU of the API server, s", None, requests.cpu);
        report::row("API writes (0 is right)", None, requests.writes() as f64);
        report::counts("requests to the API server", bench.created, None, &requests.requests);
        report::counts("calls to the gateways", bench.created, None, &since(&bench.gateways.counts(), &calls));
    }
    if bench.options.wants(&[Scenario::Memory]) {
        let restarted = memory(bench.operator.id())?;
        tokio::time::sleep(QUIET_TIME).await;
        print_memory(bench, &bare, listing, [restarted, memory(bench.operator.id())?]);
    }
    Ok(())
}

/// Waits until there were as many reconciles as there are Agents.
async fn all_reconciled(bench: &Bench) -> Result<(), Failure> {
    while bench.reconciles().await? < bench.created {
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}

fn print_memory(bench: &Bench, bare: &Figures, listing: Memory, [restarted, quiet]: [Memory; 2]) {
    let agents = bench.created as f64;
    let [empty, full] = bench.memory;
    let [before, after] = bare.memory;
    let above = |memory: Memory| (memory.resident - empty.resident) / agents;
    report::head("memory (bare: one list of all Agents)");
    report::row("without Agents, MiB", Some(before.resident / 1024.0), empty.resident / 1024.0);
    report::row("of it pages of the program's file, MiB", None, empty.file / 1024.0);
    report::row("with all Agents, MiB", Some(after.resident / 1024.0), full.resident / 1024.0);
    report::row("with all Agents, KiB an Agent", Some((after.resident - before.resident) / agents), above(full));
    report::row("highest until then, MiB", None, full.peak / 1024.0);
    report::row(
        "highest when the watches are in sync after a restart, MiB",
        Some(after.peak / 1024.0),
        listing.peak / 1024.0,
    );
    let (bare, muster) = ((after.peak - before.resident) / agents, (listing.peak - empty.resident) / agents);
    report::row("highest until then, KiB an Agent", Some(bare), muster);
    report::row("idle after a restart, MiB", None, restarted.resident / 1024.0);
    report::row("idle after a restart, KiB an Agent", None, above(restarted));
    report::row("highest after a restart, MiB", None, restarted.peak / 1024.0);
    report::row("quiet for a minute, MiB", None, quiet.resident / 1024.0);
    report::row("of it pages of the program's file, MiB", None, quiet.file / 1024.0);
    report::row("quiet for a minute, KiB an Agent", None, above(quiet));
    let data = above(quiet) - (quiet.file - empty.file) / agents;
    report::row("quiet for a minute, without the pages of the file, KiB an Agent", None, data);
}
