//! Gateways between the four versions: each has some of what an earlier one does and some of what a later one does.

use muster_simulator::Profile;

type Profiles = [(&'static str, fn() -> Profile); 3];

/// As the versions were found by `scripts/try-openclaw`.
pub(crate) const PROFILES: Profiles =
    [("as 2026.5.7", protocol_3), ("as 2026.7.35", late_list), ("as 2026.8.1 to 2026.9.3", entries_without_hashes)];

/// Protocol 3 and a list, but nothing is lost and nothing restarts.
fn protocol_3() -> Profile {
    Profile { version: "2026.5.7", announced_version: "2026.5.7", protocol: 3, ..Profile::v2026_5_28() }
}

/// The last with a list: protocol 4, and methods of the versions after it.
fn late_list() -> Profile {
    let newest = Profile::v2026_9_6();
    Profile {
        version: "2026.7.35",
        announced_version: "2026.7.35",
        methods: newest.methods,
        events: newest.events,
        ..Profile::v2026_7_1()
    }
}

/// Entries, and the files that go with them, before files had hashes.
fn entries_without_hashes() -> Profile {
    Profile { version: "2026.8.1", announced_version: "2026.8.1", file_hashes: false, ..Profile::v2026_9_6() }
}
