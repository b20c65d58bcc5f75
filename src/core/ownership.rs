//! The owner of a Secret, and how an object takes ownership of an orphaned Secret.
//!
//! A backup restores a Secret without an owner, or with an owner whose uid no longer exists. The restored Secret still carries
//! Muster's label. A Secret of a user does not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::ObjectMeta;

use super::objects::{AgentIndex, GatewayIndex, Objects};
use crate::api::{Agent, AgentGateway, keys};

/// The owner of a Secret, from the view of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The object owns the Secret.
    This,
    /// The Secret has no owner, or only owners of Muster's kinds that no longer exist.
    Absent,
    /// Another object owns the Secret.
    Other,
}

/// The owner of a Secret, from the view of the object with this uid.
pub fn owner<O: Objects>(objects: &O, secret: &ObjectMeta, uid: Option<&str>) -> Owner {
    let references = || secret.owner_references.iter().flatten();
    if references().any(|reference| Some(reference.uid.as_str()) == uid) {
        return Owner::This;
    }
    let namespace = secret.namespace.as_deref();
    if references().any(|reference| exists(objects, namespace, reference)) { Owner::Other } else { Owner::Absent }
}

/// Whether an owner exists. An owner of a kind outside Muster counts as existing.
fn exists<O: Objects>(objects: &O, namespace: Option<&str>, reference: &OwnerReference) -> bool {
    let is_owner = |meta: &ObjectMeta| {
        meta.namespace.as_deref() == namespace && meta.uid.as_deref() == Some(reference.uid.as_str())
    };
    let uid = reference.uid.clone();
    if is_of::<Agent>(reference) {
        objects.agents_by(&AgentIndex::Id(uid)).iter().any(|agent| is_owner(&agent.metadata))
            || objects.unreadable_agents().iter().any(is_owner)
    } else if is_of::<AgentGateway>(reference) {
        objects.gateways_by(&GatewayIndex::UidOrName(uid)).iter().any(|gateway| is_owner(&gateway.metadata))
            || objects.unreadable_gateways().iter().any(is_owner)
    } else {
        true
    }
}

fn is_of<K: Resource<DynamicType = ()>>(reference: &OwnerReference) -> bool {
    reference.kind == K::kind(&()) && reference.api_version.split('/').next() == Some(keys::GROUP)
}

/// Sets the owner of a Secret and Muster's label. Owners that no longer exist are replaced.
pub fn take_ownership<K: Resource<DynamicType = ()>>(secret: &mut ObjectMeta, owner: &K) {
    let uid = owner.meta().uid.as_deref();
    let is_owned = secret.owner_references.iter().flatten().any(|reference| Some(reference.uid.as_str()) == uid);
    if !is_owned {
        secret.owner_references = Some(owner.controller_owner_ref(&()).into_iter().collect());
    }
    let labels = secret.labels.get_or_insert_default();
    labels.insert(keys::MANAGED_BY_LABEL.to_owned(), keys::MANAGED_BY.to_owned());
}

/// Whether a Secret carries Muster's label.
pub fn has_managed_by_label(secret: &ObjectMeta) -> bool {
    secret
        .labels
        .as_ref()
        .and_then(|labels| labels.get(keys::MANAGED_BY_LABEL))
        .is_some_and(|by| by == keys::MANAGED_BY)
}

/// Whether an object carries a finalizer.
pub fn has_finalizer(meta: &ObjectMeta, name: &str) -> bool {
    meta.finalizers.iter().flatten().any(|finalizer| finalizer == name)
}
