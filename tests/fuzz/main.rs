//! The targets of the fuzzer on its corpus, and on a fixed number of mutations of the corpus. The same inputs in each run, on stable Rust.
//!
//! `make fuzz` looks for new inputs. An input that it finds belongs into `corpus`.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a target fails by a panic, outside of #[test] functions too, and the rig takes JSON literals by value"
)]

#[path = "../controllers/answers.rs"]
mod answers;
#[path = "../controllers/cluster.rs"]
#[allow(dead_code, reason = "the targets need a part of it")]
mod cluster;
#[path = "../http/described.rs"]
#[allow(dead_code, reason = "the targets need a part of it")]
mod described;
#[path = "../http/rbac.rs"]
#[allow(dead_code, reason = "the targets need a part of it")]
mod rbac;
#[path = "../http/rig.rs"]
#[allow(dead_code, reason = "the targets need a part of it")]
mod rig;
mod targets;
#[path = "../http/watched.rs"]
#[allow(dead_code, reason = "the targets need a part of it")]
mod watched;

use std::panic::catch_unwind;
use std::path::Path;

use crate::targets::{TARGETS, Target};

/// The mutated inputs of a target.
const MUTATIONS: usize = 1_500;
/// The longest mutated input, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Texts that matter to some parser.
const WORDS: [&str; 22] = [
    "\"",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "\\u0000",
    "\\ud800",
    "1e999",
    "-1",
    "18446744073709551616",
    "{{",
    "}}",
    "{%",
    "..",
    "/",
    "\0",
    "\u{202e}",
    "\r\n",
    "&a [*a, *a]",
];

/// A generator of numbers that are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap_or(0) % bound.max(1)
    }
}

/// The recordings and the corpus of a target, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let dir = tests.join("fuzz/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "the corpus of {name} is empty");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn mutated(inputs: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = inputs[numbers.below(inputs.len())].clone();
    for _ in 0..=numbers.below(6) {
        let (at, end) = (numbers.below(bytes.len() + 1), numbers.below(bytes.len() + 1));
        let part = at.min(end)..at.max(end);
        match numbers.below(6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            1 => drop(bytes.drain(part)),
            2 => {
                let part = bytes[part].to_vec();
                bytes.splice(at..at, part);
            }
            3 => {
                let other = &inputs[numbers.below(inputs.len())];
                let from = numbers.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            4 => bytes.truncate(at),
            _ => {
                let word = WORDS[numbers.below(WORDS.len())];
                bytes.splice(at..at, word.bytes());
            }
        }
        bytes.truncate(MAX_BYTES);
    }
    bytes
}

/// Runs a target on an input. A failure shows the input.
fn check(name: &str, target: Target, input: &[u8]) {
    let shown = String::from_utf8_lossy(&input[..input.len().min(4096)]);
    assert!(catch_unwind(|| target(input)).is_ok(), "the target {name} failed on this input:\n{shown:?}");
}

fn replay(name: &str) {
    let (_, target) = TARGETS.into_iter().find(|(target, _)| *target == name).unwrap();
    let inputs = corpus(name);
    for input in &inputs {
        check(name, target, input);
    }
    let mut numbers = Numbers(0x6d75_7374_6572);
    for _ in 0..MUTATIONS {
        check(name, target, &mutated(&inputs, &mut numbers));
    }
}

macro_rules! replays {
    ($($name:ident: $target:literal),+ $(,)?) => {
        $(#[test]
        fn $name() {
            replay($target);
        })+

        #[test]
        fn every_target_is_replayed_and_has_a_program_for_the_fuzzer() {
            let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
            let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
            assert_eq!([$($target),+], TARGETS.map(|(name, _)| name));
            for (name, _) in TARGETS {
                assert!(fuzz.join("fuzz_targets").join(format!("{name}.rs")).exists(), "{name} has no program");
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
            }
        }
    };
}

replays! {
    no_frame_breaks_a_session: "frames",
    no_conversation_loses_a_request: "session",
    no_template_breaks_its_bounds: "templates",
    no_manifest_breaks_the_api_for_people: "manifests",
    no_body_is_an_error_of_the_server: "http_bodies",
    no_accepted_file_name_leaves_its_folder: "file_names",
}
