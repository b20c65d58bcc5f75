//! What can be wrong with a template, told to the person who wrote it.

use std::fmt;

/// A template that cannot be rendered.
///
/// The text names the template, the line and, where there is one, the variable, and says what to do. It never holds the
/// agent's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderError {
    /// The template, by the name that it was given.
    pub template: String,
    /// The line in the template, from 1, where it is known.
    pub line: Option<usize>,
    /// The variable, when an unknown one is the cause.
    pub variable: Option<String>,
    /// What is wrong and what to do.
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

/// The most of a template that an error quotes, in characters.
const LONGEST_QUOTE: usize = 200;
/// The longest name that is compared with others, in bytes.
const LONGEST_NAME: usize = 128;

/// The beginning of a text that may be as long as a template.
pub(crate) fn beginning(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// The names out of `known` that look most like `name`, best first, at most three.
pub(crate) fn near_names<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    if name.len() > LONGEST_NAME {
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

/// Whether one name is the other one with a prefix or suffix, as `objective` and `board_objective` are.
fn is_part(name: &str, candidate: &str) -> bool {
    let (short, long) = if name.len() < candidate.len() { (name, candidate) } else { (candidate, name) };
    let ends = |rest: Option<&str>, at_underscore: fn(&str) -> bool| rest.is_some_and(at_underscore);
    short.len() >= 4
        && (ends(long.strip_suffix(short), |rest| rest.ends_with('_'))
            || ends(long.strip_prefix(short), |rest| rest.starts_with('_')))
}

/// How many characters must be added, removed or replaced to make one text the other.
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
        near_names(name, KNOWN.into_iter())
    }

    #[test]
    fn a_slip_of_the_pen_is_recognised() {
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
    fn a_name_like_no_other_gets_no_suggestion() {
        assert!(near("quarterly_budget").is_empty());
        assert!(near("").is_empty());
        assert!(near(&"agent_name".repeat(100)).is_empty());
    }

    #[test]
    fn the_text_of_an_error_begins_with_the_place() {
        let error = RenderError {
            template: "ConfigMap team/templates key SOUL.md".to_owned(),
            line: Some(3),
            variable: None,
            message: "syntax error".to_owned(),
        };
        assert_eq!(error.to_string(), "ConfigMap team/templates key SOUL.md, line 3: syntax error");
    }
}
