//! The objects that a command line names. Pure.

use super::resources::{self, ResourceType};
use crate::api::names::is_object_name;

/// Objects of one kind.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The kind.
    pub(super) resource: &'static ResourceType,
    /// The names of the objects. Empty: all objects.
    pub(super) names: Vec<String>,
}

/// Reads `KIND[,KIND...] [NAME...]` or `KIND/NAME...`.
///
/// # Errors
/// A sentence that repeats the word.
pub(super) fn parse(words: &[String]) -> Result<Vec<Target>, String> {
    let Some((kinds, names)) = words.split_first() else { return Err("give a kind, such as agents".into()) };
    if words.iter().any(|word| word.contains('/')) {
        return parse_pairs(words);
    }
    for name in names {
        check_name(name)?;
    }
    let mut targets: Vec<Target> = Vec::new();
    for word in kinds.split(',') {
        for resource in resources::named(word)? {
            add(&mut targets, resource, names);
        }
    }
    Ok(targets)
}

fn parse_pairs(words: &[String]) -> Result<Vec<Target>, String> {
    let mut targets = Vec::new();
    for word in words {
        let Some((kind, name)) = word.split_once('/') else {
            return Err(format!("{word:?}: give either KIND/NAME for each object, or one KIND and names"));
        };
        check_name(name)?;
        for resource in resources::named(kind)? {
            add(&mut targets, resource, &[name.to_owned()]);
        }
    }
    Ok(targets)
}

/// Adds names to the target of a kind, each once.
fn add(targets: &mut Vec<Target>, resource: &'static ResourceType, names: &[String]) {
    let known = targets.iter_mut().find(|target| std::ptr::eq(target.resource, resource));
    let target = match known {
        Some(target) => target,
        None => targets.push_mut(Target { resource, names: Vec::new() }),
    };
    for name in names {
        if !target.names.contains(name) {
            target.names.push(name.clone());
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    if is_object_name(name) {
        return Ok(());
    }
    Err(format!("{name:?} is no name of an object: names have lower-case letters, digits, hyphens and dots"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Vec<(String, Vec<String>)>, String> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        Ok(parse(&words)?.into_iter().map(|target| (target.resource.kind.clone(), target.names)).collect())
    }

    #[test]
    fn objects_are_named_by_a_kind_and_names_or_by_pairs() {
        for (line, expected) in [
            ("agents", vec![("Agent", vec![])]),
            ("agt one two one", vec![("Agent", vec!["one", "two"])]),
            ("boards,agents", vec![("Board", vec![]), ("Agent", vec![])]),
            ("agents,agent", vec![("Agent", vec![])]),
            ("agent/one board/ops agents.muster.dev/two", vec![("Agent", vec!["one", "two"]), ("Board", vec!["ops"])]),
            ("muster", vec![("AgentGateway", vec![]), ("Board", vec![]), ("Agent", vec![])]),
        ] {
            let names = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
            let expected: Vec<_> = expected.into_iter().map(|(kind, all)| (kind.to_owned(), names(all))).collect();
            assert_eq!(read(line).as_ref(), Ok(&expected), "{line}");
        }
    }

    #[test]
    fn words_that_name_no_object_are_refused_and_repeated() {
        for (line, expected) in [
            ("", "give a kind"),
            ("pods", "no kind \"pods\""),
            ("agents One", "\"One\" is no name"),
            ("agent/", "\"\" is no name"),
            ("agent/../../secrets", "\"../../secrets\" is no name"),
            ("agent/one two", "\"two\": give either"),
            ("agents one/two", "\"agents\": give either"),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
