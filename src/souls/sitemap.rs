//! The sitemap of a directory, which lists its souls.

use std::collections::BTreeSet;

use quick_xml::events::Event;
use url::Url;

use super::fetch::FetchError;
use super::urls::{ListedSoul, pages};

/// Most souls that are read from a sitemap.
pub const MAX_LISTED: usize = 20_000;

/// The longest URL that is read from a sitemap, in bytes.
const MAX_LOCATION_BYTES: usize = 1024;

/// The souls of a sitemap, in the order of their names. Other pages of the directory, and pages of another origin, are ignored.
///
/// # Guarantees
/// The work is bounded by the length of the text. The reader resolves no entity, so that a document cannot expand itself or
/// refer to other documents.
///
/// # Errors
/// The text is not XML, is incomplete, or is not a sitemap.
pub fn read(directory: &Url, xml: &str) -> Result<Vec<ListedSoul>, FetchError> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let root = pages(directory);
    let mut listed = BTreeSet::new();
    let mut location: Option<String> = None;
    let mut is_sitemap = false;
    let mut open = 0_usize;
    loop {
        match reader.read_event().map_err(|e| FetchError::new(format!("the sitemap is not XML: {e}")))? {
            Event::Start(tag) => {
                open += 1;
                let name = tag.local_name();
                is_sitemap |= name.as_ref() == "urlset";
                location = (name.as_ref() == "loc").then(String::new);
            }
            Event::End(_) => {
                open = open.saturating_sub(1);
                if let Some(soul) = location.take().and_then(|l| soul(&root, l.trim())) {
                    listed.insert(soul);
                }
            }
            Event::Text(text) => push(&mut location, text.as_ref()),
            Event::CData(text) => push(&mut location, text.as_ref()),
            // No URL of a soul needs a reference.
            Event::GeneralRef(_) => location = None,
            Event::Eof if open > 0 => return Err(FetchError::new("the sitemap is incomplete")),
            Event::Eof => break,
            Event::Empty(tag) => is_sitemap |= tag.local_name().as_ref() == "urlset",
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
        if listed.len() == MAX_LISTED {
            break;
        }
    }
    if is_sitemap {
        Ok(listed.into_iter().collect())
    } else {
        Err(FetchError::new("the answer is not a sitemap, because it has no urlset (a sitemap index is not followed)"))
    }
}

fn push(location: &mut Option<String>, text: &str) {
    if let Some(url) = location {
        if url.len() + text.len() > MAX_LOCATION_BYTES {
            *location = None;
        } else {
            url.push_str(text);
        }
    }
}

/// The soul of a page.
fn soul(root: &Url, location: &str) -> Option<ListedSoul> {
    let page = Url::parse(location).ok().filter(|page| page.origin() == root.origin())?;
    let mut names = page.path().strip_prefix(root.path())?.split('/').filter(|name| !name.is_empty());
    ListedSoul::parse(names.next()?, names.next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(xml: &str) -> Result<Vec<String>, FetchError> {
        let listed = read(&"https://souls.example".parse().unwrap(), xml)?;
        Ok(listed.into_iter().map(|l| format!("{}/{}", l.handle, l.slug)).collect())
    }

    #[test]
    fn the_souls_are_read_with_and_without_a_namespace() {
        let entries = "<url><loc> https://souls.example/souls/ann/sre </loc><lastmod>2026-01-01</lastmod></url>\
            <url><loc><![CDATA[https://souls.example/souls/bob/dev/]]></loc></url>";
        for open in ["urlset", "urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\""] {
            let xml = format!("<?xml version=\"1.0\"?><{open}>{entries}</urlset>");
            assert_eq!(names(&xml).unwrap(), ["ann/sre", "bob/dev"]);
        }
        let prefixed = "<s:urlset xmlns:s='x'><s:loc>https://souls.example/souls/ann/sre</s:loc></s:urlset>";
        assert_eq!(names(prefixed).unwrap(), ["ann/sre"]);
    }

    #[test]
    fn other_pages_are_ignored() {
        for location in [
            "https://souls.example/about",
            "https://souls.example/souls/ann",
            "https://other.example/souls/ann/sre",
            "http://souls.example/souls/ann/sre",
            "https://souls.example:444/souls/ann/sre",
            "https://souls.example/souls/../../etc/passwd",
            "https://souls.example/souls/a%2fb/sre",
            "/souls/ann/sre",
            "https://souls.example/souls/ann/&amp;sre",
        ] {
            assert_eq!(names(&format!("<urlset><loc>{location}</loc></urlset>")).unwrap(), [""; 0], "{location}");
        }
    }

    #[test]
    fn another_document_is_an_error_and_an_empty_sitemap_is_not() {
        assert_eq!(names("<urlset/>").unwrap(), [""; 0]);
        assert_eq!(names("<urlset></urlset>").unwrap(), [""; 0]);
        assert!(names("<html><body>hello</body></html>").is_err());
        assert!(names("<urlset><loc>https://souls.example/souls/a/b</wrong></urlset>").is_err());
        assert!(names("plain text").is_err());
        let index = "<sitemapindex><sitemap><loc>https://souls.example/one.xml</loc></sitemap></sitemapindex>";
        assert!(names(index).unwrap_err().to_string().contains("a sitemap index is not followed"));
    }

    #[test]
    fn an_incomplete_sitemap_is_an_error_and_not_a_shorter_list() {
        let whole = "<urlset><url><loc>https://souls.example/souls/ann/sre</loc></url></urlset>";
        assert_eq!(names(whole).unwrap(), ["ann/sre"]);
        for end in [whole.len() - "</urlset>".len(), whole.len() - "</url></urlset>".len(), "<urlset>".len()] {
            assert!(names(&whole[..end]).is_err(), "{}", &whole[..end]);
        }
    }

    #[test]
    fn entities_of_the_document_are_not_resolved() {
        let xml =
            "<!DOCTYPE urlset [<!ENTITY x \"https://souls.example/souls/ann/sre\">]><urlset><loc>&x;</loc></urlset>";
        assert_eq!(names(xml).unwrap(), [""; 0]);
    }
}
