//! The calls that a gateway received. Parameters are kept as text, which takes less memory than their values.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::records::{Call, Outcome};
use crate::methods;

/// One recorded call.
#[derive(Debug)]
struct RecordedCall {
    method: Arc<str>,
    /// The parameters as JSON, unless the profile drops them.
    params: Option<Box<str>>,
    outcome: Outcome,
    answered: bool,
}

/// Every call in the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct CallLog {
    calls: Vec<RecordedCall>,
    /// The number of calls of each method.
    counts: BTreeMap<Arc<str>, usize>,
    /// The number of calls of writing methods with an outcome.
    writes: usize,
}

impl CallLog {
    /// Records a call; returns its index.
    pub(crate) fn record(&mut self, method: &str, params: Option<&Value>) -> usize {
        let known = self.counts.get_key_value(method).map(|(known, _)| known.clone());
        let method = known.unwrap_or_else(|| method.into());
        *self.counts.entry(method.clone()).or_default() += 1;
        let params = params.map(|params| params.to_string().into_boxed_str());
        self.calls.push(RecordedCall { method, params, outcome: Outcome::NotExecuted, answered: false });
        self.calls.len() - 1
    }

    pub(crate) fn set_outcome(&mut self, call: usize, outcome: Outcome) {
        let Some(call) = self.calls.get_mut(call) else { return };
        if methods::writes(&call.method) {
            self.writes -= usize::from(call.outcome != Outcome::NotExecuted);
            self.writes += usize::from(outcome != Outcome::NotExecuted);
        }
        call.outcome = outcome;
    }

    pub(crate) fn set_answered(&mut self, call: usize) {
        if let Some(call) = self.calls.get_mut(call) {
            call.answered = true;
        }
    }

    pub(crate) fn outcome(&self, call: usize) -> Option<&Outcome> {
        self.calls.get(call).map(|call| &call.outcome)
    }

    /// Every call, with its parameters parsed.
    pub(crate) fn all(&self) -> Vec<Call> {
        let public = |call: &RecordedCall| Call {
            method: String::from(&*call.method),
            params: call.params.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            outcome: call.outcome.clone(),
            answered: call.answered,
        };
        self.calls.iter().map(public).collect()
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        self.counts.get(method).copied().unwrap_or_default()
    }

    pub(crate) fn writes(&self) -> usize {
        self.writes
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_is_counted_by_its_method_and_a_write_once_it_has_an_outcome() {
        let mut log = CallLog::default();
        let set = log.record("agents.files.set", Some(&json!({"name": "SOUL.md"})));
        let list = log.record("agents.list", None);
        assert_eq!((log.count("agents.files.set"), log.count("agents.list"), log.writes()), (1, 1, 0));
        for outcome in [Outcome::Executed, Outcome::Ok] {
            log.set_outcome(set, outcome);
        }
        log.set_outcome(list, Outcome::Ok);
        assert_eq!(log.writes(), 1);
        let calls = log.all();
        assert_eq!((&calls[0].params, &calls[0].outcome), (&json!({"name": "SOUL.md"}), &Outcome::Ok));
        assert_eq!((&calls[1].params, calls[1].answered), (&Value::Null, false));
    }
}
