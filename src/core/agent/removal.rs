//! The event about an agent that was removed from its gateway. Pure.

use super::binding::Binding;
use super::leftovers::is_workspace;
use crate::openclaw::model::Removal;

/// The part of the documentation about a folder in the trash.
const HOW: &str = "docs/operations.md#bring-back-a-deleted-agents-memory says how to bring it back";

/// Names the agent, its gateway, and what became of its folder. `None` if the folder was to be removed and is still there, which the
/// event about the leftovers reports.
///
/// A gateway reports the former path of a folder that it moved to its trash, and no version reports the new one
/// (`docs/gateway-facts.md#the-trash`).
pub(crate) fn message(binding: &Binding, removal: &Removal, delete_files: bool) -> Option<String> {
    let (id, at, workspace) = (&binding.identity.agent_id, &binding.gateway, &binding.identity.workspace);
    if !delete_files {
        return Some(format!("agent {id} is removed from gateway {at}; its folder {workspace} stays there"));
    }
    let find = find(workspace);
    match &removal.trashed {
        Some(paths) => {
            if let Some(path) = paths.iter().find(|path| is_workspace(path, workspace)) {
                return Some(format!(
                    "agent {id} is removed from gateway {at}, which moved its folder {path} to its trash: on the gateway's host, {find}; {HOW}"
                ));
            }
            removal.left.is_empty().then(|| {
                format!("agent {id} is removed from gateway {at}, which did not find its folder {workspace} or kept it")
            })
        }
        None => Some(format!(
            "agent {id} is removed from gateway {at}, which was asked to move its folder {workspace} to its trash and does not report the result: on the gateway's host, {find}; {HOW}"
        )),
    }
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
    use crate::openclaw::model::{Leftover, Leftovers};

    fn text(removal: &Removal, delete_files: bool) -> String {
        message(&fixtures::binding("~/w"), removal, delete_files).unwrap()
    }

    fn trashed(path: &str) -> Removal {
        Removal { trashed: Some(vec!["/s/agents/mc-u".into(), path.into()]), ..Removal::default() }
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
        let missing = text(&trashed("/other"), true);
        assert!(!missing.contains("Trash"), "{missing}");
        let path = Leftover { path: "/home/o/w/workspace-mc-u".into(), reason: "EEXIST".into() };
        let left = Leftovers { paths: vec![path], sessions: false };
        let binding = fixtures::binding("~/w");
        assert_eq!(message(&binding, &Removal { left, ..trashed("/other") }, true), None);
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
