//! Texts without what is, or may be, a secret, for files that leave the cluster. Pure.

use secrecy::SecretString;

use crate::openclaw::connection::redaction::Redactor;

/// What stands in the place of a text that may be secret.
pub(crate) const REMOVED: &str = "[removed]";
/// The ends of names whose values are secret, in lower case and without separators.
const SECRET_NAMES: [&str; 22] = [
    "token",
    "tokens",
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "secrets",
    "apikey",
    "apikeys",
    "accesskey",
    "secretkey",
    "privatekey",
    "signingkey",
    "devicekey",
    "credential",
    "credentials",
    "authorization",
    "cookie",
    "cookies",
    "bearer",
];
/// The beginnings of the keys of well-known services.
const KNOWN_BEGINNINGS: [&str; 15] = [
    "sk-",
    "sk_",
    "pk_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "glpat-",
    "xox",
    "xapp-",
    "AKIA",
    "AIza",
    "eyJ",
    "hf_",
];
/// The shortest key of a well-known service.
const SHORTEST_KNOWN: usize = 12;
/// The shortest word that counts as random.
const SHORTEST_RANDOM: usize = 32;
/// The length of a token that OpenClaw makes for itself, in hexadecimal digits. Hashes have 40 or 64.
const GATEWAY_TOKEN: usize = 48;
/// The place for the type of a private key after its begin.
const LONGEST_HEADING: usize = 64;
/// The words before a credential in a header.
const SCHEMES: [&str; 3] = ["bearer", "basic", "token"];
/// The begin and the end of a private key as a file.
const PRIVATE_KEY: (&str, &str) = ("-----BEGIN ", "PRIVATE KEY-----");

/// The removal of secrets from texts: of values that are known, and of what looks like a secret.
#[derive(Debug, Default)]
pub(crate) struct TextMask(Redactor);

impl TextMask {
    /// A mask that removes these values too.
    pub(crate) fn new<'a>(known: impl IntoIterator<Item = &'a SecretString>) -> Self {
        Self(Redactor::new(known))
    }

    /// The text without the known values.
    pub(crate) fn known(&self, text: &str) -> String {
        self.0.text(text)
    }

    /// The text without secrets.
    pub(crate) fn text(&self, text: &str) -> String {
        let text = without_private_keys(&self.known(text));
        let lines: Vec<_> = text.split('\n').map(masked_line).collect();
        lines.join("\n")
    }
}

/// Whether the value of this name is secret.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    SECRET_NAMES.iter().any(|end| plain.ends_with(end))
}

/// Whether a word has the form of a key or a random token.
pub(crate) fn is_random(word: &str) -> bool {
    let has = |is: fn(&char) -> bool| word.chars().any(|c| is(&c));
    let is_known = KNOWN_BEGINNINGS.iter().any(|start| word.starts_with(start));
    let is_of_gateway = word.len() == GATEWAY_TOKEN && word.chars().all(|c| c.is_ascii_hexdigit());
    if is_known && word.len() >= SHORTEST_KNOWN || is_of_gateway {
        return true;
    }
    let is_mixed = has(char::is_ascii_uppercase) && has(char::is_ascii_lowercase) && has(char::is_ascii_digit);
    word.len() >= SHORTEST_RANDOM && is_mixed
}

fn masked_line(line: &str) -> String {
    without_random_words(&without_named_values(&without_userinfo(line)))
}

/// The text without private keys in the form of a PEM file. A key without an end reaches to the end of the text.
fn without_private_keys(text: &str) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some((before, key)) = rest.split_once(PRIVATE_KEY.0) {
        shown.push_str(before);
        let heading = &key[..key.floor_char_boundary(LONGEST_HEADING)];
        let heading = heading.split(['\n', '\\']).next().unwrap_or_default();
        if !heading.contains(PRIVATE_KEY.1) {
            shown.push_str(PRIVATE_KEY.0);
            rest = key;
            continue;
        }
        shown.push_str(REMOVED);
        let body = key.split_once(PRIVATE_KEY.1).map_or("", |(_, body)| body);
        rest = body.split_once(PRIVATE_KEY.1).map_or("", |(_, after)| after);
    }
    shown + rest
}

/// The line without users and passwords in URLs.
fn without_userinfo(line: &str) -> String {
    let (mut shown, mut rest) = (String::new(), line);
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let ends = |c: char| c.is_whitespace() || "/?#\"'`<>\\".contains(c);
        let authority = after.split(ends).next().unwrap_or_default();
        rest = match authority.rfind('@') {
            Some(at) => {
                shown.push_str(REMOVED);
                &after[at..]
            }
            None => after,
        };
    }
    shown + rest
}

/// The line without the values of secret names, such as `token=...`, `"apiKey": "..."` and `Authorization: Bearer ...`.
fn without_named_values(line: &str) -> String {
    let (mut shown, mut rest) = (String::new(), line);
    while let Some(start) = rest.find(is_of_name) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_of_name(c)).unwrap_or(from.len());
        let (name, after) = from.split_at(end);
        shown.push_str(before);
        let follows_a_word = shown.trim_end().ends_with(|c: char| c.is_alphanumeric());
        shown.push_str(name);
        rest = after;
        let is_scheme = SCHEMES[..2].contains(&name.to_ascii_lowercase().as_str());
        let gap = if is_scheme { blank(after) } else { assignment(name, after).filter(|_| is_secret_name(name)) };
        let Some(gap) = gap else { continue };
        let (sign, value) = after.split_at(gap);
        if let Some(close) = after_brackets(value) {
            shown.push_str(sign);
            shown.push_str(REMOVED);
            rest = close;
            continue;
        }
        let (open, inner, close) =
            if is_cookie(name) && !value.starts_with(['\\', '"', '\'']) { ("", value, "") } else { value_of(value) };
        let is_in_sentence = open.is_empty() && (is_scheme || follows_a_word && sign == ": ");
        if inner.is_empty() || is_plain(inner, open, is_in_sentence) {
            continue;
        }
        shown.push_str(sign);
        shown.push_str(open);
        shown.push_str(REMOVED);
        rest = close;
    }
    shown + rest
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// The length of a blank before a word.
fn blank(text: &str) -> Option<usize> {
    text.strip_prefix(' ').filter(|rest| rest.starts_with(is_of_name)).map(|_| 1)
}

/// The length of what stands between a name and its value: a quote, blanks, and `=` or `:`. After an option, a blank is enough.
fn assignment(name: &str, text: &str) -> Option<usize> {
    let unquoted = text.trim_start_matches(['\\', '"', '\'']).trim_start_matches(' ');
    let Some(value) = unquoted.strip_prefix(['=', ':']) else {
        return blank(text).filter(|_| name.starts_with("--"));
    };
    Some(text.len() - value.trim_start_matches(' ').len())
}

/// Whether the value of this name is a list of cookies, which reaches to the end of the line.
fn is_cookie(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with("cookie") || name.ends_with("cookies")
}

/// The text after a list or a map that is not empty; `None` if the text begins otherwise, or what stands there was removed already. A list
/// without an end reaches to the end of the line. Brackets in quotes do not count.
fn after_brackets(text: &str) -> Option<&str> {
    let inner = text.strip_prefix(['[', '{'])?;
    let is_done = text.starts_with("[removed") || text.starts_with("[credential]");
    if is_done || inner.trim_start().starts_with([']', '}']) {
        return None;
    }
    // In JSON within a text of JSON, each quote has the same number of backslashes before it.
    let (mut depth, mut slashes, mut is_quoted, mut before_quote) = (0_usize, 0_usize, false, None);
    for (at, c) in text.char_indices() {
        match c {
            '"' if *before_quote.get_or_insert(slashes) == slashes => is_quoted = !is_quoted,
            '[' | '{' if !is_quoted => depth += 1,
            ']' | '}' if !is_quoted => depth -= 1,
            _ => {}
        }
        slashes = if c == '\\' { slashes + 1 } else { 0 };
        if depth == 0 {
            return Some(&text[at + 1..]);
        }
    }
    Some("")
}

/// The quote before a value, the value, and the text from the end of the value on.
fn value_of(text: &str) -> (&str, &str, &str) {
    let slashes = text.len() - text.trim_start_matches('\\').len();
    let has_quote = text[slashes..].starts_with(['"', '\'']);
    if has_quote {
        let (open, rest) = text.split_at(slashes + 1);
        let end = closing(rest, open);
        return (open, &rest[..end], &rest[end..]);
    }
    let is_end = |c: char| c.is_whitespace() || ",;&)}]\"'<>|".contains(c);
    let mut end = text.find(is_end).unwrap_or(text.len());
    // The credential follows the scheme.
    if SCHEMES.contains(&text[..end].to_ascii_lowercase().as_str()) && text[end..].starts_with(' ') {
        let credential = &text[end + 1..];
        end += 1 + credential.find(is_end).unwrap_or(credential.len());
    }
    ("", &text[..end], &text[end..])
}

/// The place of the quote that closes a value.
fn closing(text: &str, open: &str) -> usize {
    let is_closing = |at: &usize| !text[..*at].ends_with('\\');
    text.match_indices(open).map(|(at, _)| at).find(is_closing).unwrap_or(text.len())
}

/// Whether a value is the next word of a sentence, or no text of JSON.
fn is_plain(value: &str, open: &str, is_in_sentence: bool) -> bool {
    let is_json = open.is_empty() && (value.starts_with(['{', '[']) || ["null", "true", "false"].contains(&value));
    let is_word = |c: char| c.is_ascii_lowercase() || ".,:".contains(c);
    is_json || is_in_sentence && value.chars().all(is_word)
}

/// The line without keys of well-known services and without random tokens.
fn without_random_words(line: &str) -> String {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+');
    let (mut shown, mut rest) = (String::new(), line);
    while let Some(start) = rest.find(is_of_word) {
        let (before, from) = rest.split_at(start);
        let (word, after) = from.split_at(from.find(|c| !is_of_word(c)).unwrap_or(from.len()));
        shown.push_str(before);
        shown.push_str(if is_random(word) { REMOVED } else { word });
        rest = after;
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(text: &str) -> String {
        TextMask::default().text(text)
    }

    #[test]
    fn known_values_are_removed_wherever_they_stand() {
        let mask = TextMask::new([&SecretString::from("hush-hush")]);
        assert_eq!(mask.text("said \"hush-hush\"\nand hush-hush"), "said \"[credential]\"\nand [credential]");
    }

    #[test]
    fn a_known_value_that_contains_another_is_removed_whole() {
        let mask = TextMask::new(&["hush-hush", "hush-hush-and-more", "more"].map(SecretString::from));
        assert_eq!(mask.text("said hush-hush-and-more, hush-hush"), "said [credential], [credential]");
    }

    #[test]
    fn users_and_passwords_of_urls_are_removed() {
        for (text, expected) in [
            ("wss://me:hush@gateway/x, http://b", "wss://[removed]@gateway/x, http://b"),
            ("at https://a@b:c@host:1?x", "at https://[removed]@host:1?x"),
            ("http://host/a@b", "http://host/a@b"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn the_values_of_secret_names_are_removed() {
        for (text, expected) in [
            ("token=hush, next", "token=[removed], next"),
            (r#"{"apiKey": "hu\"sh", "b": 1}"#, r#"{"apiKey": "[removed]", "b": 1}"#),
            (r#"{"m":"{\"x-api-key\":\"hush\"}"}"#, r#"{"m":"{\"x-api-key\":\"[removed]\"}"}"#),
            ("Authorization: Bearer hush1 end", "Authorization: [removed] end"),
            ("sent Bearer Hush1 end", "sent Bearer [removed] end"),
            ("http://h/?access_token=hush&b=1", "http://h/?access_token=[removed]&b=1"),
            ("password: hush", "password: [removed]"),
            ("the password: Hush1", "the password: [removed]"),
            ("run --api-key hush now", "run --api-key [removed] now"),
            ("client_secret='a b' c", "client_secret='[removed]' c"),
            (r#"{"tokens":["hush1",["]hush2"]],"b":1}"#, r#"{"tokens":[removed],"b":1}"#),
            (r#"{"apiKey": {"value": "hush1"}, "b": 1}"#, r#"{"apiKey": [removed], "b": 1}"#),
            (r#"{"m":"{\"apiKey\":{\"value\":\"hush}1\"}}"}"#, r#"{"m":"{\"apiKey\":[removed]}"}"#),
            ("tokens: [hush1, hush2", "tokens: [removed]"),
            ("Cookie: a=1; session=hush", "Cookie: [removed]"),
            ("set-cookie: \"a=1; b=2\" end", "set-cookie: \"[removed]\" end"),
        ] {
            assert_eq!(masked(text), expected);
        }
    }

    #[test]
    fn sentences_and_names_stay() {
        for text in [
            "unauthorized: gateway token mismatch (AUTH_TOKEN_MISMATCH)",
            "the gateway refuses the token: unauthorized: see its log",
            "Secret fleet/gw has no key token, which spec.auth.tokenSecretRef names",
            r#"{"token": {}, "tokens": [ ], "secret": null}"#,
            "token: [removed], tokens: [credential]",
            "a basic setup, no bearer here",
            "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "uid 123e4567-e89b-12d3-a456-426614174000 agent mc-0a1b2c3d",
            "muster_gateway_requests_total{method=\"agents.files.set\",outcome=\"ok\"} 3",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn keys_of_services_and_random_tokens_are_removed() {
        for secret in [
            "sk-proj-0123456789",
            "ghp_abcdefghij0123",
            "eyJhbGciOiJIUzI1NiJ9",
            "Zk3_bQ9-xT7wLr2VnY8mPd4sHc6JgA1fEu5Ko0Bi_Ws",
            "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071",
        ] {
            assert_eq!(masked(&format!("a {secret}, b")), "a [removed], b");
        }
        let key = "-----BEGIN PRIVATE KEY-----\nMC4C\nabc\n-----END PRIVATE KEY-----";
        assert_eq!(masked(&format!("a {key} b")), "a [removed] b");
        assert_eq!(masked("-----BEGIN CERTIFICATE-----\nMC4C"), "-----BEGIN CERTIFICATE-----\nMC4C");
        let far = format!("-----BEGIN {}PRIVATE KEY-----", "a ".repeat(LONGEST_HEADING));
        assert_eq!(masked(&far), far, "the begin of a key is short");
    }
}
