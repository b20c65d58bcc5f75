//! The state and the answers of a gateway as values: roster, config entries, files, sessions, runs, errors.
//!
//! Pure: no I/O, no async, no clock. A time is an argument, or comes from the task that read the value.

pub(crate) mod activity;
pub(crate) mod agent_heartbeat;
pub(crate) mod agents_config;
pub(crate) mod config_file;
pub(crate) mod connection_state;
pub(crate) mod deletion;
pub(crate) mod entry;
pub(crate) mod env_refs;
pub(crate) mod error;
pub(crate) mod file;
pub(crate) mod heartbeat_jobs;
pub(crate) mod hello;
pub(crate) mod inventory;
pub(crate) mod message;
pub(crate) mod pairing;
mod prompt_limits;
pub(crate) mod readers;
pub(crate) mod rewritten;
pub(crate) mod roster;
pub(crate) mod run_event;
pub(crate) mod session_info;
pub(crate) mod shared_heartbeats;
pub(crate) mod stored_entry;
pub(crate) mod text;
pub(crate) mod writes;

pub use activity::{AgentActivity, GatewayActivity, GatewayClock, Run};
pub use agent_heartbeat::{ConfiguredHeartbeat, ConfiguredHours, HeartbeatDefaults};
pub use agents_config::RosterShape;
pub use config_file::{ConfigObstacle, ObstacleEffect};
pub use connection_state::{ConnectionState, DownCause};
pub use deletion::{Deleted, Disposal, Leftover, Leftovers, Removal};
pub use entry::{
    AgentEntry, EntryActiveHours, EntryFallbacks, EntryIdentity, EntryModel, EntryState, HeartbeatEntry,
    config_duration, same_path,
};
pub use env_refs::literal;
pub use error::{CallError, CallOutcome, is_size_drop};
pub use file::{FileContent, FileInfo, UnlistedFile, WORKSPACE_FILES};
pub use heartbeat_jobs::{HeartbeatHistory, HeartbeatJob, HeartbeatJobs, HeartbeatResult, JobOutcome, SkipReason};
pub use hello::{Credential, Hello, Refusal, RefusalKind};
pub use inventory::{AgentRow, Capabilities, Inventory, ReadFailure};
pub use message::ChatMessage;
pub use pairing::{PairingRequest, PairingRequestId};
pub use prompt_limits::{FileLimit, PromptLimits, prompt_position};
pub use rewritten::Rewritten;
pub use run_event::LabelEvent;
pub use session_info::SessionInfo;
pub use shared_heartbeats::{HeartbeatClaims, HeartbeatPlan, HeartbeatRule, MAX_KEPT_HEARTBEATS};
pub use stored_entry::StoredEntry;
pub use text::{clean, has_format_characters};
pub use writes::{ConfigWrites, WriteRefusal};
