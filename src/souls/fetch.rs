//! The port to the web.

use futures::future::BoxFuture;
use url::Url;

use super::urls::DocumentKind;

/// One thing to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// Where it is.
    pub url: Url,
    /// What it is: that says what types and how many bytes are taken.
    pub kind: DocumentKind,
    /// The mark of what one has already.
    pub etag: Option<String>,
    /// Whether loopback and private addresses may be asked.
    pub allow_private: bool,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is what one has already.
    NotModified,
    /// The text.
    Text {
        /// What was sent.
        text: String,
        /// Its mark, when the server gave one.
        etag: Option<String>,
    },
    /// There is no such thing.
    Missing,
}

/// The most characters of an error.
const LONGEST: usize = 512;

/// Why something could not be fetched: a phrase for the person who set the directory up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(String);

impl FetchError {
    /// An error. What is longer than a sentence is cut: a server may have put something long into it.
    #[must_use]
    pub fn new(what: impl Into<String>) -> Self {
        let what: String = what.into();
        Self(what.chars().filter(|c| !c.is_control()).take(LONGEST).collect())
    }
}

/// Fetches over HTTP. Tests hand in a directory in memory.
pub trait Fetch: Send + Sync + 'static {
    /// Fetches one thing.
    ///
    /// # Guarantees
    /// It ends, by a deadline of its own, and holds no more than the most bytes of the request's kind.
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<Fetched, FetchError>>;
}
