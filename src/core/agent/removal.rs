//! The event about an agent that was removed from its gateway. Pure.

use super::binding::Binding;
use super::leftovers::is_workspace;
use crate::api::Reason;
use crate::core::error::ReconcileError;
use crate::openclaw::model::{CallError, Removal};

/// The part of the documentation about a folder in the trash.
const HOW: &str = "docs/operations.md#bring-back-a-deleted-agents-memory says how to bring it back";

/// Names the agent, its gateway, and what became of its folder. `None` if something is left that was to be removed, which
/// [`leftovers`](super::leftovers) reports.
///
/// A gateway reports the former path of a folder that it moved to its trash, and no version reports the new one
/// (`docs/gateway-facts.md#the-trash`). 2026.9.6 does not report a folder that it keeps because of another agent.
pub(crate) fn message(binding: &Binding, removal: &Removal, delete_files: bool) -> Option<String> {
    let (id, at, workspace) = (&binding.identity.agent_id, &binding.gateway, &binding.identity.workspace);
    let removed = format!("agent {id} is removed from gateway {at}");
    if !delete_files {
        return Some(format!("{removed}; its folder {workspace} stays there"));
    }
    let Some(disposal) = &removal.disposal else {
        let find = find(workspace);
        return Some(format!(
            "{removed}, which was asked to move its folder {workspace} to its trash and does not report the result: on the gateway's host, {find}, or the folder stayed in its place; {HOW}"
        ));
    };
    if let Some(path) = disposal.trashed.iter().find(|path| is_workspace(path, workspace)) {
        let find = find(workspace);
        return Some(format!(
            "{removed}, which moved its folder {path} to its trash: on the gateway's host, {find}; {HOW}"
        ));
    }
    if !removal.left.is_empty() {
        return None;
    }
    if !disposal.missing.iter().any(|path| is_workspace(path, workspace)) {
        return Some(format!(
            "{removed}, which kept its folder {workspace}: the folder is, contains or is within the folder of another agent, or was removed before; look there"
        ));
    }
    let state = format!("/agents/{id}/");
    match disposal.trashed.iter().find(|path| !path.contains(&state)) {
        Some(target) => {
            let find = find(target);
            Some(format!(
                "{removed}: its folder {workspace} was a link to {target}, which the gateway moved to its trash: on the gateway's host, {find}; {HOW}"
            ))
        }
        None => Some(format!("{removed}, which did not find its folder {workspace}")),
    }
}

/// The message about an agent that the gateway no longer had: a person removed its entry, or an earlier answer was lost.
pub(crate) fn absent(binding: &Binding) -> String {
    let (id, at, workspace) = (&binding.identity.agent_id, &binding.gateway, &binding.identity.workspace);
    format!(
        "gateway {at} has no agent {id} any more, so that nothing moves its folder: if {workspace} is still there, it stays until you remove it"
    )
}

/// The error of a removal that the gateway refuses.
///
/// A gateway writes no config that becomes less than half as long, so that it deletes no agent whose entry is most of its config
/// (`docs/gateway-facts.md#rejected-config-writes`). It deletes no agent whose entry is in an included file
/// (`docs/gateway-facts.md#config-layouts`).
pub(crate) fn refused(agent_id: &str, error: &CallError) -> ReconcileError {
    let (why, file) = if error.is_size_drop() {
        (
            "the entry of the agent is most of the gateway's config, and the gateway writes no config that becomes less than half as long",
            "openclaw.json",
        )
    } else if error.is_include_refusal() {
        ("the gateway removes no agent through an $include", "the file that has it")
    } else if error.lacks_system_agent() {
        (
            "the gateway removes no agent without agents.defaults.systemAgent, which it does not write into an included file",
            "the file that has it",
        )
    } else {
        return ReconcileError::gateway("to remove the agent", error);
    };
    let message = format!(
        "{why}: {}; remove the entry of {agent_id:?} from agents in {file} on the gateway's host, and Muster completes the removal, except for the folder",
        error.message()
    );
    ReconcileError::permanent(Reason::GatewayError, message).with_code(error.code())
}

/// The message about an agent whose folder had to stay.
pub(crate) fn kept(binding: &Binding, obstacle: &str) -> String {
    let (id, at) = (&binding.identity.agent_id, &binding.gateway);
    format!("agent {id} is removed from gateway {at}, and its folder stays there, because {obstacle}")
}

/// How to find the folder in the trash of each version.
fn find(workspace: &str) -> String {
    let name = workspace.rsplit('/').next().unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_plain) {
        return "look into ~/.Trash".to_owned();
    }
    format!("find ~/.Trash -maxdepth 2 -name '{name}*' shows it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::agent::fixtures;
    use crate::openclaw::model::error::ErrorShape;
    use crate::openclaw::model::{Disposal, Leftover, Leftovers};

    fn text(removal: &Removal, delete_files: bool) -> String {
        message(&fixtures::binding("~/w"), removal, delete_files).unwrap()
    }

    fn disposed(trashed: &[&str], missing: &[&str]) -> Removal {
        let paths = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        let disposal = Disposal { trashed: paths(trashed), missing: paths(missing) };
        Removal { disposal: Some(disposal), ..Removal::default() }
    }

    fn trashed(path: &str) -> Removal {
        disposed(&["/s/agents/mc-u/agent", path], &[])
    }

    #[test]
    fn a_removal_that_an_include_prevents_waits_for_a_person_and_says_what_to_do() {
        let answer = |message: &str| {
            let shape = ErrorShape { code: "UNAVAILABLE".into(), message: message.into(), ..ErrorShape::default() };
            refused("mc-u", &CallError::Gateway(Box::new(shape)))
        };
        let error = answer("Error: Config write would flatten $include-owned config at agents; edit that include file");
        assert!(!error.transient, "an event names it");
        for words in [
            "remove the entry of \"mc-u\" from agents in the file that has it",
            "flatten $include-owned config at agents",
        ] {
            assert!(error.message.contains(words), "{error}");
        }
        let ownerless = answer("Error: Agent-less cron job has no resolvable owner. Pass --agent <id>");
        assert!(ownerless.message.contains("agents.defaults.systemAgent") && !ownerless.transient, "{ownerless}");
        assert!(answer("gateway is restarting").transient);
    }

    #[test]
    fn an_agent_that_somebody_else_removed_leaves_a_folder_that_is_named() {
        let text = absent(&fixtures::binding("~/w"));
        assert!(
            text.contains("gateway ns/gw has no agent mc-u any more") && text.contains("~/w/workspace-mc-u"),
            "{text}"
        );
    }

    #[test]
    fn a_folder_in_the_trash_is_named_with_the_command_that_finds_it() {
        let text = text(&trashed("/home/o/w/workspace-mc-u"), true);
        for words in [
            "agent mc-u is removed from gateway ns/gw, which moved its folder /home/o/w/workspace-mc-u to its trash",
            "find ~/.Trash -maxdepth 2 -name 'workspace-mc-u*'",
            "docs/operations.md",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn a_version_that_reports_nothing_is_said_to_report_nothing() {
        let text = text(&Removal::default(), true);
        assert!(text.contains("~/w/workspace-mc-u to its trash and does not report the result"), "{text}");
        assert!(text.contains("find ~/.Trash -maxdepth 2 -name 'workspace-mc-u*'"), "{text}");
    }

    #[test]
    fn a_folder_that_stays_is_named() {
        let text = text(&Removal::default(), false);
        assert_eq!(text, "agent mc-u is removed from gateway ns/gw; its folder ~/w/workspace-mc-u stays there");
    }

    #[test]
    fn a_folder_that_did_not_go_to_the_trash_is_not_said_to_be_there() {
        let workspace = "/home/o/w/workspace-mc-u";
        let missing = text(&disposed(&["/s/agents/mc-u/agent"], &[workspace]), true);
        assert!(missing.ends_with("which did not find its folder ~/w/workspace-mc-u"), "{missing}");
        let kept = text(&disposed(&["/s/agents/mc-u/agent"], &[]), true);
        assert!(kept.contains("kept its folder ~/w/workspace-mc-u") && !kept.contains("Trash"), "{kept}");
        let path = Leftover { path: workspace.into(), reason: "EEXIST".into() };
        let left = Leftovers { paths: vec![path], sessions: false };
        let binding = fixtures::binding("~/w");
        assert_eq!(message(&binding, &Removal { left, ..trashed("/other") }, true), None);
    }

    #[test]
    fn the_target_of_a_folder_that_was_a_link_is_named() {
        let text = text(&disposed(&["/srv/notes"], &["/home/o/w/workspace-mc-u"]), true);
        assert!(text.contains("~/w/workspace-mc-u was a link to /srv/notes, which the gateway moved"), "{text}");
        assert!(text.contains("-name 'notes*'"), "{text}");
    }

    #[test]
    fn a_name_that_a_shell_would_read_as_more_than_a_name_is_in_no_command() {
        for path in ["/w/a'; rm -rf ~", "/w/$(id)", "/w/", ""] {
            assert_eq!(find(path), "look into ~/.Trash");
        }
    }

    #[test]
    fn the_message_fits_into_an_event() {
        let path = format!("/{}/workspace-mc-u", "x".repeat(500));
        assert!(text(&trashed(&path), true).len() < 1024);
    }
}
