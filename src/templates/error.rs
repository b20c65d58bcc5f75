//! The errors of templates, for the author of the template.

use std::fmt;

/// A template that cannot be rendered.
///
/// The text names the template, the line and the variable, if known, and says what to do. The text never contains the agent's
/// token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderError {
    /// The name of the template, from [`Template::name`](super::Template::name).
    pub template: String,
    /// The line in the template, counted from 1, if known.
    pub line: Option<usize>,
    /// The unknown variable, if that is the cause.
    pub variable: Option<String>,
    /// The cause and the remedy.
    pub message: String,
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.template)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for RenderError {}

/// The longest quote of a template in an error, in characters.
const MAX_QUOTE_CHARS: usize = 200;
/// The longest name for which similar names are searched, in bytes.
const MAX_COMPARED_BYTES: usize = 128;

/// The first 200 characters of a text.
pub(crate) fn beginning(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTE_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// At most three names of `known` that are similar to `name`, the most similar name first.
pub(crate) fn similar_names<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    if name.len() > MAX_COMPARED_BYTES {
        return Vec::new();
    }
    let limit = 1 + name.chars().count() / 4;
    let mut near: Vec<(usize, &str)> = known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit || is_part(name, candidate))
        .collect();
    near.sort_unstable();
    near.truncate(3);
    near.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Whether one name is the other name with a prefix or suffix, such as `objective` and `board_objective`.
fn is_part(name: &str, candidate: &str) -> bool {
    let (short, long) = if name.len() < candidate.len() { (name, candidate) } else { (candidate, name) };
    let ends = |rest: Option<&str>, at_underscore: fn(&str) -> bool| rest.is_some_and(at_underscore);
    short.len() >= 4
        && (ends(long.strip_suffix(short), |rest| rest.ends_with('_'))
            || ends(long.strip_prefix(short), |rest| rest.starts_with('_')))
}

/// The Levenshtein distance of two texts, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["agent_id", "agent_name", "board_name", "board_objective", "user_name"];

    fn near(name: &str) -> Vec<&'static str> {
        similar_names(name, KNOWN.into_iter())
    }

    #[test]
    fn a_typing_error_is_recognised() {
        assert_eq!(near("agnet_name"), ["agent_name"]);
        assert_eq!(near("agentname"), ["agent_name"]);
        assert_eq!(near("agent_ID").first(), Some(&"agent_id"));
    }

    #[test]
    fn a_name_without_its_prefix_is_recognised() {
        assert_eq!(near("objective"), ["board_objective"]);
        assert_eq!(near("name").len(), 3);
    }

    #[test]
    fn a_name_without_similar_names_gets_no_suggestion() {
        assert!(near("quarterly_budget").is_empty());
        assert!(near("").is_empty());
        assert!(near(&"agent_name".repeat(100)).is_empty());
    }

    #[test]
    fn the_text_of_an_error_begins_with_template_and_line() {
        let error = RenderError {
            template: "ConfigMap team/templates key SOUL.md".to_owned(),
            line: Some(3),
            variable: None,
            message: "syntax error".to_owned(),
        };
        assert_eq!(error.to_string(), "ConfigMap team/templates key SOUL.md, line 3: syntax error");
    }
}
