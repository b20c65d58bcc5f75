//! The message about an agent that a gateway removed only in part. Pure.

use super::binding::Binding;
use crate::openclaw::model::Leftovers;

/// The largest number of paths that one message names.
const MAX_NAMED_PATHS: usize = 3;

/// Names the remaining paths, the gateway and the next step; `None` without leftovers. The workspace comes first, because it may hold
/// a token.
///
/// `openclaw agents delete` completes a partial deletion on 2026.9.6. Until then the gateway creates no agent of that id
/// (`docs/gateway-facts.md#deletion`).
pub(crate) fn message(binding: &Binding, left: &Leftovers, delete_files: bool) -> Option<String> {
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
    let mut named: Vec<_> = paths.iter().take(MAX_NAMED_PATHS).map(|path| (*path).to_owned()).collect();
    if paths.len() > MAX_NAMED_PATHS {
        named.push(format!("{} more paths", paths.len() - MAX_NAMED_PATHS));
    }
    if left.sessions {
        named.push("its sessions".to_owned());
    }
    let reason = left.paths.iter().map(|left| left.reason.as_str()).find(|reason| !reason.is_empty());
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    let id = &binding.identity.agent_id;
    Some(format!(
        "gateway {} removed agent {id} only in part: {} stay there{reason}; correct that on the gateway's host and run openclaw agents delete {id} --force there. A token in the remaining files is no longer accepted",
        binding.gateway,
        named.join(", ")
    ))
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
        let message = message(&binding(), &left(&paths, false), true).unwrap();
        assert!(
            message.contains("only in part: /home/o/w/workspace-mc-u, /s/1, /s/2, 1 more paths stay there (EEXIST)"),
            "{message}"
        );
        assert!(message.contains("ns/gw") && message.contains("openclaw agents delete mc-u"), "{message}");
    }

    #[test]
    fn remaining_sessions_name_the_workspace_only_when_it_was_to_be_removed() {
        let purged = |delete_files| message(&binding(), &left(&[], true), delete_files).unwrap();
        assert!(purged(true).contains("~/w/workspace-mc-u, its sessions stay"), "{}", purged(true));
        assert!(!purged(false).contains("workspace-mc-u"), "{}", purged(false));
    }

    #[test]
    fn without_leftovers_there_is_no_message() {
        assert_eq!(message(&binding(), &Leftovers::default(), true), None);
    }
}
