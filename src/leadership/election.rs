//! The rules of the election, as client-go's `leaderelection` has them.
//!
//! The times in a Lease come from the clock of another machine and are never compared with ours: a Lease is taken when it has not changed
//! for its duration, by our own clock, since we saw it change.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use tokio::time::Instant;

/// How long a Lease holds after its last change. Another replica takes the Lease then.
pub(super) const LEASE_DURATION: Duration = Duration::from_secs(10);
/// How long the holder works on after it began its last successful renewal. It has ended everything before another replica can take the
/// Lease.
pub(super) const RENEW_DEADLINE: Duration = Duration::from_secs(7);
/// How long the holder waits between two renewals.
pub(super) const RENEW_PERIOD: Duration = Duration::from_secs(2);
/// How long a replica without the Lease waits before it looks again.
pub(super) const RETRY_PERIOD: Duration = Duration::from_secs(1);

/// What a replica knows of the Lease.
#[derive(Debug)]
pub(super) struct Election {
    identity: String,
    observed: Option<Observed>,
}

/// The Lease as it was seen last, and since when it has been so.
#[derive(Debug)]
struct Observed {
    spec: LeaseSpec,
    since: Instant,
}

/// What to do after a look at the Lease.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Move {
    /// Write this: the Lease is free, or its holder has not renewed it.
    Take(LeaseSpec),
    /// Write this: the Lease is ours.
    Renew(LeaseSpec),
    /// Another replica holds the Lease.
    Wait,
}

impl Election {
    /// A replica that has not seen the Lease yet.
    pub(super) fn new(identity: String) -> Self {
        Self { identity, observed: None }
    }

    /// Decides after a look at the Lease. `now` is the time of the look; `clock`, the time of the day, only goes into the Lease for people.
    pub(super) fn decide(&mut self, found: Option<&LeaseSpec>, now: Instant, clock: Timestamp) -> Move {
        let Some(found) = found else { return Move::Take(self.taken(None, clock)) };
        if self.observed.as_ref().is_none_or(|observed| observed.spec != *found) {
            self.observed = Some(Observed { spec: found.clone(), since: now });
        }
        let since = self.observed.as_ref().map_or(now, |observed| observed.since);
        match found.holder_identity.as_deref().unwrap_or_default() {
            "" => Move::Take(self.taken(Some(found), clock)),
            holder if holder == self.identity => Move::Renew(LeaseSpec {
                renew_time: Some(MicroTime(clock)),
                lease_duration_seconds: Some(seconds(LEASE_DURATION)),
                ..found.clone()
            }),
            _ if now < since + duration(found) => Move::Wait,
            _ => Move::Take(self.taken(Some(found), clock)),
        }
    }

    /// The Lease without a holder, if it is ours. Others take it at once.
    pub(super) fn released(&self, found: &LeaseSpec, clock: Timestamp) -> Option<LeaseSpec> {
        (found.holder_identity.as_deref() == Some(self.identity.as_str())).then(|| LeaseSpec {
            holder_identity: None,
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(clock)),
            ..found.clone()
        })
    }

    fn taken(&self, before: Option<&LeaseSpec>, clock: Timestamp) -> LeaseSpec {
        let transitions = before.map(|before| before.lease_transitions.unwrap_or_default().saturating_add(1));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds(LEASE_DURATION)),
            acquire_time: Some(MicroTime(clock)),
            renew_time: Some(MicroTime(clock)),
            lease_transitions: Some(transitions.unwrap_or_default()),
            ..LeaseSpec::default()
        }
    }
}

/// How long a Lease holds without a change, by its own word.
fn duration(found: &LeaseSpec) -> Duration {
    let seconds = found.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(LEASE_DURATION, Duration::from_secs)
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Timestamp = Timestamp::UNIX_EPOCH;

    fn holder(move_: &Move) -> Option<&str> {
        match move_ {
            Move::Take(spec) | Move::Renew(spec) => spec.holder_identity.as_deref(),
            Move::Wait => None,
        }
    }

    fn held_by(identity: &str, clock: Timestamp) -> LeaseSpec {
        let Move::Take(spec) = Election::new(identity.into()).decide(None, Instant::now(), clock) else { panic!() };
        spec
    }

    #[test]
    fn the_times_leave_room_between_the_end_of_a_leader_and_the_next() {
        assert!(RENEW_DEADLINE + RENEW_PERIOD < LEASE_DURATION);
        assert!(RENEW_PERIOD * 3 < RENEW_DEADLINE, "two renewals may fail");
        assert!(LEASE_DURATION + RETRY_PERIOD * 2 < Duration::from_secs(15));
    }

    #[test]
    fn a_free_lease_is_taken_and_then_renewed() {
        let mut election = Election::new("a".into());
        let now = Instant::now();
        let first = election.decide(None, now, CLOCK);
        assert_eq!(holder(&first), Some("a"));
        let Move::Take(spec) = first else { panic!() };
        let later: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let Move::Renew(renewed) = election.decide(Some(&spec), now, later) else { panic!() };
        assert_eq!((renewed.acquire_time, renewed.renew_time), (spec.acquire_time, Some(MicroTime(later))));
        assert_eq!(renewed.lease_transitions, Some(0));
    }

    #[test]
    fn a_held_lease_is_taken_when_it_has_not_changed_for_its_duration() {
        let mut election = Election::new("b".into());
        let (now, lease) = (Instant::now(), held_by("a", CLOCK));
        let nearly = LEASE_DURATION.checked_sub(Duration::from_millis(1)).unwrap();
        assert_eq!(election.decide(Some(&lease), now, CLOCK), Move::Wait);
        assert_eq!(election.decide(Some(&lease), now + nearly, CLOCK), Move::Wait);
        let taken = election.decide(Some(&lease), now + LEASE_DURATION, CLOCK);
        assert_eq!(holder(&taken), Some("b"));
        let Move::Take(spec) = taken else { panic!() };
        assert_eq!(spec.lease_transitions, Some(1));
    }

    #[test]
    fn each_renewal_begins_the_wait_anew_whatever_the_clock_of_the_holder_says() {
        let mut election = Election::new("b".into());
        let now = Instant::now();
        for (number, clock) in
            ["2126-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2026-01-01T00:00:00Z"].iter().enumerate()
        {
            let at = now + LEASE_DURATION * u32::try_from(number).unwrap();
            let lease = held_by("a", clock.parse().unwrap());
            assert_eq!(election.decide(Some(&lease), at, CLOCK), Move::Wait, "{clock}");
        }
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let (a, mut b) = (Election::new("a".into()), Election::new("b".into()));
        let (now, lease) = (Instant::now(), held_by("a", CLOCK));
        assert_eq!(b.decide(Some(&lease), now, CLOCK), Move::Wait);
        let free = a.released(&lease, CLOCK).unwrap();
        assert_eq!(holder(&b.decide(Some(&free), now, CLOCK)), Some("b"));
        assert_eq!(b.released(&lease, CLOCK), None, "only its holder releases it");
    }
}
