//! The interface of the HTTP client.

use futures::future::BoxFuture;
use url::Url;

use super::urls::DocumentKind;

/// A request for one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// The URL of the document.
    pub url: Url,
    /// The kind of document, which bounds its media types and its length.
    pub kind: DocumentKind,
    /// The `ETag` of the cached document.
    pub etag: Option<String>,
    /// Whether loopback and private addresses are allowed.
    pub allow_private: bool,
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// The cached document is current.
    NotModified,
    /// The document.
    Text {
        /// The text.
        text: String,
        /// The `ETag`, if the server sent one.
        etag: Option<String>,
    },
    /// The document does not exist.
    Missing,
}

/// The longest error, in characters.
const MAX_ERROR_CHARS: usize = 512;

/// The error of a fetch: a phrase for the person who configured the directory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FetchError(String);

impl FetchError {
    /// An error. A text of more than 512 characters is cut, because it may contain text of a server.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self(message.chars().filter(|c| !c.is_control()).take(MAX_ERROR_CHARS).collect())
    }
}

/// Fetches documents over HTTP. Tests use a directory in memory.
pub trait Fetch: Send + Sync + 'static {
    /// Fetches a document.
    ///
    /// # Guarantees
    /// The fetch ends by its own timeout, and holds at most [`DocumentKind::max_bytes`] of the document.
    ///
    /// # Errors
    /// The address is not allowed, the connection failed, or the answer is not a document of the kind.
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<Fetched, FetchError>>;
}
