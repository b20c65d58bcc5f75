//! Whether this replica works, or which replica does.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// How another replica reaches the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address of the leader's HTTP API.
    pub address: SocketAddr,
    /// The SHA-256 fingerprint of the certificate that the leader serves, as `openssl x509 -fingerprint -sha256` writes it.
    pub fingerprint: String,
}

/// The replica that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leader {
    /// Nobody, as far as this replica knows.
    Unknown,
    /// Another replica.
    Other(Peer),
    /// This replica.
    This,
}

/// What this replica knows of the election.
#[derive(Clone, Debug)]
struct State {
    leader: Leader,
    /// When this replica's right to work ends, unless it is renewed. `None`: it does not end, because there is no election.
    until: Option<Instant>,
}

/// The replica that leads, as the parts of the operator see it.
#[derive(Clone, Debug)]
pub struct Standing(watch::Receiver<State>);

/// The replica that leads, as the election reports it.
#[derive(Debug)]
pub(super) struct StandingWriter(watch::Sender<State>);

/// The two ends of a standing, before the first look at the Lease.
pub(super) fn standing() -> (StandingWriter, Standing) {
    let (sender, receiver) = watch::channel(State { leader: Leader::Unknown, until: Some(Instant::now()) });
    (StandingWriter(sender), Standing(receiver))
}

impl Standing {
    /// The standing of the only replica, which always works.
    #[must_use]
    pub fn alone() -> Self {
        Self(watch::channel(State { leader: Leader::This, until: None }).1)
    }

    /// The replica that leads.
    #[must_use]
    pub fn leader(&self) -> Leader {
        self.0.borrow().leader.clone()
    }

    /// Whether this replica may write. A process that was paused for longer than its Lease may not, before it knows of the next leader.
    #[must_use]
    pub fn may_work(&self) -> bool {
        let state = self.0.borrow();
        state.leader == Leader::This && state.until.is_none_or(|until| Instant::now() < until)
    }

    /// Waits until this replica works. Never ends if the election has ended without that.
    pub async fn until_leading(&self) {
        let mut states = self.0.clone();
        let is_leading = states.wait_for(|state| state.leader == Leader::This).await.is_ok();
        if !is_leading {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this replica may no longer work. Never ends for the only replica, and ends at once for one that does not work.
    pub async fn until_over(&self) {
        let mut states = self.0.clone();
        loop {
            let until = {
                let state = states.borrow_and_update();
                match (&state.leader, state.until) {
                    (Leader::This, until) => until,
                    (Leader::Unknown | Leader::Other(_), _) => return,
                }
            };
            let Some(until) = until else { return std::future::pending().await };
            if until <= Instant::now() {
                return;
            }
            // Both branches are cancel-safe. A closed channel brings no renewal.
            tokio::select! {
                () = tokio::time::sleep_until(until) => {}
                changed = states.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }

    /// Waits until somebody works, for at most this time, and returns who does.
    pub async fn until_known(&self, patience: Duration) -> Leader {
        let mut states = self.0.clone();
        let known = tokio::time::timeout(patience, states.wait_for(|state| state.leader != Leader::Unknown)).await;
        match known {
            Ok(Ok(state)) => state.leader.clone(),
            Ok(Err(_)) | Err(_) => Leader::Unknown,
        }
    }

    /// Waits until another leader than this one is known, for at most this time, and returns who works.
    pub async fn until_other_than(&self, leader: &Leader, patience: Duration) -> Leader {
        let mut states = self.0.clone();
        let _ = tokio::time::timeout(patience, states.wait_for(|state| state.leader != *leader)).await;
        self.leader()
    }
}

impl StandingWriter {
    /// Whether this replica holds the Lease, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        self.0.borrow().leader == Leader::This
    }

    /// This replica works until this time.
    pub(super) fn lead(&self, until: Instant) {
        self.0.send_replace(State { leader: Leader::This, until: Some(until) });
    }

    /// Another replica works, or nobody.
    pub(super) fn follow(&self, leader: Option<Peer>) {
        let leader = leader.map_or(Leader::Unknown, Leader::Other);
        self.0.send_if_modified(|state| {
            let changed = state.leader != leader;
            state.leader = leader;
            state.until = Some(Instant::now());
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERM: Duration = Duration::from_secs(7);

    #[tokio::test(start_paused = true)]
    async fn the_right_to_work_ends_with_its_time_unless_it_is_renewed() {
        let (writer, standing) = standing();
        assert!(!standing.may_work());
        writer.lead(Instant::now() + TERM);
        standing.until_leading().await;
        tokio::time::advance(TERM / 2).await;
        writer.lead(Instant::now() + TERM);
        let over = tokio::spawn({
            let standing = standing.clone();
            async move { standing.until_over().await }
        });
        tokio::time::advance(TERM.checked_sub(Duration::from_millis(1)).unwrap()).await;
        assert!(standing.may_work() && !over.is_finished());
        over.await.unwrap();
        assert!(!standing.may_work(), "nobody has said so");
        assert_eq!(standing.leader(), Leader::This);
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_replica_always_works() {
        let standing = Standing::alone();
        standing.until_leading().await;
        assert!(standing.may_work());
        assert!(tokio::time::timeout(TERM * 1000, standing.until_over()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_waits_for_the_next_leader() {
        let (writer, standing) = standing();
        assert_eq!(standing.until_known(TERM).await, Leader::Unknown);
        let peer = |port| Peer { address: ([10, 0, 0, 1], port).into(), fingerprint: "AA".into() };
        writer.follow(Some(peer(1)));
        let first = standing.until_known(TERM).await;
        assert_eq!(first, Leader::Other(peer(1)));
        assert_eq!(standing.until_other_than(&first, TERM).await, first, "nobody else within the time");
        writer.follow(Some(peer(2)));
        assert_eq!(standing.until_other_than(&first, TERM).await, Leader::Other(peer(2)));
    }
}
