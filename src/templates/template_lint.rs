//! The checks of a template's tags before the engine parses the template.
//!
//! The engine charges for work and memory while it renders. Its parser, its compiler and its comparison recurse without a
//! bound: a chain of some thousand operators would overflow the stack of the process, and a list that contains itself twice at
//! each level would not end. Variables are strings, so that a template needs no lists, no maps and no arithmetic, and a tag
//! needs few words. The lint refuses more than that, with a hint.
//!
//! The lint reads each character a bounded number of times, whatever the template is.

use std::collections::BTreeSet;

/// Most tags of a template, comments included.
pub(crate) const MAX_TAGS: usize = 2_000;
/// Most words and signs of a tag.
const MAX_TOKENS: usize = 200;
/// Most `elif` of a template. The parser nests each `elif` in the previous one.
const MAX_ELIF: usize = 32;
/// The deepest nesting of blocks, and most opening parentheses of a tag.
const MAX_DEPTH: usize = 16;
/// The statements that open a block. `set` with `=` opens none.
const OPENING: [&str; 6] = ["autoescape", "filter", "for", "if", "set", "with"];
/// Words before a parenthesis that is not a call.
const KEYWORDS: [&str; 9] = ["and", "elif", "else", "if", "in", "is", "not", "or", "set"];

/// A tag `{{ }}` or `{% %}` of a template.
pub(crate) struct Tag {
    /// The first line, counted from 1.
    line: usize,
    /// The code between the marks. `_` replaces the characters of strings.
    code: String,
}

/// A word or a sign of a tag.
#[derive(PartialEq, Eq)]
enum TagToken<'a> {
    Word(&'a str),
    Sign(char),
}

/// A violation of the rules of the lint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LintError {
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// The tags of a template, in order, without comments and raw parts. A tag without its closing mark ends with the template; the
/// engine reports the syntax error.
///
/// # Errors
/// The template has more than [`MAX_TAGS`] tags.
pub(crate) fn tags(source: &str) -> Result<Vec<Tag>, LintError> {
    let mut tags = Vec::new();
    let mut lines = LineCounter { source, counted: 0, line: 1 };
    let (mut at, mut found) = (0, 0);
    while let Some(start) = next_mark(source, at) {
        let line = lines.at(start);
        found += 1;
        if found > MAX_TAGS {
            let message =
                format!("the template has more than {MAX_TAGS} tags ({{{{ }}}}, {{% %}}, {{# #}}); use fewer of them");
            return Err(LintError { line, message });
        }
        let body = start + 2;
        at = match source.as_bytes()[start + 1] {
            b'#' => end_of(source, body, "#}"),
            mark => {
                let close = if mark == b'%' { "%}" } else { "}}" };
                let (code, end) = read_tag(&source[body..], close);
                let is_raw = mark == b'%' && strip_signs(&code).trim() == "raw";
                tags.push(Tag { line, code });
                if is_raw { end_of_raw(source, body + end) } else { body + end }
            }
        };
    }
    Ok(tags)
}

/// Counts the lines of a text from one position to the next.
struct LineCounter<'a> {
    source: &'a str,
    /// The position of the last count, in bytes.
    counted: usize,
    /// The line of that position, counted from 1.
    line: usize,
}

impl LineCounter<'_> {
    /// The line of a position, which must not be before the position of the last call.
    fn at(&mut self, at: usize) -> usize {
        self.line += newlines(&self.source[self.counted..at]);
        self.counted = at;
        self.line
    }
}

/// Checks the rules of the lint.
///
/// # Errors
/// The first violation.
pub(crate) fn check(tags: &[Tag]) -> Result<(), LintError> {
    let (mut elifs, mut depth) = (0, 0_usize);
    for tag in tags {
        let refuse = |message: &str| Err(LintError { line: tag.line, message: message.to_owned() });
        let tokens = tag.tokens();
        if tokens.len() > MAX_TOKENS {
            return refuse(&format!("the tag has more than {MAX_TOKENS} words and signs; split it with `set` or `if`"));
        }
        elifs += usize::from(tokens.first() == Some(&TagToken::Word("elif")));
        depth = match tokens.first() {
            Some(TagToken::Word(word)) if opens_block(word, &tokens) => depth + 1,
            Some(TagToken::Word(word)) if word.starts_with("end") => depth.saturating_sub(1),
            Some(_) | None => depth,
        };
        let parentheses = tokens.iter().filter(|token| **token == TagToken::Sign('(')).count();
        if depth > MAX_DEPTH || parentheses > MAX_DEPTH {
            return refuse(&format!("more than {MAX_DEPTH} blocks or parentheses stand in one another"));
        }
        if elifs > MAX_ELIF {
            return refuse(&format!("the template has more than {MAX_ELIF} `elif`"));
        }
        if tokens.iter().any(|token| matches!(token, TagToken::Sign('[' | ']' | '{' | '}'))) || has_tuple(&tokens) {
            return refuse(r#"lists and maps are not allowed; compare one by one: `a == "x" or a == "y"`"#);
        }
        if tokens.iter().any(|token| matches!(token, TagToken::Sign('+' | '*'))) {
            return refuse("`+` and `*` are not allowed; use `~` to join text");
        }
    }
    Ok(())
}

/// The line and the name of the first use of one of these variables.
pub(crate) fn first_use<'n>(tags: &[Tag], names: &BTreeSet<&'n str>) -> Option<(usize, &'n str)> {
    tags.iter().find_map(|tag| tag.first_use(names))
}

impl Tag {
    fn tokens(&self) -> Vec<TagToken<'_>> {
        let mut rest = strip_signs(&self.code);
        let mut tokens = Vec::new();
        while let Some((token, after)) = split_token(rest) {
            match token.chars().next() {
                Some(first) if is_word(first) => tokens.push(TagToken::Word(token)),
                Some(first) if !first.is_whitespace() => tokens.push(TagToken::Sign(first)),
                Some(_) | None => {}
            }
            rest = after;
        }
        tokens
    }

    fn first_use<'n>(&self, names: &BTreeSet<&'n str>) -> Option<(usize, &'n str)> {
        let (mut line, mut before) = (self.line, None);
        let mut rest = self.code.as_str();
        while let Some((token, after)) = split_token(rest) {
            // A word after `.` is an attribute, and after `|` a filter.
            if !matches!(before, Some("." | "|"))
                && let Some(name) = names.get(token)
            {
                return Some((line, name));
            }
            line += newlines(token);
            if !token.trim().is_empty() {
                before = Some(token);
            }
            rest = after;
        }
        None
    }
}

/// The first word or sign of a text, and the rest of the text.
fn split_token(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?;
    let length = if is_word(first) { text.find(|c| !is_word(c)).unwrap_or(text.len()) } else { first.len_utf8() };
    Some(text.split_at(length))
}

fn opens_block(word: &str, tokens: &[TagToken<'_>]) -> bool {
    OPENING.contains(&word) && !(word == "set" && tokens.get(2) == Some(&TagToken::Sign('=')))
}

/// Whether a tag has a comma outside the arguments of a call.
fn has_tuple(tokens: &[TagToken<'_>]) -> bool {
    let mut calls = Vec::new();
    let mut previous: Option<&TagToken<'_>> = None;
    for token in tokens {
        match token {
            TagToken::Sign('(') => {
                calls.push(matches!(previous, Some(TagToken::Word(word)) if !KEYWORDS.contains(word)));
            }
            TagToken::Sign(')') => {
                calls.pop();
            }
            TagToken::Sign(',') if calls.last() != Some(&true) => return true,
            TagToken::Sign(_) | TagToken::Word(_) => {}
        }
        previous = Some(token);
    }
    false
}

/// The position of the next `{{`, `{%` or `{#`.
fn next_mark(source: &str, from: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    (from..bytes.len().saturating_sub(1)).find(|&at| bytes[at] == b'{' && matches!(bytes[at + 1], b'{' | b'%' | b'#'))
}

/// The code of a tag with `_` in its strings, and the position after the closing mark.
fn read_tag(text: &str, close: &str) -> (String, usize) {
    let mut code = String::new();
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            None if text[at..].starts_with(close) => return (code, at + close.len()),
            None => {
                quote = (c == '"' || c == '\'').then_some(c);
                code.push(c);
            }
            Some(open) => {
                let closes = c == open && !escaped;
                escaped = c == '\\' && !escaped;
                if closes {
                    quote = None;
                }
                code.push(if closes || c == '\n' { c } else { '_' });
            }
        }
    }
    (code, text.len())
}

/// The position after `close`.
fn end_of(source: &str, from: usize, close: &str) -> usize {
    source[from..].find(close).map_or(source.len(), |at| from + at + close.len())
}

/// The position after the end of a raw part. Only the last `{%` before a `%}` can begin `endraw`.
fn end_of_raw(source: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(length) = source[at..].find("%}") {
        let part = &source[at..at + length];
        at += length + 2;
        if part.rfind("{%").is_some_and(|start| strip_signs(&part[start + 2..]).trim() == "endraw") {
            return at;
        }
    }
    source.len()
}

/// The code without the white-space signs next to the marks, as in `{%- if +%}`.
fn strip_signs(code: &str) -> &str {
    let code = code.strip_prefix(['-', '+']).unwrap_or(code);
    code.strip_suffix(['-', '+']).unwrap_or(code)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn newlines(text: &str) -> usize {
    text.matches('\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(source: &str) -> Option<String> {
        tags(source).and_then(|tags| check(&tags)).err().map(|refused| refused.message)
    }

    #[test]
    fn text_and_choices_and_calls_are_allowed() {
        for source in [
            "{{ a }} {{- b | default('x, [y]', true) -}}",
            "{%+ if a == \"}} + [\" and (b or not c) +%}x{% elif d %}y{% endif %}",
            "{% set x = a ~ ', ' ~ b %}{% for word in x | split(\",\") %}{{ word }}{% endfor %}",
            "{# [1, 2] + {} #} f(a, b) [x] {y}",
            "{% raw %}{{ it's [raw] }}{%- endraw -%}{{ a }}",
            "{% raw %} %} {% {% endraw %}{{ a }}{% raw %}{%endraw",
        ] {
            assert_eq!(refused(source), None, "{source}");
        }
    }

    #[test]
    fn lists_and_maps_are_refused() {
        for source in [
            "{{ [a] }}",
            "{{ {'a': 1} }}",
            "{% set x = (a, a) %}",
            "{% set x = a, a %}",
            "{% if a in(a, b) %}{% endif %}",
            "{{ f((a, b)) }}",
            "{{ a[0] }}",
            "{% raw %}{{ ' }}{% endraw %}{{ [a] }}",
            "{{ 'it\\'s' ~ [a] }}",
            "{{ '\\\\' ~ [a] }}",
        ] {
            assert!(refused(source).is_some_and(|message| message.contains("lists")), "{source}");
        }
    }

    #[test]
    fn arithmetic_that_grows_is_refused_with_a_hint() {
        assert!(refused("{{ a + b }}").is_some_and(|message| message.contains('~')));
        assert!(refused("{{ 'x' * 9 }}").is_some());
    }

    #[test]
    fn long_chains_and_deep_nesting_are_refused() {
        assert!(refused(&"{% if a %}".repeat(17)).is_some());
        assert!(refused(&"{% set x | default(value='a') %}".repeat(17)).is_some());
        assert!(refused(&"{% set x = a %}{% if a %}{% endif %}".repeat(100)).is_none());
        assert!(refused(&format!("{{{{ {}a{} }}}}", "(".repeat(17), ")".repeat(17))).is_some());
        assert!(refused(&format!("{{{{ a{} }}}}", "|trim".repeat(5_000))).is_some());
        assert!(refused(&format!("{{{{ {}1 }}}}", "-".repeat(5_000))).is_some());
        assert!(refused(&format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(33))).is_some());
    }

    #[test]
    fn too_many_tags_are_refused_and_comments_count() {
        let full = "{{ a }}\n{# b #}\n".repeat(MAX_TAGS / 2);
        assert_eq!(refused(&full), None);
        for more in ["{{ a }}", "{% if a %}", "{# a #}"] {
            let refused = tags(&format!("{full}{more}")).err().unwrap();
            assert_eq!(refused.line, MAX_TAGS + 1);
            assert!(refused.message.contains("2000 tags"), "{}", refused.message);
        }
        let raw = format!("{{% raw %}}{full}{{% endraw %}}{{{{ a }}}}");
        assert_eq!(tags(&raw).map(|tags| tags.len()), Ok(2), "what is raw has no tags");
    }

    #[test]
    fn the_first_use_of_a_variable_is_not_in_text_strings_comments_or_longer_names() {
        let source =
            "foo {# foo #}\n{{ 'foo' }}{{ a.foo }}{{ a | foo }}{{ foot }}\n{% if\n  foo %}{% endif %}\n{{ oof }}";
        let tags = tags(source).unwrap();
        assert_eq!(first_use(&tags, &["foo", "oof"].into()), Some((4, "foo")));
        assert_eq!(first_use(&tags, &["oof"].into()), Some((5, "oof")));
        assert_eq!(first_use(&tags, &["bar"].into()), None);
    }
}
