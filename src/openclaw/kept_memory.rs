//! The memory that the clients of all gateways keep while their connections stand: rosters, config entries and runs.
//!
//! Each gateway has a bound of its own. When all gateways together exceed theirs, the gateway that takes the most gives way, so
//! that a gateway that fills the memory takes it from no other.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::connection::answer_reporter::AnswerReporter;
use super::limits::{Exceeded, KEPT_OF_ALL, KEPT_OF_ONE};

const MIB: usize = 1024 * 1024;

/// The shares of all clients.
#[derive(Debug, Default)]
pub(crate) struct KeptMemory {
    shares: Mutex<Shares>,
}

#[derive(Debug, Default)]
struct Shares {
    by_client: BTreeMap<u64, Share>,
    /// The sum of all shares, in bytes.
    all: usize,
    last: u64,
}

#[derive(Debug)]
struct Share {
    bytes: usize,
    reporter: AnswerReporter,
}

/// The memory of one connection. Dropping it returns the share.
#[derive(Debug)]
pub(crate) struct KeptShare {
    memory: Arc<KeptMemory>,
    id: u64,
}

/// The memory of this process.
pub(crate) fn shared_memory() -> Arc<KeptMemory> {
    static MEMORY: LazyLock<Arc<KeptMemory>> = LazyLock::new(Arc::default);
    Arc::clone(&MEMORY)
}

impl KeptMemory {
    fn lock(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty share of the connection of `reporter`.
    pub(crate) fn share(self: &Arc<Self>, reporter: AnswerReporter) -> KeptShare {
        let mut shares = self.lock();
        shares.last += 1;
        let id = shares.last;
        shares.by_client.insert(id, Share { bytes: 0, reporter });
        KeptShare { memory: Arc::clone(self), id }
    }
}

impl KeptShare {
    /// Sets the estimated memory. Ends the connection that exceeds the bound of one gateway, or takes the most beyond the bound
    /// of all.
    pub(crate) fn set(&self, bytes: usize) {
        let mut shares = self.memory.lock();
        let shares = &mut *shares;
        let Some(own) = shares.by_client.get_mut(&self.id) else { return };
        shares.all = shares.all - own.bytes + bytes;
        own.bytes = bytes;
        if bytes > KEPT_OF_ONE {
            let bound =
                format!("the gateway's agents, config entries and runs take more than {} MiB", KEPT_OF_ONE / MIB);
            own.reporter.report(Exceeded(bound));
            return;
        }
        if shares.all <= KEPT_OF_ALL {
            return;
        }
        if let Some(largest) = shares.by_client.values().max_by_key(|share| share.bytes) {
            let bound = format!(
                "the agents, config entries and runs of all gateways take more than {} MiB, and this gateway's take the most, {} MiB",
                KEPT_OF_ALL / MIB,
                largest.bytes / MIB
            );
            largest.reporter.report(Exceeded(bound));
        }
    }
}

impl Drop for KeptShare {
    fn drop(&mut self) {
        let mut shares = self.memory.lock();
        shares.all -= shares.by_client.remove(&self.id).map_or(0, |share| share.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openclaw::connection::redaction::Redactor;

    #[test]
    fn one_gateway_beyond_its_bound_loses_its_connection() {
        let memory = Arc::<KeptMemory>::default();
        let (reporter, mut exceeded) = AnswerReporter::new(Redactor::default());
        let share = memory.share(reporter);
        share.set(KEPT_OF_ONE);
        assert!(exceeded.try_recv().is_err());
        share.set(KEPT_OF_ONE + 1);
        assert!(exceeded.try_recv().unwrap().0.contains("more than 48 MiB"));
    }

    #[test]
    fn the_gateway_that_takes_the_most_gives_way_to_the_others() {
        let memory = Arc::<KeptMemory>::default();
        let hostile: Vec<_> = (0..4)
            .map(|n| {
                let (reporter, exceeded) = AnswerReporter::new(Redactor::default());
                let share = memory.share(reporter);
                share.set(KEPT_OF_ALL / 4 - n);
                (share, exceeded)
            })
            .collect();
        let (reporter, mut exceeded) = AnswerReporter::new(Redactor::default());
        let honest = memory.share(reporter);
        honest.set(MIB);
        assert!(exceeded.try_recv().is_err());
        let ended: Vec<_> = hostile.into_iter().map(|(_, mut exceeded)| exceeded.try_recv().is_ok()).collect();
        assert_eq!(ended, [true, false, false, false]);
        honest.set(2 * MIB);
        assert!(exceeded.try_recv().is_err(), "the shares of ended connections are returned");
    }
}
