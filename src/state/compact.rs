//! The form of an object that a cache keeps.

use super::guarded::Guarded;
use crate::core::index::Indexed;

/// An object without `managedFields`, which no code reads, and without spare room in its lists.
///
/// Labels and annotations stay, though no code reads most of them: a status is written with the whole object, and an older Kubernetes takes a label
/// that is missing in it from its field manager (`GetResetFields` of the status strategy for custom resources has `spec` alone in 1.30.14, and
/// `metadata` too in 1.36.3). A pipeline that applies on the server could then not remove the label any longer.
pub(super) fn compact<K: Indexed>(mut object: K) -> K {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    metadata.finalizers.iter_mut().for_each(Vec::shrink_to_fit);
    object.shrink_lists();
    object
}

/// An object of a watch in this form.
pub(super) fn compact_guarded<K: Indexed>(object: Guarded<K>) -> Guarded<K> {
    Guarded(object.0.map(compact))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{Agent, keys};

    #[test]
    fn an_object_keeps_its_labels_and_annotations_and_loses_its_managed_fields() {
        let kept =
            json!({ "name": "one", "labels": { "team": "infra" }, "annotations": { (keys::LAST_APPLIED): "{}" } });
        let mut metadata = kept.clone();
        metadata["managedFields"] = json!([{ "manager": "kubectl", "operation": "Apply" }]);
        let agent: Agent = serde_json::from_value(json!({ "metadata": metadata, "spec": {} })).unwrap();
        assert_eq!(serde_json::to_value(compact(agent).metadata).unwrap(), kept);
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
