//! Rate limits of callers.

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

/// The quota of one agent: 1 call/s, and a burst of 20 calls.
const AGENT_QUOTA: Quota = Quota::per_second(NonZeroU32::MIN).allow_burst(at_least_one(20));
/// The quota of calls with a failed authentication from one address: 1 call/s, and a burst of 60 calls. All pods of a node
/// may have the same address.
const FAILED_AUTH_QUOTA: Quota = Quota::per_second(NonZeroU32::MIN).allow_burst(at_least_one(60));
/// The quota of one person, with all of the person's tokens: 50 calls/s, and a burst of 500 calls. The page reads 200 agents a call.
const USER_QUOTA: Quota = Quota::per_second(at_least_one(50)).allow_burst(at_least_one(500));
/// The maximum number of banned addresses. A ban lasts for about 1 s.
const MAX_BANNED: usize = 4096;
/// The number of calls after which full buckets are removed.
const SWEEP_EVERY: u32 = 4096;

const fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(n.saturating_sub(1))
}

/// The rate limits of all callers of the API for agents.
///
/// # Guarantees
/// A caller whose bucket is full again is removed from memory within the next 4096 calls.
#[derive(Debug)]
pub struct RateLimits {
    agents: Buckets<String>,
    failed_auth: FailedAuthLimiter,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self::with(AGENT_QUOTA)
    }
}

impl RateLimits {
    /// Rate limits with this quota for each agent.
    #[must_use]
    pub fn with(agent: Quota) -> Self {
        Self { agents: Buckets::new(agent), failed_auth: FailedAuthLimiter::default() }
    }

    /// Counts a call of the agent with this uid.
    ///
    /// # Errors
    /// The time to wait, if the agent exceeds its quota.
    pub fn agent(&self, uid: &str) -> Result<(), Duration> {
        self.agents.take(&uid.to_owned())
    }

    /// Counts a call with a failed authentication.
    ///
    /// # Errors
    /// The time to wait, if the address exceeds its quota.
    pub fn failed_auth(&self, address: IpAddr) -> Result<(), Duration> {
        self.failed_auth.record_failure(address)
    }
}

/// The rate limits of all callers of the API for people.
#[derive(Debug)]
pub struct PeopleLimits {
    users: Buckets<String>,
    /// The limiter of addresses whose tokens Kubernetes does not know.
    pub failed_auth: FailedAuthLimiter,
}

impl Default for PeopleLimits {
    fn default() -> Self {
        Self { users: Buckets::new(USER_QUOTA), failed_auth: FailedAuthLimiter::default() }
    }
}

impl PeopleLimits {
    /// Counts a call of the user with this name.
    ///
    /// # Errors
    /// The time to wait, if the user exceeds the quota.
    pub fn user(&self, name: &str) -> Result<(), Duration> {
        self.users.take(&name.to_owned())
    }
}

/// The limiter of addresses with failed authentications.
///
/// # Guarantees
/// An address that exceeds its quota is banned. A request from a banned address is refused before its token is reviewed.
#[derive(Debug)]
pub struct FailedAuthLimiter {
    buckets: Buckets<IpAddr>,
    banned: Mutex<HashMap<IpAddr, Instant>>,
}

impl Default for FailedAuthLimiter {
    fn default() -> Self {
        Self { buckets: Buckets::new(FAILED_AUTH_QUOTA), banned: Mutex::default() }
    }
}

impl FailedAuthLimiter {
    /// Checks whether an address is banned.
    ///
    /// # Errors
    /// The time until the end of the ban.
    pub fn check(&self, address: IpAddr) -> Result<(), Duration> {
        let banned = self.banned.lock().unwrap_or_else(PoisonError::into_inner);
        let left = banned.get(&address).map(|until| until.saturating_duration_since(RuntimeClock.now()));
        left.filter(|left| !left.is_zero()).map_or(Ok(()), Err)
    }

    /// Counts a failed authentication, and bans the address if it exceeds its quota.
    ///
    /// # Errors
    /// The time to wait, if the address exceeds its quota.
    pub fn record_failure(&self, address: IpAddr) -> Result<(), Duration> {
        self.buckets.take(&address).inspect_err(|wait| {
            let now = RuntimeClock.now();
            let mut banned = self.banned.lock().unwrap_or_else(PoisonError::into_inner);
            if banned.len() >= MAX_BANNED {
                banned.retain(|_, until| *until > now);
            }
            if banned.len() < MAX_BANNED {
                banned.insert(address, now + *wait);
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
        if self.calls.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(key).map_err(|until| until.earliest_possible().duration_since(RuntimeClock.now()))
    }
}

/// The clock of the Tokio runtime, which tests can pause.
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
    async fn an_agent_waits_after_a_burst_and_other_agents_do_not() {
        let limits = RateLimits::default();
        assert_eq!((0..25).filter(|_| limits.agent("a").is_ok()).count(), 20);
        let wait = limits.agent("a").unwrap_err();
        assert!(wait <= Duration::from_secs(1) && !wait.is_zero(), "{wait:?}");
        assert!(limits.agent("b").is_ok());
        tokio::time::advance(wait).await;
        assert!(limits.agent("a").is_ok() && limits.agent("a").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_with_many_failed_authentications_is_banned_for_a_time() {
        let limiter = FailedAuthLimiter::default();
        let (bad, good) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        while limiter.record_failure(bad).is_ok() {}
        let wait = limiter.check(bad).unwrap_err();
        assert!(limiter.check(good).is_ok());
        tokio::time::advance(wait).await;
        assert!(limiter.check(bad).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_callers_are_removed() {
        let limits = RateLimits::default();
        for n in 0..SWEEP_EVERY - 1 {
            limits.failed_auth(IpAddr::from(n.to_be_bytes())).unwrap();
        }
        assert_eq!(limits.failed_auth.buckets.limiter.len(), 4095);
        tokio::time::advance(Duration::from_mins(2)).await;
        limits.failed_auth(IpAddr::from([10, 0, 0, 1])).unwrap();
        assert_eq!(limits.failed_auth.buckets.limiter.len(), 1);
    }
}
