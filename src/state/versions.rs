//! Which of two versions of an object is the later one.

use kube::api::ObjectMeta;

/// Whether one version of an object is later than another one. Versions are numbers that grow (Kubernetes 1.35, KEP-5504; every version
/// that keeps its objects in etcd).
pub(super) fn is_later(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    let version = |meta: &ObjectMeta| meta.resource_version.as_ref().and_then(|version| version.parse::<u64>().ok());
    one.uid == other.uid && version(one).zip(version(other)).is_some_and(|(one, other)| one > other)
}

/// Whether a write of this operator has ended an object. The API server answers the write that removes the last finalizer with the object
/// without finalizers, in the version that it had before (kube-apiserver 1.36.3, `deleteWithoutFinalizers`).
pub(super) fn is_end(written: &ObjectMeta, known: &ObjectMeta) -> bool {
    let has_finalizers = |meta: &ObjectMeta| meta.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty());
    written.uid == known.uid
        && written.resource_version == known.resource_version
        && written.deletion_timestamp.is_some()
        && has_finalizers(known)
        && !has_finalizers(written)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn meta(version: &str, finalizers: &[&str]) -> ObjectMeta {
        ObjectMeta {
            uid: Some("uid".into()),
            resource_version: Some(version.into()),
            deletion_timestamp: Some(Time(Timestamp::UNIX_EPOCH)),
            finalizers: Some(finalizers.iter().map(|&name| name.to_owned()).collect()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn only_the_answer_without_finalizers_is_the_end_of_an_object_that_is_deleted() {
        assert!(is_end(&meta("7", &[]), &meta("7", &["one"])));
        assert!(!is_end(&meta("7", &["two"]), &meta("7", &["one", "two"])), "another finalizer is left");
        assert!(!is_end(&meta("7", &[]), &meta("7", &[])), "it is known");
        assert!(!is_end(&meta("6", &[]), &meta("7", &["one"])), "another version");
        let kept = ObjectMeta { deletion_timestamp: None, ..meta("7", &[]) };
        assert!(!is_end(&kept, &meta("7", &["one"])));
        let another = ObjectMeta { uid: Some("other".into()), ..meta("7", &[]) };
        assert!(!is_end(&another, &meta("7", &["one"])));
    }
}
