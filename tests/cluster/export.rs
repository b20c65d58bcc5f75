//! `muster export`, and the manifests on a cluster that has lost the objects.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use muster_harness::Failure;
use serde_json::{Value, json};

use crate::stack::{Fleet, Stack, board, unwoken};

/// Runs `muster export` with the rights of a kubeconfig.
fn export(kubeconfig: &Path, args: &[&str]) -> Result<Output, Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    Ok(command.arg("export").arg("--kubeconfig").arg(kubeconfig).args(args).output()?)
}

/// The standard output of a successful export.
fn exported(stack: &Stack, args: &[&str]) -> Result<String, Failure> {
    let output = export(stack.cluster.kubectl.kubeconfig(), args)?;
    let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    if output.status.success() { Ok(stdout) } else { Err(format!("{args:?}: {stderr}").into()) }
}

/// Objects whose texts YAML could read as something else, and with what an export leaves out.
fn odd_objects() -> [Value; 2] {
    let mut agent = unwoken("odd");
    agent["metadata"]["finalizers"] = json!([]);
    agent["metadata"]["labels"] = json!({ "on": "off", "y": "1e3", "example.com/n": "0x1F" });
    agent["metadata"]["annotations"] = json!({
        "no": "yes", "example.com/text": "a: b # c\n\ttab\n\n", "example.com/null": "~", "muster.dev/agent-id": "kept-id",
    });
    agent["spec"]["displayName"] = json!("007");
    agent["spec"]["identityProfile"] = json!({
        "extra": { "on": "12:30:00", "null": "null" }, "customInstructions": " - leading\n\ntrailing \u{2028}🛠 {{ x }}\n",
    });
    agent["spec"]["files"] = json!([{ "name": "NOTES.md", "template": { "inline": "---\nkind: Secret\n...\n" } }]);
    let mut board = board("ops");
    board["spec"]["objective"] = json!("yes");
    board["spec"]["user"] = json!({ "name": "no", "notes": "1.5", "context": "# none" });
    [board, agent]
}

/// Specs, labels and annotations of the objects of a namespace, without what kubectl adds.
async fn stored(fleet: &Fleet) -> Result<Value, Failure> {
    let list: Value = serde_json::from_str(&fleet.run(&["get", "agentgateways,boards,agents", "-o", "json"]).await?)?;
    let mut stored = json!({});
    for item in list["items"].as_array().into_iter().flatten() {
        let mut annotations = item["metadata"]["annotations"].clone();
        for key in ["kubectl.kubernetes.io/last-applied-configuration", "muster.dev/agent-id"] {
            annotations.as_object_mut().map(|all| all.remove(key));
        }
        let name = format!(
            "{}/{}",
            item["kind"].as_str().unwrap_or_default(),
            item["metadata"]["name"].as_str().unwrap_or_default()
        );
        stored[name] = json!([item["metadata"]["labels"], annotations, item["spec"]]);
    }
    Ok(stored)
}

pub(crate) async fn exported_manifests_bring_every_object_back(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.fleet("moved").await?;
    fleet.apply(&odd_objects()).await?;
    fleet.apply(&[unwoken("one")]).await?;
    fleet.wait("condition=Ready", &["agent/one", "agent/odd"]).await?;
    let id = fleet.field("agent/one", ".status.agentId").await?;
    // An annotation that is no id of the Agent is put right.
    let odd = fleet.field("agent/odd", ".status.agentId").await?;
    let before = stored(&fleet).await?;
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (manifests, secrets) = (path("fleet.yaml"), path("secrets.yaml"));
    exported(stack, &["-n", "moved", "-o", &manifests, "--secrets", &secrets])?;
    let text = std::fs::read_to_string(&manifests)?;
    for id in [&id, &odd] {
        assert!(text.contains(&format!("muster.dev/agent-id: {id}\n")), "{text}");
    }
    assert!(!text.contains(stack.openclaw.token()) && !text.contains("resourceVersion"), "{text}");
    assert_eq!(std::fs::metadata(&secrets)?.permissions().mode() & 0o777, 0o600);
    assert_eq!(
        exported(stack, &["-n", "moved"])?.split_once("---").map(|(_, objects)| objects.to_owned()),
        text.split_once("---").map(|(_, objects)| objects.to_owned())
    );
    let again = export(stack.cluster.kubectl.kubeconfig(), &["-n", "moved", "--secrets", &secrets])?;
    let error = String::from_utf8(again.stderr)?;
    assert!(!again.status.success() && again.stdout.is_empty() && error.contains("to a new file only"), "{error}");

    fleet.delete().await?;
    let fleet = stack.namespace("moved").await?;
    for file in [&secrets, &manifests] {
        fleet.run(&["apply", "-f", file]).await?;
    }
    assert_eq!(stored(&fleet).await?, before);
    for secret in ["gw", "gw-device", "one-token"] {
        fleet.run(&["get", "secret", secret]).await?;
    }
    let annotation = ".metadata.annotations.muster\\.dev/agent-id";
    assert_eq!(fleet.field("agent/one", annotation).await?, id);
    fleet.delete().await
}

pub(crate) async fn what_cannot_be_read_is_named_and_the_exit_status_is_not_0(
    stack: &mut Stack,
) -> Result<(), Failure> {
    let fleet = stack.namespace("partial").await?;
    fleet.apply(&odd_objects()).await?;
    fleet.run(&["create", "serviceaccount", "reader"]).await?;
    fleet.run(&["create", "role", "reader", "--verb=list", "--resource=boards.muster.dev,agents.muster.dev"]).await?;
    fleet.run(&["create", "rolebinding", "reader", "--role=reader", "--serviceaccount=partial:reader"]).await?;
    let kubeconfig = stack.cluster.kubeconfig("reader", &fleet.account_token("reader").await?)?;
    let folder = tempfile::tempdir()?;
    let secrets = folder.path().join("secrets.yaml").display().to_string();
    let output = export(&kubeconfig, &["-n", "partial", "--secrets", &secrets])?;
    let (stdout, stderr) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
    assert!(!output.status.success(), "{stderr}");
    for part in ["AgentGateways of namespace partial: ", "Secret partial/odd-token: ", "forbidden"] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
    assert!(
        stdout.contains("# INCOMPLETE") && stdout.contains("kind: Board") && stdout.contains("kind: Agent\n"),
        "{stdout}"
    );
    let everywhere = export(&kubeconfig, &["-A"])?;
    assert!(
        !everywhere.status.success() && String::from_utf8(everywhere.stderr)?.contains("Agents of all namespaces: ")
    );
    let output = folder.path().join("earlier.yaml");
    std::fs::write(&output, "an earlier export")?;
    let empty = export(&kubeconfig, &["-A", "-o", &output.display().to_string()])?;
    assert!(!empty.status.success() && std::fs::read_to_string(&output)? == "an earlier export");
    let nowhere = export(Path::new("/nowhere"), &[])?;
    assert!(!nowhere.status.success() && String::from_utf8(nowhere.stderr)?.contains("--kubeconfig /nowhere"));
    fleet.delete().await
}
