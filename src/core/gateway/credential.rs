//! The text of a credential, as a file holds it.

/// A credential without what an editor or a shell adds to a file: a byte order mark before it (U+FEFF, which Windows programs write) and line
/// ends after it. Everything else belongs to the credential.
#[must_use]
pub fn of_file(text: &str) -> &str {
    text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_and_line_ends_are_no_part_of_a_credential() {
        for text in ["secret", "secret\n", "secret\r\n", "\u{feff}secret", "\u{feff}secret\r\n\n"] {
            assert_eq!(of_file(text), "secret", "{text:?}");
        }
        assert_eq!(of_file(" a b "), " a b ");
        assert_eq!(of_file("\u{feff}\r\n"), "");
    }
}
