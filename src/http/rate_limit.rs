//! How often one caller may call.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

/// What an agent may do: a burst of 20 calls, and one a second in the long run.
const AGENT: Quota = Quota::per_second(NonZeroU32::MIN).allow_burst(at_least_one(20));
/// How many calls without a good token an address may make: a burst of 60, and one a second in the long run. A whole
/// node may stand behind one address.
const STRANGER: Quota = Quota::per_second(NonZeroU32::MIN).allow_burst(at_least_one(60));
/// Most addresses that are turned away at one time. They stay for a second or so.
const MOST_BARRED: usize = 4096;
/// After so many calls, callers whose buckets are full again are forgotten.
const SWEEP: u32 = 4096;

const fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(n.saturating_sub(1))
}

/// The limits of all callers.
///
/// # Guarantees
/// A caller that made no call for as long as its bucket takes to fill is not kept in memory for longer than the next
/// few thousand calls.
#[derive(Debug)]
pub struct RateLimits {
    agents: Buckets<String>,
    strangers: FailedAuthLimiter,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::with(AGENT)
    }
}

impl RateLimits {
    /// Limits under which each agent may do this.
    #[must_use]
    pub fn with(agent: Quota) -> Self {
        Self { agents: Buckets::new(agent), strangers: FailedAuthLimiter::default() }
    }

    /// Counts a call of the agent with this uid.
    ///
    /// # Errors
    /// How long it is to wait, when it called too often.
    pub fn agent(&self, uid: &str) -> Result<(), Duration> {
        self.agents.take(&uid.to_owned())
    }

    /// Counts a call without a good token.
    ///
    /// # Errors
    /// How long this address is to wait, when there were too many.
    pub fn stranger(&self, address: IpAddr) -> Result<(), Duration> {
        self.strangers.refused(address)
    }
}

/// Addresses from which tokens come that are nobody's.
///
/// # Guarantees
/// Once an address has used up its bucket, it is turned away before anybody is asked whose its token is.
#[derive(Debug)]
pub struct FailedAuthLimiter {
    buckets: Buckets<IpAddr>,
    barred: Mutex<HashMap<IpAddr, Instant>>,
}

impl Default for FailedAuthLimiter {
    fn default() -> Self {
        Self { buckets: Buckets::new(STRANGER), barred: Mutex::default() }
    }
}

impl FailedAuthLimiter {
    /// Looks whether an address may ask.
    ///
    /// # Errors
    /// How long it is to wait.
    pub fn admit(&self, address: IpAddr) -> Result<(), Duration> {
        let barred = self.barred.lock().unwrap_or_else(PoisonError::into_inner);
        let left = barred.get(&address).map(|until| until.saturating_duration_since(RuntimeClock.now()));
        left.filter(|left| !left.is_zero()).map_or(Ok(()), Err)
    }

    /// Counts a token that was nobody's.
    ///
    /// # Errors
    /// How long the address is to wait, when there were too many.
    pub fn refused(&self, address: IpAddr) -> Result<(), Duration> {
        self.buckets.take(&address).inspect_err(|wait| {
            let now = RuntimeClock.now();
            let mut barred = self.barred.lock().unwrap_or_else(PoisonError::into_inner);
            if barred.len() >= MOST_BARRED {
                barred.retain(|_, until| *until > now);
            }
            if barred.len() < MOST_BARRED {
                barred.insert(address, now + *wait);
            }
        })
    }
}

#[derive(Debug)]
struct Buckets<K: Hash + Eq + Clone> {
    limiter: RateLimiter<K, HashMapStateStore<K>, RuntimeClock, NoOpMiddleware<Instant>>,
    calls: AtomicU32,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(quota: Quota) -> Self {
        let limiter = RateLimiter::new(quota, HashMapStateStore::default(), RuntimeClock);
        Self { limiter, calls: AtomicU32::new(0) }
    }

    fn take(&self, key: &K) -> Result<(), Duration> {
        if self.calls.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(key).map_err(|until| until.earliest_possible().duration_since(RuntimeClock.now()))
    }
}

/// The clock of the runtime, which tests can pause.
#[derive(Clone, Copy, Debug)]
struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn after_a_burst_an_agent_waits_and_others_do_not() {
        let limits = RateLimits::default();
        assert_eq!((0..25).filter(|_| limits.agent("a").is_ok()).count(), 20);
        let wait = limits.agent("a").unwrap_err();
        assert!(wait <= Duration::from_secs(1) && !wait.is_zero(), "{wait:?}");
        assert!(limits.agent("b").is_ok());
        tokio::time::advance(wait).await;
        assert!(limits.agent("a").is_ok() && limits.agent("a").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_with_many_wrong_tokens_is_turned_away_for_a_while() {
        let strangers = FailedAuthLimiter::default();
        let (bad, good) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        while strangers.refused(bad).is_ok() {}
        let wait = strangers.admit(bad).unwrap_err();
        assert!(strangers.admit(good).is_ok());
        tokio::time::advance(wait).await;
        assert!(strangers.admit(bad).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_are_idle_are_forgotten() {
        let limits = RateLimits::default();
        for n in 0..SWEEP - 1 {
            limits.stranger(IpAddr::from(n.to_be_bytes())).unwrap();
        }
        assert_eq!(limits.strangers.buckets.limiter.len(), 4095);
        tokio::time::advance(Duration::from_mins(2)).await;
        limits.stranger(IpAddr::from([10, 0, 0, 1])).unwrap();
        assert_eq!(limits.strangers.buckets.limiter.len(), 1);
    }
}
