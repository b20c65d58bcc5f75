//! The `OpenAPI` document of described routes.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::operation::{Audience, Content, HeaderParameter, Operation, RequestBody, SchemaOf, Success, schema_of};
use super::route::RouteDescription;
use crate::http::error::{ErrorBody, ErrorCode, ErrorHeader};

/// The schemas and the responses to which the operations refer.
struct Components {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
    responses: Map<String, Value>,
    /// The meaning of each error code.
    meanings: BTreeMap<String, String>,
}

/// The document of these routes.
pub(crate) fn document<'a>(routes: impl IntoIterator<Item = &'a RouteDescription>) -> Value {
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        })
    };
    let mut components = Components {
        requests: settings().for_deserialize().into_generator(),
        answers: settings().for_serialize().into_generator(),
        responses: Map::new(),
        meanings: meanings(),
    };
    let mut paths = BTreeMap::<&str, Map<String, Value>>::new();
    for route in routes {
        let path = paths.entry(route.path).or_default();
        if route.path.contains("{id}") {
            path.insert("parameters".into(), json!([{ "$ref": "#/components/parameters/Id" }]));
        }
        path.insert(route.method.into(), components.operation(route));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Muster",
            "version": "v1alpha1",
            "description": "Agents on OpenClaw gateways. People call with a Kubernetes token and may do what Kubernetes lets them do with agents, \
                            boards and agentgateways of the group muster.dev. Agents call with their own token.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "tags": [
            { "name": "people", "description": "With a Kubernetes token." },
            { "name": "agents", "description": "With the token of an agent." },
        ],
        "security": [{ "kubernetes": [] }],
        "paths": paths,
        "components": components.into_json(),
    })
}

impl Components {
    fn operation(&mut self, route: &RouteDescription) -> Value {
        let (about, operation) = (&route.about, &route.operation);
        let mut description = about.description.to_owned();
        if !about.rights.is_empty() {
            let space = if description.is_empty() { "" } else { " " };
            description = format!("{description}{space}Required rights: {}.", about.rights);
        }
        let tag = if operation.audience == Audience::Agent { "agents" } else { "people" };
        let mut written = json!({ "operationId": about.id, "tags": [tag], "summary": about.summary });
        if !description.is_empty() {
            written["description"] = description.into();
        }
        match operation.audience {
            Audience::Person => {}
            Audience::Agent => written["security"] = json!([{ "agentToken": [] }, { "agentBearer": [] }]),
            Audience::Everybody => written["security"] = json!([]),
        }
        let mut parameters = operation.query.map(|query| self.parameters(query)).unwrap_or_default();
        parameters.extend(operation.header.as_ref().map(header_parameter));
        if !parameters.is_empty() {
            written["parameters"] = parameters.into();
        }
        if let Some(RequestBody { schema, required }) = operation.body {
            let schema = schema(&mut self.requests);
            written["requestBody"] =
                json!({ "required": required, "content": { "application/json": { "schema": schema } } });
        }
        written["responses"] = self.responses(operation).into();
        written
    }

    /// The parameters of a query: the fields of its type.
    fn parameters(&mut self, query: SchemaOf) -> Vec<Value> {
        let mut schema = query(&mut self.requests).to_value();
        to_document(&mut schema);
        let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
        let fields = schema["properties"].as_object().into_iter().flatten();
        fields
            .map(|(name, field)| {
                let mut field = field.clone();
                let description = field.as_object_mut().and_then(|field| field.remove("description"));
                // A parameter that is left out has no value, and none is null.
                if let Some(kinds) = field["type"].as_array() {
                    field["type"] = kinds.iter().find(|kind| *kind != "null").cloned().unwrap_or_default();
                }
                json!({
                    "name": name, "in": "query", "required": required(name), "description": description, "schema": field,
                })
            })
            .collect()
    }

    fn responses(&mut self, operation: &Operation) -> Map<String, Value> {
        let mut responses = Map::new();
        if let Some(success) = &operation.success {
            responses.insert(success.status.as_str().to_owned(), self.success(success));
        }
        let mut by_status = BTreeMap::<StatusCode, Vec<ErrorCode>>::new();
        for code in &operation.errors {
            by_status.entry(code.status()).or_default().push(*code);
        }
        for (status, codes) in by_status {
            responses.insert(status.as_str().to_owned(), self.error(&codes));
        }
        responses
    }

    fn success(&mut self, success: &Success) -> Value {
        let (media, schema) = match success.content {
            Content::Json(schema) => ("application/json", schema),
            Content::Events(schema) => ("text/event-stream", schema),
        };
        let reference = schema(&mut self.answers).to_value();
        let name = reference["$ref"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let schema = self.answers.definitions().get(name).unwrap_or(&reference);
        let description = one_line(schema["description"].as_str().unwrap_or_default());
        let schema = match success.content {
            Content::Json(_) => reference,
            Content::Events(_) => json!({ "type": "string", "x-event-data": reference }),
        };
        json!({ "description": description, "content": { media: { "schema": schema } } })
    }

    /// A reference to the response for these errors, which have one status.
    fn error(&mut self, codes: &[ErrorCode]) -> Value {
        let name = codes.iter().map(|code| format!("{code:?}")).collect::<Vec<_>>().join("Or");
        let texts = codes.iter().map(|code| {
            let word = word(*code);
            let meaning = self.meanings.get(&word).map(String::as_str).unwrap_or_default();
            format!("`{word}`: {meaning}")
        });
        let description = texts.collect::<Vec<_>>().join(" ");
        let error = schema_of::<ErrorBody>(&mut self.answers);
        let words: Vec<_> = codes.iter().map(|code| word(*code)).collect();
        let schema = json!({ "allOf": [error, { "properties": { "code": { "enum": words } } }] });
        let mut response =
            json!({ "description": description, "content": { "application/json": { "schema": schema } } });
        if let Some(header) = codes.first().and_then(|code| code.header()) {
            response["headers"] = match header {
                ErrorHeader::WwwAuthenticate => {
                    json!({ "WWW-Authenticate": { "description": "The scheme: Bearer.", "schema": { "type": "string" } } })
                }
                ErrorHeader::RetryAfter => {
                    json!({ "Retry-After": { "description": "Seconds to wait.", "schema": { "type": "integer" } } })
                }
            };
        }
        let reference = json!({ "$ref": format!("#/components/responses/{name}") });
        self.responses.insert(name, response);
        reference
    }

    fn into_json(self) -> Value {
        let mut schemas = Map::new();
        for mut generator in [self.requests, self.answers] {
            for (name, mut schema) in generator.take_definitions(false) {
                to_document(&mut schema);
                schemas.insert(name, schema);
            }
        }
        json!({
            "securitySchemes": {
                "kubernetes": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A Kubernetes token, such as that of kubectl create token.",
                },
                "agentToken": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Agent-Token",
                    "description": "The token in the agent's Secret and files.",
                },
                "agentBearer": { "type": "http", "scheme": "bearer", "description": "The same token." },
            },
            "parameters": { "Id": id_parameter() },
            "responses": self.responses,
            "schemas": schemas,
        })
    }
}

fn id_parameter() -> Value {
    json!({
        "name": "id",
        "in": "path",
        "required": true,
        "description": "The uid of the resource. An agent's id may also be its id on the gateway. A gateway's id may also be `namespace/name`, \
                        with the slash as `%2F`, or its name.",
        "schema": { "type": "string", "minLength": 1 },
    })
}

fn header_parameter(header: &HeaderParameter) -> Value {
    json!({
        "name": header.name,
        "in": "header",
        "required": false,
        "description": header.description,
        "schema": { "type": "string", "pattern": header.pattern },
    })
}

/// The word of an error code.
fn word(code: ErrorCode) -> String {
    serde_json::to_value(code).ok().and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The meaning of each error code: the comments of the type.
fn meanings() -> BTreeMap<String, String> {
    let schema = ErrorCode::json_schema(&mut SchemaGenerator::default()).to_value();
    words(&schema).into_iter().flatten().collect()
}

/// The words of an enum and their meanings. `None` for a schema that is no enum with a comment for each word.
fn words(schema: &Value) -> Option<Vec<(String, String)>> {
    let variants = schema["oneOf"].as_array()?;
    let word = |variant: &Value| {
        Some((variant["const"].as_str()?.to_owned(), one_line(variant["description"].as_str().unwrap_or_default())))
    };
    variants.iter().map(word).collect()
}

/// Brings a generated schema, and all schemas in it, into the form of the document. Later versions may add fields to answers, so that no
/// object is closed.
fn to_document(schema: &mut Value) {
    let words = words(schema);
    let fields = match schema {
        Value::Object(fields) => fields,
        Value::Array(items) => return items.iter_mut().for_each(to_document),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return,
    };
    // Formats of Rust, and keys for the API server, mean nothing to readers of the document.
    let is_foreign = |key: &str, value: &Value| {
        key.starts_with("x-kubernetes-")
            || (key == "default" && value.is_null())
            || (key == "format" && value.as_str().is_some_and(|format| format.starts_with("uint")))
    };
    fields.retain(|key, value| !is_foreign(key, value));
    if let Some(words) = words {
        let (words, meanings): (Vec<_>, Vec<_>) = words.into_iter().unzip();
        fields.remove("oneOf");
        fields.insert("type".into(), "string".into());
        fields.insert("enum".into(), words.into());
        // Generators of clients and of pages know this key.
        fields.insert("x-enum-descriptions".into(), meanings.into());
    }
    if let Some(Value::String(text)) = fields.get_mut("description") {
        *text = one_line(text);
    }
    fields.values_mut().for_each(to_document);
}

/// A comment without its line breaks.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
