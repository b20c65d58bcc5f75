//! The fleet page for people.
//!
//! The files contain no data and need no authentication. The page reads its data from the API with the person's token. The
//! files are part of the binary, so that the page and the API always have the same version.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::hash::sha256_hex;

/// The page may only load its own files and call its own server.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The path, the content type and the text of every file.
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

/// A served file.
#[derive(Clone, Debug)]
struct UiFile {
    content_type: &'static str,
    text: &'static str,
    etag: String,
}

/// The routes of the page at `/` and of its files below `/fleet/`.
pub fn router() -> Router {
    FILES.iter().fold(Router::new(), |router, &(path, content_type, text)| {
        let file = UiFile { content_type, text, etag: format!("\"{}\"", sha256_hex(text)) };
        router.route(path, get(serve).with_state(file))
    })
}

async fn serve(State(file): State<UiFile>, headers: HeaderMap) -> Response {
    let cached = headers.get(header::IF_NONE_MATCH).and_then(|etags| etags.to_str().ok());
    let mut response = if cached.is_some_and(|etags| contains(etags, &file.etag)) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, file.content_type)], file.text).into_response()
    };
    let common = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The browser keeps the file and revalidates it each time, because another version of the operator has other files.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let headers = response.headers_mut();
    headers.extend(common.map(|(name, value)| (name, HeaderValue::from_static(value))));
    if let Ok(etag) = HeaderValue::from_str(&file.etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

/// Whether a list of entity tags contains `etag`. A proxy that compresses files makes a tag weak.
fn contains(etags: &str, etag: &str) -> bool {
    etags.split(',').map(str::trim).any(|t| t == "*" || t.strip_prefix("W/").unwrap_or(t) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> UiFile {
        UiFile { content_type: HTML, text: "<!doctype html>", etag: "\"abc\"".into() }
    }

    #[test]
    fn every_file_that_the_page_loads_is_served() {
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
    fn the_page_needs_only_what_its_policy_allows() {
        for (path, _, text) in FILES {
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", " style=\"", "<style", "onclick="] {
                assert!(!text.contains(word), "{path} has {word}");
            }
            let without_namespace = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!without_namespace.contains("http://") && !without_namespace.contains("https://"), "{path}");
        }
    }

    #[tokio::test]
    async fn a_file_is_served_with_its_type_its_policy_and_an_etag() {
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
        for (etags, status) in
            [("\"abc\"", 304), ("W/\"abc\"", 304), ("\"x\", \"abc\"", 304), ("*", 304), ("\"abcd\"", 200)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, etags.parse().unwrap());
            assert_eq!(serve(State(file()), headers).await.status().as_u16(), status, "{etags}");
        }
    }
}
