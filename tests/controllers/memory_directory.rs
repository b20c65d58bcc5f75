//! A soul directory in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use muster::souls::fetch::{Fetch, FetchError, FetchRequest, Fetched};

/// The directory at `https://souls.test`, with a soul for each `handle/slug`.
#[derive(Clone, Default)]
pub(crate) struct MemorySoulDirectory(Arc<Mutex<DirectoryState>>);

#[derive(Default)]
struct DirectoryState {
    souls: BTreeMap<String, String>,
    unavailable: bool,
    hanging: bool,
    requests: Vec<String>,
    not_modified: usize,
}

impl MemorySoulDirectory {
    pub(crate) fn put(&self, name: &str, markdown: &str) {
        self.0.lock().unwrap().souls.insert(name.into(), markdown.into());
    }

    pub(crate) fn remove(&self, name: &str) {
        self.0.lock().unwrap().souls.remove(name);
    }

    /// Sets whether every request fails.
    pub(crate) fn set_unavailable(&self, unavailable: bool) {
        self.0.lock().unwrap().unavailable = unavailable;
    }

    /// From now on no request is answered.
    pub(crate) fn hang(&self) {
        self.0.lock().unwrap().hanging = true;
    }

    /// The requested paths so far, and the number of answers `NotModified`.
    pub(crate) fn requests(&self) -> (Vec<String>, usize) {
        let state = self.0.lock().unwrap();
        (state.requests.clone(), state.not_modified)
    }
}

impl DirectoryState {
    fn text(&self, path: &str) -> Option<String> {
        if path == "/sitemap.xml" {
            let pages = self.souls.keys().map(|name| format!("<url><loc>https://souls.test/souls/{name}</loc></url>"));
            return Some(format!("<urlset>{}</urlset>", pages.collect::<String>()));
        }
        let name = path.strip_prefix("/api/souls/")?.strip_suffix(".md")?;
        self.souls.get(name).cloned()
    }
}

impl Fetch for MemorySoulDirectory {
    fn fetch<'a>(&'a self, request: &'a FetchRequest) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        Box::pin(async move {
            if self.0.lock().unwrap().hanging {
                return std::future::pending().await;
            }
            let mut state = self.0.lock().unwrap();
            state.requests.push(request.url.path().to_owned());
            if state.unavailable {
                return Err(FetchError::new("the directory is down"));
            }
            let Some(text) = state.text(request.url.path()) else { return Ok(Fetched::Missing) };
            let etag = Some(muster::hash::sha256_hex(&text));
            if etag == request.etag {
                state.not_modified += 1;
                return Ok(Fetched::NotModified);
            }
            Ok(Fetched::Text { text, etag })
        })
    }
}
