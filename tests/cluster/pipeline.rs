//! A `GitOps` pipeline, with the commands that Flux uses: the folder of a repository is applied by server-side apply, what left the folder is
//! deleted, and kstatus decides when all of it is done.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;

use muster_harness::{Binaries, Failure, until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, board, unwoken};

/// The options with which Flux applies, and with which the pipeline looks for differences.
const SERVER_SIDE: [&str; 4] = ["--server-side", "--force-conflicts", "--field-manager=kustomize-controller", "-f"];

/// A folder of manifests, and what was applied from it.
struct Pipeline<'a> {
    fleet: &'a Fleet,
    folder: TempDir,
    kstatus: PathBuf,
    /// The objects of the last run, as `KIND/NAME`.
    inventory: BTreeSet<String>,
}

impl<'a> Pipeline<'a> {
    fn new(fleet: &'a Fleet) -> Result<Self, Failure> {
        let folder = tempfile::tempdir()?;
        Ok(Self { fleet, folder, kstatus: Binaries::kstatus()?, inventory: BTreeSet::new() })
    }

    /// Makes the folder a repository's next commit: these manifests, and no other.
    fn commit(&self, manifests: &[Value]) -> Result<(), Failure> {
        let text = manifests.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n");
        std::fs::write(self.folder.path().join("fleet.yaml"), text)?;
        let resources = if manifests.is_empty() { json!([]) } else { json!(["fleet.yaml"]) };
        std::fs::write(self.folder.path().join("kustomization.yaml"), json!({ "resources": resources }).to_string())?;
        Ok(())
    }

    /// What kustomize builds of the folder.
    async fn build(&self) -> Result<String, Failure> {
        self.fleet.run(&["kustomize", &self.folder.path().display().to_string()]).await
    }

    /// Applies the folder and prunes what left it. Waits for nothing.
    async fn apply(&mut self) -> Result<(), Failure> {
        let built = self.build().await?;
        let mut applied = BTreeSet::new();
        if !built.trim().is_empty() {
            let args = [&["apply", "-o", "name"], &SERVER_SIDE[..], &["-"]].concat();
            let output = self.fleet.try_run(&args, &built).await?;
            if !output.ok {
                return Err(output.stderr.into());
            }
            applied.extend(output.stdout.lines().map(str::to_owned));
        }
        let pruned: Vec<_> = self.inventory.difference(&applied).map(String::as_str).collect();
        if !pruned.is_empty() {
            self.fleet.run(&[&["delete", "--wait=false"], &pruned[..]].concat()).await?;
        }
        let left = self.inventory.difference(&applied).cloned().collect();
        self.inventory = applied;
        self.until_gone(left).await
    }

    /// Waits until the API server has none of these objects.
    async fn until_gone(&self, objects: BTreeSet<String>) -> Result<(), Failure> {
        for object in objects {
            self.fleet.wait("delete", &[&object]).await?;
        }
        Ok(())
    }

    /// What kstatus says of each object of the inventory: its word and its message.
    async fn statuses(&self) -> Result<Vec<(String, String, String)>, Failure> {
        let mut lines = String::new();
        for object in &self.inventory {
            let text = self.fleet.run(&["get", object, "-o", "json"]).await?;
            lines += &serde_json::from_str::<Value>(&text)?.to_string();
            lines.push('\n');
        }
        let mut child =
            Command::new(&self.kstatus).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut stdin = child.stdin.take().ok_or("no pipe")?;
        // The answers, one short line for each object, fit into the pipe.
        stdin.write_all(lines.as_bytes()).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        let answers = String::from_utf8(output.stdout)?;
        let mut found = Vec::new();
        for (object, line) in self.inventory.iter().zip(answers.lines()) {
            let answer: Value = serde_json::from_str(line)?;
            let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
            found.push((object.clone(), text("status"), text("message")));
        }
        assert_eq!(found.len(), self.inventory.len(), "kstatus answers for each object");
        Ok(found)
    }

    /// Waits until kstatus calls every object done. A failed object does not end the wait: a commit may heal it.
    async fn until_current(&self) -> Result<(), Failure> {
        until("every object to be Current", CONDITION_TIMEOUT, async || {
            let seen = self.statuses().await.map_err(|e| e.to_string())?;
            let open: Vec<_> = seen.into_iter().filter(|(_, status, _)| status != "Current").collect();
            if open.is_empty() { Ok(()) } else { Err(format!("{open:?}")) }
        })
        .await
    }

    /// One run of the pipeline: apply, prune, wait.
    async fn run(&mut self, manifests: &[Value]) -> Result<(), Failure> {
        self.commit(manifests)?;
        self.apply().await?;
        self.until_current().await
    }

    /// Waits until no object differs from the folder: the tool would apply it again and again. The operator may write a status between the two
    /// reads of one comparison.
    async fn until_no_difference(&self) -> Result<(), Failure> {
        let built = self.build().await?;
        until("the cluster to be as the folder", CONDITION_TIMEOUT, async || {
            let compared = self.fleet.try_run(&[&["diff"], &SERVER_SIDE[..], &["-"]].concat(), &built).await;
            let output = compared.map_err(|e| e.to_string())?;
            if output.ok { Ok(()) } else { Err(format!("{}{}", output.stdout, output.stderr)) }
        })
        .await
    }
}

/// An agent with this purpose, which is in its files.
fn agent(name: &str, purpose: &str) -> Value {
    let mut agent = unwoken(name);
    agent["spec"]["identityProfile"] = json!({ "purpose": purpose });
    agent
}

pub(crate) async fn a_pipeline_applies_changes_suspends_and_prunes_a_fleet(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.namespace("pipeline").await?;
    let token = json!({ "token": stack.openclaw.token() });
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "gw" }, "stringData": token });
    let texts = json!({ "SOUL.md": "You serve {{ agent_name }}.\n" });
    let soul = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "texts" }, "data": texts });
    let mut templated = agent("one", "first");
    templated["spec"]["templates"] = json!({ "configMapRef": { "name": "texts" } });
    templated["metadata"]["labels"] = json!({ "team": "infra" });
    let base = [secret, soul, stack.gateway(), board("ops")];
    let commit = |agents: &[Value]| [&base[..], agents].concat();
    let mut pipeline = Pipeline::new(&fleet)?;

    // Applied at once, in any order, and done when the gateway has the agents.
    pipeline.run(&commit(&[templated.clone(), agent("two", "second")])).await?;
    let mut ids = Vec::new();
    for name in ["one", "two"] {
        let id = fleet.field(&format!("agent/{name}"), ".status.agentId").await?;
        assert!(stack.agents()?.contains(&id), "{name} is done, and the gateway has it");
        ids.push(id);
    }
    assert!(stack.file(&fleet, "one", "SOUL.md").await?.contains("You serve one."));
    pipeline.until_no_difference().await?;

    // A change is done when it is in the files. A label that leaves the folder leaves the object, although the operator has written its status.
    assert_eq!(fleet.field("agent/one", ".metadata.labels.team").await?, "infra");
    templated["metadata"]["labels"] = json!({});
    templated["spec"]["identityProfile"]["purpose"] = json!("another purpose");
    pipeline.run(&commit(&[templated.clone(), agent("two", "second")])).await?;
    let identity = stack.file(&fleet, "one", "IDENTITY.md").await?;
    assert!(identity.contains("another purpose"), "{identity}");
    assert_eq!(fleet.field("agent/one", ".metadata.labels.team").await?, "");

    // A mistake fails, with its cause, and holds up no other object.
    let mut broken = templated.clone();
    broken["spec"]["files"] = json!([{ "name": "SOUL.md", "template": { "inline": "{{ agent_nmae }}" } }]);
    pipeline.commit(&commit(&[broken, agent("two", "changed")]))?;
    pipeline.apply().await?;
    let cause = until("kstatus to call the Agent failed, and the others current", CONDITION_TIMEOUT, async || {
        let seen = pipeline.statuses().await.map_err(|e| e.to_string())?;
        let (failed, others): (Vec<_>, Vec<_>) = seen.into_iter().partition(|(object, ..)| object.ends_with("/one"));
        let is_done = failed[0].1 == "Failed" && others.iter().all(|(_, status, _)| status == "Current");
        if is_done { Ok(failed[0].2.clone()) } else { Err(format!("{failed:?} {others:?}")) }
    })
    .await?;
    assert!(cause.contains("agent_nmae") && cause.contains("SOUL.md"), "{cause}");
    assert!(stack.file(&fleet, "two", "IDENTITY.md").await?.contains("changed"));

    // The next commit mends it, and suspends the other.
    let mut suspended = agent("two", "changed");
    suspended["spec"]["suspend"] = json!(true);
    pipeline.run(&commit(&[templated.clone(), suspended])).await?;
    assert_eq!(fleet.field("agent/two", ".status.phase").await?, "Paused");
    let every = stack.openclaw.config()?["agents"]["entries"][&ids[1]]["heartbeat"]["every"].clone();
    assert_eq!(every, "0m", "the suspended agent is done, and has no heartbeat");
    pipeline.until_no_difference().await?;

    // What leaves the folder leaves the gateway.
    pipeline.run(&commit(&[templated])).await?;
    let left = stack.agents()?;
    assert!(left.contains(&ids[0]) && !left.contains(&ids[1]), "{left:?}");

    // All at once, with the gateway and its Secret.
    pipeline.run(&[]).await?;
    let left = stack.agents()?;
    assert!(ids.iter().all(|id| !left.contains(id)), "{left:?}");
    fleet.delete().await
}
