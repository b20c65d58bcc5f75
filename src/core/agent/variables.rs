//! The template variables of an agent.

use secrecy::SecretString;

use super::binding::AgentIdentity;
use super::references::References;
use crate::api::agent::{Agent, Role};
use crate::api::profile::IdentityProfile;
use crate::api::shared::UserProfile;
use crate::api::text::one_line;
use crate::api::{AgentGateway, Board, keys};
use crate::templates::{AgentFacts, BoardFacts, BoardRules, GatewayFacts, IdentityFacts, UserFacts, Variables};

/// The directory in the gateway's pod where the token Secrets of agents with `delivery: SecretOnly` are mounted.
const TOKEN_FOLDER: &str = "/var/run/secrets/muster";

/// The variables of an agent. Without a token, `auth_token` is empty.
#[must_use]
pub fn variables(agent: &Agent, references: &References, interval: &str, token: Option<&SecretString>) -> Variables {
    let board = references.board.as_deref();
    let gateway = &references.gateway;
    let user = board.and_then(|b| b.spec.user.as_ref()).or(gateway.spec.user.as_ref());
    let facts = AgentFacts {
        id: agent.metadata.uid.clone().unwrap_or_default(),
        name: agent.display_name(),
        session_key: references.identity.session_key.clone(),
        workspace_path: references.identity.workspace.clone(),
        heartbeat_interval: interval.to_owned(),
        token_file: format!("{TOKEN_FOLDER}/{}/{}", agent.token_secret_name(), keys::TOKEN_KEY),
    };
    let variables = Variables::new(agent.spec.role)
        .with_agent(&facts)
        .with_gateway(&gateway_facts(gateway))
        .with_board(&board.map(board_facts).unwrap_or_default())
        .with_user(&user.map(user_facts).unwrap_or_default())
        .with_identity(&identity_facts(&agent.spec.identity_profile, agent.spec.emoji.as_ref()));
    match token {
        Some(token) => variables.with_token(token),
        None => variables,
    }
}

fn gateway_facts(gateway: &AgentGateway) -> GatewayFacts {
    let uid = gateway.metadata.uid.as_deref().unwrap_or_default();
    let main = AgentIdentity::derive(Role::Main, None, uid, &gateway.spec.workspace_root);
    GatewayFacts {
        base_url: gateway.spec.api_url.clone(),
        workspace_root: gateway.spec.workspace_root.clone(),
        main_session_key: main.session_key,
    }
}

fn board_facts(board: &Board) -> BoardFacts {
    let spec = &board.spec;
    let name = spec.display_name.as_deref().and_then(one_line).or_else(|| board.metadata.name.clone());
    BoardFacts {
        id: board.metadata.uid.clone().unwrap_or_default(),
        name: name.unwrap_or_default(),
        board_type: spec.board_type.clone(),
        description: spec.description.clone().unwrap_or_default(),
        objective: spec.objective.clone().unwrap_or_default(),
        success_metrics: spec.success_metrics.clone().unwrap_or_default(),
        target_date: spec.target_date.clone().unwrap_or_default(),
        goal_confirmed: spec.goal_confirmed,
        rules: BoardRules {
            require_approval_for_done: spec.rules.require_approval_for_done,
            require_review_before_done: spec.rules.require_review_before_done,
            comment_required_for_review: spec.rules.comment_required_for_review,
            block_status_changes_with_pending_approval: spec.rules.block_status_changes_with_pending_approval,
            only_lead_can_change_status: spec.rules.only_lead_can_change_status,
        },
    }
}

fn user_facts(user: &UserProfile) -> UserFacts {
    UserFacts {
        name: user.name.clone().unwrap_or_default(),
        preferred_name: user.preferred_name.clone().unwrap_or_default(),
        pronouns: user.pronouns.clone().unwrap_or_default(),
        timezone: user.timezone.clone().unwrap_or_default(),
        notes: user.notes.clone().unwrap_or_default(),
        context: user.context.clone().unwrap_or_default(),
    }
}

fn identity_facts(profile: &IdentityProfile, emoji: Option<&String>) -> IdentityFacts {
    IdentityFacts {
        role: profile.role.clone().unwrap_or_default(),
        expertise: profile.expertise.clone(),
        tone: profile.tone.clone().unwrap_or_default(),
        communication_style: profile.communication_style.clone().unwrap_or_default(),
        constraints: profile.constraints.clone(),
        working_hours: profile.working_hours.clone().unwrap_or_default(),
        emoji: profile.emoji.as_ref().or(emoji).cloned().unwrap_or_default(),
        autonomy_level: profile.autonomy_level.clone().unwrap_or_default(),
        verbosity: profile.verbosity.clone().unwrap_or_default(),
        output_format: profile.output_format.clone().unwrap_or_default(),
        update_cadence: profile.update_cadence.clone().unwrap_or_default(),
        purpose: profile.purpose.clone().unwrap_or_default(),
        personality: profile.personality.clone().unwrap_or_default(),
        custom_instructions: profile.custom_instructions.clone().unwrap_or_default(),
        extra: profile.extra.clone(),
    }
}
