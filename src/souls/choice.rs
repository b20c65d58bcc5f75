//! The choice of a soul for a role.

/// The name of a soul in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoulName<'a> {
    /// The handle of the author.
    pub handle: &'a str,
    /// The name of the soul.
    pub slug: &'a str,
}

/// The index in `souls` of the best soul for a role; `None` without a match.
///
/// The first rule with a match decides:
/// 1. The slug equals the role.
/// 2. The slug begins with the role.
/// 3. The slug contains the role.
/// 4. Handle and slug contain at least two words of the role; most words win.
///
/// Among several matches the shortest slug wins, then the first slug and the first handle in alphabetical order. So the order
/// of the list does not matter.
#[must_use]
pub fn select(souls: &[SoulName<'_>], role: &str) -> Option<usize> {
    let role = slug(role);
    if role.is_empty() {
        return None;
    }
    let rules: [&dyn Fn(&SoulName<'_>) -> usize; 4] = [
        &|soul| usize::from(soul.slug.eq_ignore_ascii_case(&role)),
        &|soul| usize::from(soul.slug.to_ascii_lowercase().starts_with(&format!("{role}-"))),
        &|soul| usize::from(soul.slug.to_ascii_lowercase().contains(&role)),
        &|soul| common_words(soul, &role),
    ];
    rules.into_iter().find_map(|score| best(souls, score))
}

/// The index of the soul with the highest score above zero.
fn best(souls: &[SoulName<'_>], score: &dyn Fn(&SoulName<'_>) -> usize) -> Option<usize> {
    let scored =
        souls.iter().enumerate().map(|(index, soul)| (score(soul), index, soul)).filter(|(score, ..)| *score > 0);
    let best =
        scored.min_by_key(|(score, _, soul)| (std::cmp::Reverse(*score), soul.slug.len(), soul.slug, soul.handle));
    best.map(|(_, index, _)| index)
}

/// The number of words of the role in a soul's handle and slug; 0 for fewer than two words.
fn common_words(soul: &SoulName<'_>, role: &str) -> usize {
    let name = format!("{}/{}", soul.handle, soul.slug).to_ascii_lowercase();
    let mut words: Vec<_> = role.split('-').collect();
    words.sort_unstable();
    words.dedup();
    let hits = words.into_iter().filter(|word| name.contains(word)).count();
    if hits >= 2 { hits } else { 0 }
}

/// The role as a slug: `devops-engineer` for `DevOps Engineer`.
fn slug(role: &str) -> String {
    let words = role.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The choice from `handle/slug`s, which must be the same for the reverse order.
    fn chosen<'a>(souls: &[&'a str], role: &str) -> Option<&'a str> {
        let of = |souls: &[&'a str]| {
            let names: Vec<_> = souls
                .iter()
                .map(|s| s.split_once('/').unwrap())
                .map(|(handle, slug)| SoulName { handle, slug })
                .collect();
            select(&names, role).map(|at| souls[at])
        };
        let reversed: Vec<_> = souls.iter().rev().copied().collect();
        assert_eq!(of(souls), of(&reversed), "the order of the list matters");
        of(souls)
    }

    #[test]
    fn the_exact_name_wins_over_everything_else() {
        let souls = ["a/backend-developer-pro", "b/senior-backend-developer", "c/Backend-Developer"];
        assert_eq!(chosen(&souls, " Backend  Developer!"), Some("c/Backend-Developer"));
    }

    #[test]
    fn a_name_that_begins_with_the_role_wins_over_one_that_contains_it() {
        let souls = ["a/my-sre", "b/sre-lead", "c/sre-of-the-night"];
        assert_eq!(chosen(&souls, "SRE"), Some("b/sre-lead"));
        assert_eq!(chosen(&["a/my-sre", "b/of-the-sre-team"], "SRE"), Some("a/my-sre"));
    }

    #[test]
    fn two_words_of_the_role_match_and_one_word_does_not() {
        let souls = ["a/devops-guru", "b/engineer-for-devops", "c/platform-engineer"];
        assert_eq!(chosen(&souls, "DevOps Engineer"), Some("b/engineer-for-devops"));
        assert_eq!(chosen(&["a/devops-guru"], "DevOps Engineer"), None);
        assert_eq!(chosen(&["devops/the-engineer"], "DevOps Engineer"), Some("devops/the-engineer"));
        assert_eq!(chosen(&["a/engineer-in-residence"], "Engineer Engineer"), None);
    }

    #[test]
    fn more_words_win_then_the_shorter_name_then_the_alphabet() {
        let souls = ["a/x-data-engineer-x", "b/engineer-with-data-for-cloud"];
        assert_eq!(chosen(&souls, "Cloud Data Engineer"), Some("b/engineer-with-data-for-cloud"));
        assert_eq!(chosen(&["b/sre-bb", "a/sre-cc", "a/sre-bb", "a/sre-long"], "sre"), Some("a/sre-bb"));
    }

    #[test]
    fn an_empty_role_and_an_empty_list_have_no_match() {
        assert_eq!(chosen(&["a/sre"], ""), None);
        assert_eq!(chosen(&["a/sre"], " — "), None);
        assert_eq!(chosen(&[], "sre"), None);
    }

    proptest! {
        #[test]
        fn the_order_of_the_list_never_matters(
            souls in prop::collection::vec("[ab]/[a-c]{1,2}(-[a-c]{1,2}){0,2}", 0..8), role in "[a-c ]{0,6}",
        ) {
            let souls: Vec<_> = souls.iter().map(String::as_str).collect();
            chosen(&souls, &role);
        }
    }
}
