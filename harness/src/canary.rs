//! A canary: knows the secrets of a test, sees what the parts put out, and names each place where a secret is.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use nix::unistd::Uid;

/// A shorter text is a word and no secret.
const MIN_SECRET_BYTES: usize = 8;

/// The known secrets, and the outputs since the last search.
///
/// Guarantees: no message contains a secret. A secret is found in an output that came before the secret was known, too, as far as no search
/// was between them.
#[derive(Debug, Default)]
pub struct Canary {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The texts to look for, each with the name of its secret.
    needles: BTreeMap<String, String>,
    /// Each different output once, by its place.
    outputs: BTreeSet<(String, String)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} texts to look for, {} outputs", self.needles.len(), self.outputs.len())
    }
}

impl Canary {
    /// Makes a secret known under this name: the secret itself, each line of it, and both in base64.
    pub fn learn(&self, name: &str, secret: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for part in [secret.trim()].into_iter().chain(secret.lines().map(str::trim)) {
            if part.len() < MIN_SECRET_BYTES || part.starts_with("-----") {
                continue;
            }
            for needle in [part.to_owned(), STANDARD_NO_PAD.encode(part), URL_SAFE_NO_PAD.encode(part)] {
                state.needles.entry(needle).or_insert_with(|| name.to_owned());
            }
        }
    }

    /// Keeps an output for the next search.
    pub fn see(&self, place: &str, output: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.outputs.insert((place.to_owned(), output.to_owned()));
    }

    /// Keeps the arguments of all processes of this user for the next search.
    pub fn see_arguments(&self) {
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            // A process that has ended in the meantime has no files.
            let Ok(of_process) = entry.metadata() else { continue };
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            if of_process.uid() == Uid::current().as_raw() && !line.is_empty() {
                let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                self.see(&format!("the arguments of a process {}", name.trim()), &String::from_utf8_lossy(&line));
            }
        }
    }

    /// Searches the outputs since the last search for all secrets. Each message names a secret and the place of the output.
    #[must_use]
    pub fn findings(&self) -> Vec<String> {
        let (needles, outputs) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (state.needles.clone(), std::mem::take(&mut state.outputs))
        };
        let search = Search::new(&needles);
        let found: BTreeSet<_> =
            outputs.iter().flat_map(|(place, output)| search.names(output).map(move |name| (name, place))).collect();
        found.into_iter().map(|(name, place)| format!("{name} is in {place}")).collect()
    }
}

/// The texts by their first two bytes: one pass over an output finds all of them.
struct Search<'a> {
    by_start: Vec<Vec<(&'a [u8], &'a str)>>,
}

impl<'a> Search<'a> {
    fn new(needles: &'a BTreeMap<String, String>) -> Self {
        let mut by_start = vec![Vec::new(); 1 << 16];
        for (needle, name) in needles {
            let needle = needle.as_bytes();
            by_start[usize::from(u16::from_be_bytes([needle[0], needle[1]]))].push((needle, name.as_str()));
        }
        Self { by_start }
    }

    fn names<'b>(&'b self, output: &'b str) -> impl Iterator<Item = &'a str> + 'b {
        let output = output.as_bytes();
        output.windows(2).enumerate().flat_map(move |(at, start)| {
            let candidates = &self.by_start[usize::from(u16::from_be_bytes([start[0], start[1]]))];
            candidates.iter().filter(move |(needle, _)| output[at..].starts_with(needle)).map(|(_, name)| *name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    const SECRET: &str = "s3cret-of-a-test";

    fn canary() -> Canary {
        let canary = Canary::default();
        canary.learn("the token of ns/one", SECRET);
        canary
    }

    #[test]
    fn a_secret_in_an_output_is_named_with_its_place_and_not_shown() {
        let canary = canary();
        canary.see("the log", &format!("INFO sent {SECRET}, again {SECRET}\n"));
        canary.see("the metrics", "up 1\n");
        let findings = canary.findings();
        assert_eq!(findings, ["the token of ns/one is in the log"]);
        assert!(canary.findings().is_empty(), "an output is searched once");
    }

    #[test]
    fn a_secret_is_found_in_base64_and_in_an_earlier_output() {
        let canary = Canary::default();
        canary.see("Board ns/ops", &format!("note: {}=", STANDARD_NO_PAD.encode(SECRET)));
        canary.learn("the token of ns/one", SECRET);
        assert_eq!(canary.findings(), ["the token of ns/one is in Board ns/ops"]);
    }

    #[test]
    fn each_line_of_a_key_is_a_secret_and_its_frame_is_none() {
        let canary = Canary::default();
        canary.learn("the key", "-----BEGIN KEY-----\nfirst-line-of-it\nsecond-line-of-it\n-----END KEY-----\n");
        canary.see("a certificate", "-----BEGIN KEY-----");
        canary.see("a status", "second-line-of-it");
        assert_eq!(canary.findings(), ["the key is in a status"]);
    }

    #[test]
    fn a_secret_in_the_arguments_of_a_process_is_found() {
        let canary = canary();
        let mut process = Command::new("sh")
            .args(["-c", "echo; read -r end", SECRET])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The shell has its own arguments as soon as it writes.
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(process.stdout.take().unwrap()), &mut line).unwrap();
        canary.see_arguments();
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(canary.findings(), ["the token of ns/one is in the arguments of a process sh"]);
    }

    #[test]
    fn a_short_word_is_no_secret() {
        let canary = Canary::default();
        canary.learn("the kind", "token");
        canary.see("a status", "token");
        assert!(canary.findings().is_empty());
    }

    #[test]
    fn the_debug_text_contains_no_secret() {
        let canary = canary();
        assert!(!format!("{canary:?}").contains(SECRET));
    }
}
