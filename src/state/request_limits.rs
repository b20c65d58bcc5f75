//! How many requests of the operator the API server answers at one time, and which of them wait for others.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::store::StoreError;

/// The maximum number of open reads, without watches, and of open writes. Writes have places of their own: a new Agent does not wait for the reads
/// of all others after a restart.
const PLACES: usize = 16;
/// The maximum number of open requests that nobody waits for, so that others find a place at once.
const MAX_LATE: usize = 8;
/// While there are requests that somebody waits for, one place in this number goes to one that nobody waits for. So thousands of Agents that are set
/// up are Ready before their labels and events are written, and those come to an end although others are applied without end.
const SHARE: u32 = 32;
/// So few open requests are no load for an API server. Below this number late requests take places too.
const QUIET: usize = 2;
/// After this time a late request waits as the others do, so that it comes to an end while the API server is slow.
const MAX_LATE_WAIT: Duration = Duration::from_mins(1);
/// How long the API server may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether somebody waits for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Somebody may wait for it.
    Awaited,
    /// Nobody waits for it: it is an event, or for an Agent that is as specified in any case.
    Late,
}

/// The places for requests at the API server. Clones share them.
#[derive(Clone, Default)]
pub(super) struct RequestLimits {
    reads: Line,
    writes: Line,
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

/// The places for requests of one kind.
///
/// # Guarantees
/// - Requests of one urgency get their places in the order of their arrival.
/// - At most [`MAX_LATE`] late requests are open.
/// - While other requests wait, or [`QUIET`] requests are open, one in [`SHARE`] of the requests that begin is late. The API server is busy long
///   before all places are taken.
#[derive(Clone, Default)]
struct Line {
    state: Arc<Mutex<LineState>>,
}

#[derive(Default)]
struct LineState {
    open: usize,
    open_late: usize,
    awaited: VecDeque<oneshot::Sender<Place>>,
    late: VecDeque<oneshot::Sender<Place>>,
    /// The number of places that went to awaited requests while late ones waited, since the last one that went to a late request.
    passed: u32,
}

/// The place of a request. It is free again when this value is dropped.
struct Place {
    line: Line,
    urgency: Urgency,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.state().close(self.urgency);
        self.line.admit();
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, then for the answer.
    async fn send<T>(
        &self,
        urgency: Urgency,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, StoreError> {
        let place = match urgency {
            Urgency::Awaited => None,
            Urgency::Late => tokio::time::timeout(MAX_LATE_WAIT, self.place(urgency)).await.ok(),
        };
        let _place = match place {
            Some(place) => place?,
            None => self.place(Urgency::Awaited).await?,
        };
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, request).await;
        Ok(answer.map_err(|_| StoreError::Failed(format!("no answer within {} s", REQUEST_TIMEOUT.as_secs())))??)
    }

    async fn place(&self, urgency: Urgency) -> Result<Place, StoreError> {
        let (waiter, place) = oneshot::channel();
        self.state().queue(urgency).push_back(waiter);
        self.admit();
        // A waiter leaves its queue only with a place, or when it is given up.
        place.await.map_err(|e| StoreError::Failed(e.to_string()))
    }

    /// Gives the free places to the waiting requests.
    fn admit(&self) {
        loop {
            // The lock is released before the place is sent: a request that no longer waits drops it.
            let Some((waiter, urgency)) = self.state().next() else { return };
            let _ = waiter.send(Place { line: self.clone(), urgency });
        }
    }
}

impl LineState {
    fn queue(&mut self, urgency: Urgency) -> &mut VecDeque<oneshot::Sender<Place>> {
        match urgency {
            Urgency::Awaited => &mut self.awaited,
            Urgency::Late => &mut self.late,
        }
    }

    /// Opens a place for the request that is next, if there is one.
    fn next(&mut self) -> Option<(oneshot::Sender<Place>, Urgency)> {
        if self.open >= PLACES {
            return None;
        }
        // Requests that were given up take nobody's turn.
        for queue in [&mut self.awaited, &mut self.late] {
            while queue.pop_front_if(|waiter| waiter.is_closed()).is_some() {}
        }
        let is_quiet = self.awaited.is_empty() && (self.open < QUIET || self.open == self.open_late);
        let has_turn = is_quiet || self.passed + 1 >= SHARE;
        let is_late = has_turn && !self.late.is_empty() && self.open_late < MAX_LATE;
        let urgency = if is_late { Urgency::Late } else { Urgency::Awaited };
        let waiter = self.queue(urgency).pop_front()?;
        self.passed = if is_late || self.late.is_empty() { 0 } else { self.passed + 1 };
        self.open += 1;
        self.open_late += usize::from(is_late);
        Some((waiter, urgency))
    }

    fn close(&mut self, urgency: Urgency) {
        self.open -= 1;
        self.open_late -= usize::from(urgency == Urgency::Late);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
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
        let ended = tokio::time::timeout(Duration::from_millis(9_500), both).await;
        assert!(ended.is_err(), "a thousand late writes take longer");
        // No other request was open when the first late ones began. Of the requests that began after them, one in 32 is late.
        let begun = 9 * PLACES - MAX_LATE;
        let turns = begun / SHARE as usize;
        assert_eq!((others.get(), late.get()), (begun - turns, MAX_LATE + turns));
    }

    #[tokio::test(start_paused = true)]
    async fn one_request_without_an_answer_holds_up_no_late_ones() {
        let (limits, late) = (RequestLimits::default(), Rc::default());
        let hanging = limits.write(Awaited, std::future::pending::<Result<(), kube::Error>>());
        let others = join_all((0..10).map(|_| limits.write(Late, request(&late))));
        let both = async { tokio::join!(hanging, others) };
        assert!(tokio::time::timeout(Duration::from_millis(10_500), both).await.is_err());
        assert_eq!(late.get(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_write_ends_although_others_arrive_without_end() {
        let (limits, late, others) = (RequestLimits::default(), Rc::default(), Rc::default());
        let others = (0..1000).map(|_| async {
            loop {
                limits.write(Awaited, request(&others)).await.unwrap();
            }
        });
        let late = join_all((0..200).map(|_| limits.write(Late, request(&late))));
        let never = async { join_all(others).await };
        let ended = async {
            tokio::select! { _ = never => unreachable!(), late = late => late }
        };
        let most = MAX_LATE_WAIT + Duration::from_secs(1200 / PLACES as u64 + 1);
        tokio::time::timeout(most, ended).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn late_writes_that_are_given_up_take_nobodys_turn() {
        let (limits, late, others) = (RequestLimits::default(), Rc::default(), Rc::default());
        let mut awaited = Box::pin(join_all((0..PLACES * 3).map(|_| limits.write(Awaited, request(&others)))));
        assert!(awaited.as_mut().now_or_never().is_none());
        let mut given_up = Box::pin(join_all((0..40).map(|_| limits.write(Late, request(&late)))));
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        let both = async { tokio::join!(awaited, limits.write(Late, request(&late))) };
        assert!(tokio::time::timeout(Duration::from_millis(3_500), both).await.is_err(), "the last of the others");
        assert_eq!((others.get(), late.get()), (3 * PLACES - 1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_finds_a_place_at_once_although_a_thousand_late_ones_wait() {
        let limits = RequestLimits::default();
        let (late, others) = (Rc::default(), Rc::default());
        let first = join_all((0..1000).map(|_| limits.read(Late, request(&late))));
        let second = limits.read(Awaited, request(&others));
        let both = async { tokio::join!(first, second) };
        let ended = tokio::time::timeout(Duration::from_millis(1_100), both).await;
        assert!(ended.is_err(), "a thousand late reads take longer");
        assert_eq!((others.get(), late.get()), (1, MAX_LATE));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_sent_in_the_order_of_their_arrival() {
        let (limits, order) = (RequestLimits::default(), RefCell::new(Vec::new()));
        let order = &order;
        let numbered = |number: usize| {
            let sent = async move {
                order.borrow_mut().push(number);
                request(&Rc::default()).await
            };
            limits.write(Awaited, sent)
        };
        join_all((0..3 * PLACES).map(numbered)).await;
        assert!(order.borrow().is_sorted() && order.borrow().len() == 3 * PLACES, "{order:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_place_of_a_request_that_is_given_up_goes_to_the_next_one() {
        let (limits, answered) = (RequestLimits::default(), Rc::default());
        for urgency in [Awaited, Late] {
            // Some of them wait, some have a place, and some have one that they have not seen yet.
            let mut given_up: Vec<_> =
                (0..3 * PLACES).map(|_| Box::pin(limits.write(urgency, request(&answered)))).collect();
            for request in &mut given_up {
                assert!(request.as_mut().now_or_never().is_none());
            }
            given_up.truncate(PLACES + 1);
            drop(given_up.swap_remove(0));
            drop(given_up);
        }
        assert_eq!(answered.get(), 0);
        join_all((0..PLACES).map(|_| limits.write(Awaited, request(&answered)))).await;
        assert_eq!(answered.get(), PLACES);
        let state = limits.writes.state();
        assert_eq!((state.open, state.open_late), (0, 0));
    }
}
