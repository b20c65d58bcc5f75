//! What the commands share: the API server, the streams, the failures.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;

use super::requests::RequestError;
use super::table::plain;
use crate::api::names::is_namespace;
use crate::openclaw::Dial;

/// How a command reaches the API server.
#[derive(Debug, clap::Args)]
pub(super) struct ConnectionOptions {
    /// Kubeconfig file. Default: $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig. Default: its current context.
    #[arg(long, value_name = "NAME")]
    pub(super) context: Option<String>,
    /// Namespace of the objects. Default: the namespace of the kubeconfig's context.
    #[arg(long, short, value_name = "NAMESPACE", value_parser = namespace)]
    pub(super) namespace: Option<String>,
}

pub(super) fn namespace(text: &str) -> Result<String, &'static str> {
    if is_namespace(text) { Ok(text.to_owned()) } else { Err("give the name of a namespace") }
}

/// The API server of a command.
#[derive(Clone)]
pub struct Cluster {
    /// The client, with the rights of the user.
    pub client: Client,
    /// The namespace of objects that name none.
    pub namespace: String,
    /// Tells the time, for ages.
    pub now: fn() -> Timestamp,
    /// Opens connections to gateways.
    pub dial: Arc<dyn Dial>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Where a command reads and writes.
pub struct Streams<'a> {
    /// Standard output: what the command was asked for.
    pub out: &'a mut dyn Write,
    /// Standard error: progress and failures.
    pub err: &'a mut dyn Write,
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Whether a person reads standard error.
    pub is_terminal: bool,
}

impl fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("is_terminal", &self.is_terminal).finish_non_exhaustive()
    }
}

impl Streams<'_> {
    pub(super) fn print(&mut self, text: &str) -> Result<(), CommandError> {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).map_err(CommandError::Output)
    }

    /// Writes a line to standard error. If nobody takes it, the command goes on.
    pub(super) fn note(&mut self, line: &str) {
        let _ = writeln!(self.err, "{}", plain(line));
    }
}

/// Why a command ended early.
#[derive(Debug)]
pub enum CommandError {
    /// The command line is wrong.
    Usage(String),
    /// The command failed.
    Failed(String),
    /// The output could not be written.
    Output(io::Error),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => f.write_str(text),
            Self::Output(error) => write!(f, "failed to write the output: {error}"),
        }
    }
}

impl std::error::Error for CommandError {}

impl From<RequestError> for CommandError {
    fn from(error: RequestError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The end of a command some of whose objects failed. Each failure was reported.
pub(super) fn conclude(failed: usize, what: &str) -> Result<(), CommandError> {
    match failed {
        0 => Ok(()),
        1 => Err(CommandError::Failed(format!("1 {what} failed"))),
        count => Err(CommandError::Failed(format!("{count} {what}s failed"))),
    }
}
