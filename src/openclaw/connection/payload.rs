//! The payload of an answer: text, until its reader has read it into a type of its own.

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::metered::Charge;
use crate::openclaw::model::CallError;

/// The payload of an answer. It counts in the budget of all connections until it is read or dropped.
#[derive(Debug)]
pub(crate) struct Payload {
    raw: Box<RawValue>,
    _charge: Option<Charge>,
}

impl Payload {
    pub(crate) fn new(raw: Box<RawValue>, charge: Option<Charge>) -> Self {
        Self { raw, _charge: charge }
    }

    /// Reads it as the answer of this method.
    pub(crate) fn read<T: DeserializeOwned>(self, method: &'static str) -> Result<T, CallError> {
        serde_json::from_str(self.raw.get()).map_err(|e| CallError::unreadable(method, &e))
    }

    /// Reads a part of it that may be there.
    pub(crate) fn peek<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.raw.get()).ok()
    }
}
