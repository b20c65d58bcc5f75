//! Faults: what goes wrong with one call, exactly when, and once, or with all of a kind for a while.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::error::RpcError;

/// One thing that goes wrong with one call; it is gone once it has happened, or a while later where it
/// is [`lasting`](Self::lasting).
///
/// ```
/// use muster_simulator::Fault;
///
/// let lost = Fault::on("agents.delete").nth(2).lose_reply();
/// let refused = Fault::on_any_write().error("UNAVAILABLE", "The server is busy", true);
/// # let _ = (lost, refused);
/// ```
#[derive(Clone, Debug)]
pub struct Fault {
    calls: CallFilter,
    param: Option<(String, Value)>,
    contains: Option<String>,
    skip: usize,
    lasting: Duration,
    /// Until when a fault that lasts strikes on; `None` before its first fault.
    until: Option<Instant>,
    action: FaultAction,
}

/// The calls that a fault counts.
#[derive(Clone, Debug)]
enum CallFilter {
    Method(String),
    Any,
    AnyWrite,
}

/// What happens to the call.
#[derive(Clone, Debug)]
pub(crate) enum FaultAction {
    Before(Disruption),
    During(Disruption),
    After(Disruption),
    LoseReply,
    RepeatReply,
    HoldReply(Duration),
    Refuse(RpcError),
    Delay(Duration),
    Hang,
    Unsettle(Duration),
}

/// How a connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disruption {
    /// The byte stream ends.
    DropConnection,
    /// The byte stream stays, and nothing comes or goes any more.
    Silence,
    /// The process is killed.
    Kill,
    /// The process is killed in a removal, and does not boot any more.
    KillUnbootable,
    /// The process restarts in good order.
    Restart,
}

impl Fault {
    /// A fault of the next call of `method`: unless told otherwise, its reply is lost.
    pub fn on(method: impl Into<String>) -> Self {
        Self::of(CallFilter::Method(method.into()))
    }

    /// A fault of the next call, whatever its method.
    pub fn on_any() -> Self {
        Self::of(CallFilter::Any)
    }

    /// A fault of the next call that writes.
    pub fn on_any_write() -> Self {
        Self::of(CallFilter::AnyWrite)
    }

    fn of(calls: CallFilter) -> Self {
        Self {
            calls,
            param: None,
            contains: None,
            skip: 0,
            lasting: Duration::ZERO,
            until: None,
            action: FaultAction::LoseReply,
        }
    }

    /// Counts only calls whose parameter `name` is `value`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.param = Some((name.into(), value.into()));
        self
    }

    /// Counts only calls whose parameters, as JSON, contain `text`.
    #[must_use]
    pub fn containing(mut self, text: impl Into<String>) -> Self {
        self.contains = Some(text.into());
        self
    }

    /// Strikes the `n`-th matching call from now, counted from one.
    #[must_use]
    pub fn nth(mut self, n: usize) -> Self {
        self.skip = n.saturating_sub(1);
        self
    }

    /// The call is executed; its reply never comes, and the connection stays.
    #[must_use]
    pub fn lose_reply(self) -> Self {
        self.with_action(FaultAction::LoseReply)
    }

    /// The connection is lost and the call is not executed.
    #[must_use]
    pub fn drop_connection_before(self) -> Self {
        self.with_action(FaultAction::Before(Disruption::DropConnection))
    }

    /// The call is executed and the connection is lost instead of a reply.
    #[must_use]
    pub fn drop_connection_after(self) -> Self {
        self.with_action(FaultAction::After(Disruption::DropConnection))
    }

    /// The gateway is killed and the call is not executed.
    #[must_use]
    pub fn kill_before(self) -> Self {
        self.with_action(FaultAction::Before(Disruption::Kill))
    }

    /// The call is executed and the gateway is killed instead of a reply.
    #[must_use]
    pub fn kill_after(self) -> Self {
        self.with_action(FaultAction::After(Disruption::Kill))
    }

    /// The gateway is killed in the middle of the call: a config write is on the disk and not applied. Other calls
    /// are executed.
    #[must_use]
    pub fn kill_during(self) -> Self {
        self.with_action(FaultAction::During(Disruption::Kill))
    }

    /// The gateway is killed in the middle of an `agents.delete`, and exits at each boot until
    /// [`Simulator::repair_half_deleted`](crate::Simulator::repair_half_deleted).
    #[must_use]
    pub fn kill_for_good(self) -> Self {
        self.with_action(FaultAction::Before(Disruption::KillUnbootable))
    }

    /// The gateway restarts in good order and the call is not executed: it is refused, and the connection closes
    /// with 1012.
    #[must_use]
    pub fn restart_before(self) -> Self {
        self.with_action(FaultAction::Before(Disruption::Restart))
    }

    /// The call is executed and the gateway restarts in good order instead of a reply.
    #[must_use]
    pub fn restart_after(self) -> Self {
        self.with_action(FaultAction::After(Disruption::Restart))
    }

    /// The call is not executed; the connection stays open and nothing comes or goes on it any more.
    #[must_use]
    pub fn silence_before(self) -> Self {
        self.with_action(FaultAction::Before(Disruption::Silence))
    }

    /// The call is executed; the connection stays open and nothing comes or goes on it any more.
    #[must_use]
    pub fn silence_after(self) -> Self {
        self.with_action(FaultAction::After(Disruption::Silence))
    }

    /// The call is executed and its reply comes twice.
    #[must_use]
    pub fn repeat_reply(self) -> Self {
        self.with_action(FaultAction::RepeatReply)
    }

    /// The call is executed and its reply is held back, so that those of later calls overtake it.
    #[must_use]
    pub fn hold_reply(self, time: Duration) -> Self {
        self.with_action(FaultAction::HoldReply(time))
    }

    /// From this call on the gateway accepts config writes for a while and does not work with them.
    #[must_use]
    pub fn unsettle(self, time: Duration) -> Self {
        self.with_action(FaultAction::Unsettle(time))
    }

    /// Strikes all matching calls from the first one on, for a while.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = time;
        self
    }

    /// A refusal says when to ask again.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        if let FaultAction::Refuse(error) = self.action {
            self.action = FaultAction::Refuse(error.after(time));
        }
        self
    }

    /// A refusal has details.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        if let FaultAction::Refuse(error) = self.action {
            self.action = FaultAction::Refuse(error.with_details(details));
        }
        self
    }

    /// The call is refused and not executed.
    #[must_use]
    pub fn error(self, code: &str, message: impl Into<String>, retryable: bool) -> Self {
        let error = RpcError::new(code, message);
        self.with_action(FaultAction::Refuse(if retryable { error.retryable() } else { error }))
    }

    /// The call is executed later.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        self.with_action(FaultAction::Delay(delay))
    }

    /// The call is not executed and never answered; the connection stays.
    #[must_use]
    pub fn hang(self) -> Self {
        self.with_action(FaultAction::Hang)
    }

    fn with_action(mut self, action: FaultAction) -> Self {
        self.action = action;
        self
    }

    fn matches(&self, method: &str, params: &Value, writes: bool) -> bool {
        let called = match &self.calls {
            CallFilter::Method(wanted) => wanted == method,
            CallFilter::Any => true,
            CallFilter::AnyWrite => writes,
        };
        called
            && self.param.as_ref().is_none_or(|(name, value)| params.get(name) == Some(value))
            && self.contains.as_ref().is_none_or(|text| params.to_string().contains(text))
    }
}

/// The faults that have not happened yet.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pending: Vec<Fault>,
}

impl Faults {
    pub(crate) fn inject(&mut self, fault: Fault) {
        self.pending.push(fault);
    }

    pub(crate) fn left(&self) -> usize {
        self.pending.iter().filter(|fault| fault.until.is_none()).count()
    }

    /// Counts a call, and takes the fault that strikes it: of several, the one that was injected
    /// first.
    pub(crate) fn take_match(&mut self, method: &str, params: &Value, writes: bool) -> Option<FaultAction> {
        let now = Instant::now();
        self.pending.retain(|fault| fault.until.is_none_or(|until| until > now));
        let mut struck = None;
        for (index, fault) in self.pending.iter_mut().enumerate() {
            if !fault.matches(method, params, writes) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if struck.is_none() {
                struck = Some(index);
            }
        }
        let index = struck?;
        let fault = self.pending.get_mut(index)?;
        if fault.lasting.is_zero() {
            return Some(self.pending.remove(index).action);
        }
        fault.until.get_or_insert(now + fault.lasting);
        Some(fault.action.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fault_strikes_its_nth_call_once() {
        let mut faults = Faults::default();
        faults.inject(Fault::on("agents.create").nth(2).hang());
        let strikes: Vec<bool> =
            (0..4).map(|_| faults.take_match("agents.create", &json!({}), true).is_some()).collect();
        assert_eq!(strikes, [false, true, false, false]);
        assert_eq!(faults.left(), 0);
    }

    #[test]
    fn a_fault_of_writes_ignores_reads() {
        let mut faults = Faults::default();
        faults.inject(Fault::on_any_write().lose_reply());
        assert!(faults.take_match("agents.list", &json!({}), false).is_none());
        assert!(faults.take_match("agents.files.set", &json!({}), true).is_some());
    }

    #[test]
    fn a_fault_may_ask_for_a_parameter() {
        let mut faults = Faults::default();
        faults.inject(Fault::on("agents.files.set").with("name", "AGENTS.md"));
        assert!(faults.take_match("agents.files.set", &json!({"name": "SOUL.md"}), true).is_none());
        assert!(faults.take_match("agents.files.set", &json!({"name": "AGENTS.md"}), true).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_lasts_strikes_from_its_first_call_on_and_no_longer_than_that() {
        let mut faults = Faults::default();
        faults.inject(Fault::on("config.patch").nth(2).hang().lasting(Duration::from_secs(10)));
        let mut strikes = Vec::new();
        for _ in 0..4 {
            strikes.push(faults.take_match("config.patch", &json!({}), true).is_some());
            tokio::time::advance(Duration::from_secs(6)).await;
        }
        assert_eq!(strikes, [false, true, true, false]);
        assert_eq!(faults.left(), 0);
    }
}
