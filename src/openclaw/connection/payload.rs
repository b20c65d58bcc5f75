//! The payload of an answer, as raw JSON.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::answer_reporter::AnswerReporter;
use super::metered::Charge;
use crate::openclaw::model::CallError;

/// The payload of an answer. A long payload holds its share of the message budget until it is read or dropped.
#[derive(Debug)]
pub(crate) struct Payload {
    raw: Box<RawValue>,
    reporter: AnswerReporter,
    _charge: Option<Charge>,
}

impl Payload {
    pub(crate) fn new(raw: Box<RawValue>, reporter: AnswerReporter, charge: Option<Charge>) -> Self {
        Self { raw, reporter, _charge: charge }
    }

    /// Reads the payload as the answer of this method. An answer that meets a bound ends the connection.
    ///
    /// # Errors
    /// [`CallError::Unreadable`], or [`CallError::Interrupted`] after a bound was met.
    pub(crate) fn read<T: DeserializeOwned>(self, method: &'static str) -> Result<T, CallError> {
        serde_json::from_str(self.raw.get()).map_err(|error| self.reporter.unreadable(method, &error))
    }

    /// Reads an optional part of the payload and keeps the payload; `None` when the payload does not have the form of `T`.
    pub(crate) fn peek<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.raw.get()).ok()
    }
}
