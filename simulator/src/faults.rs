//! Faults of single calls. A fault happens once, or for a while if it is lasting.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::error::RpcError;

/// A fault of one call. The fault is used up once it has happened, or after its time if it is
/// [`lasting`](Self::lasting).
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
    /// The end of a lasting fault; `None` before its first match.
    until: Option<Instant>,
    action: FaultAction,
}

/// The calls that a fault matches.
#[derive(Clone, Debug)]
enum CallFilter {
    Method(String),
    Any,
    AnyWrite,
}

/// The effect on the call.
#[derive(Clone, Debug)]
pub(crate) enum FaultAction {
    Before(Disruption),
    During(Disruption),
    After(Disruption),
    LoseReply,
    RepeatReply,
    HoldReply(Duration),
    Refuse(RpcError),
    Answer(Value),
    Delay(Duration),
    Hang,
    Unsettle(Duration),
}

/// The effect on the connection or the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disruption {
    /// The byte stream ends.
    DropConnection,
    /// The byte stream stays open and carries nothing.
    Silence,
    /// The process is killed.
    Kill,
    /// The process is killed during a deletion and exits at each start.
    KillUnbootable,
    /// The process restarts gracefully.
    Restart,
}

impl Fault {
    /// A fault of the next call of `method`. Without another effect, the reply is lost.
    pub fn on(method: impl Into<String>) -> Self {
        Self::of(CallFilter::Method(method.into()))
    }

    /// A fault of the next call of any method.
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

    /// Matches only calls whose parameter `name` is `value`.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.param = Some((name.into(), value.into()));
        self
    }

    /// Matches only calls whose parameters, as JSON, contain `text`.
    #[must_use]
    pub fn containing(mut self, text: impl Into<String>) -> Self {
        self.contains = Some(text.into());
        self
    }

    /// Happens at the `n`-th matching call from now; the first is 1.
    #[must_use]
    pub fn nth(mut self, n: usize) -> Self {
        self.skip = n.saturating_sub(1);
        self
    }

    /// The call is executed. The reply is lost, and the connection stays open.
    #[must_use]
    pub fn lose_reply(self) -> Self {
        self.with_action(FaultAction::LoseReply)
    }

    /// The connection drops, and the call is not executed.
    #[must_use]
    pub fn drop_connection_before(self) -> Self {
        self.with_action(FaultAction::Before(Disruption::DropConnection))
    }

    /// The call is executed, and the connection drops instead of the reply.
    #[must_use]
    pub fn drop_connection_after(self) -> Self {
        self.with_action(FaultAction::After(Disruption::DropConnection))
    }

    /// The gateway is killed, and the call is not executed.
    #[must_use]
    pub fn kill_before(self) -> Self {
        self.with_action(FaultAction::Before(Disruption::Kill))
    }

    /// The call is executed, and the gateway is killed instead of the reply.
    #[must_use]
    pub fn kill_after(self) -> Self {
        self.with_action(FaultAction::After(Disruption::Kill))
    }

    /// The gateway is killed during the call: a config write is on disk and not applied. Other calls are executed.
    #[must_use]
    pub fn kill_during(self) -> Self {
        self.with_action(FaultAction::During(Disruption::Kill))
    }

    /// The gateway is killed during an `agents.delete`, and exits at each start until
    /// [`Simulator::repair_half_deleted`](crate::Simulator::repair_half_deleted).
    #[must_use]
    pub fn kill_for_good(self) -> Self {
        self.with_action(FaultAction::Before(Disruption::KillUnbootable))
    }

    /// The gateway restarts gracefully and refuses the call; the connection closes with 1012.
    #[must_use]
    pub fn restart_before(self) -> Self {
        self.with_action(FaultAction::Before(Disruption::Restart))
    }

    /// The call is executed, and the gateway restarts gracefully instead of the reply.
    #[must_use]
    pub fn restart_after(self) -> Self {
        self.with_action(FaultAction::After(Disruption::Restart))
    }

    /// The call is not executed. The connection stays open and carries nothing.
    #[must_use]
    pub fn silence_before(self) -> Self {
        self.with_action(FaultAction::Before(Disruption::Silence))
    }

    /// The call is executed. The connection stays open and carries nothing.
    #[must_use]
    pub fn silence_after(self) -> Self {
        self.with_action(FaultAction::After(Disruption::Silence))
    }

    /// The call is executed, and its reply is sent twice.
    #[must_use]
    pub fn repeat_reply(self) -> Self {
        self.with_action(FaultAction::RepeatReply)
    }

    /// The call is executed, and its reply is held back, so that replies of later calls overtake it.
    #[must_use]
    pub fn hold_reply(self, time: Duration) -> Self {
        self.with_action(FaultAction::HoldReply(time))
    }

    /// From this call on, the gateway accepts config writes for `time` and does not apply them.
    #[must_use]
    pub fn unsettle(self, time: Duration) -> Self {
        self.with_action(FaultAction::Unsettle(time))
    }

    /// Matches all calls for `time` after the first match.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = time;
        self
    }

    /// Adds a retry delay to a refusal.
    #[must_use]
    pub fn retry_after(mut self, time: Duration) -> Self {
        if let FaultAction::Refuse(error) = self.action {
            self.action = FaultAction::Refuse(error.after(time));
        }
        self
    }

    /// Adds details to a refusal.
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

    /// The call is not executed. The reply has this payload.
    #[must_use]
    pub fn answer(self, payload: Value) -> Self {
        self.with_action(FaultAction::Answer(payload))
    }

    /// The call is executed after `delay`.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        self.with_action(FaultAction::Delay(delay))
    }

    /// The call is neither executed nor answered. The connection stays open.
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

    /// Counts a call, and takes the fault that matches it: of several faults, the first injected.
    pub(crate) fn take_match(&mut self, method: &str, params: &Value, writes: bool) -> Option<FaultAction> {
        let now = Instant::now();
        self.pending.retain(|fault| fault.until.is_none_or(|until| until > now));
        let mut matched = None;
        for (index, fault) in self.pending.iter_mut().enumerate() {
            if !fault.matches(method, params, writes) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if matched.is_none() {
                matched = Some(index);
            }
        }
        let index = matched?;
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
    fn a_fault_happens_once_at_its_nth_call() {
        let mut faults = Faults::default();
        faults.inject(Fault::on("agents.create").nth(2).hang());
        let matches: Vec<bool> =
            (0..4).map(|_| faults.take_match("agents.create", &json!({}), true).is_some()).collect();
        assert_eq!(matches, [false, true, false, false]);
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
    fn a_fault_can_require_a_parameter() {
        let mut faults = Faults::default();
        faults.inject(Fault::on("agents.files.set").with("name", "AGENTS.md"));
        assert!(faults.take_match("agents.files.set", &json!({"name": "SOUL.md"}), true).is_none());
        assert!(faults.take_match("agents.files.set", &json!({"name": "AGENTS.md"}), true).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lasting_fault_matches_from_its_first_call_until_its_time_is_over() {
        let mut faults = Faults::default();
        faults.inject(Fault::on("config.patch").nth(2).hang().lasting(Duration::from_secs(10)));
        let mut matches = Vec::new();
        for _ in 0..4 {
            matches.push(faults.take_match("config.patch", &json!({}), true).is_some());
            tokio::time::advance(Duration::from_secs(6)).await;
        }
        assert_eq!(matches, [false, true, true, false]);
        assert_eq!(faults.left(), 0);
    }
}
