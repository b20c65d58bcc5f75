//! The folder of a workspace on a gateway's host, and whether two folders meet. Pure.

/// The beginning of the name of each folder that Muster derives.
pub(crate) const DERIVED: &str = "workspace-";

/// The id of the agent to which Muster gives a folder of this name. The name of the folder of an Agent in another namespace than its
/// AgentGateway ends with a dot and the namespace; no id has a dot.
pub(crate) fn id_of_derived(name: &str) -> Option<&str> {
    name.strip_prefix(DERIVED)?.split('.').next()
}

/// A folder in one form: without `.`, `..`, doubled slashes and a slash at the end. Links on the host are unknown to Muster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    base: Base,
    names: Vec<String>,
}

/// The directory to which the names of a folder are relative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Root,
    /// The home directory of the gateway's user, which Muster does not know.
    Home,
    /// A relative path, or a path behind a variable of the gateway's environment.
    Unknown,
}

impl Folder {
    /// The folder of a path.
    #[must_use]
    pub fn parse(path: &str) -> Self {
        let (mut base, rest) = match path.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => (Base::Home, rest),
            Some(_) | None if path.starts_with('/') => (Base::Root, path),
            Some(_) | None => (Base::Unknown, path),
        };
        let mut names: Vec<String> = Vec::new();
        for name in rest.split('/').filter(|name| !matches!(*name, "" | ".")) {
            match name {
                ".." => {
                    if names.pop().is_none() && base == Base::Home {
                        base = Base::Unknown;
                    }
                }
                _ if name.contains("${") => {
                    names.clear();
                    base = Base::Unknown;
                }
                _ => names.push(name.to_owned()),
            }
        }
        Self { base, names }
    }

    /// The names of its directories, the last one is its own.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the folder may be within a folder that Muster derives: one of its directories is named like such a folder.
    #[must_use]
    pub fn is_below_derived(&self) -> bool {
        self.names.split_last().is_some_and(|(_, above)| above.iter().any(|name| name.starts_with(DERIVED)))
    }

    /// Whether the folders are equal, or one contains the other.
    ///
    /// # Caveats
    /// `~` and an absolute path meet when a directory that can be a home makes them equal, or makes one contain the other.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        match (self.base, other.base) {
            (one, another) if one == another && one != Base::Unknown => prefix(&self.names, &other.names),
            (Base::Unknown, _) => meets_somewhere(&self.names, &other.names, |_| true),
            (_, Base::Unknown) => meets_somewhere(&other.names, &self.names, |_| true),
            (Base::Home, _) => {
                is_home_or_above(&other.names) || meets_somewhere(&self.names, &other.names, can_be_home)
            }
            (_, _) => is_home_or_above(&self.names) || meets_somewhere(&other.names, &self.names, can_be_home),
        }
    }
}

/// Whether one list begins with the other.
fn prefix(one: &[String], other: &[String]) -> bool {
    one.iter().zip(other).all(|(one, other)| one == other)
}

/// Whether the names meet the path, if they are relative to a directory of the path. `can_be` decides which one.
fn meets_somewhere(names: &[String], path: &[String], can_be: impl Fn(&[String]) -> bool) -> bool {
    let is_whole = names.is_empty() || path.is_empty();
    is_whole || (0..path.len()).any(|end| can_be(&path[..end]) && prefix(names, &path[end..]))
}

/// Whether a directory can be the home of a gateway's user.
fn can_be_home(path: &[String]) -> bool {
    match path.first().map(String::as_str) {
        None => false,
        Some("root") => path.len() == 1,
        Some("home" | "Users") => path.len() == 2,
        Some(_) => !path.iter().any(|name| name.starts_with('.')),
    }
}

/// Whether a directory is a usual home, or contains usual homes.
fn is_home_or_above(path: &[String]) -> bool {
    match path.first().map(String::as_str) {
        None => true,
        Some("root") => path.len() == 1,
        Some("home" | "Users") => path.len() <= 2,
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn meet(one: &str, other: &str) -> bool {
        let (one, other) = (Folder::parse(one), Folder::parse(other));
        assert_eq!(one.meets(&other), other.meets(&one), "{one:?} {other:?}");
        one.meets(&other)
    }

    #[test]
    fn equal_containing_and_contained_folders_meet_in_every_form() {
        for (one, other) in [
            ("/w/a", "/w/a"),
            ("/w/a", "/w//./b/../a/"),
            ("/w", "/w/a/b"),
            ("/", "/w"),
            ("~/w/a", "~/w/./a/"),
            ("~", "~/w"),
            ("~/w/a", "/home/o/w/a"),
            ("~/w/a", "/home/o/w"),
            ("~/w", "/root/w/a/b"),
            ("~/w", "/srv/gateway/w"),
            ("~/w", "/home/o"),
            ("~/w", "/home"),
            ("~", "/srv/nova"),
            ("w/a", "/srv/w/a"),
            ("${STATE}/w/a", "/srv/w"),
            ("~/../o/w", "/home/o/w"),
        ] {
            assert!(meet(one, other), "{one} {other}");
        }
    }

    #[test]
    fn siblings_and_folders_with_a_common_beginning_of_their_names_do_not_meet() {
        for (one, other) in [
            ("/w/a", "/w/ab"),
            ("/w/a", "/w/b"),
            ("~/w/a", "~/w/ab"),
            ("~/w", "/home/o/x/w"),
            ("~/workspace/workspace-mc-1", "/home/o/.openclaw/workspace"),
            ("~/w", "/srv/nova"),
            ("/w/a/../b", "/w/a"),
        ] {
            assert!(!meet(one, other), "{one} {other}");
        }
    }

    #[test]
    fn the_id_of_a_folder_is_read_with_and_without_a_namespace() {
        assert_eq!(id_of_derived("workspace-ops-bot"), Some("ops-bot"));
        assert_eq!(id_of_derived("workspace-ops-bot.team-a"), Some("ops-bot"));
        assert_eq!(id_of_derived("notes"), None);
    }

    #[test]
    fn a_folder_below_a_derived_folder_is_recognised() {
        assert!(Folder::parse("/w/workspace-mc-1/sub/workspace-mc-2").is_below_derived());
        assert!(!Folder::parse("/w/workspace-mc-1").is_below_derived() && !Folder::parse("/").is_below_derived());
    }

    proptest! {
        #[test]
        fn a_folder_meets_itself_and_each_folder_within_it(path in "(~|)(/[a-c.]{1,2}){0,5}", below in "(/[a-c]{1,2}){0,3}") {
            prop_assert!(Folder::parse(&path).meets(&Folder::parse(&path)));
            let path = path.replace("..", "b");
            let within = Folder::parse(&format!("{path}{below}"));
            prop_assert!(Folder::parse(&path).meets(&within));
        }
    }
}
