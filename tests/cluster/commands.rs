//! The commands for people on a real API server, beside kubectl.

use std::process::{Command, Output};

use muster_harness::{Failure, until};
use serde_json::{Value, json};

use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, board, unwoken};

/// The commands, with the rights of kubectl and in the namespace of a fleet.
struct Muster<'a> {
    stack: &'a Stack,
    fleet: &'a Fleet,
}

impl Muster<'_> {
    fn start(&self, args: &[&str]) -> Result<Output, Failure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
        command.args(args).arg("--kubeconfig").arg(self.stack.cluster.kubectl.kubeconfig());
        if !args.contains(&"-A") {
            command.args(["-n", &self.fleet.namespace]);
        }
        Ok(command.output()?)
    }

    /// The standard output of a successful command.
    fn run(&self, args: &[&str]) -> Result<String, Failure> {
        let output = self.start(args)?;
        let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        if output.status.success() { Ok(stdout) } else { Err(format!("muster {args:?}: {stdout}{stderr}").into()) }
    }

    /// Runs `muster get` and `kubectl get` until both show the same: the objects may change between the two.
    async fn compare_tables(&self, args: &[&str]) -> Result<(), Failure> {
        let args = [&["get"], args].concat();
        until(&format!("{args:?} to be the same"), CONDITION_TIMEOUT, async || {
            let ours = self.run(&args).map_err(|error| error.to_string())?;
            let theirs = self.fleet.run(&args).await.map_err(|error| error.to_string())?;
            let is_same = without_ages(&ours) == without_ages(&theirs);
            if is_same { Ok(()) } else { Err(format!("{ours}\n{theirs}")) }
        })
        .await
    }
}

/// A table without the last column, which has ages.
fn without_ages(table: &str) -> Vec<&str> {
    table.lines().map(|line| line.rsplit_once(' ').map_or(line, |(cells, _)| cells)).collect()
}

/// Lines in the order of the alphabet, without those about Secrets.
fn outcomes(output: &str) -> Vec<&str> {
    let mut lines: Vec<_> = output.lines().filter(|line| !line.starts_with("secret/")).collect();
    lines.sort_unstable();
    lines
}

pub(crate) async fn the_commands_work_as_kubectl_does(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.namespace("commands").await?;
    let muster = Muster { stack, fleet: &fleet };
    let folder = tempfile::tempdir()?;
    let path = folder.path().display().to_string();
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "gw" },
        "stringData": { "token": stack.openclaw.token() } });
    let mut one = unwoken("one");
    // Characters that kubectl escapes in its annotation.
    one["spec"]["identityProfile"] = json!({ "customInstructions": "One <&> \u{2028}1" });
    for (index, object) in [one, unwoken("two"), board("ops"), stack.gateway(), secret].iter().enumerate() {
        std::fs::write(folder.path().join(format!("{index}.json")), object.to_string())?;
    }

    let created = muster.run(&["apply", "-f", &path])?;
    let expected = "secret/gw created\nagentgateway.muster.dev/gw created\nboard.muster.dev/ops created\n\
        agent.muster.dev/one created\nagent.muster.dev/two created\n";
    assert_eq!(created, expected);
    let waited = muster.run(&["wait", "agents", "one", "two", "--for=condition=Ready", "--timeout", "2m"])?;
    assert!(waited.contains("agent.muster.dev/one condition met\n"), "{waited}");

    // The two applies agree about what is unchanged.
    let theirs = fleet.run(&["apply", "-f", &path]).await?;
    let ours = muster.run(&["apply", "-f", &path])?;
    assert_eq!(outcomes(&ours), outcomes(&theirs));
    assert!(outcomes(&ours).iter().all(|line| line.ends_with(" unchanged")), "{ours}");
    let annotation = ".metadata.annotations.kubectl\\.kubernetes\\.io/last-applied-configuration";
    let kept = fleet.field("secret/gw", annotation).await?;
    assert!(kept.contains("\"token\":\"\"") && !kept.contains(stack.openclaw.token()), "the Secret's value is kept");

    compare_gets(&muster).await?;
    let set = ["annotate", "agent/one", "example.com/note=x"];
    assert_eq!(muster.run(&set)?, fleet.run(&set).await?);
    let described = muster.run(&["describe", "agent", "one"])?;
    for part in
        ["Name:   ", "\nSpec:\n", "\n  boardRef:\n    name: ops\n", "\nConditions:\n  TYPE ", "\nEvents:\n  AGE "]
    {
        assert!(described.contains(part), "{part}: {described}");
    }

    let deleted = muster.run(&["delete", "agent", "one"])?;
    assert_eq!(deleted, fleet.run(&["delete", "agent", "two"]).await?.replace("two", "one"));
    assert_eq!(muster.run(&["wait", "agent/one", "--for=delete"])?, "agent.muster.dev/one condition met\n");
    refusals(&muster)?;
    muster.run(&["delete", "-f", &path, "--ignore-not-found"])?;
    fleet.delete().await
}

async fn compare_gets(muster: &Muster<'_>) -> Result<(), Failure> {
    for args in [
        &["agents"][..],
        &["agents", "-o", "wide"],
        &["boards", "ops"],
        &["agentgateways", "-o", "wide"],
        &["agents,boards"],
        &["agent/one", "board/ops"],
        &["secrets"],
        &["configmaps"],
        &["namespaces", "commands"],
        &["agents", "-A"],
        &["agents", "-l", "none=none"],
        &["agents", "-o", "name"],
    ] {
        muster.compare_tables(args).await?;
    }
    let theirs: Value = serde_json::from_str(&muster.fleet.run(&["get", "agent", "one", "-o", "json"]).await?)?;
    let json: Value = serde_json::from_str(&muster.run(&["get", "agent", "one", "-o", "json"])?)?;
    let yaml: Value = serde_saphyr::from_str(&muster.run(&["get", "agent", "one", "-o", "yaml"])?)?;
    for ours in [json, yaml] {
        for field in ["apiVersion", "kind", "metadata", "spec"] {
            let without_version = |object: &Value| {
                let mut field = object[field].clone();
                field.as_object_mut().map(|fields| fields.remove("resourceVersion"));
                field
            };
            assert_eq!(without_version(&ours), without_version(&theirs), "{field}");
        }
    }
    Ok(())
}

fn refusals(muster: &Muster<'_>) -> Result<(), Failure> {
    for (args, status, expected) in [
        (&["get", "agent", "nobody"][..], 1, "agents.muster.dev \"nobody\" not found"),
        (&["get", "pods"], 2, "there is no kind \"pods\" here"),
        (&["get", "agents", "--context", "nowhere"], 1, "nowhere"),
        (&["wait", "agents", "one", "--for=condition=Ready"], 1, "agents.muster.dev \"one\" not found"),
    ] {
        let output = muster.start(args)?;
        let stderr = String::from_utf8(output.stderr)?;
        assert!(output.status.code() == Some(status) && stderr.contains(expected), "{args:?}: {stderr}");
    }
    Ok(())
}
