//! Single-line texts, such as names, in the form that gateways store.

/// The validation rule of a single-line text.
pub(super) const ONE_LINE: &str = r"!self.matches(r'^[\s\pZ\x{FEFF}]|[\s\pZ\x{FEFF}]$|[\p{Cc}\p{Zl}\p{Zp}]')";

/// The message for a text that breaks the rule [`ONE_LINE`].
pub(super) const NOT_ONE_LINE: &str =
    "must not begin or end with a blank, and must not contain line breaks or control characters";

/// The text on one line, without blanks at its ends. A run of blanks that contains a line break or another control character
/// becomes one space. `None` when no character is left.
///
/// Objects from before the validation rule may contain line breaks. `OpenClaw` trims a session's label as JavaScript trims,
/// including U+FEFF, and stores the rest (2026.9.6, `docs/gateway-facts.md#sessions-and-messages`).
#[must_use]
pub fn one_line(text: &str) -> Option<String> {
    let mut line = String::with_capacity(text.len());
    let mut rest = text.trim_matches(is_blank);
    while let Some(start) = rest.find(is_blank) {
        let (word, after) = rest.split_at(start);
        let next = after.trim_start_matches(is_blank);
        let gap = &after[..after.len() - next.len()];
        line.push_str(word);
        line.push_str(if gap.contains(breaks_line) { " " } else { gap });
        rest = next;
    }
    line.push_str(rest);
    (!line.is_empty()).then_some(line)
}

/// A sentence about a suspension, with the reason that a person gave in `spec.suspendReason`.
#[must_use]
pub fn with_reason(sentence: &str, reason: Option<&str>) -> String {
    match reason.and_then(one_line) {
        Some(reason) => format!("{sentence} ({reason})"),
        None => sentence.to_owned(),
    }
}

/// Whether a character is blank: Unicode white space, U+FEFF, or a control character.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control() || c == '\u{feff}'
}

fn breaks_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_removed_at_the_ends_and_kept_inside() {
        for blank in ["  ", "\u{a0}", "\u{feff}", "\u{3000}", "\u{2029}", "\n", "\r\n\t", "\u{85}", "\u{0}"] {
            assert_eq!(
                one_line(&format!("{blank}Ops \u{a0}Lead{blank}")).as_deref(),
                Some("Ops \u{a0}Lead"),
                "{blank:?}"
            );
        }
    }

    #[test]
    fn a_line_break_and_the_blanks_around_it_become_one_space() {
        assert_eq!(one_line("Ops \r\n  Lead\u{2028}of\tall").as_deref(), Some("Ops Lead of all"));
    }

    #[test]
    fn a_text_of_blanks_only_is_none() {
        assert_eq!((one_line(" \u{a0}\n"), one_line("")), (None, None));
    }
}
