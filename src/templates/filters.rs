//! Filters that insert a value of a person into Markdown or into a shell command without breaking either.
//!
//! Each filter replaces code fences, so that a value cannot open or close a code block. The agent's command is in a code block.

/// The value on one line. One space replaces each run of white space and control characters.
pub(crate) fn line(value: &str) -> String {
    let spaced: String = value.chars().map(|c| if c.is_control() || is_line_break(c) { ' ' } else { c }).collect();
    let words: Vec<&str> = spaced.split_whitespace().collect();
    without_fences(&words.join(" "))
}

/// The value as a Markdown block quote, without blank lines at both ends.
pub(crate) fn quote(value: &str) -> String {
    let quoted = value
        .replace("\r\n", "\n")
        .split(|c: char| c == '\n' || c == '\r' || is_line_break(c))
        .map(|line| line.trim_end().chars().filter(|c| !c.is_control() || *c == '\t').collect::<String>())
        .skip_while(String::is_empty)
        .collect::<Vec<_>>()
        .join("\n")
        .trim_end()
        .split('\n')
        .map(|line| if line.is_empty() { ">".to_owned() } else { format!("> {line}") })
        .collect::<Vec<_>>()
        .join("\n");
    // The last step, because the removal of a control character can create a fence.
    without_fences(&quoted)
}

/// The value as one word of a POSIX shell, in single quotes. A space replaces other white space and control characters.
pub(crate) fn shell(value: &str) -> String {
    format!("'{}'", line(value).replace('\'', r"'\''"))
}

/// Whether some reader treats a character as a line end: line and paragraph separator, next line, vertical tab and form feed.
fn is_line_break(c: char) -> bool {
    matches!(c, '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

fn without_fences(value: &str) -> String {
    value.replace("```", "'''").replace("~~~", "---")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_keeps_the_words_and_drops_the_breaks() {
        assert_eq!(line("  Keep\r\n\tthe\u{2028}lights \0 on\n"), "Keep the lights on");
        assert_eq!(line(" \n "), "");
    }

    #[test]
    fn a_quote_marks_every_line() {
        assert_eq!(quote("\n\none\n\n  two\r\nthree\n\n"), "> one\n>\n>   two\n> three");
    }

    #[test]
    fn a_fence_with_a_control_character_is_replaced() {
        assert_eq!(quote("``\0`\n~\u{7}~~"), "> '''\n> ---");
        assert_eq!(line("``\0`"), "`` `");
    }

    #[test]
    fn a_value_cannot_close_its_shell_word() {
        assert_eq!(shell("a'b $(c)\nd"), r"'a'\''b $(c) d'");
        assert_eq!(shell(""), "''");
    }

    proptest! {
        #[test]
        fn no_value_breaks_out_of_its_context(value in "(\\PC|[\n\r'`~>\u{2028}\u{0}]){0,60}") {
            prop_assert!(!line(&value).contains(['\n', '\r']));
            prop_assert!(quote(&value).lines().all(|line| line.starts_with('>')));
            for text in [line(&value), quote(&value), shell(&value)] {
                prop_assert!(!text.contains("```") && !text.contains("~~~"));
            }
        }
    }
}
