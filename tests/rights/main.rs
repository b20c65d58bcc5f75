//! The granted rights are the rights that the code uses. `tests/cluster/rights.rs` compares them with the requests of a running operator.

#![allow(clippy::unwrap_used, reason = "helpers outside of test functions fail a test by a panic too")]

mod granted;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use granted::{EVERYWHERE, FOR_ELECTION, FOR_PEOPLE, IN_A_NAMESPACE, granted};

/// The uses of the rights: a file below `src`, a text in the file, and the rights that the code there needs.
const USES: &[(&str, &str, &[&str])] = &[
    (
        "app/operator.rs",
        "watch::objects(&client, agent_writers, &watches)",
        &["list agents.muster.dev", "watch agents.muster.dev"],
    ),
    (
        "app/operator.rs",
        "watch::objects(&client, board_writers, &watches)",
        &["list boards.muster.dev", "watch boards.muster.dev"],
    ),
    (
        "app/operator.rs",
        "watch::objects(&client, gateway_writers, &watches)",
        &["list agentgateways.muster.dev", "watch agentgateways.muster.dev"],
    ),
    ("state/watch.rs", "Api<PartialObjectMeta<ConfigMap>> = of_scope", &["list configmaps", "watch configmaps"]),
    ("state/kube_store.rs", "api::<ConfigMap>(&key.namespace).get_opt", &["get configmaps"]),
    ("state/kube_store.rs", "Api::<Namespace>::all(self.client.clone()).get_metadata_opt", &["get namespaces"]),
    ("state/kube_store.rs", "api::<Agent>(&key.namespace).get_opt", &["get agents.muster.dev"]),
    ("state/kube_store.rs", "api::<Secret>(&key.namespace).get_opt", &["get secrets"]),
    ("state/kube_store.rs", "api::<Secret>(&key.namespace).get_metadata_opt", &["get secrets"]),
    ("state/kube_store.rs", "api::<Secret>(&namespace).create", &["create secrets"]),
    ("state/kube_store.rs", "api::<Secret>(&namespace).replace", &["update secrets"]),
    ("state/kube_store.rs", "api::<Secret>(&namespace).delete", &["delete secrets"]),
    ("state/kube_store.rs", "self.patch_metadata(agent", &["patch agents.muster.dev"]),
    ("state/kube_store.rs", "self.patch_metadata(gateway", &["patch agentgateways.muster.dev"]),
    ("state/kube_store.rs", "self.replace_status(&Agent", &["update agents/status.muster.dev"]),
    ("state/kube_store.rs", "self.replace_status(&Board", &["update boards/status.muster.dev"]),
    ("state/kube_store.rs", "self.replace_status(&AgentGateway", &["update agentgateways/status.muster.dev"]),
    ("state/late_events.rs", "self.recorder.publish", &["create events.events.k8s.io", "patch events.events.k8s.io"]),
    (
        "core/ownership.rs",
        "owner.controller_owner_ref",
        &["update agents/finalizers.muster.dev", "update agentgateways/finalizers.muster.dev"],
    ),
    (
        "state/kube_authz.rs",
        "Api<TokenReview> = Api::all(self.operator",
        &["create tokenreviews.authentication.k8s.io"],
    ),
    (
        "state/kube_authz.rs",
        "Api<SubjectAccessReview> = Api::all(self.operator",
        &["create subjectaccessreviews.authorization.k8s.io"],
    ),
    ("leadership/candidate.rs", "self.leases.get_opt(", &["get leases.coordination.k8s.io"]),
    ("leadership/candidate.rs", "self.leases.create(", &["create leases.coordination.k8s.io"]),
    ("leadership/candidate.rs", "self.leases.replace(", &["update leases.coordination.k8s.io"]),
];

#[test]
fn each_granted_right_is_used_and_each_used_right_is_granted() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (file, text, _) in USES {
        let source = fs::read_to_string(src.join(file)).unwrap();
        assert!(source.contains(text), "src/{file} has no {text:?}");
    }
    let used: BTreeSet<_> = USES.iter().flat_map(|(_, _, rights)| *rights).map(|right| (*right).to_owned()).collect();
    assert_eq!(&granted(EVERYWHERE) | &granted(FOR_ELECTION), used);
}

#[test]
fn an_operator_with_roles_has_the_same_rights_and_those_for_people_apart() {
    let [everywhere, in_a_namespace, for_people] = [EVERYWHERE, IN_A_NAMESPACE, FOR_PEOPLE].map(granted);
    assert!(in_a_namespace.is_disjoint(&for_people));
    assert_eq!(&in_a_namespace | &for_people, everywhere);
}
