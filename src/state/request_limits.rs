//! How many requests of the operator the API server answers at one time, and which of them wait for others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::store::StoreError;

/// The maximum number of open reads, without watches.
const MAX_READS: usize = 16;
/// The maximum number of open writes. Writes have places of their own: a new Agent does not wait for the reads of all others after a
/// restart.
const MAX_WRITES: usize = 16;
/// The maximum number of reads that nobody waits for, open or in the line of all reads. So a new Agent waits for few of them while all others
/// are looked at after a restart.
const MAX_LATE_READS: usize = 8;
/// The maximum number of writes that nobody waits for, open or in the line of all writes. So they take a small part of it while thousands of
/// Agents are set up.
const MAX_LATE_WRITES: usize = 2;
/// How long the API server may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether somebody waits for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Somebody may wait for it.
    Awaited,
    /// Nobody waits for it: it is for an Agent that is Ready in any case.
    Late,
}

/// The places for requests at the API server, in the order of arrival. Clones share them.
#[derive(Clone)]
pub(super) struct RequestLimits {
    reads: Arc<Line>,
    writes: Arc<Line>,
}

/// The places for requests of one kind. Late requests wait in a line of their own until few enough of them are in this one.
struct Line {
    places: Semaphore,
    late: Semaphore,
}

impl Default for RequestLimits {
    fn default() -> Self {
        let line = |places, late| Arc::new(Line { places: Semaphore::new(places), late: Semaphore::new(late) });
        Self { reads: line(MAX_READS, MAX_LATE_READS), writes: line(MAX_WRITES, MAX_LATE_WRITES) }
    }
}

impl RequestLimits {
    /// A read.
    pub(super) async fn read<T>(
        &self,
        urgency: Urgency,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, StoreError> {
        self.reads.send(urgency, request).await
    }

    /// A write.
    pub(super) async fn write<T>(
        &self,
        urgency: Urgency,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, StoreError> {
        self.writes.send(urgency, request).await
    }
}

impl Line {
    /// Waits for a place, then for the answer.
    async fn send<T>(
        &self,
        urgency: Urgency,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, StoreError> {
        let _late = match urgency {
            Urgency::Awaited => None,
            Urgency::Late => Some(place(&self.late).await?),
        };
        let _place = place(&self.places).await?;
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, request).await;
        Ok(answer.map_err(|_| StoreError::Failed(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())))??)
    }
}

async fn place(places: &Semaphore) -> Result<SemaphorePermit<'_>, StoreError> {
    // The semaphore is never closed.
    places.acquire().await.map_err(|e| StoreError::Failed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use futures::FutureExt;
    use futures::future::{LocalBoxFuture, join_all};

    use super::Urgency::{Awaited, Late};
    use super::*;

    /// A request that takes a second and counts itself.
    fn request(answered: &Rc<Cell<usize>>) -> LocalBoxFuture<'static, Result<(), kube::Error>> {
        let answered = Rc::clone(answered);
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            answered.set(answered.get() + 1);
            Ok(())
        }
        .boxed_local()
    }

    #[tokio::test(start_paused = true)]
    async fn late_writes_take_a_small_part_of_the_places_while_others_wait() {
        let limits = RequestLimits::default();
        let (late, others) = (Rc::default(), Rc::default());
        let first = join_all((0..1000).map(|_| limits.write(Late, request(&late))));
        let second = join_all((0..160).map(|_| limits.write(Awaited, request(&others))));
        let both = async { tokio::join!(first, second) };
        // Ten seconds are enough for 160 writes alone.
        let ended = tokio::time::timeout(Duration::from_millis(11_500), both).await;
        assert!(ended.is_err(), "a thousand late writes take longer");
        assert_eq!(others.get(), 160);
        assert!((1..=16).contains(&late.get()), "{} late writes", late.get());
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_for_a_new_agent_waits_for_few_of_the_reads_for_ready_ones() {
        let limits = RequestLimits::default();
        let (late, others) = (Rc::default(), Rc::default());
        let first = join_all((0..1000).map(|_| limits.read(Late, request(&late))));
        let second = limits.read(Awaited, request(&others));
        let both = async { tokio::join!(first, second) };
        let ended = tokio::time::timeout(Duration::from_millis(1_100), both).await;
        assert!(ended.is_err(), "a thousand late reads take longer");
        assert_eq!((others.get(), late.get()), (1, MAX_LATE_READS));
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_late_writes_do_not_wait_when_there_is_nothing_to_wait_for() {
        let limits = RequestLimits::default();
        let late = Rc::default();
        let all = join_all((0..MAX_LATE_WRITES).map(|_| limits.write(Late, request(&late))));
        tokio::time::timeout(Duration::from_millis(1_100), all).await.unwrap();
        assert_eq!(late.get(), MAX_LATE_WRITES);
    }
}
