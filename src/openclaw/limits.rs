//! The bounds of what is taken from gateways.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Semaphore;

/// How far the conversation with a gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The gateway has not sent its challenge.
    Challenge,
    /// `connect` was sent. Its answer has 57 KB at 101 agents (2026.9.6, measured).
    Connect,
    /// The gateway has let this client in.
    Open,
}

impl Stage {
    /// The longest message that is read, in bytes.
    pub(crate) fn longest(self) -> usize {
        match self {
            Self::Challenge => EARLY_MESSAGE,
            Self::Connect => CONNECT_ANSWER,
            Self::Open => MESSAGE,
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Challenge => "before the login",
            Self::Connect => "in answer to the login",
            Self::Open => "at any time",
        })
    }
}

/// The longest message before the gateway has let this client in, in bytes, the answer to `connect` excepted.
pub(crate) const EARLY_MESSAGE: usize = 64 * 1024;
/// The longest answer to `connect`, in bytes.
const CONNECT_ANSWER: usize = 4 * 1024 * 1024;
/// The longest message, in bytes.
pub(crate) const MESSAGE: usize = 16 * 1024 * 1024;
/// The longest payload of a ping, a pong or a close frame, in bytes, by RFC 6455.
pub(crate) const CONTROL_FRAME: u64 = 125;
/// How much is read from a socket at one time, in bytes.
pub(crate) const READ_AHEAD: usize = 16 * 1024;
/// The longest time that a message may take from its first byte to its last, the wait for memory included.
pub(crate) const MESSAGE_TIME: Duration = Duration::from_secs(30);
/// The longest message that takes nothing from [`BUDGET`], in bytes: long messages of one gateway do not hold up the ticks of
/// another. What short ones take is bounded all the same: a connection has one message under way, and one unread answer for each
/// request of Muster's; how many connections there are is decided by the users of the cluster, not by the gateways.
pub(crate) const SHORT: u64 = 64 * 1024;
/// The bytes of all messages of all connections that are longer than [`SHORT`] and are under way, or that their readers have not
/// read.
pub(crate) const BUDGET: usize = 64 * 1024 * 1024;
/// The memory that the events of one connection take which the informer has not taken up, by estimate, in bytes.
pub(crate) const EVENTS: usize = 2 * 1024 * 1024;

/// What is left of [`BUDGET`]: the one of this process.
pub(crate) fn budget() -> Arc<Semaphore> {
    static LEFT: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(BUDGET)));
    Arc::clone(&LEFT)
}

/// The most characters of a gateway's text that are shown.
pub(crate) const TEXT: usize = 512;
/// The most characters of a gateway's code for an error, or of another short word, that are shown.
pub(crate) const CODE: usize = 64;
/// The longest time for which a gateway may ask to be left alone.
pub(crate) const WAIT: Duration = Duration::from_hours(24);
/// The longest time that a gateway may leave between two ticks.
pub(crate) const TICK: Duration = Duration::from_mins(10);
/// Most agents of one gateway.
pub(crate) const AGENTS: usize = 10_000;
/// Most methods that a gateway says that it offers. OpenClaw 2026.9.6 offers 466 (measured).
pub(crate) const METHODS: usize = 4_096;
/// Most scopes that a gateway grants.
pub(crate) const SCOPES: usize = 64;
/// Most workspace files in a list.
pub(crate) const FILES: usize = 1_000;
/// Most paths that a deletion left. A real gateway names seven at most.
pub(crate) const LEFTOVERS: usize = 1_000;
/// Most sessions in a list. 100 are asked for.
pub(crate) const SESSIONS: usize = 1_000;
/// Most messages of a session's history.
pub(crate) const MESSAGES: usize = 5_000;
/// Most parts of a message.
pub(crate) const PARTS: usize = 1_000;
/// Most runs of an agent that go on at one time.
pub(crate) const RUNS: usize = 64;
/// The longest label of a session that an event tells, in bytes.
pub(crate) const LABEL: usize = 4096;
/// The most memory that the entries of a gateway's agents take as trees, by a generous estimate, in bytes. An entry with ten
/// objects in it counts for about 10 KiB.
pub(crate) const ENTRIES_COST: usize = 32 * 1024 * 1024;
/// How often the same write is made without a pause.
pub(crate) const FREE: u32 = 5;
