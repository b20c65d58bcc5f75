//! The CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps,
};
use kube::CustomResourceExt;

use super::schema;
use crate::api::{Agent, AgentGateway, Board, keys};

/// Annotations of each CustomResourceDefinition, against a deletion by a pipeline or by mistake: the deletion of a
/// CustomResourceDefinition deletes all objects of its kind, and Muster then removes their agents.
///
/// Argo CD: <https://argo-cd.readthedocs.io/en/stable/user-guide/sync-options/>. Flux:
/// <https://fluxcd.io/flux/components/kustomize/kustomizations/>. Helm: <https://helm.sh/docs/howto/charts_tips_and_tricks/>.
const KEPT: [(&str, &str); 4] = [
    ("argocd.argoproj.io/sync-options", "Prune=false,Delete=false"),
    ("kustomize.toolkit.fluxcd.io/prune", "disabled"),
    ("helm.sh/resource-policy", "keep"),
    (keys::PROTECTED, "true"),
];

/// The CustomResourceDefinitions and the names of their files in `crds/`.
#[must_use]
pub fn all() -> [(&'static str, CustomResourceDefinition); 3] {
    [
        ("agentgateways.yaml", finished(AgentGateway::crd())),
        ("boards.yaml", finished(Board::crd())),
        ("agents.yaml", finished(Agent::crd())),
    ]
}

/// Adds what the derive of a schema cannot express: the annotations against a deletion, no field is nullable, the objects in a status are
/// atomic, and the default of `status` is `observedGeneration: -1`, so that a client can wait for `observedGeneration` from the creation of an
/// object on.
fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let annotations = crd.metadata.annotations.get_or_insert_default();
    annotations.extend(KEPT.map(|(key, value)| (key.to_owned(), value.to_owned())));
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else { continue };
        schema::forbid_null(schema);
        if let Some(status) = status_of(schema) {
            schema::atomic_objects(status);
            status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
        }
    }
    crd
}

fn status_of(root: &mut JSONSchemaProps) -> Option<&mut JSONSchemaProps> {
    root.properties.as_mut()?.get_mut("status")
}

/// One CustomResourceDefinition as YAML.
///
/// # Errors
/// None in practice: the types serialize.
pub fn yaml(crd: &CustomResourceDefinition) -> Result<String, serde_saphyr::SerializeError> {
    let value = serde_json::to_value(crd).unwrap_or_default();
    serde_saphyr::to_string(&value)
}
