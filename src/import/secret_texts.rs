//! Texts that look like secrets, so that a manifest does not carry them into a repository. Pure.

use crate::core::agent::token::secret::has_form_of_token;
use crate::openclaw::text_mask::TextMask;

/// Beginnings of tokens of known services, and the smallest length of such a token.
const PREFIXES: [(&str, usize); 13] = [
    ("sk-", 20),
    ("ghp_", 36),
    ("gho_", 36),
    ("ghs_", 36),
    ("github_pat_", 36),
    ("glpat-", 20),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("xapp-", 20),
    ("AKIA", 20),
    ("AIza", 39),
    ("hf_", 30),
    ("npm_", 36),
];
/// The words before a credential in a header.
const SCHEMES: [&str; 2] = ["bearer", "basic"];
/// The header of a call of an agent to Muster.
const TOKEN_HEADER: &str = "x-agent-token:";

/// The number of the first line that looks as if it held a secret: a token of Muster, of a known service, a JSON Web Token, a private key, or
/// what a support bundle would leave out.
pub(super) fn secret_line(text: &str) -> Option<usize> {
    text.lines().position(has_secret).map(|index| index + 1)
}

fn has_secret(line: &str) -> bool {
    let is_key = line.contains("-----BEGIN ") && line.contains("PRIVATE KEY-----");
    let is_header = line.to_ascii_lowercase().trim_start().strip_prefix(TOKEN_HEADER).is_some_and(is_value);
    let is_word_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let named = without_variables(line);
    let is_masked = TextMask::default().text(&named) != named;
    is_key || is_header || is_masked || line.split(|c| !is_word_char(c)).any(is_secret_word)
}

/// The line with `null`, which is no secret, in the place of the variables and the commands of a shell, such as `$TOKEN`, `${TOKEN}` and
/// `$(cat FILE)`, and of the scheme before them.
fn without_variables(line: &str) -> String {
    let (mut shown, mut rest) = (String::new(), line);
    while let Some((before, after)) = rest.split_once('$') {
        shown.push_str(before);
        let Some(end) = variable(after) else {
            shown.push('$');
            rest = after;
            continue;
        };
        let start = shown.trim_end().to_ascii_lowercase();
        if let Some(scheme) = SCHEMES.iter().find(|scheme| start.ends_with(*scheme)) {
            shown.truncate(start.len() - scheme.len());
        }
        if !shown.ends_with(['"', '\'']) {
            shown.push_str("null");
        }
        rest = &after[end..];
    }
    shown + rest
}

/// The length of the variable or the command after a `$`.
fn variable(text: &str) -> Option<usize> {
    let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    match text.chars().next()? {
        '(' => Some(text.find(')').map_or(text.len(), |at| at + 1)),
        '{' => text.find('}').map(|at| at + 1),
        c if is_end(c) => None,
        _ => Some(text.find(is_end).unwrap_or(text.len())),
    }
}

/// Whether a header has a value, and no placeholder such as `<token>` or `$TOKEN`.
fn is_value(value: &str) -> bool {
    let value = value.trim();
    value.len() >= 16
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '=' | '/' | '+'))
}

fn is_secret_word(word: &str) -> bool {
    let is_token = has_form_of_token(word);
    let is_mixed = word.contains(|c: char| c.is_ascii_digit()) && word.contains(|c: char| c.is_ascii_alphabetic());
    let is_known =
        PREFIXES.iter().any(|(prefix, length)| word.starts_with(prefix) && word.len() >= *length && is_mixed);
    let is_web_token = word.starts_with("eyJ") && word.len() >= 60 && word.matches('.').count() == 2;
    is_token || is_known || is_web_token
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_private_keys_are_found_with_their_line() {
        let muster = "uY3kQ9_xTz7Lw0aBcDeFgHiJkLmNoPqRsTuVwXyZ1-2";
        assert_eq!(muster.len(), 43);
        for line in [
            format!("X-Agent-Token: {muster}"),
            "X-Agent-Token: 0123456789abcdef0123".to_owned(),
            format!("my token is `{muster}`."),
            "export OPENAI_API_KEY=sk-proj-0123456789abcdefghij".to_owned(),
            "token: ghp_0123456789abcdefghijklmnopqrstuvwxyz".to_owned(),
            "AKIA0123456789ABCDEF".to_owned(),
            "password=correct-horse".to_owned(),
            "PASSWORD=pa$$word1".to_owned(),
            "git clone https://me:hush@example.com/repo".to_owned(),
            "Cookie: session=hush".to_owned(),
            "-----BEGIN RSA PRIVATE KEY-----".to_owned(),
            format!("eyJhbGciOiJIUzI1NiJ9.{}.abc", "eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4"),
        ] {
            assert_eq!(secret_line(&format!("# Tools\n\n{line}\n")), Some(3), "{line}");
        }
    }

    #[test]
    fn names_hashes_and_placeholders_are_no_secrets() {
        for line in [
            "X-Agent-Token: <your token>",
            "X-Agent-Token: $AGENT_TOKEN",
            "curl -H \"Authorization: Bearer ${AGENT_TOKEN}\" -H 'x-api-key: $KEY'",
            "export TOKEN=$(cat token.txt)",
            "ask the lead for the password: never write it down",
            "commit 30b9d41f0c0c5c1d8a7a0d2f9f0b9d41f0c0c5c1",
            "uid 0f8c2e1a-5b7d-4c3e-9a10-2b4c6d8e0f12",
            "a sk-ill, a task-force and a well-known_name",
            "https://docs.example.com/a-very-long-path/with-many-words/that-nobody-reads",
            "-----BEGIN CERTIFICATE-----",
        ] {
            assert_eq!(secret_line(line), None, "{line}");
        }
    }
}
