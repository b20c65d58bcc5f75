//! The layout of tables and of long texts. Pure.

use serde_json::json;

use crate::openclaw::model::has_format_characters;

/// Blanks between two columns.
const PADDING: usize = 3;
/// The least width of a column, with the blanks behind it.
const MIN_WIDTH: usize = 6;

/// A table as kubectl prints it. The widths of the columns stay for later rows.
#[derive(Debug, Default)]
pub(super) struct TableLayout {
    widths: Vec<usize>,
}

impl TableLayout {
    /// The lines of these rows.
    pub(super) fn lines(&mut self, rows: &[Vec<String>]) -> String {
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| shown(cell)).collect()).collect();
        for row in &rows {
            self.widths.resize(self.widths.len().max(row.len()), MIN_WIDTH);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count() + PADDING);
            }
        }
        rows.iter().map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&self.widths).enumerate() {
            line.push_str(cell);
            if index + 1 < row.len() {
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
        }
        line.push('\n');
        line
    }
}

/// A cell on one line, and without characters that would steer a terminal.
fn shown(cell: &str) -> String {
    match cell.split_once(['\n', '\r', '\u{c}']) {
        Some((first, _)) => format!("{}...", plain_line(first)),
        None => plain_line(cell),
    }
}

/// A text without characters that would steer a terminal, or reorder or hide other characters. The ends of lines stay.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && steers(c) { '?' } else { c }).collect()
}

/// A text in one line, without the characters that [`plain`] replaces.
pub(super) fn plain_line(text: &str) -> String {
    plain(text).replace('\n', " ")
}

fn steers(c: char) -> bool {
    // Some emoji consist of several characters with a joiner (U+200D) between them.
    let is_format = c != '\u{200d}' && has_format_characters(c.encode_utf8(&mut [0; 4]));
    c.is_control() || is_format || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A key of a map, as a path shows it: a plain word as it is, any other key as a JSON string.
pub(super) fn key_text(key: &str) -> String {
    let is_word = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-/:@*".contains(c));
    if is_word { key.to_owned() } else { plain_line(&json!(key).to_string()) }
}

/// A text in lines of at most `width` characters, each with `indent` before it. A longer word has a line of its own.
pub(super) fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let mut lines = Vec::new();
    for paragraph in plain(text).lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines.iter().map(|line| format!("{indent}{line}").trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_with_three_blanks_between_them() {
        let mut table = TableLayout::default();
        let lines = table.lines(&[row(&["NAME", "X", "AGE"]), row(&["über-agent", "", "2m"])]);
        assert_eq!(lines, "NAME         X     AGE\nüber-agent         2m\n");
        assert_eq!(table.lines(&[row(&["a", "b", "c"])]), "a            b     c\n");
        assert_eq!(table.lines(&[row(&["a-name-that-is-longer", "b", "c"])]), "a-name-that-is-longer   b     c\n");
    }

    #[test]
    fn a_cell_has_one_line_and_does_not_steer_the_terminal() {
        assert_eq!(TableLayout::default().lines(&[row(&["a\u{1b}[2J\tb", "first\nsecond"])]), "a?[2J?b   first...\n");
    }

    #[test]
    fn characters_that_reorder_text_are_replaced_and_a_line_stays_one_line() {
        assert_eq!(plain("a\u{202e}b\u{2028}c\nd 👩\u{200d}🚀"), "a?b?c\nd 👩\u{200d}🚀");
        assert_eq!(plain_line("a\nb\u{2066}"), "a b?");
    }

    #[test]
    fn a_key_that_is_no_plain_word_is_a_json_string() {
        for (key, expected) in [
            ("apiKey", "apiKey"),
            ("a.b", "\"a.b\""),
            ("a\nAgent x/y", "\"a\\nAgent x/y\""),
            ("", "\"\""),
            ("\u{202e}", "\"?\""),
        ] {
            assert_eq!(key_text(key), expected);
        }
    }

    #[test]
    fn long_texts_are_wrapped_at_words() {
        assert_eq!(wrapped("one two three", "  ", 7), "  one two\n  three\n");
        assert_eq!(wrapped("a longestword b\n\nc", " ", 5), " a\n longestword\n b\n\n c\n");
        assert_eq!(wrapped("", " ", 5), "");
    }
}
