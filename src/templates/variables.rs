//! The variables of templates.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::api::Board;
use crate::api::agent::Role;
use crate::api::profile::IdentityProfile;
use crate::api::shared::UserProfile;
use crate::api::text::one_line;

/// The values of the agent itself.
#[derive(Clone, Debug, Default)]
pub struct AgentVariables {
    /// The agent's id in the paths of the HTTP API.
    pub id: String,
    /// The display name.
    pub name: String,
    /// The key of the main session.
    pub session_key: String,
    /// The path of the workspace on the gateway's host.
    pub workspace_path: String,
    /// The heartbeat interval, such as `5m`.
    pub heartbeat_interval: String,
    /// The path of the mounted token, for an agent whose files do not contain the token.
    pub token_file: String,
}

/// A soul of the directory for the agent's role.
#[derive(Clone, Debug, Default)]
pub struct SoulText {
    /// The Markdown text.
    pub markdown: String,
    /// The URL of the soul's page.
    pub source_url: String,
}

/// The values that a template may use, all of them strings.
///
/// # Guarantees
/// Each variable of the built-in templates exists from the start; an unknown value is empty. A blank value counts as empty.
/// `Debug` does not show the token.
#[derive(Clone)]
pub struct Variables {
    plain: BTreeMap<String, String>,
    auth_token: SecretString,
}

/// The variable that holds the agent's token.
pub(crate) const AUTH_TOKEN: &str = "auth_token";

impl Variables {
    /// The variables of an agent of which only the role is known. The methods `with_*` set further values.
    pub fn new(role: Role) -> Self {
        let variables = Self { plain: BTreeMap::new(), auth_token: SecretString::default() };
        variables
            .with([
                ("is_board_lead", Some(flag(role == Role::Lead))),
                ("is_main_agent", Some(flag(role == Role::Main))),
                ("base_url", None),
                ("workspace_root", None),
                ("main_session_key", None),
            ])
            .with_agent(&AgentVariables::default())
            .with_board(&no_board())
            .with_user(&UserProfile::default())
            .with_identity(&IdentityProfile::default(), None)
            .with_role_soul(&SoulText::default())
    }

    /// Sets `agent_*`, `session_key`, `workspace_path`, `heartbeat_interval` and `auth_token_file`.
    #[must_use]
    pub fn with_agent(self, agent: &AgentVariables) -> Self {
        self.with([
            ("agent_id", Some(agent.id.as_str())),
            ("agent_name", Some(&agent.name)),
            ("session_key", Some(&agent.session_key)),
            ("workspace_path", Some(&agent.workspace_path)),
            ("heartbeat_interval", Some(&agent.heartbeat_interval)),
            ("auth_token_file", Some(&agent.token_file)),
        ])
    }

    /// Sets `base_url`, `workspace_root` and `main_session_key`. `main_session_key` is the session of the gateway's main agent.
    #[must_use]
    pub fn with_gateway(self, api_url: &str, workspace_root: &str, main_session_key: &str) -> Self {
        self.with([
            ("base_url", Some(api_url.trim().trim_end_matches('/'))),
            ("workspace_root", Some(workspace_root)),
            ("main_session_key", Some(main_session_key)),
        ])
    }

    /// Sets `board_*`. The board's name is its display name, or else the name of the object.
    #[must_use]
    pub fn with_board(self, board: &Board) -> Self {
        let (spec, rules) = (&board.spec, &board.spec.rules);
        let display_name = spec.display_name.as_deref().and_then(one_line);
        self.with([
            ("board_id", board.metadata.uid.as_deref()),
            ("board_name", display_name.as_deref().or(board.metadata.name.as_deref())),
            ("board_type", Some(&spec.board_type)),
            ("board_description", spec.description.as_deref()),
            ("board_objective", spec.objective.as_deref()),
            ("board_success_metrics", spec.success_metrics.as_deref()),
            ("board_target_date", spec.target_date.as_deref()),
            ("board_goal_confirmed", Some(flag(spec.goal_confirmed))),
            ("board_rule_require_approval_for_done", Some(flag(rules.require_approval_for_done))),
            ("board_rule_require_review_before_done", Some(flag(rules.require_review_before_done))),
            ("board_rule_comment_required_for_review", Some(flag(rules.comment_required_for_review))),
            (
                "board_rule_block_status_changes_with_pending_approval",
                Some(flag(rules.block_status_changes_with_pending_approval)),
            ),
            ("board_rule_only_lead_can_change_status", Some(flag(rules.only_lead_can_change_status))),
        ])
    }

    /// Sets `user_*`.
    #[must_use]
    pub fn with_user(self, user: &UserProfile) -> Self {
        self.with([
            ("user_name", user.name.as_deref()),
            ("user_preferred_name", user.preferred_name.as_deref()),
            ("user_pronouns", user.pronouns.as_deref()),
            ("user_timezone", user.timezone.as_deref()),
            ("user_notes", user.notes.as_deref()),
            ("user_context", user.context.as_deref()),
        ])
    }

    /// Sets `identity_*`. A key of `extra` becomes `identity_<key>` in snake case and replaces no other field. `emoji` applies
    /// to a profile without an emoji.
    #[must_use]
    pub fn with_identity(mut self, profile: &IdentityProfile, emoji: Option<&str>) -> Self {
        for (key, value) in &profile.extra {
            self.set(&format!("identity_{}", snake_case(key)), value);
        }
        self.with([
            ("identity_role", profile.role.as_deref()),
            ("identity_expertise", Some(&profile.expertise.join(", "))),
            ("identity_tone", profile.tone.as_deref()),
            ("identity_communication_style", profile.communication_style.as_deref()),
            ("identity_constraints", Some(&profile.constraints.join(", "))),
            ("identity_working_hours", profile.working_hours.as_deref()),
            ("identity_emoji", profile.emoji.as_deref().or(emoji)),
            ("identity_autonomy_level", profile.autonomy_level.as_deref()),
            ("identity_verbosity", profile.verbosity.as_deref()),
            ("identity_output_format", profile.output_format.as_deref()),
            ("identity_update_cadence", profile.update_cadence.as_deref()),
            ("identity_purpose", profile.purpose.as_deref()),
            ("identity_personality", profile.personality.as_deref()),
            ("identity_custom_instructions", profile.custom_instructions.as_deref()),
        ])
    }

    /// Sets `directory_role_soul_*`.
    #[must_use]
    pub fn with_role_soul(self, soul: &SoulText) -> Self {
        self.with([
            ("directory_role_soul_markdown", Some(soul.markdown.as_str())),
            ("directory_role_soul_source_url", Some(&soul.source_url)),
        ])
    }

    /// Sets `auth_token`. The caller leaves the token out when the workspace must not contain it.
    #[must_use]
    pub fn with_token(mut self, token: &SecretString) -> Self {
        self.auth_token = token.clone();
        self
    }

    /// Sets one variable, which may be new.
    pub fn set(&mut self, name: &str, value: &str) {
        let value = if value.trim().is_empty() { "" } else { value };
        if name == AUTH_TOKEN {
            self.auth_token = SecretString::from(value);
        } else {
            self.plain.insert(name.to_owned(), value.to_owned());
        }
    }

    /// The names of all variables.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(AUTH_TOKEN).chain(self.plain.keys().map(String::as_str))
    }

    /// The names and the values of all variables, with the token in plain text.
    pub(crate) fn exposed(&self) -> impl Iterator<Item = (&str, &str)> {
        let plain = self.plain.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        std::iter::once((AUTH_TOKEN, self.auth_token.expose_secret())).chain(plain)
    }

    fn with<'v>(mut self, values: impl IntoIterator<Item = (&'static str, Option<&'v str>)>) -> Self {
        for (name, value) in values {
            self.set(name, value.unwrap_or_default());
        }
        self
    }
}

/// A board without values and without rules.
pub(super) fn no_board() -> Board {
    let mut board = Board::default();
    board.spec.rules.require_approval_for_done = false;
    board
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").field("plain", &self.plain).field("auth_token", &self.auth_token).finish()
    }
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// The key in snake case: `workingHours` and `working-hours` become `working_hours`. `_` replaces each character that is not an
/// ASCII letter or digit.
fn snake_case(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    let mut after_lower = false;
    for c in key.chars() {
        if c.is_ascii_uppercase() && after_lower {
            name.push('_');
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        name.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
        variables.exposed().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    #[test]
    fn every_documented_variable_exists_without_values() {
        let variables = Variables::new(Role::Worker);
        for name in [
            "agent_name",
            "agent_id",
            "board_id",
            "board_name",
            "board_type",
            "board_objective",
            "is_board_lead",
            "session_key",
            "workspace_path",
            "base_url",
            "auth_token",
            "identity_role",
            "identity_expertise",
            "identity_tone",
            "main_session_key",
            "workspace_root",
            "is_main_agent",
            "user_name",
            "board_rule_require_approval_for_done",
            "directory_role_soul_markdown",
            "directory_role_soul_source_url",
        ] {
            assert!(value(&variables, name).is_some(), "{name}");
        }
    }

    #[test]
    fn two_flags_show_the_role() {
        for (role, lead, main) in
            [(Role::Worker, "false", "false"), (Role::Lead, "true", "false"), (Role::Main, "false", "true")]
        {
            let variables = Variables::new(role);
            assert_eq!(value(&variables, "is_board_lead"), Some(lead));
            assert_eq!(value(&variables, "is_main_agent"), Some(main));
        }
    }

    #[test]
    fn debug_never_shows_the_token() {
        let mut variables = Variables::new(Role::Worker).with_token(&SecretString::from("s3cret-one"));
        assert!(!format!("{variables:?}").contains("s3cret"));
        variables.set("auth_token", "s3cret-two");
        assert!(!format!("{variables:?}").contains("s3cret"));
        assert_eq!(value(&variables, "auth_token"), Some("s3cret-two"));
    }

    #[test]
    fn a_list_is_joined_and_an_extra_key_becomes_a_variable() {
        let identity = IdentityProfile {
            role: Some("Engineer".to_owned()),
            expertise: vec!["Rust".to_owned(), "SQL".to_owned()],
            extra: [("onCall", "yes"), ("home-office", "no"), ("Role", "forged")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..IdentityProfile::default()
        };
        let variables = Variables::new(Role::Worker).with_identity(&identity, Some("*"));
        assert_eq!(value(&variables, "identity_expertise"), Some("Rust, SQL"));
        assert_eq!(value(&variables, "identity_on_call"), Some("yes"));
        assert_eq!(value(&variables, "identity_home_office"), Some("no"));
        assert_eq!(value(&variables, "identity_role"), Some("Engineer"));
        assert_eq!(value(&variables, "identity_emoji"), Some("*"));
    }

    #[test]
    fn a_boards_name_is_its_display_name_on_one_line_or_else_its_objects_name() {
        let mut board = Board::default();
        board.metadata.name = Some("ops".to_owned());
        for (display_name, name) in [(Some("Ops \n Team"), "Ops Team"), (Some(" "), "ops"), (None, "ops")] {
            board.spec.display_name = display_name.map(str::to_owned);
            let variables = Variables::new(Role::Worker).with_board(&board);
            assert_eq!(value(&variables, "board_name"), Some(name));
        }
    }

    #[test]
    fn a_blank_value_counts_as_empty_and_a_base_url_loses_its_trailing_slash() {
        let variables = Variables::new(Role::Main).with_gateway("http://muster:8080/", " \n", "");
        assert_eq!(value(&variables, "base_url"), Some("http://muster:8080"));
        assert_eq!(value(&variables, "workspace_root"), Some(""));
    }
}
