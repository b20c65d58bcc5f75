//! A replica that takes part in the election, by requests for one Lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::election::{Election, Move, RENEW_DEADLINE, RENEW_PERIOD, RETRY_PERIOD};
use super::standing::{Peer, Standing, StandingWriter, standing};
use crate::api::keys;

/// How long a replica that does not lead waits for the API server.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the release of the Lease may take. Without it, the next leader waits for the end of the Lease.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a replica needs to take part.
pub struct Candidacy {
    /// The client of the operator.
    pub client: Client,
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of this replica, which no other process has or had.
    pub identity: String,
    /// Tells the time of the day.
    pub clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// Tells how other replicas reach this one. The certificate may change.
    pub peer: Box<dyn Fn() -> Peer + Send + Sync>,
}

impl std::fmt::Debug for Candidacy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidacy")
            .field("namespace", &self.namespace)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// How the part of a replica in the election ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The replica resigned, and released the Lease if it held it.
    Resigned,
    /// The replica could not renew its Lease in time, or another one has it.
    Lost,
}

/// A replica that takes part in the election.
#[derive(Debug)]
pub struct Candidate {
    candidacy: Candidacy,
    leases: Api<Lease>,
    election: Election,
    standing: StandingWriter,
}

/// The outcome of one try for the Lease.
enum Try {
    /// The Lease is ours until this time.
    Held(Instant),
    /// Another replica holds the Lease, or was faster.
    Refused,
}

impl Candidate {
    /// A candidate that has not looked at the Lease yet, and the standing that follows from its looks.
    #[must_use]
    pub fn new(candidacy: Candidacy) -> (Self, Standing) {
        let (writer, standing) = standing();
        let leases = Api::namespaced(candidacy.client.clone(), &candidacy.namespace);
        let election = Election::new(candidacy.identity.clone());
        (Self { candidacy, leases, election, standing: writer }, standing)
    }

    /// Takes part until `resign`, or until the Lease is lost. The caller has ended its work before it cancels `resign`: the next leader
    /// begins at once.
    ///
    /// # Guarantees
    /// The standing says that this replica may work for at most 7 s after the begin of the last successful renewal, 3 s before another
    /// replica can take the Lease.
    pub async fn run(&mut self, resign: &CancellationToken) -> Ended {
        let Some(until) = resign.run_until_cancelled(self.follow()).await else { return Ended::Resigned };
        info!(identity = self.candidacy.identity, "this replica leads");
        // Cancelled in a renewal: the release reads the Lease anew.
        let ended = resign.run_until_cancelled(self.lead(until)).await;
        self.standing.follow(None);
        if ended.is_some() {
            return Ended::Lost;
        }
        match tokio::time::timeout(RELEASE_TIMEOUT, self.release()).await {
            Ok(Ok(())) => info!("the Lease is released"),
            Ok(Err(error)) => warn!(%error, "failed to release the Lease; another replica leads after its end"),
            Err(_) => warn!("no answer to the release of the Lease; another replica leads after its end"),
        }
        Ended::Resigned
    }

    /// Only looks who leads, after the end of [`Self::run`]. Never ends.
    pub async fn watch(&self) {
        loop {
            if let Ok(Ok(found)) = tokio::time::timeout(LOOK_TIMEOUT, self.leases.get_opt(keys::LEASE)).await {
                self.standing.follow(found.as_ref().and_then(peer));
            }
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Looks until the Lease is ours. Returns how long it is.
    async fn follow(&mut self) -> Instant {
        loop {
            match tokio::time::timeout(LOOK_TIMEOUT, self.attempt()).await {
                Ok(Ok(Try::Held(until))) => return until,
                Ok(Ok(Try::Refused)) => {}
                Ok(Err(error)) => warn!(%error, lease = keys::LEASE, "failed to look at the Lease"),
                Err(_) => warn!(lease = keys::LEASE, "no answer to a look at the Lease"),
            }
            tokio::time::sleep(RETRY_PERIOD).await;
        }
    }

    /// Renews the Lease until it is lost.
    async fn lead(&mut self, mut until: Instant) {
        let mut wait = RENEW_PERIOD;
        loop {
            // The sleep ends no later than the right to work.
            tokio::time::sleep_until(until.min(Instant::now() + wait)).await;
            wait = RETRY_PERIOD;
            match tokio::time::timeout_at(until, self.attempt()).await {
                Ok(Ok(Try::Held(renewed))) => (until, wait) = (renewed, RENEW_PERIOD),
                Ok(Ok(Try::Refused)) if !self.standing.leads() => {
                    warn!("another replica has the Lease");
                    return;
                }
                Ok(Ok(Try::Refused)) => debug!("the Lease was written by somebody else and is looked at again"),
                Ok(Err(error)) => warn!(%error, "failed to renew the Lease"),
                Err(_) => {
                    warn!("the Lease was not renewed in time");
                    return;
                }
            }
        }
    }

    /// Looks at the Lease, and takes or renews it if the rules allow that.
    async fn attempt(&mut self) -> Result<Try, kube::Error> {
        let began = Instant::now();
        let found = self.leases.get_opt(keys::LEASE).await?;
        let spec = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let spec = match self.election.decide(spec.as_ref(), Instant::now(), (self.candidacy.clock)()) {
            Move::Take(spec) | Move::Renew(spec) => spec,
            Move::Wait => {
                self.standing.follow(found.as_ref().and_then(peer));
                return Ok(Try::Refused);
            }
        };
        match self.write(found, spec).await {
            Ok(()) => {
                let until = began + RENEW_DEADLINE;
                self.standing.lead(until);
                Ok(Try::Held(until))
            }
            // Another replica was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Try::Refused),
            Err(error) => Err(error),
        }
    }

    /// Writes the Lease that was read, or creates it.
    async fn write(&self, found: Option<Lease>, spec: LeaseSpec) -> Result<(), kube::Error> {
        let params = PostParams { field_manager: Some(keys::FIELD_MANAGER.into()), ..PostParams::default() };
        let Peer { address, fingerprint } = (self.candidacy.peer)();
        let annotations = [
            (keys::LEADER_ADDRESS.to_owned(), address.to_string()),
            (keys::LEADER_CERTIFICATE.to_owned(), fingerprint),
        ];
        let exists = found.is_some();
        let new =
            || Lease { metadata: ObjectMeta { name: Some(keys::LEASE.into()), ..ObjectMeta::default() }, spec: None };
        let mut lease = found.unwrap_or_else(new);
        lease.annotations_mut().extend(annotations);
        lease.spec = Some(spec);
        if exists {
            self.leases.replace(keys::LEASE, &params, &lease).await?;
        } else {
            self.leases.create(&params, &lease).await?;
        }
        Ok(())
    }

    /// Gives the Lease to whoever comes first, if it is ours.
    async fn release(&self) -> Result<(), kube::Error> {
        loop {
            match self.try_release().await {
                // A renewal whose answer was not awaited came between the look and the write.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                ended => return ended,
            }
        }
    }

    async fn try_release(&self) -> Result<(), kube::Error> {
        let Some(found) = self.leases.get_opt(keys::LEASE).await? else { return Ok(()) };
        let spec = found.spec.as_ref().and_then(|spec| self.election.released(spec, (self.candidacy.clock)()));
        let Some(spec) = spec else { return Ok(()) };
        let mut lease = Lease { spec: Some(spec), ..found };
        for key in [keys::LEADER_ADDRESS, keys::LEADER_CERTIFICATE] {
            lease.annotations_mut().remove(key);
        }
        self.leases.replace(keys::LEASE, &PostParams::default(), &lease).await?;
        Ok(())
    }
}

/// How the holder of a Lease is reached, if it says so in a readable form.
fn peer(lease: &Lease) -> Option<Peer> {
    let address = lease.annotations().get(keys::LEADER_ADDRESS)?.parse().ok()?;
    Some(Peer { address, fingerprint: lease.annotations().get(keys::LEADER_CERTIFICATE)?.clone() })
}
