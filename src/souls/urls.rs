//! The URLs of a directory.

use url::Url;

/// The longest handle or slug, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// The kind of a document in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// The list of souls.
    Sitemap,
    /// The Markdown of a soul.
    Soul,
}

impl DocumentKind {
    /// The longest accepted document, in bytes.
    #[must_use]
    pub fn max_bytes(self) -> usize {
        match self {
            DocumentKind::Sitemap => 4 << 20,
            DocumentKind::Soul => 64 << 10,
        }
    }

    /// The value of the header `Accept`.
    #[must_use]
    pub fn accept(self) -> &'static str {
        match self {
            DocumentKind::Sitemap => "application/xml, text/xml",
            DocumentKind::Soul => "text/markdown, text/plain",
        }
    }

    /// Whether a media type, in lower case and without parameters, is accepted.
    #[must_use]
    pub fn accepts_type(self, content_type: &str) -> bool {
        match self {
            DocumentKind::Sitemap => matches!(content_type, "application/xml" | "text/xml"),
            DocumentKind::Soul => matches!(content_type, "text/markdown" | "text/x-markdown" | "text/plain"),
        }
    }
}

/// A soul in the list of a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListedSoul {
    /// The handle of the author.
    pub handle: String,
    /// The name of the soul.
    pub slug: String,
}

impl ListedSoul {
    /// A listed soul; `None` unless handle and slug have 1 to 128 ASCII letters, digits, `-`, `_` and `.`, without `.` at the
    /// start.
    #[must_use]
    pub fn parse(handle: &str, slug: &str) -> Option<Self> {
        let is_plain = |name: &str| {
            (1..=MAX_NAME_BYTES).contains(&name.len())
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        let listed = Self { handle: handle.to_owned(), slug: slug.to_owned() };
        (is_plain(handle) && is_plain(slug)).then_some(listed)
    }

    /// The URL of the soul's page.
    #[must_use]
    pub fn page(&self, directory: &Url) -> Url {
        below(directory, &format!("{PAGES}{}/{}", self.handle, self.slug))
    }

    /// The URL of the soul's Markdown.
    #[must_use]
    pub fn markdown(&self, directory: &Url) -> Url {
        below(directory, &format!("api/souls/{}/{}.md", self.handle, self.slug))
    }
}

/// The path of the souls' pages, relative to the directory.
const PAGES: &str = "souls/";

/// The URL of the folder of the souls' pages.
#[must_use]
pub fn pages(directory: &Url) -> Url {
    below(directory, PAGES)
}

/// The URL of a directory's sitemap.
#[must_use]
pub fn sitemap(directory: &Url) -> Url {
    below(directory, "sitemap.xml")
}

/// The URL of a path relative to the directory, on the directory's origin.
fn below(directory: &Url, path: &str) -> Url {
    let mut url = directory.clone();
    url.set_path(&format!("{}/{path}", directory.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_urls_are_below_the_directory_on_its_origin() {
        for (directory, page) in [
            ("https://souls.example", "https://souls.example/souls/ann/sre"),
            ("http://h:8080/mirror/?q#f", "http://h:8080/mirror/souls/ann/sre"),
        ] {
            let directory = directory.parse().unwrap();
            assert_eq!(ListedSoul::parse("ann", "sre").unwrap().page(&directory).as_str(), page);
        }
        let directory = "https://souls.example/".parse().unwrap();
        assert_eq!(sitemap(&directory).as_str(), "https://souls.example/sitemap.xml");
        let markdown = ListedSoul::parse("ann", "sre").unwrap().markdown(&directory);
        assert_eq!(markdown.as_str(), "https://souls.example/api/souls/ann/sre.md");
    }

    #[test]
    fn a_name_that_would_change_the_url_is_refused() {
        for name in ["", "..", ".x", "a/b", "a%2fb", "a?b", "a b", "é", "a\nb"] {
            assert_eq!(ListedSoul::parse(name, "sre"), None, "{name:?}");
            assert_eq!(ListedSoul::parse("ann", name), None, "{name:?}");
        }
        assert_eq!(ListedSoul::parse(&"a".repeat(129), "sre"), None);
    }
}
