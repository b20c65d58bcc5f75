//! The writes: an object is made, replaced, patched or deleted, with the rules of the API server.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::decode;
use crate::field_error::FieldError;
use crate::meta;
use crate::objects::{Key, Objects, uid};
use crate::part::Part;
use crate::refusal::Refusal;
use crate::request::{DeleteOptions, ObjectPatch, Propagation, WriteOptions};
use crate::resource::{Form, NAMESPACES, Resource, ResourceId, Resources};
use crate::schema::Schema;

/// The finalizers of the garbage collector.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
pub(crate) const ORPHAN: &str = "orphan";

const MODIFIED: &str = "the object has been modified; please apply your changes to the latest version and try again";

/// A change that others may follow from.
#[derive(Debug)]
pub(crate) enum Cause {
    /// An object is new or changed.
    Changed(Key),
    /// An object is gone. It has its last state.
    Removed(Key, Arc<Value>),
}

/// The writes to the stored objects.
pub(crate) struct Writer<'a> {
    pub(crate) objects: &'a mut Objects,
    pub(crate) resources: &'a Resources,
    pub(crate) now: Timestamp,
    /// The changes that nobody followed up yet.
    pub(crate) causes: VecDeque<Cause>,
    /// The sentences of the `Warning` headers.
    pub(crate) warnings: Vec<String>,
}

/// The outcome of a deletion.
#[derive(Debug)]
pub(crate) enum Deletion {
    /// The object stays until its finalizers are gone.
    Pending(Arc<Value>),
    /// The object is gone.
    Done(Arc<Value>),
}

impl Writer<'_> {
    fn resource(&self, id: ResourceId) -> &Resource {
        self.resources.get(id)
    }

    /// The place of an object that says its kind.
    pub(crate) fn key_of(&self, object: &Value) -> Result<Key, String> {
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let is_this = |resource: &Resource| resource.api_version() == version && resource.kind == kind;
        let (resource, _) = self
            .resources
            .ids()
            .find(|(_, resource)| is_this(resource))
            .ok_or_else(|| format!("an object of the unknown kind {kind:?} in {version:?}"))?;
        let [namespace, name] = ["namespace", "name"].map(|field| meta::text(object, field).to_owned());
        Ok(Key { resource, namespace, name })
    }

    /// Makes an object.
    pub(crate) fn create(
        &mut self,
        id: ResourceId,
        namespace: Option<&str>,
        body: Value,
        options: WriteOptions,
    ) -> Result<Arc<Value>, Refusal> {
        let resource = self.resources.get(id);
        let mut object = decode::read(resource, body, options.field_validation, &mut self.warnings)?;
        check_namespace(&object, namespace)?;
        self.check_admission(resource, &object, namespace)?;
        if !meta::text(&object, "resourceVersion").is_empty() {
            return Err(Refusal::unnamed("resourceVersion should not be set on objects to be created"));
        }
        meta::of_new(&mut object, namespace, self.now)?;
        if resource.has_status() {
            object["metadata"]["generation"] = json!(1);
            object.as_object_mut().and_then(|fields| fields.remove("status"));
        }
        if let Some(schema) = resource.custom() {
            schema.default(&mut object);
        }
        if let Form::Typed(typed) = resource.form {
            typed.default(&mut object);
        }
        let name = meta::text(&object, "name").to_owned();
        let errors = errors_of(resource, Part::Main, &object, None);
        if !errors.is_empty() {
            return Err(Refusal::invalid(resource, &name, &errors));
        }
        let key = Key { resource: id, namespace: namespace.unwrap_or_default().to_owned(), name };
        if let Some(existing) = self.objects.get(&key) {
            return Err(Refusal::already_exists(resource, &key.name, meta::is_deleting(existing)));
        }
        Ok(if options.dry_run { Arc::new(object) } else { self.put(&key, object) })
    }

    /// The namespace exists and takes new objects.
    fn check_admission(&self, resource: &Resource, object: &Value, namespace: Option<&str>) -> Result<(), Refusal> {
        let Some(namespace) = namespace else { return Ok(()) };
        let key = Key { resource: NAMESPACES, namespace: String::new(), name: namespace.to_owned() };
        match self.objects.get(&key) {
            None => Err(Refusal::not_found(self.resource(NAMESPACES), namespace)),
            Some(found) if meta::is_deleting(found) => {
                Err(Refusal::terminating(resource, meta::text(object, "name"), namespace))
            }
            Some(_) => Ok(()),
        }
    }

    /// Replaces an object, or its status.
    pub(crate) fn replace(
        &mut self,
        key: &Key,
        body: Value,
        part: Part,
        options: WriteOptions,
    ) -> Result<Arc<Value>, Refusal> {
        let resource = self.resources.get(key.resource);
        let object = decode::read(resource, body, options.field_validation, &mut self.warnings)?;
        check_place(key, &object)?;
        let old = self.existing(key)?;
        let given = meta::text(&object, "uid");
        if !given.is_empty() && given != uid(&old) {
            let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {}", uid(&old));
            return Err(Refusal::conflict(resource, &key.name, &why));
        }
        self.update(key, &old, object, part, options)
    }

    /// Patches an object, or its status.
    pub(crate) fn patch(
        &mut self,
        key: &Key,
        patch: &ObjectPatch,
        part: Part,
        options: WriteOptions,
    ) -> Result<Arc<Value>, Refusal> {
        let resource = self.resources.get(key.resource);
        let old = self.existing(key)?;
        let mut body = (*old).clone();
        patch.apply(&mut body)?;
        let object = decode::read(resource, body, options.field_validation, &mut self.warnings)?;
        check_place(key, &object)?;
        let given = meta::text(&object, "uid");
        if !given.is_empty() && given != uid(&old) {
            let error = FieldError::invalid("metadata.uid", given, "field is immutable");
            return Err(Refusal::invalid(resource, &key.name, &[error]));
        }
        self.update(key, &old, object, part, options)
    }

    fn existing(&self, key: &Key) -> Result<Arc<Value>, Refusal> {
        let found = self.objects.get(key).cloned();
        found.ok_or_else(|| Refusal::not_found(self.resource(key.resource), &key.name))
    }

    fn update(
        &mut self,
        key: &Key,
        old: &Arc<Value>,
        mut object: Value,
        part: Part,
        options: WriteOptions,
    ) -> Result<Arc<Value>, Refusal> {
        let resource = self.resources.get(key.resource);
        check_version(resource, key, &object, old)?;
        if part == Part::Status {
            object = Schema::with_status(old, &object);
        } else if let Form::Typed(typed) = resource.form {
            meta::of_changed(&mut object, old);
            typed.default(&mut object);
        } else {
            meta::of_changed(&mut object, old);
            object = Schema::with_status(&object, old);
            if Schema::is_new_generation(old, &object) {
                let generation = old["metadata"].get("generation").and_then(Value::as_i64).unwrap_or_default();
                object["metadata"]["generation"] = json!(generation + 1);
            }
        }
        if let Some(namespace) = Some(&key.namespace).filter(|namespace| !namespace.is_empty()) {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let errors = errors_of(resource, part, &object, Some(old));
        if !errors.is_empty() {
            return Err(Refusal::invalid(resource, &key.name, &errors));
        }
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        Ok(if options.dry_run || object == **old { Arc::new(object) } else { self.store(key, object) })
    }

    /// Stores a changed object, or removes it if it is being deleted and has no finalizers.
    pub(crate) fn store(&mut self, key: &Key, object: Value) -> Arc<Value> {
        let is_gone = meta::is_deleting(&object) && meta::finalizers(&object).is_empty() && key.resource != NAMESPACES;
        if is_gone {
            return self.remove(key, object);
        }
        self.put(key, object)
    }

    fn put(&mut self, key: &Key, object: Value) -> Arc<Value> {
        self.causes.push_back(Cause::Changed(key.clone()));
        self.objects.put(key, object)
    }

    pub(crate) fn remove(&mut self, key: &Key, last: Value) -> Arc<Value> {
        let last = self.objects.remove(key, last);
        self.causes.push_back(Cause::Removed(key.clone(), Arc::clone(&last)));
        last
    }

    /// Deletes an object.
    pub(crate) fn delete(&mut self, key: &Key, options: &DeleteOptions) -> Result<Deletion, Refusal> {
        let resource = self.resources.get(key.resource);
        let old = self.existing(key)?;
        check_preconditions(resource, key, &old, options)?;
        let mut object = (*old).clone();
        set_propagation(&mut object, options.propagation);
        if meta::finalizers(&object).is_empty() && key.resource != NAMESPACES {
            if options.dry_run {
                return Ok(Deletion::Done(old));
            }
            return Ok(Deletion::Done(self.remove(key, object)));
        }
        if !meta::is_deleting(&object) {
            object["metadata"]["deletionTimestamp"] = meta::time(self.now);
            object["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            if let Some(generation) = object["metadata"].get("generation").and_then(Value::as_i64) {
                object["metadata"]["generation"] = json!(generation + 1);
            }
            if key.resource == NAMESPACES {
                object["metadata"].as_object_mut().and_then(|fields| fields.remove("deletionGracePeriodSeconds"));
                object["status"]["phase"] = json!("Terminating");
            }
        }
        if options.dry_run || object == *old {
            return Ok(Deletion::Pending(Arc::new(object)));
        }
        Ok(Deletion::Pending(self.put(key, object)))
    }
}

/// The namespace of an object is the one of the path.
fn check_namespace(object: &Value, namespace: Option<&str>) -> Result<(), Refusal> {
    let own = meta::text(object, "namespace");
    if own.is_empty() || Some(own) == namespace {
        return Ok(());
    }
    Err(Refusal::bad_request("the namespace of the provided object does not match the namespace sent on the request"))
}

/// The name and the namespace of an object are those of the path.
fn check_place(key: &Key, object: &Value) -> Result<(), Refusal> {
    let (named, name) = (meta::text(object, "name"), &key.name);
    if named.is_empty() {
        let message = format!("the name of the object ({name} based on URL) was undeterminable: name must be provided");
        return Err(Refusal::bad_request(message));
    }
    if named != name {
        return Err(Refusal::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({name})"
        )));
    }
    check_namespace(object, Some(key.namespace.as_str()).filter(|namespace| !namespace.is_empty()))
}

/// A change applies to the version that was read.
fn check_version(resource: &Resource, key: &Key, object: &Value, old: &Value) -> Result<(), Refusal> {
    let version = meta::text(object, "resourceVersion");
    let is_unconditional = match &resource.form {
        Form::Typed(typed) => typed.allows_unconditional_update(),
        Form::Custom(_) => false,
    };
    if version.is_empty() && !is_unconditional {
        let error = FieldError::invalid("metadata.resourceVersion", json!(0), "must be specified for an update");
        return Err(Refusal::invalid_update(resource, &key.name, &[error]));
    }
    if !version.is_empty() && version != meta::text(old, "resourceVersion") {
        return Err(Refusal::conflict(resource, &key.name, MODIFIED));
    }
    Ok(())
}

fn check_preconditions(resource: &Resource, key: &Key, old: &Value, options: &DeleteOptions) -> Result<(), Refusal> {
    let version = meta::text(old, "resourceVersion");
    let why = match (&options.uid, &options.resource_version) {
        (Some(given), _) if given != uid(old) => format!(
            "the UID in the precondition ({given}) does not match the UID in record ({}). The object might have been deleted and then \
             recreated",
            uid(old)
        ),
        (_, Some(given)) if given != version => format!(
            "the ResourceVersion in the precondition ({given}) does not match the ResourceVersion in record ({version}). The object \
             might have been modified"
        ),
        _ => return Ok(()),
    };
    Err(Refusal::precondition(resource, &key.name, &why))
}

/// Sets the finalizers of the garbage collector.
fn set_propagation(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else { return };
    let mut finalizers: Vec<String> = meta::finalizers(object)
        .into_iter()
        .filter(|finalizer| *finalizer != FOREGROUND && *finalizer != ORPHAN)
        .map(ToOwned::to_owned)
        .collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
    }
    set_finalizers(object, &finalizers);
}

pub(crate) fn set_finalizers(object: &mut Value, finalizers: &[String]) {
    if finalizers.is_empty() {
        object["metadata"].as_object_mut().and_then(|fields| fields.remove("finalizers"));
    } else {
        object["metadata"]["finalizers"] = json!(finalizers);
    }
}

/// What is wrong with an object.
fn errors_of(resource: &Resource, part: Part, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let typed = match resource.form {
        Form::Typed(typed) => Some(typed),
        Form::Custom(_) => None,
    };
    let mut errors = meta::check(object, typed);
    if let Some(old) = old {
        errors.extend(meta::check_change(object, old));
    }
    match &resource.form {
        Form::Typed(typed) => errors.extend(typed.check(object, old)),
        Form::Custom(schema) => errors = schema.check(part, object, old, errors),
    }
    errors
}
