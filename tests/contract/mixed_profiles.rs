//! Profiles for versions between the four: each has some features of an earlier and some of a later version.

use muster_simulator::Profile;

type MixedProfiles = [(&'static str, fn() -> Profile); 3];

/// The versions as `scripts/try-openclaw` showed them.
pub(crate) const PROFILES: MixedProfiles =
    [("as 2026.5.7", protocol_3), ("as 2026.7.35", late_list), ("as 2026.8.1 to 2026.9.3", entries_without_hashes)];

/// Protocol 3 and a list, without lost writes and without restarts.
fn protocol_3() -> Profile {
    Profile { version: "2026.5.7", announced_version: "2026.5.7", protocol: 3, ..Profile::v2026_5_28() }
}

/// The last version with a list: protocol 4, and the methods of later versions.
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

/// Entries and the files of later versions, without file hashes.
fn entries_without_hashes() -> Profile {
    Profile { version: "2026.8.1", announced_version: "2026.8.1", file_hashes: false, ..Profile::v2026_9_6() }
}
