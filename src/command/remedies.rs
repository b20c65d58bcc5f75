//! What a reason means and what to do: the tables of `docs/troubleshooting.md`, which `muster doctor` and people read. Pure.

use std::sync::LazyLock;

const DOCUMENT: &str = include_str!("../../docs/troubleshooting.md");
/// The condition of the table of an agent's soul, which is about `status.soul`.
pub(super) const SOUL: &str = "Soul";

/// A row of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Remedy {
    /// The kind of the objects.
    kind: String,
    /// The types of the conditions. Empty: not said.
    conditions: Vec<String>,
    reason: String,
    /// What the reason means. Empty if the table does not say it.
    pub(super) meaning: String,
    /// What to do. Empty if there is nothing to do.
    pub(super) next_step: String,
}

static ALL: LazyLock<Vec<Remedy>> = LazyLock::new(|| read(DOCUMENT));

/// The remedy for a reason of a condition. A row that names the condition comes first.
pub(super) fn find(kind: &str, condition: &str, reason: &str) -> Option<&'static Remedy> {
    let rows = || ALL.iter().filter(|row| row.kind == kind && row.reason == reason);
    let is_of = |row: &&Remedy| row.conditions.iter().any(|one| one == condition);
    // The row about souls has words that are no reasons.
    let is_general = |row: &&Remedy| condition != SOUL && row.conditions.iter().all(|one| one != SOUL);
    rows().find(is_of).or_else(|| rows().find(is_general))
}

fn read(document: &str) -> Vec<Remedy> {
    let (mut kind, mut columns, mut rows) = (String::new(), Vec::new(), Vec::new());
    for line in document.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut kind);
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix('|')) else {
            if !line.starts_with("|-") {
                columns.clear();
            }
            continue;
        };
        let cells: Vec<_> = cells.split(" | ").map(str::trim).collect();
        if columns.is_empty() {
            columns = cells;
        } else if columns[0] == "Reason" || columns[0] == "State" {
            rows.push(row(&kind, &columns, &cells));
        }
    }
    rows
}

fn row(kind: &str, columns: &[&str], cells: &[&str]) -> Remedy {
    let cell = |name: &str| {
        let place = columns.iter().position(|column| *column == name);
        place.and_then(|place| cells.get(place)).copied().unwrap_or_default()
    };
    let is_soul = columns[0] == "State";
    let conditions = if is_soul { SOUL } else { cell("Condition") };
    Remedy {
        kind: kind.to_owned(),
        conditions: conditions.split(", ").filter(|one| !one.is_empty()).map(str::to_owned).collect(),
        // The anchor of the row comes before the word.
        reason: cells[0].split('`').nth(1).unwrap_or(cells[0]).to_owned(),
        meaning: without_links(cell("Meaning")),
        next_step: without_links(cell("Next step")),
    }
}

/// A text of Markdown in which each link is its words.
fn without_links(text: &str) -> String {
    let (mut plain, mut rest) = (String::new(), text);
    while let Some((before, link)) = rest.split_once('[') {
        plain.push_str(before);
        let Some((words, target)) = link.split_once("](") else {
            plain.push('[');
            rest = link;
            continue;
        };
        let Some((_, after)) = target.split_once(')') else {
            plain.push('[');
            rest = link;
            continue;
        };
        plain.push_str(words);
        rest = after;
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;

    #[test]
    fn the_document_has_a_row_for_each_reason_that_is_a_fault() {
        let is_documented = |reason: &Reason| {
            let quoted = format!("`{reason}`");
            ALL.iter().any(|row| row.reason == reason.as_str()) || DOCUMENT.contains(&quoted)
        };
        let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !is_documented(reason)).collect();
        assert!(missing.iter().all(|reason| GOOD.contains(reason)), "docs/troubleshooting.md lacks {missing:?}");
    }

    /// The reason of a condition without an error, which the document does not name.
    const GOOD: [Reason; 1] = [Reason::Encrypted];

    #[test]
    fn a_row_is_found_by_the_kind_the_condition_and_the_reason() {
        let remedy = |kind, condition, reason| find(kind, condition, reason).unwrap();
        let credentials = remedy("AgentGateway", "Authenticated", "BadCredentials");
        assert_eq!(credentials.meaning, "The gateway refuses the token or the password.");
        assert_eq!(credentials.next_step, "Correct the Secret that `spec.auth` names.");
        let limited = |condition| remedy("AgentGateway", condition, "RateLimited").meaning.clone();
        assert_ne!(limited("Authenticated"), limited("ConfigSynced"));
        assert!(remedy("Agent", "Ready", "BoardNotFound").next_step.starts_with("Create the Board"));
        assert!(remedy("Board", "Ready", "GatewayNotFound").next_step.contains("`gatewayRef` cannot be changed"));
        assert!(remedy("Agent", SOUL, "NoMatch").next_step.starts_with("The directory has no soul"));
        assert!(find("Agent", "Ready", "NoMatch").is_none() && find("Board", "Ready", "BadCredentials").is_none());
        assert!(!ALL.iter().any(|row| row.next_step.contains("](")), "links are words");
    }

    #[test]
    fn a_link_becomes_its_words() {
        assert_eq!(without_links("see [the log](#a), or [b](c.md) `a[0]` [x"), "see the log, or b `a[0]` [x");
    }
}
