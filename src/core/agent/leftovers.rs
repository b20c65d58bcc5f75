//! What is left of an agent that a gateway removed only in part. Pure.

use super::binding::Binding;
use crate::api::Reason;
use crate::core::error::ReconcileError;
use crate::openclaw::model::Leftovers;

/// The largest number of paths that one message names.
const MAX_NAMED_PATHS: usize = 3;
/// The longest path or reason in a message, in characters, so that the message fits into an event.
const MAX_SHOWN_CHARS: usize = 130;
/// What the owner of a token has to know about its remains.
pub(super) const TOKEN: &str = "A token in the remaining files is no longer accepted";

/// The error of a removal that left files or sessions; `None` without leftovers. It names the remaining paths and the gateway. The workspace
/// comes first, because it may hold a token.
///
/// A purge of sessions can succeed a moment later. `openclaw agents delete`, and a repeated deletion, complete a partial deletion on
/// 2026.9.6. Until then the gateway creates no agent of that id (`docs/gateway-facts.md#deletion`).
pub(crate) fn error(binding: &Binding, left: &Leftovers, delete_files: bool) -> Option<ReconcileError> {
    if left.is_empty() {
        return None;
    }
    let workspace = &binding.identity.workspace;
    let mut paths: Vec<_> = left.paths.iter().map(|left| left.path.as_str()).collect();
    // A gateway that cannot purge the sessions leaves the files in place, and does not name them.
    if left.sessions && delete_files && paths.is_empty() {
        paths.push(workspace);
    }
    paths.sort_by_key(|path| !is_workspace(path, workspace));
    let mut named: Vec<_> = paths.iter().take(MAX_NAMED_PATHS).map(|path| shown(path)).collect();
    if paths.len() > MAX_NAMED_PATHS {
        named.push(format!("{} more paths", paths.len() - MAX_NAMED_PATHS));
    }
    if left.sessions {
        named.push("its sessions".to_owned());
    }
    let reason = left.paths.iter().map(|left| left.reason.as_str()).find(|reason| !reason.is_empty());
    let reason = reason.map(|reason| format!(" ({})", shown(reason))).unwrap_or_default();
    let message = format!(
        "gateway {} removed agent {} only in part: {} stay there{reason}",
        binding.gateway,
        binding.identity.agent_id,
        named.join(", ")
    );
    let kind = if left.paths.is_empty() { ReconcileError::transient } else { ReconcileError::permanent };
    Some(kind(Reason::DeletionIncomplete, message))
}

/// The message about leftovers for which nothing waits.
pub(crate) fn message(binding: &Binding, error: &ReconcileError) -> String {
    let id = &binding.identity.agent_id;
    format!("{error}; correct that on the gateway's host and run openclaw agents delete {id} --force there. {TOKEN}")
}

/// A text with at most [`MAX_SHOWN_CHARS`] characters: the end of a longer text.
fn shown(text: &str) -> String {
    match text.char_indices().rev().nth(MAX_SHOWN_CHARS - 1) {
        Some((start, _)) if start > 0 => format!("...{}", &text[start..]),
        Some(_) | None => text.to_owned(),
    }
}

/// Whether a path is the workspace. The binding may name the workspace with `~`.
pub(super) fn is_workspace(path: &str, workspace: &str) -> bool {
    path.ends_with(workspace.trim_start_matches('~'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::agent::fixtures;
    use crate::openclaw::model::Leftover;

    fn binding() -> Binding {
        fixtures::binding("~/w")
    }

    fn left(paths: &[&str], sessions: bool) -> Leftovers {
        let path = |path: &&str| Leftover { path: (*path).into(), reason: "EEXIST".into() };
        Leftovers { paths: paths.iter().map(path).collect(), sessions }
    }

    #[test]
    fn the_workspace_is_named_first_and_at_most_three_paths_are_named() {
        let paths = ["/s/1", "/s/2", "/s/3", "/home/o/w/workspace-mc-u"];
        let error = error(&binding(), &left(&paths, false), true).unwrap();
        let message = message(&binding(), &error);
        assert!(!error.transient, "the gateway needs a correction");
        assert!(
            message.contains("only in part: /home/o/w/workspace-mc-u, /s/1, /s/2, 1 more paths stay there (EEXIST)"),
            "{message}"
        );
        assert!(message.contains("ns/gw") && message.contains("openclaw agents delete mc-u"), "{message}");
    }

    #[test]
    fn remaining_sessions_name_the_workspace_only_when_it_was_to_be_removed() {
        let purged = |delete_files| error(&binding(), &left(&[], true), delete_files).unwrap().message;
        assert!(purged(true).contains("~/w/workspace-mc-u, its sessions stay"), "{}", purged(true));
        assert!(!purged(false).contains("workspace-mc-u"), "{}", purged(false));
    }

    #[test]
    fn a_long_path_is_shown_by_its_end_and_the_message_fits_into_an_event() {
        let long = |end: &str| format!("/{}/{end}", "ö".repeat(500));
        let paths = [long("1"), long("2"), long("3"), long("4")];
        let leftover = |path: &String| Leftover { path: path.clone(), reason: long("reason") };
        let left = Leftovers { paths: paths.iter().map(leftover).collect(), sessions: true };
        let message = message(&binding(), &error(&binding(), &left, true).unwrap());
        assert!(message.len() < 1024 * 2 && message.chars().count() < 1024, "{}", message.len());
        assert!(message.contains("öö/3, 1 more paths, its sessions stay there (...ö") && message.ends_with(TOKEN));
    }

    #[test]
    fn without_leftovers_there_is_no_error() {
        assert_eq!(error(&binding(), &Leftovers::default(), true), None);
    }
}
