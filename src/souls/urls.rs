//! Where things are in a directory.

use url::Url;

/// The longest handle or slug that is taken.
const LONGEST_NAME: usize = 128;

/// What is fetched from a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DocumentKind {
    /// The list of souls.
    Sitemap,
    /// The Markdown of a soul.
    Soul,
}

impl DocumentKind {
    /// The most bytes that are taken.
    #[must_use]
    pub fn most_bytes(self) -> usize {
        match self {
            DocumentKind::Sitemap => 4 << 20,
            DocumentKind::Soul => 64 << 10,
        }
    }

    /// What is asked for.
    #[must_use]
    pub fn accept(self) -> &'static str {
        match self {
            DocumentKind::Sitemap => "application/xml, text/xml",
            DocumentKind::Soul => "text/markdown, text/plain",
        }
    }

    /// Whether a content type, without its parameters and in lower case, is one of it.
    #[must_use]
    pub fn takes(self, content_type: &str) -> bool {
        match self {
            DocumentKind::Sitemap => matches!(content_type, "application/xml" | "text/xml"),
            DocumentKind::Soul => matches!(content_type, "text/markdown" | "text/x-markdown" | "text/plain"),
        }
    }
}

/// A soul that a directory lists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListedSoul {
    /// Who wrote it.
    pub handle: String,
    /// Its name.
    pub slug: String,
}

impl ListedSoul {
    /// A listed soul, if both are plain names.
    #[must_use]
    pub fn parse(handle: &str, slug: &str) -> Option<Self> {
        let plain = |name: &str| {
            (1..=LONGEST_NAME).contains(&name.len())
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        let listed = Self { handle: handle.to_owned(), slug: slug.to_owned() };
        (plain(handle) && plain(slug)).then_some(listed)
    }

    /// The page of the soul.
    #[must_use]
    pub fn page(&self, directory: &Url) -> Url {
        below(directory, &format!("{PAGES}{}/{}", self.handle, self.slug))
    }

    /// The Markdown of the soul.
    #[must_use]
    pub fn markdown(&self, directory: &Url) -> Url {
        below(directory, &format!("api/souls/{}/{}.md", self.handle, self.slug))
    }
}

/// Where the pages of a directory's souls are, below it.
const PAGES: &str = "souls/";

/// Where the pages of a directory's souls are.
#[must_use]
pub fn pages(directory: &Url) -> Url {
    below(directory, PAGES)
}

/// The list of a directory.
#[must_use]
pub fn sitemap(directory: &Url) -> Url {
    below(directory, "sitemap.xml")
}

/// A path below the directory's own, on its origin.
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
    fn everything_is_below_the_directory_on_its_origin() {
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
    fn a_name_that_would_lead_elsewhere_is_none() {
        for name in ["", "..", ".x", "a/b", "a%2fb", "a?b", "a b", "é", "a\nb"] {
            assert_eq!(ListedSoul::parse(name, "sre"), None, "{name:?}");
            assert_eq!(ListedSoul::parse("ann", name), None, "{name:?}");
        }
        assert_eq!(ListedSoul::parse(&"a".repeat(129), "sre"), None);
    }
}
