//! The variables that a template may use.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::facts::{AgentFacts, BoardFacts, GatewayFacts, IdentityFacts, SoulText, UserFacts};
use crate::api::agent::Role;

/// The values that a template may use, all of them strings.
///
/// Guarantees: every variable that the built-in templates use is present from the start, empty when its value is unknown; a
/// value of white space alone counts as empty; the token does not show in `Debug`.
#[derive(Clone)]
pub struct Variables {
    plain: BTreeMap<String, String>,
    auth_token: SecretString,
}

/// The variable that holds the agent's token.
pub(crate) const AUTH_TOKEN: &str = "auth_token";

impl Variables {
    /// The variables of an agent of which nothing is known but its kind. Further facts are added with the `with_` methods.
    pub fn new(kind: Role) -> Self {
        let mut variables = Self { plain: BTreeMap::new(), auth_token: SecretString::default() };
        variables.set("is_board_lead", flag(kind == Role::Lead));
        variables.set("is_main_agent", flag(kind == Role::Main));
        variables
            .with_agent(&AgentFacts::default())
            .with_gateway(&GatewayFacts::default())
            .with_board(&BoardFacts::default())
            .with_user(&UserFacts::default())
            .with_identity(&IdentityFacts::default())
            .with_role_soul(&SoulText::default())
    }

    /// Sets `agent_*`, `session_key`, `workspace_path`, `heartbeat_interval` and `auth_token_file`.
    #[must_use]
    pub fn with_agent(self, agent: &AgentFacts) -> Self {
        self.with(&[
            ("agent_id", &agent.id),
            ("agent_name", &agent.name),
            ("session_key", &agent.session_key),
            ("workspace_path", &agent.workspace_path),
            ("heartbeat_interval", &agent.heartbeat_interval),
            ("auth_token_file", &agent.token_file),
        ])
    }

    /// Sets `base_url`, `workspace_root` and `main_session_key`.
    #[must_use]
    pub fn with_gateway(self, gateway: &GatewayFacts) -> Self {
        self.with(&[
            ("base_url", gateway.base_url.trim().trim_end_matches('/')),
            ("workspace_root", &gateway.workspace_root),
            ("main_session_key", &gateway.main_session_key),
        ])
    }

    /// Sets `board_*`.
    #[must_use]
    pub fn with_board(self, board: &BoardFacts) -> Self {
        let rules = &board.rules;
        self.with(&[
            ("board_id", &board.id),
            ("board_name", &board.name),
            ("board_type", &board.board_type),
            ("board_description", &board.description),
            ("board_objective", &board.objective),
            ("board_success_metrics", &board.success_metrics),
            ("board_target_date", &board.target_date),
            ("board_goal_confirmed", flag(board.goal_confirmed)),
            ("board_rule_require_approval_for_done", flag(rules.require_approval_for_done)),
            ("board_rule_require_review_before_done", flag(rules.require_review_before_done)),
            ("board_rule_comment_required_for_review", flag(rules.comment_required_for_review)),
            (
                "board_rule_block_status_changes_with_pending_approval",
                flag(rules.block_status_changes_with_pending_approval),
            ),
            ("board_rule_only_lead_can_change_status", flag(rules.only_lead_can_change_status)),
        ])
    }

    /// Sets `user_*`.
    #[must_use]
    pub fn with_user(self, user: &UserFacts) -> Self {
        self.with(&[
            ("user_name", &user.name),
            ("user_preferred_name", &user.preferred_name),
            ("user_pronouns", &user.pronouns),
            ("user_timezone", &user.timezone),
            ("user_notes", &user.notes),
            ("user_context", &user.context),
        ])
    }

    /// Sets `identity_*`.
    #[must_use]
    pub fn with_identity(mut self, identity: &IdentityFacts) -> Self {
        for (key, value) in &identity.extra {
            self.set(&format!("identity_{}", snake_case(key)), value);
        }
        self.with(&[
            ("identity_role", &identity.role),
            ("identity_expertise", &joined(&identity.expertise)),
            ("identity_tone", &identity.tone),
            ("identity_communication_style", &identity.communication_style),
            ("identity_constraints", &joined(&identity.constraints)),
            ("identity_working_hours", &identity.working_hours),
            ("identity_emoji", &identity.emoji),
            ("identity_autonomy_level", &identity.autonomy_level),
            ("identity_verbosity", &identity.verbosity),
            ("identity_output_format", &identity.output_format),
            ("identity_update_cadence", &identity.update_cadence),
            ("identity_purpose", &identity.purpose),
            ("identity_personality", &identity.personality),
            ("identity_custom_instructions", &identity.custom_instructions),
        ])
    }

    /// Sets `directory_role_soul_*`.
    #[must_use]
    pub fn with_role_soul(self, soul: &SoulText) -> Self {
        self.with(&[
            ("directory_role_soul_markdown", &soul.markdown),
            ("directory_role_soul_source_url", &soul.source_url),
        ])
    }

    /// Sets `auth_token`. Leave it out where the workspace is not to hold the token.
    #[must_use]
    pub fn with_token(mut self, token: &SecretString) -> Self {
        self.auth_token = token.clone();
        self
    }

    /// Sets one variable, known or new.
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

    /// Names and values, the token with them.
    pub(crate) fn exposed(&self) -> impl Iterator<Item = (&str, &str)> {
        let plain = self.plain.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        std::iter::once((AUTH_TOKEN, self.auth_token.expose_secret())).chain(plain)
    }

    fn with(mut self, values: &[(&str, &str)]) -> Self {
        for (name, value) in values {
            self.set(name, value);
        }
        self
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").field("plain", &self.plain).field("auth_token", &self.auth_token).finish()
    }
}

fn flag(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

fn joined(items: &[String]) -> String {
    items.join(", ")
}

/// `workingHours` and `working-hours` as `working_hours`; what is no letter or digit becomes `_`.
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
    fn every_variable_of_the_document_is_there_when_nothing_is_known() {
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
    fn the_kind_is_told_by_two_flags() {
        for (kind, lead, main) in
            [(Role::Worker, "false", "false"), (Role::Lead, "true", "false"), (Role::Main, "false", "true")]
        {
            let variables = Variables::new(kind);
            assert_eq!(value(&variables, "is_board_lead"), Some(lead));
            assert_eq!(value(&variables, "is_main_agent"), Some(main));
        }
    }

    #[test]
    fn the_token_does_not_show_in_debug_however_it_was_set() {
        let mut variables = Variables::new(Role::Worker).with_token(&SecretString::from("s3cret-one"));
        assert!(!format!("{variables:?}").contains("s3cret"));
        variables.set("auth_token", "s3cret-two");
        assert!(!format!("{variables:?}").contains("s3cret"));
        assert_eq!(value(&variables, "auth_token"), Some("s3cret-two"));
    }

    #[test]
    fn a_list_is_joined_and_an_extra_key_becomes_a_variable() {
        let identity = IdentityFacts {
            role: "Engineer".to_owned(),
            expertise: vec!["Rust".to_owned(), "SQL".to_owned()],
            extra: [("onCall", "yes"), ("home-office", "no"), ("Role", "forged")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            ..IdentityFacts::default()
        };
        let variables = Variables::new(Role::Worker).with_identity(&identity);
        assert_eq!(value(&variables, "identity_expertise"), Some("Rust, SQL"));
        assert_eq!(value(&variables, "identity_on_call"), Some("yes"));
        assert_eq!(value(&variables, "identity_home_office"), Some("no"));
        assert_eq!(value(&variables, "identity_role"), Some("Engineer"));
    }

    #[test]
    fn a_blank_value_counts_as_empty_and_a_base_url_loses_its_last_slash() {
        let gateway = GatewayFacts {
            base_url: "http://muster:8080/".to_owned(),
            workspace_root: " \n".to_owned(),
            ..GatewayFacts::default()
        };
        let variables = Variables::new(Role::Main).with_gateway(&gateway);
        assert_eq!(value(&variables, "base_url"), Some("http://muster:8080"));
        assert_eq!(value(&variables, "workspace_root"), Some(""));
    }
}
