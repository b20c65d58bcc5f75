//! The admission policy for the operator's account. All other tests run under this policy.

use muster_harness::{Failure, until};
use serde_json::{Value, json};

use crate::stack::{CONDITION_TIMEOUT, Fleet, Stack, board};

const ACCOUNT: &str = "--as=system:serviceaccount:muster-system:muster";

/// A Secret with these metadata beside its name.
fn secret(name: &str, more: Value) -> Value {
    let mut metadata = json!({ "name": name });
    metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": { "key": "value" } })
}

/// The refusal of a write by the operator's account; empty if the write is admitted. Nothing is written.
async fn refusal(stack: &Stack, fleet: &Fleet, verb: &str, secret: &Value) -> Result<String, Failure> {
    let mut args = vec!["-n", &fleet.namespace, ACCOUNT, verb, "-f", "-", "--dry-run=server"];
    args.extend((verb == "delete").then_some("--wait=false"));
    let output = stack.cluster.kubectl.try_run(&args, &secret.to_string()).await?;
    Ok(if output.ok { String::new() } else { output.stderr })
}

pub(crate) async fn the_operators_account_writes_only_musters_own_secrets(stack: &mut Stack) -> Result<(), Failure> {
    let fleet = stack.namespace("policy").await?;
    fleet.apply(&[board("owner")]).await?;
    let uid = fleet.field("board/owner", ".metadata.uid").await?;
    let label = json!({ "labels": { "app.kubernetes.io/managed-by": "muster" } });
    let ownership = json!({ "ownerReferences": [{ "apiVersion": "muster.dev/v1alpha1", "kind": "Board", "name": "owner", "uid": uid }] });
    let other_label = json!({ "labels": { "app.kubernetes.io/managed-by": "Helm" } });
    let mut device = secret("device", json!({}));
    device["stringData"] = json!({ "device-key": "value" });
    let [people, helm] = [secret("people", json!({})), secret("helm", other_label)];
    let [labelled, owned] = [secret("labelled", label.clone()), secret("owned", ownership)];
    let existing = [&people, &helm, &labelled, &owned, &device];
    fleet.apply(&existing.map(Clone::clone)).await?;

    let mut of_account = secret(
        "new",
        json!({ "labels": label["labels"], "annotations": {
        "kubernetes.io/service-account.name": "default",
    } }),
    );
    of_account["type"] = json!("kubernetes.io/service-account-token");
    until("the policy to be in force", CONDITION_TIMEOUT, async || {
        let refusal = refusal(stack, &fleet, "create", &secret("new", json!({}))).await.map_err(|e| e.to_string())?;
        if refusal.contains("'muster-secrets'") { Ok(()) } else { Err(refusal) }
    })
    .await?;
    let labels_taken = secret("people", label.clone());
    for (verb, secret, admitted) in [
        ("create", &secret("new", label), true),
        ("create", &of_account, false),
        ("replace", &people, false),
        ("replace", &labels_taken, false),
        ("replace", &helm, false),
        ("replace", &labelled, true),
        ("replace", &owned, true),
        ("replace", &device, true),
        ("delete", &people, false),
        ("delete", &helm, false),
        ("delete", &labelled, true),
        ("delete", &owned, true),
        ("delete", &device, false),
    ] {
        let refusal = refusal(stack, &fleet, verb, secret).await?;
        let denied_by_policy = refusal.contains("ValidatingAdmissionPolicy 'muster-secrets'");
        assert_eq!((refusal.is_empty(), denied_by_policy), (admitted, !admitted), "{verb} {secret}: {refusal}");
    }
    // The policy concerns nobody else.
    fleet.run(&["annotate", "secret", "people", "a=b"]).await?;
    fleet.delete().await
}
