//! Tests of the harness's control plane.

use std::time::Duration;

use muster_harness::{ControlPlane, until};

const GC_TIMEOUT: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_collects_garbage_and_enforces_rbac() {
    let cluster = ControlPlane::start().await.unwrap();
    let kubectl = &cluster.kubectl;
    assert!(kubectl.run(&["version"]).await.unwrap().contains("Server Version: v1.36.3"));

    kubectl.run(&["create", "namespace", "owners"]).await.unwrap();
    kubectl.run(&["create", "serviceaccount", "owner", "-n", "owners"]).await.unwrap();
    let uid = kubectl
        .run(&["get", "serviceaccount", "owner", "-n", "owners", "-o", "jsonpath={.metadata.uid}"])
        .await
        .unwrap();
    let owned = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: owned\n  namespace: owners\n  ownerReferences:\n  - {{apiVersion: v1, kind: ServiceAccount, name: owner, uid: {uid}}}\n"
    );
    kubectl.apply(&owned).await.unwrap();

    let token = kubectl.run(&["create", "token", "owner", "-n", "owners"]).await.unwrap();
    let stranger = cluster.kubectl_as(cluster.kubeconfig("stranger", token.trim()).unwrap());
    let refused = stranger.run(&["get", "secrets", "-n", "owners"]).await.unwrap_err().to_string();
    assert!(refused.contains("system:serviceaccount:owners:owner") && refused.contains("forbidden"), "{refused}");

    kubectl.run(&["delete", "serviceaccount", "owner", "-n", "owners"]).await.unwrap();
    let gone = async || {
        let output =
            kubectl.try_run(&["get", "secret", "owned", "-n", "owners"], "").await.map_err(|e| e.to_string())?;
        if output.stderr.contains("NotFound") { Ok(()) } else { Err(output.stdout) }
    };
    until("the owned Secret to be gone", GC_TIMEOUT, gone).await.unwrap();
    kubectl.run(&["delete", "namespace", "owners", "--timeout=60s"]).await.unwrap();
}
