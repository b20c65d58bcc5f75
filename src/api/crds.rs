//! The CustomResourceDefinitions, generated from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps,
};
use kube::CustomResourceExt;

use super::schema;
use crate::api::{Agent, AgentGateway, Board};

/// The CustomResourceDefinitions and the names of their files in `crds/`.
#[must_use]
pub fn all() -> [(&'static str, CustomResourceDefinition); 3] {
    [
        ("agentgateways.yaml", finished(AgentGateway::crd())),
        ("boards.yaml", finished(Board::crd())),
        ("agents.yaml", finished(Agent::crd())),
    ]
}

/// Adds what the derive of a schema cannot express: no field is nullable, and the default of `status` is `observedGeneration: -1`, so that
/// a client can wait for `observedGeneration` from the creation of an object on.
fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let Some(schema) = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()) else { continue };
        schema::forbid_null(schema);
        if let Some(status) = status_of(schema) {
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
