//! The matrix: every request of Muster to a gateway, with every fault of a request, in the lifecycle of an Agent from its
//! creation to its deletion. The final state is the same each time. `MUSTER_LONG=1`, which `make test-long` sets, adds the last call of each
//! method that reads, and the faults after a read was executed: nothing on the gateway tells them from the faults before it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster_simulator::{Fault, Profile};
use tokio::sync::OnceCell;

use crate::lifecycle_matrix::{Bounds, IdSource, Lifecycle};
use crate::views::explores_all;

/// The gateways of the matrix: the newest version, and one that still deletes main sessions.
const PROFILES: [fn() -> Profile; 2] = [Profile::v2026_9_6, Profile::v2026_7_1];

/// The methods that Muster calls.
const METHODS: [&str; 19] = [
    "connect",
    "sessions.subscribe",
    "config.get",
    "agents.list",
    "cron.status",
    "cron.list",
    "agents.files.get",
    "agents.workspace.get",
    "agents.create",
    "config.patch",
    "agents.files.list",
    "agents.files.set",
    "sessions.list",
    "sessions.patch",
    "sessions.reset",
    "chat.history",
    "chat.send",
    "agents.delete",
    "sessions.delete",
];

/// The methods that write.
const WRITES: [&str; 8] = [
    "agents.create",
    "config.patch",
    "agents.files.set",
    "sessions.patch",
    "sessions.reset",
    "chat.send",
    "agents.delete",
    "sessions.delete",
];

/// The methods of which the execution makes a difference, for the connection too. `connect` may give the device a token.
const CHANGES: [&str; 10] = {
    let mut methods = ["connect"; 10];
    methods[1] = "sessions.subscribe";
    let mut at = 0;
    while at < WRITES.len() {
        methods[at + 2] = WRITES[at];
        at += 1;
    }
    methods
};

/// The methods for the faults after the execution.
fn executed() -> &'static [&'static str] {
    if explores_all() { &METHODS } else { &CHANGES }
}

/// The methods that write the config.
const CONFIG_WRITES: [&str; 3] = ["agents.create", "config.patch", "agents.delete"];

/// All methods but `connect`: a connected gateway can answer them with an error at any time.
const AFTER_CONNECT: [&str; 18] = {
    let mut methods = [""; 18];
    let mut at = 0;
    while at < 18 {
        methods[at] = METHODS[at + 1];
        at += 1;
    }
    methods
};

/// A column of the matrix.
struct Column {
    name: &'static str,
    methods: &'static [&'static str],
    fault: fn(Fault) -> Fault,
    bounds: Bounds,
}

/// The connection is not lost: nothing may be done twice.
const CONNECTED: Bounds = Bounds { runs: 2, dials: 1, stays_ready: true, requests_per_second: 0 };
/// Requests are refused for a while. Each reconcile may repeat some of them.
const REFUSED: Bounds = Bounds { stays_ready: false, requests_per_second: 12, ..CONNECTED };
/// The gateway does not apply its config for a while, and is asked whether it has.
const UNSETTLED: Bounds = Bounds { stays_ready: false, requests_per_second: 1, ..CONNECTED };
/// The connection is lost.
const LOST: Bounds = Bounds { dials: 3, ..CONNECTED };
/// The process restarts by itself. It has forgotten the keys of former wakes.
const RESTARTED: Bounds = Bounds { runs: 3, dials: 12, ..CONNECTED };
/// The process is killed and stays away for more than a minute. Its config may be unsettled when it is back.
const KILLED: Bounds = Bounds { runs: 3, dials: 60, ..UNSETTLED };

impl Bounds {
    /// The additional cost of a version: a gateway that restarts after each patch is away for a while each time.
    fn on(&self, profile: &Profile) -> Self {
        let restarts = if profile.restarts_on_patch { 4 } else { 0 };
        Self { runs: self.runs + restarts, dials: self.dials + 6 * restarts, ..*self }
    }
}

/// A gateway, the source of the agent's id, a method, and the number of the call.
type CallSite = (fn() -> Profile, IdSource, &'static str, usize);

/// Config writes that create the agent, also on versions that lose writes, restart after each write, or accept three a
/// minute.
const EXTRA_CALLS: [CallSite; 8] = [
    (Profile::v2026_9_6, IdSource::Derived, "config.patch", 1),
    (Profile::v2026_7_1, IdSource::Derived, "config.patch", 1),
    (Profile::v2026_3_2, IdSource::Derived, "config.patch", 1),
    (Profile::v2026_3_2, IdSource::Derived, "config.patch", 2),
    (Profile::v2026_7_1, IdSource::Derived, "agents.delete", 1),
    (Profile::v2026_3_2, IdSource::Derived, "agents.delete", 1),
    (Profile::v2026_7_1, IdSource::Chosen, "agents.create", 1),
    (Profile::v2026_3_2, IdSource::Chosen, "agents.create", 1),
];

/// The number of calls of each method in a lifecycle without a fault, for each of [`PROFILES`].
static CALLS: [OnceCell<BTreeMap<String, usize>>; PROFILES.len()] = [const { OnceCell::const_new() }; PROFILES.len()];

/// Counts the calls of each method in a lifecycle without a fault.
async fn calls(profile: fn() -> Profile) -> BTreeMap<String, usize> {
    let mut lifecycle = Lifecycle::new(profile(), IdSource::Chosen, format!("{} without a fault", profile().version));
    lifecycle.run(&CONNECTED).await;
    let mut calls = BTreeMap::new();
    for call in lifecycle.gateway.calls() {
        *calls.entry(call.method).or_default() += 1;
    }
    calls
}

/// Runs a column: the fault on the first call of each method, and on the last call of each method that writes (with `MUSTER_LONG`, of each
/// method), on the first gateway whose lifecycle calls the method.
async fn run_column(column: &Column) {
    let mut covered = BTreeSet::new();
    for (profile, counts) in PROFILES.into_iter().zip(&CALLS) {
        for (method, &count) in counts.get_or_init(|| calls(profile)).await {
            assert!(METHODS.contains(&method.as_str()), "{method} is missing in the matrix");
            if !column.methods.contains(&method.as_str()) || !covered.insert(method.clone()) {
                continue;
            }
            let last = if WRITES.contains(&method.as_str()) || explores_all() { count } else { 1 };
            for nth in BTreeSet::from([1, last]) {
                run_cell(column, profile(), IdSource::Chosen, method, nth).await;
            }
        }
    }
    for (profile, id, method, nth) in EXTRA_CALLS {
        if column.methods.contains(&method) {
            run_cell(column, profile(), id, method, nth).await;
        }
    }
    let missed: Vec<_> = column.methods.iter().filter(|method| !covered.contains(**method)).collect();
    assert!(missed.is_empty(), "no lifecycle calls {missed:?}");
}

async fn run_cell(column: &Column, profile: Profile, id: IdSource, method: &str, nth: usize) {
    let context = format!("{} {id:?}: {method} number {nth}, {}", profile.version, column.name);
    let bounds = column.bounds.on(&profile);
    let mut lifecycle = Lifecycle::new(profile, id, context.clone());
    lifecycle.gateway.inject((column.fault)(Fault::on(method).nth(nth)));
    lifecycle.run(&bounds).await;
    assert_eq!(lifecycle.gateway.faults_left(), 0, "{context}: the fault did not occur");
}

macro_rules! columns {
    ($($name:ident: $methods:expr, $bounds:expr, $fault:expr;)+) => {
        $(#[tokio::test(start_paused = true)]
        async fn $name() {
            run_column(&Column { name: stringify!($name), methods: $methods, fault: $fault, bounds: $bounds }).await;
        })+
    };
}

columns! {
    a_gateway_killed_before_the_call_executes: &METHODS, KILLED, Fault::kill_before;
    a_gateway_killed_after_the_call_executed: executed(), KILLED, Fault::kill_after;
    a_gateway_killed_during_a_config_write: &CONFIG_WRITES, KILLED, Fault::kill_during;
    a_gateway_restarted_before_the_call_executes: &METHODS, RESTARTED, Fault::restart_before;
    a_gateway_restarted_after_the_call_executed: executed(), RESTARTED, Fault::restart_after;
    the_connection_drops_before_the_call_executes: &METHODS, LOST, Fault::drop_connection_before;
    the_connection_drops_after_the_call_executed: executed(), LOST, Fault::drop_connection_after;
    the_connection_falls_silent_before_the_call_executes: &METHODS, LOST, Fault::silence_before;
    the_connection_falls_silent_after_the_call_executed: executed(), LOST, Fault::silence_after;
    the_call_gets_no_reply: &METHODS, LOST, Fault::hang;
    the_reply_is_lost: executed(), LOST, Fault::lose_reply;
    the_reply_is_repeated: &AFTER_CONNECT, CONNECTED, Fault::repeat_reply;
    the_reply_is_overtaken_by_later_replies: &METHODS, CONNECTED, |fault| fault.hold_reply(Duration::from_secs(3));
    the_method_is_unavailable_for_ten_seconds: &AFTER_CONNECT, REFUSED, |fault| fault
        .error("UNAVAILABLE", "gateway starting; retry shortly", true)
        .retry_after(Duration::from_millis(500))
        .lasting(Duration::from_secs(10));
    the_method_is_rate_limited_for_thirty_seconds: &AFTER_CONNECT, REFUSED, |fault| fault
        .error("UNAVAILABLE", "rate limit exceeded; retry after 30s", true)
        .retry_after(Duration::from_secs(30))
        .lasting(Duration::from_secs(30));
    the_call_answers_ok_and_applies_nothing_for_five_minutes: &CONFIG_WRITES, UNSETTLED, |fault| fault.unsettle(Duration::from_mins(5));
    the_gateways_disk_is_full_for_three_minutes: &WRITES, REFUSED, |fault| fault
        .error("UNAVAILABLE", "Error: ENOSPC: no space left on device, write", false)
        .lasting(Duration::from_mins(3));
}
