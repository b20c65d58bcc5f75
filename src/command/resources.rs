//! The kinds that the commands know: those of the shipped definitions, and those of Kubernetes that belong to them. Pure.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::ApiResource;
use serde_json::{Value, json};

use super::columns::{CellSource, PrinterColumn};
use crate::api::crds;

/// A kind that the commands know.
#[derive(Debug)]
pub(super) struct ResourceType {
    /// Empty for the kinds of Kubernetes.
    group: String,
    version: String,
    /// The name of the kind, such as `Agent`.
    pub(super) kind: String,
    /// The name in paths, such as `agents`.
    plural: String,
    /// Further names, such as `agt`.
    short_names: Vec<String>,
    /// Whether its objects belong to a namespace.
    pub(super) is_namespaced: bool,
    /// The columns of a table behind the name.
    pub(super) columns: Vec<PrinterColumn>,
}

/// The kinds. An object of a kind refers only to objects of the kinds before.
static ALL: LazyLock<Vec<ResourceType>> = LazyLock::new(|| {
    let status = PrinterColumn::text("Status", ".status.phase");
    let secret = vec![PrinterColumn::text("Type", ".type"), PrinterColumn::data(), PrinterColumn::age()];
    let mut all = vec![
        ResourceType::built_in("Namespace", "namespaces", "ns", false, vec![status, PrinterColumn::age()]),
        ResourceType::built_in("Secret", "secrets", "secret", true, secret),
        ResourceType::built_in(
            "ConfigMap",
            "configmaps",
            "cm",
            true,
            vec![PrinterColumn::data(), PrinterColumn::age()],
        ),
    ];
    all.extend(crds::all().into_iter().map(|(_, definition)| ResourceType::custom(definition)));
    all
});

/// The category of Muster's kinds.
const CATEGORY: &str = "muster";
/// Short words for AgentGateways, which kubectl does not take.
const GATEWAY_WORDS: [&str; 2] = ["gateway", "gateways"];

impl ResourceType {
    fn built_in(kind: &str, plural: &str, short: &str, is_namespaced: bool, columns: Vec<PrinterColumn>) -> Self {
        Self {
            group: String::new(),
            version: "v1".into(),
            kind: kind.into(),
            plural: plural.into(),
            short_names: vec![short.into()],
            is_namespaced,
            columns,
        }
    }

    fn custom(definition: CustomResourceDefinition) -> Self {
        let spec = definition.spec;
        let version = spec.versions.into_iter().find(|version| version.storage);
        let (version, columns) =
            version.map(|one| (one.name, one.additional_printer_columns.unwrap_or_default())).unwrap_or_default();
        let columns = columns.into_iter().map(|column| PrinterColumn {
            header: column.name.to_uppercase(),
            source: CellSource::Path(format!("${}", column.json_path)),
            is_date: column.type_ == "date",
            is_wide: column.priority.unwrap_or_default() > 0,
        });
        Self {
            group: spec.group,
            version,
            kind: spec.names.kind,
            plural: spec.names.plural,
            short_names: spec.names.short_names.unwrap_or_default(),
            is_namespaced: spec.scope == "Namespaced",
            columns: columns.collect(),
        }
    }

    /// `v1`, or `muster.dev/v1alpha1`.
    pub(super) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    fn qualified(&self, word: &str) -> String {
        if self.group.is_empty() { word.to_owned() } else { format!("{word}.{}", self.group) }
    }

    /// The kind as kubectl prints it before a name: `agent.muster.dev`.
    pub(super) fn qualified_kind(&self) -> String {
        self.qualified(&self.kind.to_lowercase())
    }

    /// An object as kubectl prints it: `agent.muster.dev/one`.
    pub(super) fn label(&self, name: &str) -> String {
        format!("{}/{name}", self.qualified_kind())
    }

    /// An object as the API server's messages name it: `agents.muster.dev "one"`.
    pub(super) fn quoted(&self, name: &str) -> String {
        format!("{} \"{name}\"", self.qualified(&self.plural))
    }

    /// The path of an object, or of the objects.
    pub(super) fn path(&self, namespace: Option<&str>, name: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let namespace = namespace.filter(|_| self.is_namespaced).map(|name| format!("/namespaces/{name}"));
        let name = name.map(|name| format!("/{name}")).unwrap_or_default();
        format!("{root}/{}{}/{}{name}", self.api_version(), namespace.unwrap_or_default(), self.plural)
    }

    /// The kind as kube's client takes it.
    pub(super) fn api_resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.clone(),
            version: self.version.clone(),
            api_version: self.api_version(),
            kind: self.kind.clone(),
            plural: self.plural.clone(),
        }
    }

    /// Names the kind in an object: items of lists come without it.
    pub(super) fn name_kind(&self, object: &mut Value) {
        object["apiVersion"] = json!(self.api_version());
        object["kind"] = json!(self.kind);
    }

    /// The place of the kind in the order of an apply.
    pub(super) fn rank(&self) -> usize {
        ALL.iter().position(|one| one.kind == self.kind).unwrap_or_default()
    }

    /// Whether the values of its objects are secret.
    pub(super) fn is_secret(&self) -> bool {
        self.group.is_empty() && self.kind == "Secret"
    }

    /// Whether it is a kind of Muster, and not of Kubernetes.
    pub(super) fn is_of_muster(&self) -> bool {
        !self.group.is_empty()
    }

    fn has_name(&self, word: &str) -> bool {
        let (name, group) = word.split_once('.').unwrap_or((word, &self.group));
        let group = group.strip_prefix(&format!("{}.", self.version)).unwrap_or(group);
        let is_name =
            name == self.plural || name == self.kind.to_lowercase() || self.short_names.iter().any(|s| s == name);
        is_name && group == self.group
    }
}

/// The kinds that a word of a command line names: a plural, a singular, a short name, with the group or without, or the category.
///
/// # Errors
/// A sentence with the known names.
pub(super) fn named(word: &str) -> Result<Vec<&'static ResourceType>, String> {
    let lower = word.to_lowercase();
    let lower = if GATEWAY_WORDS.contains(&lower.as_str()) { "agentgateways" } else { &lower };
    let is_named = |one: &&ResourceType| one.has_name(lower) || (lower == CATEGORY && one.is_of_muster());
    let found: Vec<_> = ALL.iter().filter(is_named).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let known: Vec<_> = ALL.iter().map(|one| one.plural.as_str()).collect();
    Err(format!("there is no kind {word:?} here; give one of {}", known.join(", ")))
}

/// The kind of a manifest.
///
/// # Errors
/// A sentence with the known kinds.
pub(super) fn of_manifest(api_version: &str, kind: &str) -> Result<&'static ResourceType, String> {
    let found = ALL.iter().find(|one| one.kind == kind && one.api_version() == api_version);
    found.ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|one| format!("{} {}", one.api_version(), one.kind)).collect();
        format!("{api_version} {kind} is a kind that muster does not handle; it handles {}", known.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_the_names_that_kubectl_takes() {
        for word in
            ["agents", "agent", "Agent", "agt", "agents.muster.dev", "agent.muster.dev", "agents.v1alpha1.muster.dev"]
        {
            assert_eq!(named(word).unwrap()[0].kind, "Agent", "{word}");
        }
        assert_eq!(named("gateway").unwrap()[0].kind, "AgentGateway");
        assert_eq!(named("cm").unwrap()[0].kind, "ConfigMap");
        assert_eq!(named("secret").unwrap()[0].kind, "Secret");
        let kinds: Vec<_> = named("muster").unwrap().iter().map(|one| one.kind.as_str()).collect();
        assert_eq!(kinds, ["AgentGateway", "Board", "Agent"]);
        for word in ["pods", "agents.example.com", "agents.v2.muster.dev", "secrets.muster.dev", ""] {
            assert!(named(word).unwrap_err().contains("give one of namespaces, secrets"), "{word}");
        }
    }

    #[test]
    fn paths_and_labels_are_those_of_kubernetes() {
        let agent = of_manifest("muster.dev/v1alpha1", "Agent").unwrap();
        assert_eq!(agent.path(Some("fleet"), Some("one")), "/apis/muster.dev/v1alpha1/namespaces/fleet/agents/one");
        assert_eq!(
            (agent.label("one"), agent.quoted("one")),
            ("agent.muster.dev/one".into(), "agents.muster.dev \"one\"".into())
        );
        let namespace = of_manifest("v1", "Namespace").unwrap();
        assert_eq!(namespace.path(Some("fleet"), Some("one")), "/api/v1/namespaces/one");
        assert_eq!(of_manifest("v1", "Secret").unwrap().path(None, None), "/api/v1/secrets");
    }

    #[test]
    fn a_manifest_of_another_kind_is_refused() {
        for (version, kind) in [("apps/v1", "Deployment"), ("muster.dev/v1", "Agent"), ("v1", "Agent")] {
            let error = of_manifest(version, kind).unwrap_err();
            assert!(error.starts_with(&format!("{version} {kind} is a kind that muster does not handle")), "{error}");
        }
    }
}
