//! The removal of the client's own credentials from texts of a gateway.
//!
//! A gateway may repeat a credential in an error, and the text reaches conditions, events and logs. Only the exact credential, and
//! its beginning where the text was cut, can be recognized: a gateway that wants to publish a credential has other ways.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use crate::openclaw::model::error::ErrorShape;
use crate::openclaw::model::{Hello, Refusal};

/// What stands in the place of a credential.
const REDACTED: &str = "[credential]";
/// The shortest credential, and the shortest beginning of one, that is removed. A shorter text occurs by itself.
const SHORTEST: usize = 4;

/// The credentials that no text may have, the longest first: a credential may be a part of another one.
#[derive(Clone, Default)]
pub(crate) struct Redactor(Vec<SecretString>);

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redactor").field(&self.0.len()).finish()
    }
}

impl Redactor {
    /// A redactor of these credentials, as they are and in the form of a JSON string.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let mut redactor = Self::default();
        secrets.into_iter().for_each(|secret| redactor.add(secret));
        redactor
    }

    /// Adds a credential.
    pub(crate) fn add(&mut self, secret: &SecretString) {
        let plain = secret.expose_secret();
        if plain.len() < SHORTEST {
            return;
        }
        // The serialization of a string cannot fail.
        let json = serde_json::to_string(plain).unwrap_or_default();
        let escaped = json.trim_start_matches('"').trim_end_matches('"');
        if escaped != plain {
            self.insert(escaped.into());
        }
        self.insert(secret.clone());
    }

    fn insert(&mut self, secret: SecretString) {
        let length = secret.expose_secret().len();
        let at = self.0.partition_point(|known| known.expose_secret().len() >= length);
        self.0.insert(at, secret);
    }

    /// The text without the credentials.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        self.0.iter().for_each(|secret| remove(&mut text, secret.expose_secret()));
        text
    }

    fn apply(&self, text: &mut String) {
        let redacted = self.text(text);
        if redacted != *text {
            *text = redacted;
        }
    }

    /// The error without the credentials.
    pub(crate) fn error(&self, mut error: ErrorShape) -> ErrorShape {
        self.apply(&mut error.code);
        self.apply(&mut error.message);
        if let Some(details) = &mut error.details {
            let texts = [&mut details.code, &mut details.kind, &mut details.request_id, &mut details.reason];
            texts.into_iter().flatten().for_each(|text| self.apply(text));
        }
        error
    }

    /// The refusal without the credentials.
    pub(crate) fn refusal(&self, mut refusal: Refusal) -> Refusal {
        self.apply(&mut refusal.code);
        self.apply(&mut refusal.message);
        refusal
    }

    /// The hello without the credentials.
    pub(crate) fn hello(&self, mut hello: Hello) -> Hello {
        self.apply(&mut hello.server_version);
        hello.scopes.retain(|scope| self.text(scope) == *scope);
        hello
    }
}

/// Removes a credential, and the beginning of the credential at the end of a cut text. Most texts have none of many credentials, so that the
/// last byte is compared first, and nothing is copied.
fn remove(text: &mut String, secret: &str) {
    if text.contains(secret) {
        *text = text.replace(secret, REDACTED);
    }
    let last = text.as_bytes().last().copied();
    let ends_alike = |at: &usize| *at >= SHORTEST && secret.as_bytes().get(at - 1).copied() == last;
    let starts = secret.char_indices().map(|(at, _)| at).filter(ends_alike);
    if let Some(at) = starts.rev().find(|at| text.ends_with(&secret[..*at])) {
        text.truncate(text.len() - at);
        text.push_str(REDACTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(secret: &str, text: &str) -> String {
        Redactor::new([&SecretString::from(secret)]).text(text)
    }

    #[test]
    fn a_credential_is_removed_wherever_it_stands() {
        assert_eq!(
            redacted("s3cret", r#"no: {"token": "s3cret"} s3crets"#),
            r#"no: {"token": "[credential]"} [credential]s"#
        );
        assert_eq!(redacted(r#"a"b\c"#, r#"{"token": "a\"b\\c"} a"b\c"#), r#"{"token": "[credential]"} [credential]"#);
    }

    #[test]
    fn the_beginning_of_a_credential_is_removed_from_the_end_of_a_cut_text() {
        assert_eq!(redacted("s3cret", "the token s3cre"), "the token [credential]");
        assert_eq!(redacted("s3cret", "these words"), "these words", "one letter in common");
        assert_eq!(redacted("äöüß", "xäöü"), "x[credential]");
    }

    #[test]
    fn of_two_credentials_the_longer_one_is_removed_first() {
        let redactor = Redactor::new(&["s3cret", "s3cret-and-more"].map(SecretString::from));
        assert_eq!(redactor.text("s3cret-and-more s3cret"), "[credential] [credential]");
    }

    #[test]
    fn a_short_credential_and_an_empty_one_change_no_text() {
        assert_eq!(redacted("abc", "abc") + &redacted("", "abc"), "abcabc");
    }
}
