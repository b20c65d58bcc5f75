//! A condition in the status of an object: its words, and the object of Kubernetes.

use std::fmt;
use std::ops::Deref;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::reason::Reason;
use super::shared_text::SharedText;
use super::words::words;

words! {
    /// The types of conditions on Muster's resources.
    ConditionType {
        /// The object is as its spec specifies.
        Ready,
        /// kstatus: Muster works on the object, or retries. Present only while true.
        Reconciling,
        /// kstatus: Muster waits for a change by a person. Present only while true.
        Stalled,
        /// Agent: the gateway's roster shows the agent as specified.
        Registered,
        /// Agent: the workspace files have the rendered content.
        FilesSynced,
        /// Agent: the token is in its Secret.
        TokenIssued,
        /// Agent: the gateway's heartbeat is configured as specified.
        HeartbeatConfigured,
        /// Agent: the session has the agent's name as its label.
        SessionReady,
        /// Agent: the agent called Muster's API, within two heartbeat intervals if it has a heartbeat.
        CheckedIn,
        /// Agent: the Agent or its Board is suspended.
        Paused,
        /// AgentGateway: Muster is connected to the gateway.
        Reachable,
        /// AgentGateway: the gateway accepted the credential and granted the scopes.
        Authenticated,
        /// AgentGateway: the device is approved, or needs no approval.
        Paired,
        /// AgentGateway: Muster supports the gateway's protocol and roster.
        Compatible,
        /// AgentGateway: the gateway has applied its own last config.
        Settled,
        /// AgentGateway: no config write waits or was refused.
        ConfigSynced,
        /// AgentGateway: agents that Muster did not create keep their heartbeats.
        HeartbeatsShared,
        /// AgentGateway: the connection to the gateway and the calls of its agents are encrypted, or stay on one host.
        TransportSecure,
        /// AgentGateway: the AgentGateway is suspended.
        Suspended,
        /// Board: the board has a lead, and the lead is ready.
        LeadReady,
        /// Board: the board does not exceed its maximum number of agents.
        WithinQuota,
        /// Board: the AgentGateway is ready.
        GatewayReady,
    }
}

/// A condition's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// The condition's state is unknown.
    Unknown,
}

impl ConditionStatus {
    /// The status of a `metav1.Condition`. An unknown word counts as `Unknown`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }

    /// The status in a `metav1.Condition`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A `metav1.Condition`
/// (<https://github.com/kubernetes/apimachinery/blob/master/pkg/apis/meta/v1/types.go>). It takes half the memory of the type in
/// `k8s-openapi`: the cache has thousands of objects with eight conditions each.
///
/// A missing word or text counts as empty, as in `k8s-openapi`, so that the object stays readable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The condition's type.
    #[serde(rename = "type", default, deserialize_with = "or_empty")]
    pub type_: Word<ConditionType>,
    /// The condition's status.
    #[serde(default, deserialize_with = "or_empty")]
    pub status: Word<ConditionStatus>,
    /// The condition's reason.
    #[serde(default, deserialize_with = "or_empty")]
    pub reason: Word<Reason>,
    /// A sentence for people.
    #[serde(default, deserialize_with = "or_empty")]
    pub message: SharedText,
    /// The generation of the spec that the condition describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status last changed.
    pub last_transition_time: Time,
}

/// A value, or an empty one for null.
fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// The words that this version knows.
pub trait KnownWord: Copy + 'static {
    /// The value of a word; `None` for a word that this version does not know.
    fn known(word: &str) -> Option<Self>;
    /// The word.
    fn word(self) -> &'static str;
}

impl KnownWord for ConditionType {
    fn known(word: &str) -> Option<Self> {
        Self::parse(word)
    }

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl KnownWord for Reason {
    fn known(word: &str) -> Option<Self> {
        Self::parse(word)
    }

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl KnownWord for ConditionStatus {
    fn known(word: &str) -> Option<Self> {
        let parsed = Self::parse(word);
        (parsed.as_str() == word).then_some(parsed)
    }

    fn word(self) -> &'static str {
        self.as_str()
    }
}

/// A word of a condition. A word of another version stays as it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Word<T> {
    /// A word that this version knows.
    Known(T),
    /// Any other word.
    Other(Box<str>),
}

impl<T: KnownWord> Word<T> {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(known) => known.word(),
            Self::Other(word) => word,
        }
    }
}

impl<T> Default for Word<T> {
    fn default() -> Self {
        Self::Other(Box::default())
    }
}

impl<T: KnownWord> From<T> for Word<T> {
    fn from(known: T) -> Self {
        Self::Known(known)
    }
}

impl<T: KnownWord> From<&str> for Word<T> {
    fn from(word: &str) -> Self {
        T::known(word).map_or_else(|| Self::Other(word.into()), Self::Known)
    }
}

impl<T: KnownWord> Deref for Word<T> {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl<T: KnownWord + PartialEq> PartialEq<T> for Word<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Self::Known(known) if known == other)
    }
}

impl<T: KnownWord> PartialEq<str> for Word<T> {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl<T: KnownWord> PartialEq<&str> for Word<T> {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl<T: KnownWord> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<T: KnownWord> fmt::Debug for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<T: KnownWord> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de, T: KnownWord> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_is_read_and_written_as_kubernetes_has_it_and_unknown_words_stay() {
        let known = json!({
            "type": "Ready", "status": "True", "reason": "Reconciled", "message": "m", "observedGeneration": 3,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let unknown = json!({
            "type": "OfALaterVersion", "status": "Maybe", "reason": "Because", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let missing = json!({ "lastTransitionTime": "2026-01-01T00:00:00Z" });
        let null = json!({
            "type": null, "status": null, "reason": null, "message": null, "observedGeneration": null,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        for written in [&known, &unknown, &missing, &null] {
            let read: Condition = serde_json::from_value(written.clone()).unwrap();
            let oracle: v1::Condition = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&oracle).unwrap());
        }
        let read: Condition = serde_json::from_value(unknown.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), unknown);
        let read: Condition = serde_json::from_value(known).unwrap();
        assert_eq!(read.type_, Word::Known(ConditionType::Ready));
        assert_eq!((read.status, read.reason), (ConditionStatus::True.into(), Reason::Reconciled.into()));
    }

    #[test]
    fn a_condition_takes_little_memory() {
        assert!(size_of::<Condition>() <= 96, "{}", size_of::<Condition>());
    }
}
