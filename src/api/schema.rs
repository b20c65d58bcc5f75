//! Parts of the schemas that the derive of a schema cannot express.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use schemars::{Schema, SchemaGenerator, json_schema};

/// Removes the text of an enum from its schema. A field of that type keeps its own text, which says what each word means for the field
/// and which word is the default.
pub(super) fn words(schema: &mut Schema) {
    schema.remove("description");
}

/// The schema of a list of conditions, with the limits of `metav1.Condition`
/// (<https://github.com/kubernetes/apimachinery/blob/master/pkg/apis/meta/v1/types.go>), which the type in `k8s-openapi` does not have.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "maxItems": 32,
        "items": {
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When the status of the condition last changed."
                },
                "message": {
                    "type": "string",
                    "maxLength": 32768,
                    "description": "A sentence for people: the cause, and the next step if there is one."
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                    "description": "The generation of the spec that the condition describes."
                },
                "reason": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    "description": "The cause as one word, for programs."
                },
                "status": {
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                    "description": "Whether the condition holds. `True`: it holds. `False`: it does not hold. `Unknown`: Muster cannot tell."
                },
                "type": {
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                    "description": "The name of the condition."
                }
            }
        }
    })
}

/// The schema of an object with any keys.
pub(super) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true, "maxProperties": 64 })
}

/// Removes `nullable` from a schema and all schemas in it. Kubernetes then drops a `null` before it applies defaults, as for its own
/// optional fields (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting-and-nullable>).
pub(super) fn forbid_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    for field in schema.properties.iter_mut().flat_map(|fields| fields.values_mut()) {
        forbid_null(field);
    }
    match schema.items.as_mut() {
        Some(JSONSchemaPropsOrArray::Schema(item)) => forbid_null(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(forbid_null),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(value)) = schema.additional_properties.as_mut() {
        forbid_null(value);
    }
}

/// Makes the fields of a status, and the items of its lists, atomic if they are objects. Muster alone writes them, and as a whole. The API server
/// then records in `managedFields` that Muster has set a condition or a file, and not each field of it
/// (<https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy>). With kube-apiserver 1.36.3 those records were a quarter of
/// the size of an Agent.
pub(super) fn atomic_objects(status: &mut JSONSchemaProps) {
    for field in status.properties.iter_mut().flat_map(|fields| fields.values_mut()) {
        match field.items.as_mut() {
            Some(JSONSchemaPropsOrArray::Schema(item)) => make_atomic(item),
            Some(JSONSchemaPropsOrArray::Schemas(_)) | None => make_atomic(field),
        }
    }
}

fn make_atomic(schema: &mut JSONSchemaProps) {
    if schema.type_.as_deref() == Some("object") {
        schema.x_kubernetes_map_type = Some("atomic".into());
    }
}
