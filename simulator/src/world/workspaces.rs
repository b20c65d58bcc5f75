//! Workspaces: directories of files, in memory.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{clock::sha256_hex, profile::Profile};

/// The files that `agents.create` may put into a new workspace.
const SEEDS: &[(&str, &str)] = &[
    ("TOOLS.md", "# TOOLS.md\n\nNotes on the tools of this machine.\n"),
    ("HEARTBEAT.md", "# HEARTBEAT.md\n\nNothing to do.\n"),
    ("AGENTS.md", "# AGENTS.md\n\nThis folder is home. Treat it that way.\n"),
    ("SOUL.md", "# SOUL.md\n\nBe helpful, not performative.\n"),
    ("IDENTITY.md", "# IDENTITY.md\n\n- **Name:**\n  _(pick something you like)_\n"),
    ("USER.md", "# USER.md\n\nWhat you know about the person you help.\n"),
    ("BOOTSTRAP.md", "# BOOTSTRAP.md\n\nYou just woke up. Find out who you are.\n"),
];

/// One file: content and the time of its last change in Unix milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) updated_ms: i64,
}

impl File {
    /// The text as the gateway decodes it: bytes that are not UTF-8 are replaced.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

/// One directory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) files: BTreeMap<String, File>,
    pub(crate) git: bool,
    /// Links by name. The gateway does not follow links and lists them as missing.
    pub(crate) links: BTreeMap<String, FileLink>,
}

/// A link in the place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileLink {
    /// A hard link to another file.
    Hard,
    /// A symbolic link to a file outside of the workspace.
    Symbolic,
}

/// Every workspace by its path.
#[derive(Debug, Default)]
pub(crate) struct Workspaces {
    pub(crate) by_path: BTreeMap<String, Workspace>,
    /// The last workspace of each former path in the trash directory.
    pub(crate) trashed: BTreeMap<String, Workspace>,
}

impl Workspaces {
    pub(crate) fn file(&self, path: &str, name: &str) -> Option<&File> {
        self.by_path.get(path)?.files.get(name)
    }

    pub(crate) fn link(&self, path: &str, name: &str) -> Option<FileLink> {
        self.by_path.get(path)?.links.get(name).copied()
    }

    /// Writes a file. The file replaces a link of the same name.
    pub(crate) fn write(&mut self, path: &str, name: &str, content: impl Into<Vec<u8>>, now_ms: i64) {
        let file = File { content: content.into(), updated_ms: now_ms };
        let workspace = self.by_path.entry(path.to_owned()).or_default();
        workspace.links.remove(name);
        workspace.files.insert(name.to_owned(), file);
    }

    /// Moves a workspace to the trash, with the workspaces within it.
    pub(crate) fn move_to_trash(&mut self, path: &str) {
        let within =
            |inner: &str| inner.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.trashed.extend(self.by_path.extract_if(.., |inner, _| within(inner)));
    }

    pub(crate) fn remove_file(&mut self, path: &str, name: &str) {
        if let Some(workspace) = self.by_path.get_mut(path) {
            workspace.files.remove(name);
            workspace.links.remove(name);
        }
    }

    /// Writes the files of a new agent. Existing files stay.
    pub(crate) fn seed(&mut self, path: &str, names: &[&str], now_ms: i64) {
        let workspace = self.by_path.entry(path.to_owned()).or_default();
        for (name, content) in SEEDS.iter().filter(|(name, _)| names.contains(name)) {
            workspace
                .files
                .entry((*name).to_owned())
                .or_insert_with(|| File { content: (*content).into(), updated_ms: now_ms });
        }
    }

    /// Writes a name and an emoji into IDENTITY.md: existing lines are replaced, missing lines come first.
    pub(crate) fn identify(&mut self, path: &str, name: &str, emoji: Option<&str>, now_ms: i64) {
        let old = self.file(path, "IDENTITY.md").map(File::text).unwrap_or_default();
        let mut text = old.clone();
        if let Some(emoji) = emoji {
            text = with_line(&text, "Emoji", emoji);
        }
        text = with_line(&text, "Name", name);
        if text != old {
            self.write(path, "IDENTITY.md", text, now_ms);
        }
    }
}

fn with_line(text: &str, label: &str, value: &str) -> String {
    let line = format!("- {label}: {value}");
    let (plain, bold) = (format!("- {label}:"), format!("- **{label}:**"));
    let known = |old: &str| old.starts_with(&plain) || old.starts_with(&bold);
    if !text.lines().any(known) {
        return format!("{line}\n{text}");
    }
    let lines = text.lines().map(|old| if known(old) { line.as_str() } else { old });
    let mut result = lines.collect::<Vec<_>>().join("\n");
    if text.ends_with('\n') {
        result.push('\n');
    }
    result
}

/// A file as `agents.files.*` shows it; `content` only on request.
pub(crate) fn file_json(profile: &Profile, path: &str, name: &str, file: Option<&File>, content: bool) -> Value {
    let mut shown = json!({"name": name, "path": format!("{path}/{name}"), "missing": file.is_none()});
    match file {
        Some(file) => {
            shown["size"] = json!(file.content.len());
            shown["updatedAtMs"] = json!(file.updated_ms);
            if content {
                shown["content"] = json!(file.text());
                if profile.file_hashes {
                    shown["hash"] = json!(sha256_hex(&file.content));
                }
            }
        }
        None if profile.file_hashes => {
            shown["expectedAbsent"] = json!(!matches!(name, "AGENTS.md" | "BOOTSTRAP.md"));
        }
        None => {}
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_name_line_is_added_first() {
        let mut workspaces = Workspaces::default();
        workspaces.write("/w", "IDENTITY.md", "hello\n", 1);
        workspaces.identify("/w", "New A", Some("x"), 2);
        let file = workspaces.file("/w", "IDENTITY.md").unwrap();
        assert_eq!(file.text(), "- Name: New A\n- Emoji: x\nhello\n");
    }

    #[test]
    fn an_unchanged_name_does_not_write_the_file() {
        let mut workspaces = Workspaces::default();
        workspaces.write("/w", "IDENTITY.md", "- Name: A\n", 1);
        workspaces.identify("/w", "A", None, 2);
        assert_eq!(workspaces.file("/w", "IDENTITY.md").unwrap().updated_ms, 1);
    }
}
