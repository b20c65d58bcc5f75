//! The election as a process takes part in it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use super::leader_work::LeaderWork;
use super::listeners::{AppError, ServedFingerprint};
use super::peers::Peers;
use crate::http::forward::WayToLeader;
use crate::leadership::{Candidacy, Candidate, Ended, Peer};
use crate::options::ElectionOptions;
use crate::state::kube_store::WallClock;

/// How long the reconciles under way may go on after a signal, before they are cut off. The next leader begins after it.
const WORK_GRACE: Duration = Duration::from_millis(500);
/// How long a replica passes calls on after it has stopped to work. Clients reach it until all nodes know that it goes.
const PASSING_ON: Duration = Duration::from_secs(3);

/// The candidate of the flags, and the way to the leader. Without the flags, this replica always leads.
pub(super) fn take_part(
    options: &ElectionOptions,
    client: &Client,
    clock: WallClock,
    port: u16,
    fingerprint: ServedFingerprint,
) -> Result<(Option<Candidate>, WayToLeader), AppError> {
    if !options.leader_elect {
        return Ok((None, WayToLeader::alone()));
    }
    let namespace = options.leader_election_namespace.clone();
    let namespace = namespace.ok_or("--leader-elect needs --leader-election-namespace (POD_NAMESPACE)")?;
    let ip = options.advertise_ip.ok_or("--leader-elect needs --advertise-ip (POD_IP)")?;
    let address = SocketAddr::new(ip, port);
    let (candidate, standing) = Candidate::new(Candidacy {
        client: client.clone(),
        namespace,
        identity: format!("{}_{:016x}", options.replica_name, getrandom::u64()?),
        clock: Box::new(move || clock()),
        peer: Box::new(move || Peer { address, fingerprint: fingerprint() }),
    });
    Ok((Some(candidate), WayToLeader { standing, transport: Arc::new(Peers::default()) }))
}

/// A candidate at work.
#[derive(Debug)]
pub struct RunningElection {
    work: LeaderWork,
    resign: CancellationToken,
    /// Brings the outcome; `None` after that.
    ended: Option<oneshot::Receiver<Ended>>,
    _task: AbortOnDropHandle<()>,
}

impl RunningElection {
    /// Takes part until the end of the process.
    #[must_use]
    pub fn start(mut candidate: Candidate, work: LeaderWork) -> Self {
        let (resign, (report, ended)) = (CancellationToken::new(), oneshot::channel());
        let resigned = resign.clone();
        let task = tokio::spawn(async move {
            let outcome = candidate.run(&resigned).await;
            // Nobody waits any more when the process ends.
            let _ = report.send(outcome);
            if outcome == Ended::Resigned {
                candidate.watch().await;
            }
        });
        Self { work, resign, ended: Some(ended), _task: AbortOnDropHandle::new(task) }
    }

    /// Waits until this replica no longer takes part: without [`Self::hand_over`], because its Lease is lost.
    pub async fn until_ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            // A candidate that does not say how it ended has panicked.
            let _ = ended.await;
            self.ended = None;
        }
    }

    /// Ends the work, releases the Lease, and passes calls on to the next leader for a while.
    pub async fn hand_over(mut self) {
        self.work.end(WORK_GRACE).await;
        self.resign.cancel();
        self.until_ended().await;
        info!(seconds = PASSING_ON.as_secs(), "calls are passed on to the next leader before the end");
        tokio::time::sleep(PASSING_ON).await;
    }
}

/// Waits until the Lease is lost. Never ends without an election.
pub(super) async fn lost(election: Option<&mut RunningElection>) {
    match election {
        Some(election) => election.until_ended().await,
        None => std::future::pending().await,
    }
}
