//! What templates are told, as typed values.

use std::collections::BTreeMap;

/// What is known of the agent itself.
#[derive(Clone, Debug, Default)]
pub struct AgentFacts {
    /// The agent's id, as the HTTP API takes it in its paths.
    pub id: String,
    /// The name that people see.
    pub name: String,
    /// The key of its main session.
    pub session_key: String,
    /// Its workspace on the gateway's disk.
    pub workspace_path: String,
    /// How often it is woken, for people: `5m`.
    pub heartbeat_interval: String,
    /// Where its token is mounted when it is not in its files.
    pub token_file: String,
}

/// What is known of the gateway.
#[derive(Clone, Debug, Default)]
pub struct GatewayFacts {
    /// The base URL of the HTTP API, as agents are to use it; a trailing `/` is dropped.
    pub base_url: String,
    /// The folder that holds the workspaces.
    pub workspace_root: String,
    /// The session of the gateway's main agent.
    pub main_session_key: String,
}

/// What is known of the agent's board.
#[derive(Clone, Debug, Default)]
pub struct BoardFacts {
    /// The board's id.
    pub id: String,
    /// The name that people see.
    pub name: String,
    /// The kind of board, such as `goal`.
    pub board_type: String,
    /// What it is about.
    pub description: String,
    /// What it is to reach.
    pub objective: String,
    /// How one sees that it is reached.
    pub success_metrics: String,
    /// By when.
    pub target_date: String,
    /// Whether a person confirmed the goal.
    pub goal_confirmed: bool,
    /// The rules.
    pub rules: BoardRules,
}

/// The rules of a board.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "five independent switches of the Board resource")]
pub struct BoardRules {
    /// Done needs the lead's approval.
    pub require_approval_for_done: bool,
    /// Done needs a review.
    pub require_review_before_done: bool,
    /// A review needs a comment.
    pub comment_required_for_review: bool,
    /// An open approval holds the state of its task.
    pub block_status_changes_with_pending_approval: bool,
    /// Only the lead changes states.
    pub only_lead_can_change_status: bool,
}

/// The person that the agent works for.
#[derive(Clone, Debug, Default)]
pub struct UserFacts {
    /// The full name.
    pub name: String,
    /// What the person likes to be called.
    pub preferred_name: String,
    /// Pronouns.
    pub pronouns: String,
    /// The time zone.
    pub timezone: String,
    /// Notes about the person.
    pub notes: String,
    /// What the person is busy with.
    pub context: String,
}

/// The identity profile of the agent. Lists are joined with `, `.
#[derive(Clone, Debug, Default)]
pub struct IdentityFacts {
    /// What it is by trade.
    pub role: String,
    /// What it is good at.
    pub expertise: Vec<String>,
    /// How it sounds.
    pub tone: String,
    /// How it communicates.
    pub communication_style: String,
    /// What binds it.
    pub constraints: Vec<String>,
    /// When it works.
    pub working_hours: String,
    /// Its sign.
    pub emoji: String,
    /// How far it goes without asking.
    pub autonomy_level: String,
    /// How much it says.
    pub verbosity: String,
    /// The form of its results.
    pub output_format: String,
    /// How often it reports.
    pub update_cadence: String,
    /// What it is for.
    pub purpose: String,
    /// What it is like.
    pub personality: String,
    /// Further instructions.
    pub custom_instructions: String,
    /// Further keys; each becomes `identity_<key>` in lower case with `_`, and none replaces a key above.
    pub extra: BTreeMap<String, String>,
}

/// A soul from the directory, for the agent's role.
#[derive(Clone, Debug, Default)]
pub struct SoulText {
    /// Its text.
    pub markdown: String,
    /// The page that it came from.
    pub source_url: String,
}
