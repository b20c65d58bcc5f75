//! The scenario `provision`, and what the bare client needs for all scenarios.

use muster_harness::Failure;

use crate::bare::{Figures, Job};
use crate::bench::{Bench, Counters};
use crate::fleet::{self, BARE};
use crate::measure::{ApiServer, Counts, Stopwatch, memory, since};
use crate::options::Scenario;
use crate::plan::{self, GatewayPlan};
use crate::report;
use crate::simulated::Gateways;

/// The number of agents that are set up one after another.
pub(crate) const ALONE: usize = 20;

/// The figures of the operator.
struct Muster {
    ready: f64,
    idle: f64,
    cpu: f64,
    gateways_cpu: f64,
    counters: Counters,
}

/// The figures of the bare client in all scenarios.
pub(crate) struct Bare {
    provision: Figures,
    gateways_cpu: f64,
    api_server: ApiServer,
    calls: Counts,
    pub(crate) alone: Figures,
    pub(crate) deletion: Figures,
}

/// Sets up the Agents with the operator, then with the bare client, and prints the figures. Only the Agents of the operator stay.
/// Returns the figures of the bare client, if the scenarios need them.
pub(crate) async fn run(bench: &mut Bench) -> Result<Option<Bare>, Failure> {
    let muster = with_muster(bench).await?;
    let needs_bare = bench.options.wants(&[Scenario::Provision, Scenario::Alone, Scenario::Deletion]);
    let bare = if needs_bare { Some(with_bare_client(bench).await?) } else { None };
    if bench.options.wants(&[Scenario::Provision]) {
        print(bench, &muster, bare.as_ref());
    }
    Ok(bare)
}

async fn with_muster(bench: &mut Bench) -> Result<Muster, Failure> {
    let agents = bench.options.agents;
    let before = bench.counters().await?;
    let (stopwatch, gateways) = (Stopwatch::start(bench.operator.id())?, Stopwatch::start(std::process::id())?);
    let created =
        async { tokio::try_join!(bench.create_agents(agents), bench.agents.wait_for(|seen| seen.ready == agents)) };
    bench.within("provision", created).await?;
    let ready = stopwatch.seconds();
    let idle = stopwatch.seconds_to(bench.within("provision, until idle", bench.idle()).await?);
    let (cpu, gateways_cpu) = (stopwatch.cpu()?, gateways.cpu()?);
    bench.created = agents;
    bench.memory[1] = memory(bench.operator.id())?;
    Ok(Muster { ready, idle, cpu, gateways_cpu, counters: bench.counters().await?.since(&before) })
}

/// Runs the bare client on fresh gateways and in fresh namespaces, while the operator is stopped.
async fn with_bare_client(bench: &mut Bench) -> Result<Bare, Failure> {
    let gateways = Gateways::start(bench.options.gateways).await?;
    let plans = bench.within("the record of the writes", plan::read(&bench.client, &bench.gateways, &gateways)).await?;
    bench.operator.terminate().await?;
    fleet::create_namespaces(&bench.cluster, BARE).await?;
    let before = ApiServer::read(&bench.client).await?;
    let stopwatch = Stopwatch::start(std::process::id())?;
    let provision = bench.bare(Job::Provision, &plans).await?;
    let gateways_cpu = stopwatch.cpu()?;
    let api_server = ApiServer::read(&bench.client).await?.since(&before);
    let calls = since(&gateways.counts(), &Counts::new());
    let single = single_agents(&plans)?;
    let alone = bench.bare(Job::Alone, &single).await?;
    bench.bare(Job::Delete, &single).await?;
    let deletion = bench.bare(Job::Delete, &plans).await?;
    let created = bench.created;
    let gone = bench.agents.wait_for(|seen| seen.agents() == created);
    bench.within("the end of the bare client's Agents", gone).await?;
    bench.operator.start_again()?;
    bench.within("the operator's start", bench.until_synced()).await?;
    bench.within("the operator's start, until idle", bench.idle()).await?;
    Ok(Bare { provision, gateways_cpu, api_server, calls, alone, deletion })
}

/// More agents, on the same gateways.
fn single_agents(plans: &[GatewayPlan]) -> Result<Vec<GatewayPlan>, Failure> {
    let mut single: Vec<_> = plans.iter().map(|plan| GatewayPlan { agents: Vec::new(), ..plan.clone() }).collect();
    for number in 0..ALONE {
        let gateway = number % plans.len();
        let model = plans[gateway].agents.first().ok_or("a gateway has no agent")?;
        single[gateway].agents.push(model.renamed(&format!("alone-{number:05}"))?);
    }
    Ok(single)
}

fn print(bench: &Bench, muster: &Muster, bare: Option<&Bare>) {
    let agents = bench.options.agents;
    let of = |figure: fn(&Bare) -> f64| bare.map(figure);
    report::head("provision");
    report::row("until all Agents are Ready, s", of(|bare| bare.provision.seconds), muster.ready);
    report::row("until nothing is left to do, s", of(|bare| bare.provision.all_seconds), muster.idle);
    report::row("CPU of the client, s", of(|bare| bare.provision.cpu), muster.cpu);
    report::row("CPU of the API server, s", of(|bare| bare.api_server.cpu), muster.counters.api_server.cpu);
    report::row("CPU of the gateways and the watch, s", of(|bare| bare.gateways_cpu), muster.gateways_cpu);
    report::row("reconciles of an Agent", None, report::per(muster.counters.reconciles as u64, agents));
    report::row("most calls in progress at one gateway", None, bench.gateways.max_in_flight() as f64);
    let requests = bare.map(|bare| &bare.api_server.requests);
    report::counts("requests to the API server", agents, requests, &muster.counters.api_server.requests);
    report::counts("calls to the gateways", agents, bare.map(|bare| &bare.calls), &muster.counters.calls);
}
