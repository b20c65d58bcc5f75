//! The client of one OpenClaw gateway.
//!
//! This layer knows the gateway's WebSocket RPC and nothing else: not Kubernetes, not the Agent resource. A [`Gateway`]
//! is a handle to three tasks: the one that owns the connection, the informer that keeps the [`Inventory`], and the one
//! writer of the gateway's config. Facts about gateways come from measurements of the versions 2026.3.2 to 2026.9.6.
//!
//! - `channel`: what its tasks say to one another; `settings`: what a connection needs;
//! - `frame`, `session`: what is said, without I/O; - `transport`, `metered`, `socket`, `connection`: the socket and the task that
//!   owns it; - `limits`: the bounds of what is read; `payload`, `readers`, `text`: answers and words of the gateway, as they are read;
//! - `methods`, `deletion`, `file`, `session_info`: typed requests; - `inventory`, `informer`, `roster`, `agents_config`, `entry`, `env_refs`,
//!   `rewritten`, `entry_queue`, `gathering`, `config_patch`, `writer`: the roster and the config, read and written; `write_guard`: a limit for writes
//!   that are repeated without end; `backoff`: the waits between attempts; `run_event`, `runs`: who is at work;
//!   `shared_heartbeats`, `shared_blocks`: the heartbeats of agents that Muster did not make.

mod agents_config;
mod backoff;
mod channel;
mod config_patch;
mod connection;
mod deletion;
mod entry;
mod entry_queue;
mod env_refs;
mod error;
mod file;
mod frame;
mod gathering;
mod handle;
mod hello;
mod identity;
mod informer;
mod inventory;
mod limits;
mod login;
mod message;
mod metered;
mod methods;
mod news;
mod pairing;
mod payload;
mod readers;
mod rewritten;
mod roster;
mod run_event;
mod runs;
mod session;
mod session_info;
mod settings;
mod shared_blocks;
mod shared_heartbeats;
mod socket;
mod text;
mod transport;
mod trust;
mod turn;
mod write_guard;
mod writer;

pub use agents_config::RosterShape;
pub use channel::{Change, Link, Meter};
pub use deletion::{Deleted, Leftover, Leftovers};
pub use entry::{ActiveHours, AgentEntry, EntryIdentity, EntryState, HeartbeatEntry, same_path};
pub use entry_queue::Refused;
pub use env_refs::literal;
pub use error::{CallError, Outcome};
pub use file::{FileContent, FileInfo, UnlistedFile};
pub use gathering::Arrival;
pub use handle::Gateway;
pub use hello::{Hello, Refusal, RefusalKind};
pub use identity::Identity;
pub use informer::WORKSPACE_FILES;
pub use inventory::{AgentRow, Capabilities, Inventory, Unread};
pub use methods::ChatMessage;
pub use pairing::{PairingRequest, PairingRequestId};
pub use rewritten::Rewritten;
pub use run_event::Labelled;
pub use runs::{Activity, GatewayClock, Run, Runs};
pub use session::{Output, Session};
pub use session_info::SessionInfo;
pub use settings::{Auth, Credential, Settings};
pub use shared_heartbeats::{HeartbeatClaims, HeartbeatPlan, HeartbeatRule, MOST_KEPT};
pub use text::{clean, has_format_characters};
pub use transport::{ByteStream, Dial, Network};
pub use trust::{Fingerprint, Trust};
pub use writer::Writes;
