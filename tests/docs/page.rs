//! The command blocks of the documents, and the marks before them. Pure.
//!
//! A mark is an HTML comment on the lines before a block, so that no reader sees it:
//!
//! - `<!-- not run: REASON -->`: no test runs the block.
//! - `<!-- run by: FILE::FUNCTION -->`: this test runs it.
//! - `<!-- file: NAME -->`: the block is (a part of) a file that the commands of the page use.
//!
//! A command block without a mark is run by `tests/docs`.

use std::path::Path;

/// The languages of command blocks.
const COMMANDS: [&str; 4] = ["console", "bash", "sh", "shell"];

/// A document.
pub(crate) struct Page {
    /// The path below the root of the checkout.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A fenced block of a document.
#[derive(Debug, PartialEq)]
pub(crate) struct Block {
    /// The number of the line with the fence.
    pub(crate) line: usize,
    language: String,
    pub(crate) text: String,
    marks: Vec<String>,
}

/// A command, and the output that the document shows for it.
#[derive(Debug, PartialEq)]
pub(crate) struct Command {
    pub(crate) line: String,
    pub(crate) shown: String,
}

impl Page {
    pub(crate) fn read(root: &Path, path: &str) -> Self {
        let text = std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text }
    }

    /// README.md, the other documents in the root, and docs/*.md.
    pub(crate) fn all() -> Vec<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let names = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap());
        let mut paths: Vec<_> = names.filter(|name| is_markdown(name)).map(|name| format!("docs/{name}")).collect();
        paths.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned));
        paths.sort_unstable();
        paths.iter().map(|path| Self::read(root, path)).collect()
    }

    pub(crate) fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut marks) = (Vec::new(), Vec::new());
        let mut lines = self.text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let trimmed = line.trim_start();
            if let Some(mark) = trimmed.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->")) {
                marks.push(mark.to_owned());
                continue;
            }
            let Some(language) = trimmed.strip_prefix("```") else {
                marks.clear();
                continue;
            };
            let indent = line.len() - trimmed.len();
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
            let text = inside.map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n").collect();
            let marks = std::mem::take(&mut marks);
            blocks.push(Block { line: index + 1, language: language.to_owned(), text, marks });
        }
        blocks
    }
}

pub(crate) fn is_markdown(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "md")
}

impl Block {
    /// What a mark of this kind says.
    pub(crate) fn mark(&self, kind: &str) -> Option<&str> {
        self.marks.iter().find_map(|mark| mark.strip_prefix(kind)?.strip_prefix(": "))
    }

    /// The file and the function of the test that runs the block.
    pub(crate) fn run_by(&self) -> Option<&str> {
        self.mark("run by")
    }

    /// The file that the block is a part of.
    pub(crate) fn file(&self) -> Option<&str> {
        self.mark("file")
    }

    pub(crate) fn is_of_commands(&self) -> bool {
        COMMANDS.contains(&self.language.as_str())
    }

    /// The commands of the block. A block without a prompt has commands only, one on each line.
    pub(crate) fn commands(&self) -> Vec<Command> {
        let has_prompts = self.text.lines().any(|line| line.starts_with("$ "));
        let mut commands: Vec<Command> = Vec::new();
        let mut goes_on = false;
        for line in self.text.lines() {
            let begun = if has_prompts { line.strip_prefix("$ ") } else { Some(line) };
            match (begun, commands.last_mut()) {
                (_, Some(last)) if goes_on => last.line = format!("{}\n{line}", last.line),
                (Some(begun), _) => commands.push(Command { line: begun.to_owned(), shown: String::new() }),
                (None, Some(last)) => {
                    last.shown += line;
                    last.shown.push('\n');
                    continue;
                }
                (None, None) => continue,
            }
            goes_on = ["\\", "|", "&&"].iter().any(|end| line.ends_with(end));
        }
        commands
    }
}

impl Command {
    /// Whether the document shows that the command fails.
    pub(crate) fn fails(&self) -> bool {
        self.shown.lines().any(|line| line.starts_with("muster: ") || line.starts_with("Error from server"))
    }

    /// Whether the command only reads, so that it may be repeated until it shows the state that the document shows.
    pub(crate) fn only_reads(&self) -> bool {
        let words: Vec<_> = self.line.split_whitespace().take(2).collect();
        ["muster", "kubectl"].contains(words.first().unwrap_or(&""))
            && ["get", "tree", "describe", "doctor"].contains(words.get(1).unwrap_or(&""))
    }

    /// The first line of the shown output that a command did not print. Times and ages are equal to each other, `...` stands for
    /// anything, and a word that ends with `...` for any word with this beginning. Spaces and the ends of lines do not count.
    pub(crate) fn missing_line(&self, printed: &str) -> Option<&str> {
        let printed: Vec<_> = printed.split_whitespace().collect();
        let mut from = 0;
        for line in self.shown.lines().filter(|line| line.trim() != "...") {
            let mut words: Vec<_> = line.split_whitespace().collect();
            if words.last() == Some(&"...") {
                words.pop();
            }
            let is_at = |at: &usize| {
                printed
                    .get(*at..*at + words.len())
                    .is_some_and(|there| there.iter().zip(&words).all(|(printed, shown)| is_same_word(shown, printed)))
            };
            let Some(at) = (from..=printed.len()).find(is_at) else { return Some(line) };
            from = at + words.len();
        }
        None
    }
}

fn is_same_word(shown: &str, printed: &str) -> bool {
    match shown.strip_suffix("...") {
        Some(beginning) if !beginning.is_empty() => printed.starts_with(beginning),
        _ => shown == printed || (is_a_time(shown) && is_a_time(printed)),
    }
}

/// An age such as `12s` or `3d4h`, or a time such as `2026-03-01T09:00:00Z`.
fn is_a_time(word: &str) -> bool {
    let is_age = word.len() > 1
        && word.starts_with(|first: char| first.is_ascii_digit())
        && word.ends_with(['s', 'm', 'h', 'd', 'y'])
        && word.chars().all(|c| c.is_ascii_digit() || "smhdy".contains(c));
    is_age || (word.len() >= 20 && word.starts_with("20") && word.contains('T') && word.ends_with('Z'))
}
