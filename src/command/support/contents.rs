//! The files of a bundle, bounded and without secrets. Pure.

use std::path::{Component, Path};

use serde_json::Value;

use super::scrub::masked;
use crate::command::print::DataFormat;
use crate::command::requests::RequestError;
use crate::openclaw::text_mask::TextMask;

/// The longest file, in bytes.
pub(super) const MAX_FILE: usize = 8 * 1024 * 1024;
/// The most bytes of all files.
const MAX_TOTAL: usize = 64 * 1024 * 1024;
/// What README.txt begins with.
const INTRODUCTION: &str = "\
This is a support bundle of Muster: what a maintainer needs to find a fault. Look through it before you share it.

Left out are the values of Secrets and ConfigMaps, annotations of others, texts of people for agents and about people, and of spec.config and
spec.identityProfile.extra all texts but plain words. [removed] stands in their place. Values of the Secrets that the objects in this bundle name
and that you may read, at most 500 Secrets, are removed from all files. [credential] stands in their place. Values of other Secrets are not known
here. What else looks like a secret is removed too: values of names such as token, users and passwords in URLs, private keys, random words. A
secret that looks like a common word and is in none of these Secrets cannot be recognized.

Names of objects, namespaces, images, addresses and models are in the files.

Files:
";

/// A file of a bundle.
#[derive(Debug)]
pub(super) struct BundleFile {
    /// The path in the bundle.
    pub(super) path: String,
    pub(super) text: String,
}

/// Which part of a text stays if it is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeptPart {
    Beginning,
    End,
}

/// The files so far, and what could not be read.
#[derive(Debug, Default)]
pub(super) struct BundleContents {
    mask: TextMask,
    files: Vec<BundleFile>,
    /// A line of README.txt for each file.
    descriptions: Vec<String>,
    failures: Vec<String>,
    size: usize,
}

impl BundleContents {
    /// Sets the mask for all further files.
    pub(super) fn set_mask(&mut self, mask: TextMask) {
        self.mask = mask;
    }

    pub(super) fn mask(&self) -> &TextMask {
        &self.mask
    }

    /// Adds a file with a value as YAML, or its beginning.
    pub(super) fn add_value(&mut self, path: &str, description: &str, value: &Value) {
        self.add_scrubbed(path, description, &masked(value, &self.mask));
    }

    /// Adds a file with a value as YAML, or its beginning. The texts of the value are without secrets.
    pub(super) fn add_scrubbed(&mut self, path: &str, description: &str, value: &Value) {
        let text = DataFormat::Yaml.text(value);
        self.push(path, description, cut(self.mask.known(&text), KeptPart::Beginning));
    }

    /// Adds a file with a text.
    pub(super) fn add(&mut self, path: &str, description: &str, text: &str, kept: KeptPart) {
        self.push(path, description, cut(self.mask.text(text), kept));
    }

    fn push(&mut self, path: &str, description: &str, text: String) {
        // The names of pods come from the API server.
        let is_within = |path: &str| Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_within(path) || path.contains(['\\', '\0', '\n']) {
            self.fail(&format!("{path:?}"), "it is left out: the path leads out of the bundle");
            return;
        }
        if self.size + text.len() > MAX_TOTAL {
            self.fail(path, "it is left out: the bundle has its largest size");
            return;
        }
        self.size += text.len();
        self.descriptions.push(format!("  {path}: {description}\n"));
        self.files.push(BundleFile { path: path.to_owned(), text });
    }

    /// Notes a part that could not be read.
    pub(super) fn fail(&mut self, what: &str, cause: &str) {
        self.failures.push(format!("{what}: {cause}\n"));
    }

    /// The value of a request, or nothing and a note.
    pub(super) fn read<T>(&mut self, what: &str, answer: Result<T, RequestError>) -> Option<T> {
        answer.map_err(|error| self.fail(what, &error.to_string())).ok()
    }

    /// The number of the notes.
    pub(super) fn failures(&self) -> usize {
        self.failures.len()
    }

    /// All files, with those about the bundle first.
    pub(super) fn finish(mut self) -> Vec<BundleFile> {
        let failures = std::mem::take(&mut self.failures).concat();
        let has_failures = !failures.is_empty();
        let text = if has_failures { &failures } else { "Everything was read.\n" };
        // The size has room for these two.
        self.size = 0;
        self.add("errors.txt", "what could not be read, and why", text, KeptPart::Beginning);
        let readme =
            BundleFile { path: "README.txt".into(), text: INTRODUCTION.to_owned() + &self.descriptions.concat() };
        std::iter::once(readme).chain(self.files).collect()
    }
}

/// A text of at most [`MAX_FILE`] bytes in whole lines, with a note if something is missing.
fn cut(mut text: String, kept: KeptPart) -> String {
    if text.len() <= MAX_FILE {
        return text;
    }
    let left_out = text.len() - MAX_FILE;
    let note = format!("[{left_out} bytes or a little more are left out here]\n");
    match kept {
        KeptPart::Beginning => {
            let end = text.floor_char_boundary(MAX_FILE);
            text.truncate(text[..end].rfind('\n').map_or(0, |at| at + 1));
            text + &note
        }
        KeptPart::End => {
            let rest = &text[text.ceil_char_boundary(left_out)..];
            note + rest.split_once('\n').map_or("", |(_, lines)| lines)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of<'a>(files: &'a [BundleFile], path: &str) -> &'a str {
        &files.iter().find(|file| file.path == path).unwrap().text
    }

    #[test]
    fn each_file_is_described_and_masked_and_failures_are_listed() {
        let mut contents = BundleContents::default();
        contents.add("a.txt", "the first", "token=hush\n", KeptPart::Beginning);
        contents.fail("b", "token=hush");
        assert_eq!(contents.failures(), 1);
        let files = contents.finish();
        assert_eq!(text_of(&files, "a.txt"), "token=[removed]\n");
        assert_eq!(text_of(&files, "errors.txt"), "b: token=[removed]\n");
        let readme = text_of(&files, "README.txt");
        assert!(readme.contains("  a.txt: the first\n") && readme.contains("  errors.txt: "), "{readme}");
        assert_eq!(text_of(&BundleContents::default().finish(), "errors.txt"), "Everything was read.\n");
    }

    #[test]
    fn a_long_text_is_cut_between_lines() {
        let long = format!("first\n{}\nlast\n", "ä".repeat(MAX_FILE / 2));
        let note = format!("[{} bytes or a little more are left out here]\n", long.len() - MAX_FILE);
        assert_eq!(cut(long.clone(), KeptPart::Beginning), format!("first\n{note}"));
        assert_eq!(cut(long, KeptPart::End), format!("{note}last\n"));
    }

    #[test]
    fn a_path_that_leads_out_of_the_bundle_is_left_out() {
        let mut contents = BundleContents::default();
        for path in ["operator/logs/../../../x.log", "/etc/x", "a\\..\\b", "ok/a.log"] {
            contents.add(path, "", "text\n", KeptPart::Beginning);
        }
        assert_eq!(contents.failures(), 3);
        let files = contents.finish();
        let paths: Vec<_> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["README.txt", "ok/a.log", "errors.txt"]);
    }

    #[test]
    fn a_bundle_has_a_largest_size() {
        let mut contents = BundleContents { size: MAX_TOTAL - 4, ..BundleContents::default() };
        for (path, text) in [("a", "four"), ("b", "one more")] {
            contents.add(path, "", text, KeptPart::Beginning);
        }
        let files = contents.finish();
        assert_eq!(text_of(&files, "a"), "four");
        assert_eq!(text_of(&files, "errors.txt"), "b: it is left out: the bundle has its largest size\n");
    }
}
