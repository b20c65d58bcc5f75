//! The kinds that the API serves: those of Kubernetes that Muster uses, and those of CustomResourceDefinitions.

use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use serde_json::Value;

use crate::schema::Schema;
use crate::typed::Typed;

/// How objects of a kind are read and checked.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// A kind of Kubernetes.
    Typed(Typed),
    /// A kind of a CustomResourceDefinition.
    Custom(Arc<Schema>),
}

/// A kind that the API serves.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    /// The name in paths, such as `boards`.
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
    /// The paths of the fields that a field selector may name, beside those of all kinds.
    pub(crate) selectable: Vec<String>,
    pub(crate) form: Form,
}

impl Resource {
    /// A kind of Kubernetes.
    fn built_in(group: &str, kind: &str, plural: &str, namespaced: bool, typed: Typed) -> Self {
        Self {
            group: group.into(),
            version: "v1".into(),
            kind: kind.into(),
            plural: plural.into(),
            namespaced,
            selectable: typed.selectable().iter().map(ToString::to_string).collect(),
            form: Form::Typed(typed),
        }
    }

    /// `v1`, or `muster.dev/v1alpha1`.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// A word with the group behind it: `boards.muster.dev`, `Board.muster.dev`, `secrets`.
    pub(crate) fn qualified(&self, word: &str) -> String {
        if self.group.is_empty() { word.to_owned() } else { format!("{word}.{}", self.group) }
    }

    /// Whether the status is a subresource.
    pub(crate) fn has_status(&self) -> bool {
        matches!(self.form, Form::Custom(_))
    }

    /// The schema of a CustomResourceDefinition.
    pub(crate) fn custom(&self) -> Option<&Schema> {
        match &self.form {
            Form::Custom(schema) => Some(schema),
            Form::Typed(_) => None,
        }
    }
}

/// The kinds that an API serves, read once for any number of APIs.
// In the order of their registration: the index of a kind is its name inside of this crate.
#[derive(Clone, Debug)]
pub struct Resources(Vec<Resource>);

/// The index of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ResourceId(pub(crate) usize);

/// Namespaces are the first kind.
pub(crate) const NAMESPACES: ResourceId = ResourceId(0);

/// A CustomResourceDefinition that this API does not serve.
#[derive(Debug)]
pub struct UnservedDefinition(pub String);

impl std::fmt::Display for UnservedDefinition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the CustomResourceDefinition cannot be served: {}", self.0)
    }
}

impl std::error::Error for UnservedDefinition {}

impl Resources {
    /// The built-in kinds, and the kinds of `definitions`.
    ///
    /// # Errors
    /// A definition that this API cannot serve.
    pub fn new(definitions: &[CustomResourceDefinition]) -> Result<Self, UnservedDefinition> {
        let mut all = vec![
            Resource::built_in("", "Namespace", "namespaces", false, Typed::Namespace),
            Resource::built_in("", "Secret", "secrets", true, Typed::Secret),
            Resource::built_in("", "ConfigMap", "configmaps", true, Typed::ConfigMap),
            Resource::built_in("events.k8s.io", "Event", "events", true, Typed::Event),
            Resource::built_in("coordination.k8s.io", "Lease", "leases", true, Typed::Lease),
        ];
        for definition in definitions {
            all.extend(custom(definition)?);
        }
        Ok(Self(all))
    }

    pub(crate) fn get(&self, id: ResourceId) -> &Resource {
        &self.0[id.0]
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = (ResourceId, &Resource)> {
        self.0.iter().enumerate().map(|(index, resource)| (ResourceId(index), resource))
    }

    /// The kind at a path.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<ResourceId> {
        let is_this = |r: &Resource| r.group == group && r.version == version && r.plural == plural;
        self.ids().find(|(_, resource)| is_this(resource)).map(|(id, _)| id)
    }

    /// The kind of this name, in any version.
    pub(crate) fn find_any(&self, group: &str, plural: &str) -> Option<ResourceId> {
        self.ids().find(|(_, resource)| resource.group == group && resource.plural == plural).map(|(id, _)| id)
    }

    /// Whether the kinds of a group are those of definitions.
    pub(crate) fn is_custom(&self, group: &str) -> bool {
        self.0.iter().any(|resource| resource.group == group && resource.custom().is_some())
    }

    /// Whether a group has this version.
    pub(crate) fn has_group(&self, group: &str, version: &str) -> bool {
        self.0.iter().any(|resource| resource.group == group && resource.version == version)
    }
}

/// The fields that a version makes selectable.
fn selectable(version: &CustomResourceDefinitionVersion) -> Vec<String> {
    let fields = version.selectable_fields.iter().flatten();
    fields.map(|field| field.json_path.trim_start_matches('.').to_owned()).collect()
}

/// The served versions of a CustomResourceDefinition.
fn custom(definition: &CustomResourceDefinition) -> Result<Vec<Resource>, UnservedDefinition> {
    let spec = &definition.spec;
    let served = spec.versions.iter().filter(|version| version.served);
    served
        .map(|version| {
            let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
            let schema = schema.ok_or_else(|| UnservedDefinition(format!("{} has no schema", spec.names.kind)))?;
            let schema: Value = serde_json::to_value(schema).map_err(|e| UnservedDefinition(e.to_string()))?;
            if version.subresources.as_ref().is_none_or(|sub| sub.status.is_none()) {
                return Err(UnservedDefinition(format!("{} has no status subresource", spec.names.kind)));
            }
            Ok(Resource {
                group: spec.group.clone(),
                version: version.name.clone(),
                kind: spec.names.kind.clone(),
                plural: spec.names.plural.clone(),
                namespaced: spec.scope == "Namespaced",
                selectable: selectable(version),
                form: Form::Custom(Arc::new(Schema::new(&schema).map_err(UnservedDefinition)?)),
            })
        })
        .collect()
}
