//! What an agent does, as its status shows it: its runs, its session, its reports and its wakes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lenient;

/// A run of an agent on its gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// When the run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When the run ended. Not set while the run is in progress.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
}

/// The state of an agent's session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// The generation of the spec for which Muster last created or reset the session.
    pub generation: i64,
    /// The version of the session that a reset in progress ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resetting: Option<String>,
}

/// The label of an agent's session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionLabelStatus {
    /// The agent's display name that the label was made from.
    #[schemars(length(max = 512))]
    pub name: String,
    /// The label that Muster sent: the name, or the name with the beginning of the agent's id if the gateway refuses the name.
    #[schemars(length(max = 512))]
    pub sent: String,
    /// The label that the gateway stored. Not set when the gateway refused the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub stored: Option<String>,
    /// The gateway's message when it last refused a label for this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub refusal: Option<String>,
    /// When Muster sent the label.
    pub sent_at: Time,
}

/// The last report of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatStatus {
    /// When the agent last called Muster's API.
    pub last_seen: Time,
    /// The status that the agent reported. `Active`: it works on a task. `Idle`: it waits for work.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "lenient::option")]
    pub status: Option<CheckIn>,
    /// The id of the task that the agent reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_task: Option<String>,
}

/// The status that an agent reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = super::schema::words)]
pub enum CheckIn {
    /// The agent works on a task.
    Active,
    /// The agent waits for work.
    Idle,
}

/// Wake messages for one generation of an agent's spec.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeStatus {
    /// The generation of the spec.
    pub generation: i64,
    /// The number of wake messages that Muster sent.
    pub attempts: i32,
    /// When Muster sent the last wake message, also when Muster sent it again because the gateway may have lost it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sent_at: Option<Time>,
    /// The time by which the agent must check in: `spec.wake.deadline` after Muster first sent the last wake message, or after
    /// the end of its run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// The idempotency key of the last wake message. The message contains the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// When Muster saw the end of the run of the last wake message. Before that time, a restart of the gateway may lose the
    /// message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<Time>,
    /// The start of the 24 hours in which Muster counts its wake messages. A change of the spec begins a new count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day_began_at: Option<Time>,
    /// The number of wake messages since `dayBeganAt`. After 24 of them, Muster sends the next one when the 24 hours are over.
    #[serde(default)]
    pub sent_in_day: i32,
}
