//! Adopting the agents that a gateway has already.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use muster_harness::Failure;
use serde_json::{Value, json};

use crate::stack::{Fleet, Stack, other_client, until_settled};

/// The time of a file's last change and its content.
type Content = (SystemTime, Vec<u8>);

/// What stands on the gateway's disk: the agents of its config, and every file of their workspaces.
fn on_disk(stack: &Stack, workspaces: &Path) -> Result<(Value, BTreeMap<String, Content>), Failure> {
    let mut files = BTreeMap::new();
    for folder in std::fs::read_dir(workspaces)? {
        let folder = folder?.path();
        for file in std::fs::read_dir(&folder)? {
            let path = file?.path();
            if path.is_file() {
                files.insert(path.display().to_string(), (path.metadata()?.modified()?, std::fs::read(&path)?));
            }
        }
    }
    Ok((stack.openclaw.config()?["agents"].clone(), files))
}

/// Two agents that somebody made by hand, one of them with settings of its own.
async fn made_by_hand(stack: &Stack) -> Result<(), Failure> {
    let client = other_client(&stack.openclaw).await?;
    for id in ["nova", "atlas_2"] {
        client.agent_create(id, &format!("~/own/{id}")).await?;
        until_settled(&stack.openclaw).await?;
        client.file_set(id, "SOUL.md", &format!("I am {id}."), None).await?;
    }
    Ok(())
}

async fn import(stack: &Stack, fleet: &Fleet) -> Result<String, Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(["import", "--gateway", &stack.openclaw.url(), "--namespace", &fleet.namespace]);
    command.args(["--api-url", &stack.operator.api_url()]);
    command.env("MUSTER_GATEWAY_TOKEN", stack.openclaw.token());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8(output.stderr)?;
    assert!(output.status.success(), "{said}");
    assert!(said.contains("main: it is the gateway's own agent") && said.contains("2 agents of"), "{said}");
    let manifests = String::from_utf8(output.stdout)?;
    assert!(!manifests.contains(stack.openclaw.token()), "the token is in no manifest");
    Ok(manifests)
}

pub(crate) async fn what_is_imported_is_adopted_as_it_is_and_stays_when_the_manifests_go(
    stack: &mut Stack,
) -> Result<(), Failure> {
    made_by_hand(stack).await?;
    let workspaces = stack.openclaw.home().join("own");
    let before = on_disk(stack, &workspaces)?;
    let fleet = stack.namespace("imported").await?;
    let manifests = import(stack, &fleet).await?;
    fleet.secret("gateway-auth", stack.openclaw.token()).await?;
    fleet.apply_text(&manifests).await?;
    fleet.all_ready().await?;
    for (name, id) in [("nova", "nova"), ("atlas-2", "atlas_2")] {
        let binding: Value = serde_json::from_str(&fleet.field(&format!("agent/{name}"), ".status.binding").await?)?;
        assert_eq!((&binding["agentId"], &binding["adopted"]), (&json!(id), &json!(true)));
    }
    assert_eq!(on_disk(stack, &workspaces)?, before, "nothing is changed");
    fleet.run(&["delete", "agents", "--all"]).await?;
    fleet.delete().await?;
    assert_eq!(on_disk(stack, &workspaces)?, before, "nothing is taken away");
    for id in ["nova", "atlas_2"] {
        other_client(&stack.openclaw).await?.agent_delete(id, true).await?;
    }
    Ok(())
}
