//! The bounds of everything that a gateway sends.

use std::fmt;
use std::time::Duration;

use super::bucket::Rate;

/// The progress of a connection, which decides how long a message may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The gateway has not sent its challenge.
    Challenge,
    /// The client has sent `connect`. The answer has 57 KB at 101 agents (2026.9.6, `docs/gateway-facts.md#handshake`).
    Connect,
    /// The gateway has accepted the client.
    Open,
}

impl Stage {
    /// The longest accepted message, in bytes.
    pub(crate) fn longest(self) -> usize {
        match self {
            Self::Challenge => PRE_AUTH_MESSAGE,
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

/// The longest message before the gateway has accepted the client, in bytes. The answer to `connect` has its own bound.
pub(crate) const PRE_AUTH_MESSAGE: usize = 64 * 1024;
/// The longest answer to `connect`, in bytes.
const CONNECT_ANSWER: usize = 4 * 1024 * 1024;
/// The longest message, in bytes.
pub(crate) const MESSAGE: usize = 16 * 1024 * 1024;
/// The longest payload of a ping, pong or close frame, in bytes, by RFC 6455.
pub(crate) const CONTROL_FRAME: u64 = 125;
/// The size of a socket's read buffer, in bytes.
pub(crate) const READ_BUFFER: usize = 16 * 1024;
/// The longest time from the first byte of a message to its last, the wait for the budget included.
pub(crate) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// The silence within a message after which the message counts as stopped by a failure, and not as endless.
pub(crate) const STALL: Duration = Duration::from_secs(5);
/// The longest message that takes nothing from [`MESSAGE_BUDGET`], in bytes, so that long messages of one gateway do not delay
/// the ticks of another.
///
/// Short messages are bounded all the same: a connection reads one message at a time and holds one unread answer per request.
/// The users of the cluster decide the number of connections, the gateways do not.
pub(crate) const UNCHARGED_MESSAGE: u64 = 64 * 1024;
/// The bytes of all messages of all connections that are longer than [`UNCHARGED_MESSAGE`] and that are being received or wait
/// for their reader.
pub(crate) const MESSAGE_BUDGET: usize = 64 * 1024 * 1024;
/// Most frames of one message. OpenClaw sends a message in one frame; a proxy may split it.
pub(crate) const FRAGMENTS: u32 = 16_384;
/// The rate of a message, in bytes a second, below which it gives its memory to the message of another gateway that waits for it.
pub(crate) const CONTENDED_RATE: u64 = 2 * 1024 * 1024;
/// The time that each message has before [`CONTENDED_RATE`] applies.
pub(crate) const CONTENDED_GRACE: Duration = Duration::from_secs(2);
/// Most messages before the gateway has accepted the client. OpenClaw sends one.
pub(crate) const PRE_AUTH_MESSAGES: u32 = 64;
/// The messages that no request asked for: events, late answers, pings.
pub(crate) const UNREQUESTED_MESSAGES: Rate = Rate { burst: 60_000, per_minute: 120_000 };
/// The bytes of these messages.
pub(crate) const UNREQUESTED_BYTES: Rate = Rate { burst: 256 * 1024 * 1024, per_minute: 480 * 1024 * 1024 };
/// The reads of roster and config that events cause. Further ones are put together.
pub(crate) const EVENT_READS: Rate = Rate { burst: 30, per_minute: 12 };
/// The estimated memory of the events of one connection that wait for the informer, in bytes.
pub(crate) const EVENT_QUEUE: usize = 2 * 1024 * 1024;

/// The longest text of a gateway that is shown, in characters.
pub(crate) const TEXT: usize = 512;
/// The longest error code, or other short word, of a gateway that is shown, in characters.
pub(crate) const CODE: usize = 64;
/// The longest wait that a gateway may ask for. OpenClaw asks for 5 minutes at most.
pub(crate) const RETRY_AFTER: Duration = Duration::from_hours(24);
/// The longest interval between two ticks that a gateway may announce.
pub(crate) const TICK_INTERVAL: Duration = Duration::from_mins(10);
/// The longest JSON text of an id, a path, a hash or another name, in bytes.
pub(crate) const WORD: usize = 16 * 1024;
/// Most fallback models of a model.
pub(crate) const FALLBACKS: usize = 64;
/// The longest hash, in bytes. A SHA-256 has 64.
pub(crate) const HASH: usize = 256;
/// The longest token that a gateway issues, in bytes.
pub(crate) const ISSUED_TOKEN: usize = 4096;
/// Most agents of one gateway.
pub(crate) const AGENTS: usize = 10_000;
/// Most jobs in a page of the scheduler. Muster asks for 200.
pub(crate) const JOBS: usize = 1_000;
/// Most methods in a hello. OpenClaw 2026.9.6 offers 466 (`docs/gateway-facts.md#versions`).
pub(crate) const METHODS: usize = 4_096;
/// Most scopes in a hello.
pub(crate) const SCOPES: usize = 64;
/// Most workspace files in a list. OpenClaw lists the names that it knows, about ten.
pub(crate) const FILES: usize = 128;
/// The longest name of a listed workspace file that is kept, in bytes.
pub(crate) const FILE_NAME: usize = 128;
/// The longest listed file that the probe of the accepted files reads, in bytes. As JSON it can have six times that length.
pub(crate) const PROBED_FILE: i64 = 1024 * 1024;
/// Most paths in the answer to a deletion. A real gateway names at most seven.
pub(crate) const LEFTOVERS: usize = 1_000;
/// Most sessions in a list. Muster asks for no more.
pub(crate) const SESSIONS: usize = 1_000;
/// Most messages in the history of a session.
pub(crate) const MESSAGES: usize = 5_000;
/// Most parts of a message.
pub(crate) const PARTS: usize = 1_000;
/// Most active runs of one agent.
pub(crate) const ACTIVE_RUNS: usize = 64;
/// The longest session label, in bytes.
pub(crate) const LABEL: usize = 4096;
/// The estimated memory of the runs of one gateway's agents, in bytes.
pub(crate) const ACTIVITY: usize = 32 * 1024 * 1024;
/// The estimated memory of the config entries of all agents, if all were trees at one time, in bytes. The estimate is high: an entry with ten
/// objects counts for about 10 KiB. They are kept as text. A thread makes trees of two entries at one time at most, for a moment.
pub(crate) const ENTRY_TREES: usize = 32 * 1024 * 1024;
/// The estimated memory that the roster, the entries and the runs of one gateway may take, in bytes.
pub(crate) const KEPT_OF_ONE: usize = 48 * 1024 * 1024;
/// The same of all gateways together. The gateway that takes the most gives way.
pub(crate) const KEPT_OF_ALL: usize = 160 * 1024 * 1024;
/// How often an identical write is sent before the write guard slows it down.
pub(crate) const IDENTICAL_WRITE_BURST: u32 = 5;

/// The beginning of the error of a reader that met a bound.
const EXCEEDED: &str = "a bound of Muster was met: ";

/// The error of a reader that met a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded(pub(crate) String);

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{EXCEEDED}{}", self.0)
    }
}

impl Exceeded {
    /// The bound in the error of a reader, if the reader met one. A JSON text that is nested too deeply counts as well.
    pub(crate) fn of(error: &serde_json::Error) -> Option<Self> {
        let text = error.to_string();
        let bound = text.strip_prefix(EXCEEDED).or_else(|| text.starts_with("recursion limit").then_some(&*text))?;
        Some(Self(bound.to_owned()))
    }
}
