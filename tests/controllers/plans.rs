//! `muster plan` beside the operator: the plan of a fleet is what the operator then does, and the plan itself does nothing.

use clap::Parser;
use jiff::Timestamp;
use muster::api::{Agent, AgentGateway, Board};
use muster::command::{self, Cluster, Comparison, PlanOptions, Streams};
use muster_simulator::{Profile, Simulator};
use serde_json::{Value, json};

use crate::rig::{NS, Rig, gateway_manifest};

#[derive(Debug, Parser)]
struct PlanLine {
    #[command(flatten)]
    options: PlanOptions,
}

/// Manifests as a person has them in files.
#[derive(Clone)]
struct Manifests(Vec<Value>);

impl Manifests {
    fn new(agents: &[(&str, Value)]) -> Self {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "gw-auth" },
            "stringData": { "token": "secret-token" } });
        let board = json!({ "metadata": { "name": "ops" }, "spec": { "gatewayRef": { "name": "gw" } } });
        let mut objects = vec![secret, of_muster("AgentGateway", gateway_manifest("gw")), of_muster("Board", board)];
        for (name, spec) in agents {
            objects.push(of_muster("Agent", json!({ "metadata": { "name": name }, "spec": spec })));
        }
        Self(objects)
    }

    /// The spec of an Agent.
    fn spec(&mut self, name: &str) -> &mut Value {
        &mut self.0.iter_mut().find(|one| one["kind"] == "Agent" && one["metadata"]["name"] == name).unwrap()["spec"]
    }

    fn apply(&self, rig: &Rig) {
        for object in &self.0 {
            match object["kind"].as_str().unwrap() {
                "AgentGateway" => rig.apply::<AgentGateway>(object.clone()),
                "Board" => rig.apply::<Board>(object.clone()),
                "Agent" => rig.apply::<Agent>(object.clone()),
                _ => {}
            }
        }
    }

    /// The result of the command, and its output.
    async fn plan(&self, rig: &Rig, words: &[&str], with_cluster: bool) -> (Result<Comparison, String>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.yaml");
        let documents: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        std::fs::write(&path, documents.join("\n---\n")).unwrap();
        let line = [&["plan", "-n", NS, "-f", path.to_str().unwrap(), "--gateway", "ws://gw:18789"], words].concat();
        let options = PlanLine::parse_from(line).options;
        let now = || -> Timestamp { "2026-01-01T01:00:00Z".parse().unwrap() };
        let (client, dial) = (rig.cluster.api.client(), std::sync::Arc::new(muster::openclaw::Network::default()));
        let cluster = Cluster { client, namespace: NS.to_owned(), now, dial };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams { out: &mut out, err: &mut err, input: &mut std::io::empty(), is_terminal: false };
        let outcome = command::plan(&options, rig.dial(), with_cluster.then_some(&cluster), &mut streams).await;
        let (out, err) = (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap());
        assert!(!out.contains("secret-token") && !err.contains("secret-token"), "{out}{err}");
        (outcome.map_err(|error| error.to_string()), out)
    }
}

fn of_muster(kind: &str, mut object: Value) -> Value {
    object["apiVersion"] = json!("muster.dev/v1alpha1");
    object["kind"] = json!(kind);
    object
}

/// Everything on a gateway that a plan must not change.
fn state(gateway: &Simulator) -> (usize, Value, usize, Vec<String>) {
    (gateway.writes(), gateway.config(), gateway.chats().len(), gateway.sessions().into_keys().collect())
}

fn quiet(extra: Value) -> Value {
    let mut spec = json!({ "boardRef": { "name": "ops" }, "wake": { "enabled": false } });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

async fn check(profile: Profile) {
    let version = profile.version;
    let (mut rig, gateway) = Rig::with(profile);
    let mut manifests = Manifests::new(&[
        ("one", quiet(json!({ "model": "acme/small", "agentId": "uno" }))),
        ("two", quiet(json!({}))),
    ]);
    let before = state(&gateway);
    let (comparison, text) = manifests.plan(&rig, &[], false).await;
    assert_eq!(state(&gateway), before, "{version}: nothing was written");
    assert_eq!(comparison, Ok(Comparison::Different), "{text}");
    for expected in [
        "Agent fleet/one: agent uno, with a chosen id\n",
        "  add a config entry\n",
        "    model: \"acme/small\"\n",
        "  write AGENTS.md: ",
        "  write SOUL.md: ",
        "issue a token in Secret one-token",
        "2 to change, 0 without a change, 0 blocked\n",
    ] {
        assert!(text.contains(expected), "{version} {expected}:\n{text}");
    }

    manifests.apply(&rig);
    rig.until_ready().await;
    let before = state(&gateway);
    let (comparison, text) = manifests.plan(&rig, &[], true).await;
    assert_eq!(comparison, Ok(Comparison::Equal), "{version}: the operator is done\n{text}");
    assert!(text.contains("0 to change, 2 without a change, 0 blocked\n"), "{text}");

    // A changed model, a file that somebody changed, and an agent of somebody else.
    manifests.spec("one")["model"] = json!("acme/large");
    let two = rig.agent_id("two");
    rig.stop();
    let soul = gateway.file(&two, "SOUL.md").unwrap();
    gateway.edit_file(&two, "SOUL.md", Some("another soul"));
    let (comparison, text) = manifests.plan(&rig, &[], true).await;
    assert_eq!(comparison, Ok(Comparison::Different), "{text}");
    let expected = format!(
        "Agent fleet/one: agent uno, with a chosen id\n  change the config entry\n    model: \"acme/small\" -> \"acme/large\"\n\
         Agent fleet/two: agent {two}, with an id of the cluster\n  replace SOUL.md: 12 bytes -> {} bytes\n",
        soul.len()
    );
    assert!(text.contains(&expected), "{version}\n{expected}\n{text}");
    assert!(text.contains("Not managed by these files, and left alone: main\n"), "{text}");
    gateway.edit_file(&two, "SOUL.md", Some(&soul));
    assert_eq!(state(&gateway), before, "{version}: nothing was written");
}

macro_rules! versions {
    ($($name:ident: $profile:ident;)+) => {
        $(#[tokio::test(start_paused = true)]
        async fn $name() {
            check(Profile::$profile()).await;
        })+
    };
}

versions! {
    the_plan_is_what_the_operator_does_on_2026_9_6: v2026_9_6;
    the_plan_is_what_the_operator_does_on_2026_3_2: v2026_3_2;
}

#[tokio::test(start_paused = true)]
async fn an_agent_of_somebody_else_blocks_unless_the_agent_may_be_adopted() {
    let (rig, gateway) = Rig::new();
    gateway.edit_config(|config| {
        config["agents"]["entries"]["uno"] = json!({ "name": "Theirs", "workspace": "/srv/uno" });
    });
    let mut manifests = Manifests::new(&[("one", quiet(json!({ "agentId": "uno" })))]);
    let run = async |manifests: &Manifests| {
        let (outcome, text) = manifests.plan(&rig, &["-o", "json"], false).await;
        (outcome, serde_json::from_str::<Value>(&text).unwrap())
    };
    let (outcome, plan) = run(&manifests).await;
    assert_eq!(outcome, Err("1 object failed".into()));
    assert_eq!(plan["agents"][0]["blocked"]["reason"], "AgentIdTaken", "{plan}");
    assert_eq!(plan["agents"][0]["changes"], json!([]));

    let spec = manifests.spec("one");
    spec["adoptionPolicy"] = json!("IfExists");
    spec["emoji"] = json!("🚀");
    let (outcome, plan) = run(&manifests).await;
    assert_eq!(outcome, Ok(Comparison::Different), "{plan}");
    let agent = &plan["agents"][0];
    assert_eq!((&agent["origin"], &agent["agentId"]), (&json!("adopted"), &json!("uno")));
    let values = agent["changes"][0]["values"].as_array().unwrap();
    assert!(values.contains(&json!("identity.emoji: \"🚀\"")), "{plan}");
    assert_eq!((gateway.writes(), plan["notManaged"].clone()), (0, json!(["main"])));
}
