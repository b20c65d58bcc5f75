//! The schema of a CustomResourceDefinition: which fields an object keeps, which values are set, and what is wrong with an object.

use std::sync::Arc;

use kube::core::cel::cel::objects::OptionalValue;
use kube::core::cel::cel::{Context, Value as CelValue, to_value};
use kube::core::cel::{
    CompilationError, CompilationResult, CompiledSchema, KubeCelExt, Validator, apply_defaults, compile_schema,
};
use serde_json::{Map, Value};

use crate::field_error::{FieldError, Problem};
use crate::node::Node;
use crate::part::Part;
use crate::path::Path;

/// A schema, read once.
#[derive(Debug)]
pub(crate) struct Schema {
    text: Value,
    root: Node,
    rules: CompiledSchema,
    /// The rules about the whole object that hold with and without an old one.
    optional: Vec<CompilationResult>,
}

/// The text of kube-apiserver when rules could not be checked.
const NOT_CHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// The pattern or the rule that cannot be read.
    pub(crate) fn new(text: &Value) -> Result<Self, String> {
        let mut rules = compile_schema(text);
        if let Some(error) = unreadable_rule(&rules) {
            return Err(format!("a rule: {error}"));
        }
        let is_optional = |rule: &mut Result<CompilationResult, _>| {
            rule.as_ref().is_ok_and(|compiled| compiled.rule.optional_old_self == Some(true))
        };
        let optional = rules.validations.extract_if(.., is_optional).flatten().collect();
        Ok(Self { text: text.clone(), root: Node::parse(text)?, rules, optional })
    }

    /// Removes the fields that the schema does not name, and sets the defaults. Returns the removed fields.
    pub(crate) fn prune_and_default(&self, object: &mut Value) -> Vec<Path> {
        let kept = ["apiVersion", "kind", "metadata"]
            .map(|field| (field, object.as_object_mut().and_then(|o| o.remove(field))));
        let mut unknown = Vec::new();
        self.root.prune(&Path::root(), object, &mut unknown);
        self.default(object);
        for (field, value) in kept {
            if let Some(value) = value {
                object[field] = value;
            }
        }
        unknown
    }

    /// Sets the defaults.
    pub(crate) fn default(&self, object: &mut Value) {
        // A default may have fields with defaults of their own, which one pass leaves out.
        loop {
            let defaulted = apply_defaults(&self.text, object);
            if *object == defaulted {
                return;
            }
            *object = defaulted;
        }
    }

    /// Adds what is wrong with an object. Of a changed object only what the change made wrong. The rules are not checked if there are
    /// errors that block them, such as those of the metadata.
    pub(crate) fn check(
        &self,
        part: Part,
        object: &Value,
        old: Option<&Value>,
        mut errors: Vec<FieldError>,
    ) -> Vec<FieldError> {
        match (part, object.get("status")) {
            (Part::Main, _) => self.root.check(&Path::root(), object, old, &mut errors),
            (Part::Status, Some(status)) => {
                let old = old.and_then(|old| old.get("status"));
                self.root.check_field(&Path::below("status"), "status", status, old, &mut errors);
            }
            (Part::Status, None) => {}
        }
        if errors.iter().any(FieldError::is_blocking) {
            errors.push(FieldError::invalid("<nil>", Value::Null, NOT_CHECKED));
            return errors;
        }
        errors.extend(self.rule_errors(object, old));
        errors.extend(self.optional.iter().filter_map(|rule| optional_error(rule, object, old)));
        errors
    }

    /// The rules that fail. The path of a value that is wrong leads to it, or to what a rule names.
    fn rule_errors(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let Err(failed) = Validator::new().validate_compiled(&self.rules, object, old) else { return Vec::new() };
        let failed = failed.into_vec().into_iter().filter(|error| {
            // A value that was wrong before may stay, but for rules about the change itself.
            let pointer = Path::parse(&error.field_path);
            let value = pointer.find(object);
            error.rule.contains("oldSelf") || value.is_none() || old.and_then(|old| pointer.find(old)) != value
        });
        failed
            .map(|error| {
                let path = Path::parse(&error.field_path);
                let value = path.find(object).cloned().unwrap_or_default();
                FieldError::new(path.to_string(), Problem::Rule { value, why: error.message })
            })
            .collect()
    }

    /// The object with only its status, its metadata and its type, for a write of the status, in the place of the old one's.
    pub(crate) fn with_status(old: &Value, new: &Value) -> Value {
        let mut object = old.clone();
        let fields = object.as_object_mut();
        match (fields, new.get("status")) {
            (Some(fields), Some(status)) => drop(fields.insert("status".into(), status.clone())),
            (Some(fields), None) => drop(fields.remove("status")),
            (None, _) => {}
        }
        object
    }

    /// Whether two versions of an object differ in what a generation counts: everything but metadata and status.
    pub(crate) fn is_new_generation(old: &Value, new: &Value) -> bool {
        let counted = |object: &Value| -> Map<String, Value> {
            let fields = object.as_object().into_iter().flatten();
            fields
                .filter(|(key, _)| *key != "metadata" && *key != "status")
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect()
        };
        counted(old) != counted(new)
    }
}

/// The first rule at any depth that cannot be read.
fn unreadable_rule(schema: &CompiledSchema) -> Option<&CompilationError> {
    let own = schema.compilation_errors().into_iter().next();
    let below =
        schema.properties.values().chain(schema.items.as_deref()).chain(schema.additional_properties.as_deref());
    own.or_else(|| below.into_iter().find_map(unreadable_rule))
}

/// The error of a rule with `optionalOldSelf`, for which the validator has no optional value.
fn optional_error(compiled: &CompilationResult, object: &Value, old: Option<&Value>) -> Option<FieldError> {
    let failed = |why: String| Some(FieldError::new("<nil>", Problem::Rule { value: object.clone(), why }));
    let of = |value: &Value| to_value(value).map_err(|error| error.to_string());
    let old = match old.map(of).transpose() {
        Ok(old) => old.map_or_else(OptionalValue::none, OptionalValue::of),
        Err(error) => return failed(error),
    };
    let mut context = Context::default().with_all();
    match of(object) {
        Ok(value) => context.add_variable_from_value("self", value),
        Err(error) => return failed(error),
    }
    context.add_variable_from_value("oldSelf", CelValue::Opaque(Arc::new(old)));
    match compiled.program.execute(&context) {
        Ok(CelValue::Bool(true)) => None,
        Ok(_) => {
            failed(compiled.rule.message.clone().unwrap_or_else(|| format!("failed rule: {}", compiled.rule.rule)))
        }
        Err(error) => failed(error.to_string()),
    }
}
