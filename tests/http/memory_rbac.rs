//! Kubernetes' access control in memory: users by token, permissions by list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use muster::api::object_key::ObjectKey;
use muster::api::{Agent, AgentGateway, Board};
use muster::state::authz::{Access, AccessError, Permission, RecordedEvent, ResourceKind, User, Verb};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::memory::{InMemory, MemoryStore};

/// A permission as a Role grants it: user, verb, kind and namespace (`*` is all).
type RbacRule = (&'static str, Verb, ResourceKind, &'static str);

/// Users and permissions. Clones share them.
#[derive(Clone)]
pub(crate) struct MemoryRbac {
    pub(crate) store: MemoryStore,
    pub(crate) users: Arc<Mutex<BTreeMap<&'static str, &'static str>>>,
    pub(crate) rules: Arc<Mutex<BTreeSet<RbacRule>>>,
    /// The numbers of token reviews and access reviews.
    pub(crate) review_counts: Arc<Mutex<(usize, usize)>>,
    /// The writes, with their users.
    pub(crate) audit: Arc<Mutex<Vec<String>>>,
    /// Why reviews fail, if they do.
    pub(crate) failure: Arc<Mutex<Option<AccessError>>>,
    /// Whether token reviews are never answered.
    pub(crate) silent: Arc<Mutex<bool>>,
}

impl MemoryRbac {
    pub(crate) fn new(store: MemoryStore) -> Self {
        let (users, rules, review_counts) = (Arc::default(), Arc::default(), Arc::default());
        Self {
            store,
            users,
            rules,
            review_counts,
            audit: Arc::default(),
            failure: Arc::default(),
            silent: Arc::default(),
        }
    }

    pub(crate) fn allow(&self, user: &'static str, verbs: &[Verb], kinds: &[ResourceKind], namespace: &'static str) {
        let mut rules = self.rules.lock().unwrap();
        for verb in verbs {
            rules.extend(kinds.iter().map(|kind| (user, *verb, *kind, namespace)));
        }
    }

    fn allows(&self, user: &str, right: &Permission) -> bool {
        let in_namespace = |ns: &str| ns == "*" || right.namespace.as_deref() == Some(ns);
        let rules = self.rules.lock().unwrap();
        rules.iter().any(|(name, verb, kind, ns)| {
            *name == user && *verb == right.verb && *kind == right.kind && in_namespace(ns)
        })
    }

    fn authorize_write(&self, token: &SecretString, right: &Permission) -> Result<(), AccessError> {
        let users = self.users.lock().unwrap();
        let refused = |code| AccessError::Refused { code, message: "no".into() };
        let user = users.get(token.expose_secret()).ok_or_else(|| refused(401))?;
        if !self.allows(user, right) {
            return Err(refused(403));
        }
        self.audit.lock().unwrap().push(format!("{user} {} {}", right.verb.as_str(), right.kind.resource()));
        Ok(())
    }

    fn change<K>(&self, key: &ObjectKey, patch: &Value) -> Result<Value, AccessError>
    where
        K: InMemory + serde::Serialize + serde::de::DeserializeOwned,
    {
        let mut state = self.store.state();
        let table = K::table(&mut state);
        let missing = || AccessError::Refused { code: 404, message: "not found".into() };
        let mut value = serde_json::to_value(table.get(key).ok_or_else(missing)?).unwrap();
        let uid = patch["metadata"].get("uid");
        if uid.is_some_and(|uid| *uid != value["metadata"]["uid"]) {
            return Err(AccessError::Refused { code: 409, message: "another object".into() });
        }
        let version = patch["metadata"].get("resourceVersion");
        if version.is_some_and(|version| *version != value["metadata"]["resourceVersion"]) {
            return Err(AccessError::Refused { code: 409, message: "the object has been modified".into() });
        }
        merge_patch(&mut value, patch);
        let invalid = |e: serde_json::Error| AccessError::Refused { code: 422, message: e.to_string() };
        let object: K = serde_json::from_value(value.clone()).map_err(invalid)?;
        table.insert(ObjectKey::of(object.meta()), object);
        Ok(value)
    }
}

fn merge_patch(value: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *value = patch.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(serde_json::Map::new());
    }
    let object = value.as_object_mut().unwrap();
    for (key, patch) in patch {
        if patch.is_null() {
            object.remove(key);
        } else {
            merge_patch(object.entry(key).or_insert(Value::Null), patch);
        }
    }
}

impl Access for MemoryRbac {
    async fn identify(&self, token: &SecretString, _: bool) -> Result<Option<User>, AccessError> {
        self.review_counts.lock().unwrap().0 += 1;
        if *self.silent.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        if let Some(failure) = self.failure.lock().unwrap().clone() {
            return Err(failure);
        }
        let users = self.users.lock().unwrap();
        let name = users.get(token.expose_secret());
        Ok(name.map(|name| User { name: (*name).to_owned(), ..User::default() }))
    }

    async fn allowed(&self, user: &User, right: &Permission) -> Result<bool, AccessError> {
        self.review_counts.lock().unwrap().1 += 1;
        Ok(self.allows(&user.name, right))
    }

    async fn create_agent(&self, token: &SecretString, agent: &Agent) -> Result<Agent, AccessError> {
        let key = ObjectKey::of(&agent.metadata);
        self.authorize_write(token, &Permission::within(Verb::Create, ResourceKind::Agent, &key.namespace))?;
        if self.store.state().agents.contains_key(&key) {
            return Err(AccessError::Refused { code: 409, message: format!("agents {:?} already exists", key.name) });
        }
        self.store.apply(agent.clone());
        Ok(self.store.state().agents[&key].clone())
    }

    async fn patch(
        &self,
        token: &SecretString,
        (kind, key): (ResourceKind, &ObjectKey),
        patch: &Value,
    ) -> Result<Value, AccessError> {
        self.authorize_write(token, &Permission::with(Verb::Patch, kind, key))?;
        match kind {
            ResourceKind::Agent => self.change::<Agent>(key, patch),
            ResourceKind::Board => self.change::<Board>(key, patch),
            ResourceKind::Gateway => self.change::<AgentGateway>(key, patch),
        }
    }

    async fn delete_agent(&self, token: &SecretString, key: &ObjectKey, uid: &str) -> Result<(), AccessError> {
        self.authorize_write(token, &Permission::with(Verb::Delete, ResourceKind::Agent, key))?;
        assert_eq!(self.store.state().agents[key].metadata.uid.as_deref(), Some(uid));
        self.store.delete::<Agent>(key);
        Ok(())
    }

    async fn events(
        &self,
        token: &SecretString,
        namespace: &str,
        uid: &str,
    ) -> Result<Vec<RecordedEvent>, AccessError> {
        // A user who may create Agents may read events.
        self.authorize_write(token, &Permission::within(Verb::Create, ResourceKind::Agent, namespace))?;
        let message = format!("about {uid}");
        Ok(vec![RecordedEvent { kind: "Normal".into(), reason: "Woken".into(), message, count: 2, last_seen: None }])
    }
}
