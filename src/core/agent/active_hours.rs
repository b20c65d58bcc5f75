//! The daily window in which a gateway runs the heartbeats of an agent. The rules are those of the gateway
//! (`docs/gateway-facts.md#active-hours`).

use std::sync::LazyLock;
use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

use crate::api::shared::ActiveHours;

/// The zones, bundled in the program, so that the answer does not depend on the operator's host.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

const MINUTES_A_DAY: i16 = 24 * 60;
/// Most windows and gaps that are added up to find the end of a silence. A silence that would take longer has no end.
const MAX_SEGMENTS: usize = 64;

/// When a gateway runs the heartbeats of an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HeartbeatHours {
    /// At any time.
    #[default]
    Always,
    /// Never: the window is empty.
    Never,
    /// In a window whose time zone Muster does not know.
    Unknown,
    /// In this window.
    Within(ActiveWindow),
}

/// A daily window of local time. The end is not part of it. A window whose end is before its start spans midnight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveWindow {
    start: i16,
    end: i16,
    zone: TimeZone,
}

impl HeartbeatHours {
    /// The hours of these settings. The gateway ignores a window with a time that it cannot read. `timezone` is an IANA name, or is
    /// missing for the zone of the gateway's host.
    #[must_use]
    pub fn of(hours: Option<&ActiveHours>) -> Self {
        let Some(hours) = hours else { return Self::Always };
        let (Some(start), Some(end)) = (minute(&hours.start), minute(&hours.end)) else { return Self::Always };
        if start == end {
            return Self::Never;
        }
        match hours.timezone.as_deref().and_then(zone) {
            Some(zone) => Self::Within(ActiveWindow { start, end, zone }),
            None => Self::Unknown,
        }
    }
}

/// The zone of an IANA name.
fn zone(name: &str) -> Option<TimeZone> {
    ZONES.get(name).ok()
}

/// The minute of the day of `HH:MM`, up to `24:00`.
fn minute(text: &str) -> Option<i16> {
    let (hour, minute) = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2)?;
    let (hour, minute): (u8, u8) = (hour.parse().ok()?, minute.parse().ok()?);
    let of_day = i16::from(hour) * 60 + i16::from(minute);
    (minute < 60 && of_day <= MINUTES_A_DAY).then_some(of_day)
}

impl ActiveWindow {
    /// Whether a time is in the window.
    #[must_use]
    pub fn contains(&self, time: Timestamp) -> bool {
        let local = self.zone.to_datetime(time);
        let minute = i16::from(local.hour()) * 60 + i16::from(local.minute());
        let (is_after_start, is_before_end) = (self.start <= minute, minute < self.end);
        if self.start < self.end { is_after_start && is_before_end } else { is_after_start || is_before_end }
    }

    /// The first time from `time` on that is in the window.
    #[must_use]
    pub fn opening(&self, time: Timestamp) -> Option<Timestamp> {
        if self.contains(time) { Some(time) } else { self.next_change(time) }
    }

    /// The first time after `time` at which the window opens or closes.
    fn next_change(&self, time: Timestamp) -> Option<Timestamp> {
        let today = self.zone.to_datetime(time).date();
        let days = (-1..=2).filter_map(|days| today.checked_add(Span::new().days(days)).ok());
        let mut changes: Vec<_> = days
            .flat_map(|day| [self.instants(day, self.start), self.instants(day, self.end)])
            .flatten()
            .flatten()
            .collect();
        let horizon = changes.iter().max().copied()?;
        // The clock of the zone may also jump into the window or out of it.
        changes.extend(self.zone.following(time).map(|jump| jump.timestamp()).take_while(|jump| *jump < horizon));
        changes.retain(|change| *change > time);
        changes.sort_unstable();
        let before = self.contains(time);
        changes.into_iter().find(|change| self.contains(*change) != before)
    }

    /// The times at which the zone's clock shows this minute of a day: two when the clock shows it twice.
    fn instants(&self, day: Date, minute: i16) -> Option<[Timestamp; 2]> {
        let day = if minute == MINUTES_A_DAY { day.tomorrow().ok()? } else { day };
        let (hour, minute) = (i8::try_from(minute / 60 % 24).ok()?, i8::try_from(minute % 60).ok()?);
        let shown = self.zone.to_ambiguous_timestamp(day.to_datetime(Time::new(hour, minute, 0, 0).ok()?));
        Some([shown.earlier().ok()?, shown.later().ok()?])
    }

    /// The time from which an agent counts as silent whose last sign of life was at `since`; `None` if it never does.
    ///
    /// Only time in the window counts. After the window opened, the agent has this `span` again, or half the window if that is shorter:
    /// its next heartbeat comes only then.
    #[must_use]
    pub fn silent_from(&self, since: Timestamp, span: Duration) -> Option<Timestamp> {
        let (mut at, mut left, mut opened) = (since, span, None);
        for _ in 0..MAX_SEGMENTS {
            let is_open = self.contains(at);
            let Some(change) = self.next_change(at) else {
                // A window of the whole day never closes.
                return at.checked_add(left).ok().filter(|_| is_open);
            };
            if is_open {
                let length = Duration::try_from(change.duration_since(opened.unwrap_or(at))).ok()?;
                let fresh = opened.and_then(|opened: Timestamp| opened.checked_add(span.min(length / 2)).ok());
                let silent = at.checked_add(left).ok()?;
                let silent = fresh.map_or(silent, |fresh| silent.max(fresh));
                if silent < change {
                    return Some(silent);
                }
                left = left.saturating_sub(Duration::try_from(change.duration_since(at)).ok()?);
            } else {
                opened = Some(change);
            }
            at = change;
        }
        None
    }
}

#[cfg(test)]
#[path = "active_hours_tests.rs"]
mod tests;
