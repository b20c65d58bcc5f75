//! A look at a template's tags before the engine parses it.
//!
//! The engine charges for work and memory while it renders, but it parses, compiles and compares by recursion with no
//! bound of its own, so that a chain of some thousand operators, or a list that holds itself in twos, would overflow the
//! stack of the whole process or never end. Variables are strings; so a template needs neither lists nor maps nor
//! arithmetic, and a tag needs few words. What goes beyond that is refused here, with a hint.
//!
//! Each character is looked at a bounded number of times, whatever the template is: lines are counted along the way.

use std::collections::BTreeSet;

/// The most tags, comments included, in one template.
pub(crate) const MAX_TAGS: usize = 2_000;
/// The most words and signs in one tag.
const MAX_TOKENS: usize = 200;
/// The most `elif` in one template: each one nests in the one before.
const MAX_ELIF: usize = 32;
/// How deep blocks, and parentheses in a tag, may stand in one another.
const MAX_DEPTH: usize = 16;
/// The statements that open a block; `set` does when it has no `=`.
const OPENING: [&str; 6] = ["autoescape", "filter", "for", "if", "set", "with"];
/// Words before a parenthesis that do not make it a call.
const KEYWORDS: [&str; 9] = ["and", "elif", "else", "if", "in", "is", "not", "or", "set"];

/// One `{{ }}` or `{% %}` of a template.
pub(crate) struct Tag {
    /// The line on which it starts, from 1.
    line: usize,
    /// What stands between the marks, the insides of strings replaced by `_`.
    code: String,
}

/// A word or a sign of a tag.
#[derive(PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Sign(char),
}

/// Something in a template that is not allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct LintError {
    pub(crate) line: usize,
    pub(crate) message: String,
}

/// The tags of a template, in order. Comments and raw parts have none; the last one is cut short where a mark is missing,
/// which the engine reports as a syntax error. Nothing is read after one tag too many.
pub(crate) fn tags(source: &str) -> Result<Vec<Tag>, LintError> {
    let mut tags = Vec::new();
    let mut lines = Lines { source, counted: 0, line: 1 };
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

/// The lines of a text, counted from one place to the next.
struct Lines<'a> {
    source: &'a str,
    /// As far as they are counted.
    counted: usize,
    /// The line of that place, from 1.
    line: usize,
}

impl Lines<'_> {
    /// The line of a place that is not before the last one.
    fn at(&mut self, at: usize) -> usize {
        self.line += newlines(&self.source[self.counted..at]);
        self.counted = at;
        self.line
    }
}

/// Refuses what the engine could not take safely.
pub(crate) fn check(tags: &[Tag]) -> Result<(), LintError> {
    let (mut elifs, mut depth) = (0, 0_usize);
    for tag in tags {
        let refuse = |message: &str| Err(LintError { line: tag.line, message: message.to_owned() });
        let tokens = tag.tokens();
        if tokens.len() > MAX_TOKENS {
            return refuse(&format!("the tag has more than {MAX_TOKENS} words and signs; split it with `set` or `if`"));
        }
        elifs += usize::from(tokens.first() == Some(&Token::Word("elif")));
        depth = match tokens.first() {
            Some(Token::Word(word)) if opens_block(word, &tokens) => depth + 1,
            Some(Token::Word(word)) if word.starts_with("end") => depth.saturating_sub(1),
            Some(_) | None => depth,
        };
        let parentheses = tokens.iter().filter(|token| **token == Token::Sign('(')).count();
        if depth > MAX_DEPTH || parentheses > MAX_DEPTH {
            return refuse(&format!("more than {MAX_DEPTH} blocks or parentheses stand in one another"));
        }
        if elifs > MAX_ELIF {
            return refuse(&format!("the template has more than {MAX_ELIF} `elif`"));
        }
        if tokens.iter().any(|token| matches!(token, Token::Sign('[' | ']' | '{' | '}'))) || has_tuple(&tokens) {
            return refuse(r#"lists and maps are not allowed; compare one by one: `a == "x" or a == "y"`"#);
        }
        if tokens.iter().any(|token| matches!(token, Token::Sign('+' | '*'))) {
            return refuse("`+` and `*` are not allowed; use `~` to join text");
        }
    }
    Ok(())
}

/// The first use of one of these variables: its line and its name.
pub(crate) fn first_use<'n>(tags: &[Tag], names: &BTreeSet<&'n str>) -> Option<(usize, &'n str)> {
    tags.iter().find_map(|tag| tag.first_use(names))
}

impl Tag {
    fn tokens(&self) -> Vec<Token<'_>> {
        let mut rest = strip_signs(&self.code);
        let mut tokens = Vec::new();
        while let Some((token, after)) = split_token(rest) {
            match token.chars().next() {
                Some(first) if is_word(first) => tokens.push(Token::Word(token)),
                Some(first) if !first.is_whitespace() => tokens.push(Token::Sign(first)),
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
            // After `.` stands an attribute, after `|` a filter.
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

/// The first word or sign of a text, and what follows it.
fn split_token(text: &str) -> Option<(&str, &str)> {
    let first = text.chars().next()?;
    let length = if is_word(first) { text.find(|c| !is_word(c)).unwrap_or(text.len()) } else { first.len_utf8() };
    Some(text.split_at(length))
}

fn opens_block(word: &str, tokens: &[Token<'_>]) -> bool {
    OPENING.contains(&word) && !(word == "set" && tokens.get(2) == Some(&Token::Sign('=')))
}

/// Whether a comma stands anywhere but between the arguments of a call.
fn has_tuple(tokens: &[Token<'_>]) -> bool {
    let mut calls = Vec::new();
    let mut previous: Option<&Token<'_>> = None;
    for token in tokens {
        match token {
            Token::Sign('(') => {
                calls.push(matches!(previous, Some(Token::Word(word)) if !KEYWORDS.contains(word)));
            }
            Token::Sign(')') => {
                calls.pop();
            }
            Token::Sign(',') if calls.last() != Some(&true) => return true,
            Token::Sign(_) | Token::Word(_) => {}
        }
        previous = Some(token);
    }
    false
}

/// Where the next `{{`, `{%` or `{#` stands.
fn next_mark(source: &str, from: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    (from..bytes.len().saturating_sub(1)).find(|&at| bytes[at] == b'{' && matches!(bytes[at + 1], b'{' | b'%' | b'#'))
}

/// The code of a tag with its strings blanked, and where the text goes on after the closing mark.
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

/// Where the text goes on after `close`.
fn end_of(source: &str, from: usize, close: &str) -> usize {
    source[from..].find(close).map_or(source.len(), |at| from + at + close.len())
}

/// Where the text goes on after the end of a raw part. Between one `%}` and the next only the last `{%` can begin it.
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

/// Without the signs for white space next to the marks: `{%- if +%}`.
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
    fn values_that_hold_values_are_refused() {
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
    fn a_long_chain_or_a_deep_nest_is_refused() {
        assert!(refused(&"{% if a %}".repeat(17)).is_some());
        assert!(refused(&"{% set x | default(value='a') %}".repeat(17)).is_some());
        assert!(refused(&"{% set x = a %}{% if a %}{% endif %}".repeat(100)).is_none());
        assert!(refused(&format!("{{{{ {}a{} }}}}", "(".repeat(17), ")".repeat(17))).is_some());
        assert!(refused(&format!("{{{{ a{} }}}}", "|trim".repeat(5_000))).is_some());
        assert!(refused(&format!("{{{{ {}1 }}}}", "-".repeat(5_000))).is_some());
        assert!(refused(&format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(33))).is_some());
    }

    #[test]
    fn one_tag_too_many_is_refused_on_its_line_and_a_comment_is_one() {
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
    fn a_variable_is_found_on_its_line_and_not_in_text_strings_comments_or_names() {
        let source =
            "foo {# foo #}\n{{ 'foo' }}{{ a.foo }}{{ a | foo }}{{ foot }}\n{% if\n  foo %}{% endif %}\n{{ oof }}";
        let tags = tags(source).unwrap();
        assert_eq!(first_use(&tags, &["foo", "oof"].into()), Some((4, "foo")));
        assert_eq!(first_use(&tags, &["oof"].into()), Some((5, "oof")));
        assert_eq!(first_use(&tags, &["bar"].into()), None);
    }
}
