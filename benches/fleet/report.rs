//! The printed figures.

use std::collections::BTreeSet;

use crate::measure::Counts;

/// Prints the head of the figures of a scenario.
pub(crate) fn head(scenario: &str) {
    println!("\n{scenario:<58} {:>10} {:>10} {:>8}", "bare", "muster", "ratio");
}

/// Prints one figure of both clients, and their ratio.
pub(crate) fn row(what: &str, bare: Option<f64>, muster: f64) {
    let ratio = bare.filter(|bare| *bare > 0.0).map(|bare| format!("{:.2}", muster / bare)).unwrap_or_default();
    println!("{what:<58} {:>10} {:>10} {ratio:>8}", bare.map(number).unwrap_or_default(), number(muster));
}

/// Prints the counts of the bare client and of Muster, and Muster's count for each agent.
pub(crate) fn counts(what: &str, agents: usize, bare: Option<&Counts>, muster: &Counts) {
    println!("\n{what:<58} {:>10} {:>10} {:>8}", "bare", "muster", "an agent");
    let none = Counts::new();
    let bare = bare.unwrap_or(&none);
    for name in bare.keys().chain(muster.keys()).collect::<BTreeSet<_>>() {
        let of = |counts: &Counts| counts.get(name).copied().unwrap_or_default();
        println!("  {name:<56} {:>10} {:>10} {:>8.2}", of(bare), of(muster), per(of(muster), agents));
    }
}

/// A count for each agent.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark are small")]
pub(crate) fn per(count: u64, agents: usize) -> f64 {
    count as f64 / agents as f64
}

fn number(value: f64) -> String {
    let digits = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        _ => 2,
    };
    format!("{value:.digits$}")
}
