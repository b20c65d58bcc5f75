use serde_json::json;

use super::*;
use crate::openclaw::model::roster::ConfigAnswer;

/// The answer of a version with `agents.entries`, with these directives: path, kind, and whether other keys stand beside them.
fn new_version(parsed: &Value, resolved: &Value, directives: &[(&[&str], &str, bool)]) -> ConfigAnswer {
    let directive = |(path, kind, beside): &(&[&str], &str, bool)| {
        json!({ "path": path, "kind": kind, "hasSiblingOverrides": beside, "hasArrayAncestor": false,
            "targetPath": "/home/o/.openclaw/agents.json5" })
    };
    let answer = json!({
        "parsed": parsed, "resolved": resolved, "sourceConfig": resolved, "config": { "agents": { "entries": {} } },
        "includeProvenance": directives.iter().map(directive).collect::<Vec<_>>(),
        "agentRosterIncludeOwned": !directives.is_empty() && !resolved["agents"]["entries"].is_null(),
    });
    ConfigAnswer::read(&answer.to_string()).unwrap()
}

/// The answer of a version with `agents.list`; 2026.3.2 does not answer `sourceConfig`.
fn old_version(parsed: &Value, resolved: &Value, has_source: bool) -> ConfigAnswer {
    let mut answer = json!({ "parsed": parsed, "resolved": resolved, "config": { "agents": { "list": [] } } });
    if has_source {
        answer["sourceConfig"] = resolved.clone();
    }
    ConfigAnswer::read(&answer.to_string()).unwrap()
}

fn entries() -> Value {
    json!({ "agents": { "ownership": "explicit", "entries": { "desk": { "workspace": "~/desk" } } } })
}

fn list() -> Value {
    json!({ "agents": { "list": [{ "id": "main" }, { "id": "desk", "workspace": "~/desk" }] } })
}

#[test]
fn the_entries_of_included_files_are_read_wherever_the_directive_stands() {
    let include = json!({ "$include": "./x.json5" });
    for parsed in [
        include.clone(),
        json!({ "gateway": {}, "$include": ["./a.json5", "./b.json5"] }),
        json!({ "agents": include }),
        json!({ "agents": { "ownership": "explicit", "entries": include } }),
        json!({ "agents": { "ownership": "explicit", "entries": { "desk": include } } }),
    ] {
        let answer = new_version(&parsed, &entries(), &[(&["agents"], "single", false)]);
        assert_eq!(answer.entries["desk"].tree()["workspace"], "~/desk", "{parsed}");
        assert!(answer.explicit_ownership, "{parsed}");
    }
    for parsed in [
        include.clone(),
        json!({ "agents": include }),
        json!({ "agents": { "list": include } }),
        json!({ "agents": { "list": [{ "id": "main" }, include] } }),
    ] {
        for has_source in [false, true] {
            let answer = old_version(&parsed, &list(), has_source);
            assert_eq!(answer.entries["desk"].tree()["workspace"], "~/desk", "{parsed}");
        }
    }
}

#[test]
fn an_entry_of_the_file_counts_as_written_and_an_included_one_is_escaped() {
    let written = json!({ "name": "$${A} ${B}" });
    let resolved = json!({ "name": "${A} b" });
    let parsed = json!({ "agents": { "entries": { "one": written, "two": { "$include": "./two.json5" } } } });
    let both = json!({ "agents": { "entries": { "one": resolved, "two": resolved } } });
    let answer = new_version(&parsed, &both, &[(&["agents", "entries", "two"], "single", false)]);
    assert_eq!(answer.entries["one"].tree()["name"], "$${A} ${B}");
    assert_eq!(answer.entries["two"].tree()["name"], "$${A} b");
}

#[test]
fn the_entry_that_the_gateway_adds_for_its_implicit_agent_is_none_of_the_file() {
    let implicit = json!({ "agents": { "entries": { "main": {} } } });
    assert!(new_version(&json!({ "agents": { "defaults": {} } }), &implicit, &[]).entries.is_empty());
    let include = json!({ "agents": { "$include": "./defaults.json5" } });
    assert!(new_version(&include, &implicit, &[]).entries.is_empty(), "the included file has no roster");
}

#[test]
fn a_version_with_entries_writes_through_a_directive_that_owns_the_roster_alone() {
    let obstacle = |directives: &[(&[&str], &str, bool)]| {
        new_version(&json!({ "agents": { "$include": "./x" } }), &entries(), directives).obstacle
    };
    let (agents, roster): (&[&str], &[&str]) = (&["agents"], &["agents", "entries"]);
    let desk: &[&str] = &["agents", "entries", "desk"];
    for writable in [agents, roster, desk] {
        assert_eq!(obstacle(&[(writable, "single", false)]), None, "{writable:?}");
        for shared in [(writable, "single", true), (writable, "multiple", false)] {
            let found = obstacle(&[shared]).unwrap();
            assert_eq!(found.key, Some(writable.join(".")));
            assert_eq!(found.file.as_deref(), Some("/home/o/.openclaw/agents.json5"));
        }
    }
    assert_eq!(obstacle(&[(&[], "single", false)]).unwrap().key, None, "the whole file");
    assert_eq!(obstacle(&[(&["models"], "multiple", true), (agents, "single", false)]), None);
    assert_eq!(obstacle(&[(&["agents", "entries", "desk", "identity"], "multiple", true)]), None);
    let nested = obstacle(&[(agents, "single", false), (&["agents", "defaults"], "single", false)]).unwrap();
    assert_eq!(nested.key.as_deref(), Some("agents"), "the included file includes another one");
}

#[test]
fn a_directive_that_owns_no_entries_is_no_obstacle_on_a_version_with_entries() {
    let parsed = json!({ "agents": { "$include": "./defaults.json5", "entries": { "desk": {} } } });
    assert_eq!(new_version(&parsed, &entries(), &[]).obstacle, None);
}

#[test]
fn a_directive_that_would_own_the_first_entry_is_an_obstacle_until_there_is_a_system_agent() {
    let (root, defaults): (&[&str], &[&str]) = (&[], &["agents", "defaults"]);
    let include = json!({ "$include": "./real.json5" });
    let no_agents = json!({ "gateway": {} });
    let obstacle = |parsed: &Value, resolved: &Value, path| {
        new_version(parsed, resolved, &[(path, "single", false)]).obstacle.map(|found| (found.key, found.effect))
    };
    assert_eq!(obstacle(&include, &no_agents, root), Some((None, ObstacleEffect::RefusedUnlessSole)));
    let beside = json!({ "gateway": {}, "$include": "./real.json5" });
    assert_eq!(obstacle(&beside, &no_agents, root), Some((None, ObstacleEffect::RefusedUnlessSole)));
    let model = json!({ "agents": { "defaults": { "model": "a/b" } } });
    let of_defaults = json!({ "agents": { "defaults": include } });
    let refused = Some((Some("agents.defaults".to_owned()), ObstacleEffect::RefusesFirst));
    assert_eq!(obstacle(&of_defaults, &model, defaults), refused);
    let system = json!({ "agents": { "defaults": { "systemAgent": { "agentId": "main" } } } });
    assert_eq!((obstacle(&include, &system, root), obstacle(&of_defaults, &system, defaults)), (None, None));
    let roster = json!({ "$include": "./real.json5", "agents": { "entries": { "desk": {} } } });
    let included = Some((None, ObstacleEffect::RefusedUnlessSole));
    assert_eq!((obstacle(&roster, &model, root), obstacle(&roster, &system, root)), (included.clone(), included));
    let with_system = json!({ "$include": "./real.json5", "agents": { "entries": { "desk": {} }, "defaults": system["agents"]["defaults"] } });
    for (parsed, path) in [
        (with_system, root),
        (json!({ "agents": { "defaults": include, "entries": { "desk": {} } } }), defaults),
        (json!({ "models": include }), &["models"]),
    ] {
        assert_eq!(obstacle(&parsed, &model, path), None, "{parsed}");
    }
}

#[test]
fn a_version_with_a_list_writes_the_list_of_its_own_file_alone() {
    let include = json!({ "$include": "./x.json5" });
    let key = |parsed: &Value| old_version(parsed, &list(), true).obstacle.map(|obstacle| obstacle.key);
    assert_eq!(key(&include), Some(None));
    assert_eq!(key(&json!({ "$include": ["./a"], "agents": list()["agents"] })), Some(None));
    assert_eq!(key(&json!({ "agents": include })), Some(Some("agents".to_owned())));
    assert_eq!(key(&json!({ "agents": { "list": include } })), Some(Some("agents.list".to_owned())));
    assert_eq!(key(&json!({ "agents": { "list": [{ "id": "main" }, include] } })), None);
    assert_eq!(key(&json!({ "agents": { "list": [], "defaults": include } })), None);
    assert_eq!(key(&json!({ "agents": list()["agents"], "models": include })), None);
}

#[test]
fn a_version_that_replaces_directives_may_write_no_file_with_one() {
    let models = json!({ "agents": list()["agents"], "models": { "$include": "./keys.json5" } });
    let obstacle = old_version(&models, &list(), false).obstacle.unwrap();
    assert_eq!(obstacle.effect, ObstacleEffect::Replaces);
    let named = json!({ "agents": { "list": [{ "id": "a", "name": "\"$include\": x" }] } });
    assert_eq!(old_version(&named, &list(), false).obstacle, None, "a text is no directive");
}

#[test]
fn the_mode_of_the_reload_is_read_from_the_resolved_file() {
    let off = json!({ "gateway": { "reload": { "mode": "off" } } });
    assert!(new_version(&json!({ "$include": "./x" }), &off, &[]).reload_is_off);
    for other in [json!({}), json!({ "gateway": { "reload": { "mode": "hybrid" } } }), json!({ "gateway": "off" })] {
        assert!(!new_version(&other, &other, &[]).reload_is_off, "{other}");
    }
}
