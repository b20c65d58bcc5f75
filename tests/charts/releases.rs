//! Releases and installations on a real API server. The cluster has no nodes: no pod runs, and nothing waits for one.

use std::time::Duration;

use muster_harness::{ControlPlane, Failure, KubeCommand, until};
use serde_json::{Value, json};

use crate::objects::{parse, pod};
use crate::rendering::render_case;
use crate::{CASES, DEFINITIONS, NAMESPACE, OPERATOR, case, kustomize};

const CRDS: [&str; 3] = ["crd/agentgateways.muster.dev", "crd/boards.muster.dev", "crd/agents.muster.dev"];
const LIMIT: Duration = Duration::from_mins(1);

/// A control plane with an operator's chart or manifest on it.
struct Cluster {
    control_plane: ControlPlane,
    helm: KubeCommand,
}

impl Cluster {
    async fn start() -> Result<Self, Failure> {
        let control_plane = ControlPlane::start().await?;
        let helm = control_plane.helm()?;
        Ok(Self { control_plane, helm })
    }

    async fn kubectl(&self, args: &[&str]) -> Result<String, Failure> {
        self.control_plane.kubectl.run(args).await
    }

    async fn helm(&self, args: &[&str]) -> Result<String, Failure> {
        self.helm.run(&[args, &["--namespace", NAMESPACE]].concat()).await
    }

    async fn until_definitions_are_served(&self) -> Result<(), Failure> {
        let [gateways, boards, agents] = CRDS;
        self.kubectl(&["wait", "--for=condition=Established", gateways, boards, agents, "--timeout=60s"]).await?;
        Ok(())
    }

    /// The names and uids of the definitions and of all of Muster's objects.
    async fn identities(&self) -> Result<String, Failure> {
        let path = "jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}{\"\\n\"}{end}";
        let kinds = "agentgateways.muster.dev,boards.muster.dev,agents.muster.dev";
        let objects = self.kubectl(&["get", kinds, "-A", "-o", path]).await?;
        let [gateways, boards, agents] = CRDS;
        Ok(objects + &self.kubectl(&["get", gateways, boards, agents, "-o", path]).await?)
    }

    /// The objects of the operator in the cluster, as `kind/name`.
    async fn operator(&self) -> Result<Vec<String>, Failure> {
        let kinds = "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings,\
                     roles,rolebindings,deployments,services,serviceaccounts,poddisruptionbudgets,networkpolicies";
        let path = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {end}";
        let selector = "app.kubernetes.io/name=muster,app.kubernetes.io/component=operator";
        let names = self.kubectl(&["get", kinds, "-A", "-l", selector, "-o", path]).await?;
        Ok(names.split_whitespace().map(str::to_owned).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Helm: make test-long"]
async fn an_uninstalled_release_leaves_the_definitions_and_every_object_and_can_come_back() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    cluster.helm(&["install", "muster-crds", DEFINITIONS, "--create-namespace"]).await?;
    cluster.until_definitions_are_served().await?;
    let notes = cluster.helm(&["install", "muster", OPERATOR]).await?;
    assert!(notes.contains("http://muster.muster-system.svc:8080") && !notes.contains("not there yet"), "{notes}");
    assert!(cluster.operator().await?.contains(&"ClusterRole/muster".to_owned()));
    cluster.kubectl(&["apply", "-k", "deploy/examples"]).await?;
    let before = cluster.identities().await?;
    assert!(before.contains("Agent devops-engineer") && before.contains("agents.muster.dev"), "{before}");

    cluster.kubectl(&["create", "namespace", "team-a"]).await?;
    cluster
        .helm(&["upgrade", "muster", OPERATOR, "--set-json", "namespaces=[\"team-a\"]", "--set", "replicas=3"])
        .await?;
    cluster.helm(&["upgrade", "muster-crds", DEFINITIONS]).await?;
    let operator = cluster.operator().await?;
    let has = |name: &str| operator.iter().any(|object| object == name);
    assert!(has("Role/muster") && has("ClusterRole/muster-reviews") && !has("ClusterRole/muster"), "{operator:?}");
    let replicas = ["get", "deployment/muster", "-n", NAMESPACE, "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(cluster.kubectl(&replicas).await?, "3");

    cluster.helm(&["rollback", "muster", "1"]).await?;
    assert!(cluster.operator().await?.contains(&"ClusterRole/muster".to_owned()));
    assert_eq!(cluster.kubectl(&replicas).await?, "2");

    for chart in ["muster", "muster-crds"] {
        cluster.helm(&["uninstall", chart]).await?;
        assert_eq!(cluster.identities().await?, before, "after the uninstallation of {chart}");
    }
    assert_eq!(cluster.operator().await?, [""; 0]);
    cluster.helm(&["install", "muster-crds", DEFINITIONS]).await?;
    cluster.helm(&["install", "muster", OPERATOR]).await?;
    assert_eq!(cluster.identities().await?, before, "after the second installation");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Helm: make test-long"]
async fn install_yaml_and_the_charts_take_over_from_each_other() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    cluster.kubectl(&["apply", "-f", "deploy/install.yaml"]).await?;
    cluster.until_definitions_are_served().await?;
    cluster.kubectl(&["apply", "-k", "deploy/examples"]).await?;
    let deployment = ["get", "deployment/muster", "-n", NAMESPACE, "-o", "jsonpath={.metadata.uid}"];
    let before = (cluster.identities().await?, cluster.kubectl(&deployment).await?, cluster.operator().await?);
    for (release, chart) in [("muster-crds", DEFINITIONS), ("muster", OPERATOR)] {
        cluster.helm(&["install", release, chart, "--take-ownership", "--force-conflicts"]).await?;
    }
    let after = (cluster.identities().await?, cluster.kubectl(&deployment).await?, cluster.operator().await?);
    assert_eq!(after, before);

    cluster.kubectl(&["apply", "-f", "deploy/install.yaml"]).await?;
    let records = "owner=helm,name in (muster,muster-crds)";
    cluster.kubectl(&["delete", "secret", "-n", NAMESPACE, "-l", records]).await?;
    assert!(!cluster.helm(&["list"]).await?.contains("muster"));
    let after = (cluster.identities().await?, cluster.kubectl(&deployment).await?, cluster.operator().await?);
    assert_eq!(after, before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Helm: make test-long"]
async fn a_deleted_install_yaml_leaves_the_definitions_and_every_object() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    cluster.kubectl(&["apply", "-f", "deploy/install.yaml"]).await?;
    cluster.until_definitions_are_served().await?;
    cluster.kubectl(&["apply", "-k", "deploy/examples"]).await?;
    let before = cluster.identities().await?;
    // The API server reads a new policy after a moment.
    until("the policy to protect the definitions", LIMIT, async || {
        let delete = ["delete", CRDS[0], "--dry-run=server"];
        let answer = cluster.control_plane.kubectl.try_run(&delete, "").await.map_err(|e| e.to_string())?;
        if answer.ok { Err(answer.stdout) } else { Ok(()) }
    })
    .await?;

    let delete = ["delete", "-f", "deploy/install.yaml", "--timeout=60s"];
    let answer = cluster.control_plane.kubectl.try_run(&delete, "").await?;
    assert_eq!(answer.stderr.matches("refuses the deletion of").count(), 3, "{}", answer.stderr);
    cluster.kubectl(&["wait", "--for=delete", "namespace/muster-system", "--timeout=60s"]).await?;
    assert_eq!(cluster.operator().await?, [""; 0]);
    assert_eq!(cluster.identities().await?, before);
    Ok(())
}

/// The objects without those of the Prometheus operator, whose definitions the control plane does not have.
fn of_kubernetes(manifests: &str) -> String {
    let is_foreign = |object: &Value| {
        object["apiVersion"].as_str().is_some_and(|version| version.starts_with("monitoring.coreos.com/"))
    };
    let objects: Vec<_> = parse(manifests).into_iter().filter(|object| !is_foreign(object)).collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": objects }).to_string()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Helm: make test-long"]
async fn the_api_server_takes_every_case_and_admits_its_pod_under_the_restricted_standard() -> Result<(), Failure> {
    let cluster = Cluster::start().await?;
    for namespace in [NAMESPACE, "team-a", "team-b"] {
        cluster.kubectl(&["create", "namespace", namespace]).await?;
    }
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl(&["label", "namespace", NAMESPACE, restricted]).await?;
    cluster.kubectl(&["create", "priorityclass", "muster", "--value=1000000"]).await?;
    let dry = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    for case_name in CASES {
        let chart = render_case(case_name);
        let kustomization = kustomize(case(case_name).to_str().unwrap());
        for manifest in [pod(&chart).to_string(), of_kubernetes(&chart), of_kubernetes(&kustomization)] {
            let answer = cluster.control_plane.kubectl.try_run(&dry, &manifest).await?;
            assert!(answer.ok && !answer.stderr.contains("PodSecurity"), "{case_name}: {}", answer.stderr);
        }
    }
    Ok(())
}
