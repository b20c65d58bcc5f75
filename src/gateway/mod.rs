//! The client of one OpenClaw gateway.
//!
//! This layer knows the gateway's WebSocket RPC and nothing else: not Kubernetes, not the Agent resource. A [`Gateway`]
//! is a handle to three tasks: the one that owns the connection, the informer that keeps the [`Inventory`], and the one
//! writer of the gateway's config. Facts about gateways come from measurements of the versions 2026.3.2 to 2026.9.6.
//!
//! - `frame`, `session`: what is said, without I/O; - `transport`, `connection`: the socket and the task that owns it;
//! - `methods`: typed requests; - `inventory`, `informer`, `entry`, `gathering`, `writer`: the roster and the config, read and written;
//!   `runs`: who is at work; - `shared_heartbeats`, `shared_blocks`: the heartbeats of agents that Muster did not make.

mod connection;
mod entry;
mod error;
mod frame;
mod gathering;
mod handle;
mod hello;
mod identity;
mod informer;
mod inventory;
mod login;
mod methods;
mod runs;
mod session;
mod shared_blocks;
mod shared_heartbeats;
mod transport;
mod trust;
mod turn;
mod writer;

pub use entry::{ActiveHours, AgentEntry, EntryIdentity, EntryState, HeartbeatEntry, same_path};
pub use error::{CallError, Outcome};
pub use gathering::Arrival;
pub use handle::{Change, Gateway, Link, Meter};
pub use hello::{Auth, Hello, PairingRequest, Refusal, RefusalKind, Settings};
pub use identity::Identity;
pub use informer::WORKSPACE_FILES;
pub use inventory::{AgentRow, Capabilities, Inventory, RosterShape, Unread};
pub use login::Credential;
pub use methods::{ChatMessage, Deleted, FileContent, FileInfo, SessionInfo};
pub use runs::{Activity, Labelled, Run, Runs};
pub use session::{Output, Session};
pub use shared_heartbeats::{HeartbeatClaims, HeartbeatPlan, HeartbeatRule, MOST_KEPT};
pub use transport::{ByteStream, Dial, Network};
pub use trust::{Fingerprint, Trust};
pub use writer::{Refused, Writes};
