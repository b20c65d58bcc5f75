//! The Steps of a plan.

use super::binding::{AgentIdentity, Binding};
use super::desired::RenderedText;
use super::token::rules::TokenChange;
use super::wake::WakeMessage;
use crate::openclaw::model::AgentEntry;

/// One side effect. Each Step is idempotent and carries its data, except the token: the Step creates the token, so that no plan holds a
/// secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Release an earlier binding: remove that agent from its gateway, then remove the binding.
    Release(Binding),
    /// Claim the agent: add the finalizer and the annotation with the agent's id to the Agent.
    Claim {
        /// The gateway's id of the agent.
        agent_id: String,
    },
    /// Change the token Secret.
    Token(TokenChange),
    /// Create the agent with its own call, because its id was in use before. A config write does not open a deleted id again
    /// (`docs/gateway-facts.md#ids-that-were-deleted`).
    Create(AgentIdentity),
    /// Submit the entry for the gateway's next config write.
    SubmitEntry(Box<AgentEntry>),
    /// Write workspace files.
    WriteFiles(Vec<FileWrite>),
    /// Set the label of its session. The next Steps run after any outcome.
    LabelSession {
        /// The label.
        label: String,
    },
    /// Reset the session, unless the gateway already has a session of another version.
    ResetSession {
        /// The version of the session that the reset ends.
        version: String,
    },
    /// Send the wake message.
    Wake(WakeMessage),
}

/// One file write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileWrite {
    /// Its name.
    pub name: String,
    /// Its content.
    pub content: RenderedText,
    /// SHA-256 of the content that is to be replaced, if the content was read.
    pub expected: Option<String>,
    /// Whether a present file belongs to the agent. The Step then reads the file before the write, unless the files were just listed.
    pub only_if_missing: bool,
}

impl Step {
    /// The name for logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Release(_) => "release",
            Self::Claim { .. } => "claim",
            Self::Token(TokenChange::Issue) => "issue_token",
            Self::Token(TokenChange::Rotate) => "rotate_token",
            Self::Token(TokenChange::Repair) => "repair_token",
            Self::Token(TokenChange::Retire) => "retire_token",
            Self::Create(_) => "create",
            Self::SubmitEntry(_) => "submit_entry",
            Self::WriteFiles(_) => "write_files",
            Self::LabelSession { .. } => "label_session",
            Self::ResetSession { .. } => "reset_session",
            Self::Wake(_) => "wake",
        }
    }
}
