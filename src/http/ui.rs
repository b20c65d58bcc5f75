//! The fleet page for people.
//!
//! The files hold no data and need no sign-in; what the page shows, it asks of the API with the person's own token. They are
//! part of the binary, so that the page and the API are always of one version.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::hash::sha256_hex;

/// The page may load its own files, talk to its own server and do nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Every file: its path, its type and its text.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("ui/index.html")),
    ("/fleet/fleet.css", CSS, include_str!("ui/fleet.css")),
    ("/fleet/api.js", SCRIPT, include_str!("ui/api.js")),
    ("/fleet/detail.js", SCRIPT, include_str!("ui/detail.js")),
    ("/fleet/dom.js", SCRIPT, include_str!("ui/dom.js")),
    ("/fleet/fleet.js", SCRIPT, include_str!("ui/fleet.js")),
    ("/fleet/list.js", SCRIPT, include_str!("ui/list.js")),
    ("/fleet/model.js", SCRIPT, include_str!("ui/model.js")),
    ("/fleet/sse.js", SCRIPT, include_str!("ui/sse.js")),
    ("/fleet/store.js", SCRIPT, include_str!("ui/store.js")),
];

/// A file as it is served.
#[derive(Clone, Debug)]
struct File {
    kind: &'static str,
    text: &'static str,
    tag: String,
}

/// The page at `/`, and its files below `/fleet/`.
pub fn router() -> Router {
    FILES.iter().fold(Router::new(), |router, &(path, kind, text)| {
        let file = File { kind, text, tag: format!("\"{}\"", sha256_hex(text)) };
        router.route(path, get(serve).with_state(file))
    })
}

async fn serve(State(file): State<File>, headers: HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    let mut response = if known.is_some_and(|tags| names(tags, &file.tag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, file.kind)], file.text).into_response()
    };
    let always = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Kept, and asked for again each time: an operator of another version has other files.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let headers = response.headers_mut();
    headers.extend(always.map(|(name, value)| (name, HeaderValue::from_static(value))));
    if let Ok(tag) = HeaderValue::from_str(&file.tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// Whether a list of entity tags names this one. A proxy that compresses makes it a weak one.
fn names(tags: &str, tag: &str) -> bool {
    tags.split(',').map(str::trim).any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        File { kind: HTML, text: "<!doctype html>", tag: "\"abc\"".into() }
    }

    #[test]
    fn every_file_that_the_page_names_is_served() {
        let served: Vec<_> = FILES.iter().map(|(path, ..)| *path).collect();
        for (_, _, text) in FILES {
            let imports = text.lines().filter_map(|line| line.split_once("from './")?.1.strip_suffix("';"));
            let named = imports.map(|name| format!("/fleet/{name}"));
            let linked = ["src=\"", "href=\""]
                .iter()
                .flat_map(|key| text.split(key).skip(1))
                .filter_map(|rest| rest.split_once('"').filter(|(path, _)| path.starts_with("fleet/")));
            for path in named.chain(linked.map(|(path, _)| format!("/{path}"))) {
                assert!(served.contains(&path.as_str()), "{path}");
            }
        }
    }

    #[test]
    fn nothing_in_the_page_needs_more_than_the_policy_allows() {
        for (path, _, text) in FILES {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", " style=\"", "<style", "onclick="] {
                assert!(!text.contains(word), "{path} has {word}");
            }
            let without_namespace = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!without_namespace.contains("http://") && !without_namespace.contains("https://"), "{path}");
        }
    }

    #[tokio::test]
    async fn a_file_comes_with_its_type_its_policy_and_a_tag() {
        let response = serve(State(file()), HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("content-type"), HTML);
        assert!(header("content-security-policy").contains("default-src 'none'"));
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert_eq!((header("cache-control").as_str(), header("etag").as_str()), ("no-cache", "\"abc\""));
    }

    #[tokio::test]
    async fn a_file_that_the_browser_has_is_not_sent_again() {
        for (tags, status) in
            [("\"abc\"", 304), ("W/\"abc\"", 304), ("\"x\", \"abc\"", 304), ("*", 304), ("\"abcd\"", 200)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, tags.parse().unwrap());
            assert_eq!(serve(State(file()), headers).await.status().as_u16(), status, "{tags}");
        }
    }
}
