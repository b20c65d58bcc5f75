//! The scenario `alone`: one new Agent at a time, with all other Agents there.

use std::time::Instant;

use muster_harness::Failure;

use crate::bench::Bench;
use crate::fleet::{self, FLEET};
use crate::measure::percentile;
use crate::provision::{ALONE, Bare};
use crate::report;

/// The maximum of restarts for the figures of a busy operator.
const MAX_RESTARTS: usize = 5;

/// Creates Agents one after another: on an idle operator, and while it reconciles all Agents after a restart.
pub(crate) async fn run(bench: &mut Bench, bare: &Bare) -> Result<(), Failure> {
    let mut idle = Vec::new();
    for number in 0..ALONE {
        idle.push(until_ready(bench, format!("idle-{number:05}")).await?);
    }
    bench.within("alone, until idle", bench.idle()).await?;
    let mut busy = Vec::new();
    let mut restarts = 0;
    while busy.len() < ALONE && restarts < MAX_RESTARTS {
        restarts += 1;
        let existing = bench.created;
        bench.restart_operator().await?;
        bench.within("alone, the operator's start", bench.until_synced()).await?;
        while busy.len() < ALONE && bench.reconciles().await? < existing {
            busy.push(until_ready(bench, format!("busy-{:05}", busy.len())).await?);
        }
        bench.within("alone, until idle", bench.idle()).await?;
    }
    report::head("one agent alone (bare: without the operator)");
    for (what, times) in [("idle operator", &idle), ("after a restart", &busy)] {
        for (name, percent) in [("median", 50), ("p99", 99)] {
            let bare = percentile(&bare.alone.times, percent) * 1e3;
            report::row(
                &format!("{what}: {name} of {}, ms", times.len()),
                Some(bare),
                percentile(times, percent) * 1e3,
            );
        }
    }
    let ratio = percentile(&busy, 99) / percentile(&idle, 99);
    println!("{:<58} {ratio:>10.2}", format!("p99 after a restart / p99 idle ({restarts} restarts)"));
    Ok(())
}

/// The seconds from the creation of one Agent until it is Ready.
async fn until_ready(bench: &mut Bench, name: String) -> Result<f64, Failure> {
    let gateway = bench.created % bench.options.gateways;
    let namespace = fleet::namespace(FLEET, gateway);
    let began = Instant::now();
    let ready = async {
        bench.create_agent(name.clone(), gateway).await?;
        bench.agents.wait_for(|seen| seen.is_ready(&namespace, &name)).await
    };
    bench.within(&format!("alone, {name}"), ready).await?;
    bench.created += 1;
    Ok(began.elapsed().as_secs_f64())
}
