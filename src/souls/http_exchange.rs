//! One HTTP request and its answer over a stream.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::fetch::{FetchError, FetchRequest, Fetched};

/// The longest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// The longest `ETag` that is kept, in bytes.
const MAX_ETAG_BYTES: usize = 256;

/// The answer of a server.
pub(crate) enum Answer {
    /// The result of the fetch.
    Done(Fetched),
    /// A redirect to this URL.
    Redirect(Url),
}

/// Requests `url`, which differs from the URL of the request after a redirect.
///
/// # Errors
/// The exchange failed, or the answer is not a document of the request's kind.
pub(crate) async fn ask<S>(stream: S, url: &Url, request: &FetchRequest) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |e: hyper::Error| FetchError::new(format!("the request failed: {e}"));
    let mut builder = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) =
        builder.max_buf_size(MAX_HEAD_BYTES).handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(head(url, request)?).await.map_err(failed)?;
    match answer.status() {
        StatusCode::OK => text(answer, request).await.map(Answer::Done),
        StatusCode::NOT_MODIFIED if request.etag.is_some() => Ok(Answer::Done(Fetched::NotModified)),
        StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Answer::Done(Fetched::Missing)),
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => {
            let location = value(answer.headers(), &header::LOCATION);
            let to = location.and_then(|location| url.join(location).ok());
            to.map(Answer::Redirect).ok_or_else(|| FetchError::new("the server redirected to no address"))
        }
        status => Err(FetchError::new(format!("the server answered {status}"))),
    }
}

fn head(url: &Url, request: &FetchRequest) -> Result<http::Request<Empty<Bytes>>, FetchError> {
    let authority = url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
    let mut builder = http::Request::builder()
        .method(Method::GET)
        .uri(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(header::HOST, authority)
        .header(header::ACCEPT, request.kind.accept())
        .header(header::ACCEPT_ENCODING, "identity")
        .header(header::USER_AGENT, concat!("muster/", env!("CARGO_PKG_VERSION")));
    // Only the server of an ETag gets the ETag.
    if let Some(etag) = request.etag.as_deref().filter(|_| url.origin() == request.url.origin()) {
        builder = builder.header(header::IF_NONE_MATCH, etag);
    }
    builder.body(Empty::new()).map_err(|e| FetchError::new(format!("no request can be made of the URL: {e}")))
}

fn value<'a>(headers: &'a HeaderMap<HeaderValue>, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn text(answer: http::Response<Incoming>, request: &FetchRequest) -> Result<Fetched, FetchError> {
    let headers = answer.headers();
    if value(headers, &header::CONTENT_ENCODING).is_some_and(|e| !e.eq_ignore_ascii_case("identity")) {
        return Err(FetchError::new("the server sent a compressed answer without a request for it"));
    }
    let full = value(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let content_type = full.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !request.kind.accepts_type(&content_type) {
        let accept = request.kind.accept();
        return Err(FetchError::new(format!("the server sent the type {content_type:?} and not {accept}")));
    }
    let etag = value(headers, &header::ETAG).filter(|etag| etag.len() <= MAX_ETAG_BYTES).map(str::to_owned);
    let max_bytes = request.kind.max_bytes();
    let too_long = || FetchError::new(format!("the answer is longer than {max_bytes} bytes"));
    let length = value(headers, &header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| usize::try_from(length).map_or(true, |length| length > max_bytes)) {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    let mut body = answer.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| FetchError::new(format!("the answer broke off: {e}")))?;
        let Some(part) = frame.data_ref() else { continue };
        if bytes.len() + part.len() > max_bytes {
            return Err(too_long());
        }
        bytes.extend_from_slice(part);
    }
    let text = String::from_utf8(bytes).map_err(|_| FetchError::new("the answer is not UTF-8"))?;
    Ok(Fetched::Text { text, etag })
}
