//! The form of an object that a cache keeps.

use crate::api::keys;
use crate::core::index::Indexed;

/// An object without what takes memory and is of no use to this operator. A write of the object loses none of it: it is a patch, or it replaces
/// the status alone.
pub(super) fn compact<K: Indexed>(mut object: K) -> K {
    let metadata = object.meta_mut();
    // No code reads the labels of an Agent, a Board or an AgentGateway.
    (metadata.managed_fields, metadata.labels) = (None, None);
    if let Some(annotations) = &mut metadata.annotations {
        // kubectl's copy of the whole object.
        annotations.remove(keys::LAST_APPLIED);
    }
    metadata.annotations.take_if(|annotations| annotations.is_empty());
    metadata.finalizers.iter_mut().for_each(Vec::shrink_to_fit);
    object.shrink_lists();
    object
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::Agent;

    fn compacted(metadata: &Value) -> Value {
        let agent = json!({ "metadata": metadata, "spec": { "role": "Worker" } });
        let agent: Agent = serde_json::from_value(agent).unwrap();
        serde_json::to_value(compact(agent).metadata).unwrap()
    }

    #[test]
    fn an_object_is_kept_without_labels_and_without_the_copy_that_kubectl_made_of_it() {
        let fields = json!([{ "manager": "kubectl", "operation": "Apply" }]);
        let annotations = json!({ (keys::LAST_APPLIED): "{}", (keys::AGENT_ID): "mc-1" });
        let (labels, name) = (json!({ "team": "infra" }), "one");
        let kept =
            compacted(&json!({ "name": name, "annotations": annotations, "labels": labels, "managedFields": fields }));
        assert_eq!(kept, json!({ "name": "one", "annotations": { (keys::AGENT_ID): "mc-1" } }));
        let kept = compacted(&json!({ "name": "one", "annotations": { (keys::LAST_APPLIED): "{}" } }));
        assert_eq!(kept, json!({ "name": "one" }));
    }

    #[test]
    fn the_lists_of_an_object_have_no_spare_room() {
        let condition = json!({ "type": "Ready", "lastTransitionTime": "2026-01-01T00:00:00Z" });
        let files = ["A.md", "B.md", "C.md", "D.md", "E.md"].map(|name| json!({ "name": name, "state": "Synced" }));
        let status = json!({ "conditions": vec![condition; 5], "files": files });
        let agent: Agent = serde_json::from_value(json!({ "metadata": {}, "spec": {}, "status": status })).unwrap();
        let status = compact(agent).status.unwrap();
        assert_eq!((status.conditions.capacity(), status.files.capacity()), (5, 5));
    }
}
