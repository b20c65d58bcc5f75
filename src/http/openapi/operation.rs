//! What a handler takes and answers, read from the types of its arguments and of its result.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::http::error::{ApiError, ErrorCode};

/// Makes the schema of a type, or a reference to it.
pub(crate) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Who may call a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Everybody, without a token.
    #[default]
    Everybody,
    /// A person or a program with a Kubernetes token.
    Person,
    /// An agent with its own token.
    Agent,
}

/// A parameter in a header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeaderParameter {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// The regular expression of its values.
    pub(crate) pattern: &'static str,
}

/// The JSON body of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestBody {
    pub(crate) schema: SchemaOf,
    pub(crate) required: bool,
}

/// The answer to a request that was not refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Success {
    pub(crate) status: StatusCode,
    pub(crate) content: Content,
}

/// The content of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// An object of this schema.
    Json(SchemaOf),
    /// Server-Sent Events, each with an object of this schema as its data.
    Events(SchemaOf),
}

/// What a handler takes and answers.
#[derive(Debug, Default)]
pub(crate) struct Operation {
    pub(crate) audience: Audience,
    /// An object with a field for each parameter of the query.
    pub(crate) query: Option<SchemaOf>,
    pub(crate) header: Option<HeaderParameter>,
    pub(crate) body: Option<RequestBody>,
    pub(crate) success: Option<Success>,
    pub(crate) errors: BTreeSet<ErrorCode>,
}

/// An argument of a handler.
pub(crate) trait DescribedInput {
    /// Adds what the argument takes from a request, and the errors of a request without it.
    fn describe(operation: &mut Operation);
}

impl<S> DescribedInput for State<S> {
    fn describe(_: &mut Operation) {}
}

/// The result of a handler.
pub(crate) trait DescribedOutput {
    /// Adds the answer.
    fn describe(operation: &mut Operation);
}

/// The schema of a type, or a reference to it.
pub(crate) fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

impl<T: JsonSchema> DescribedOutput for Json<T> {
    fn describe(operation: &mut Operation) {
        operation.success = Some(Success { status: StatusCode::OK, content: Content::Json(schema_of::<T>) });
    }
}

impl<T: DescribedOutput> DescribedOutput for Result<T, ApiError> {
    fn describe(operation: &mut Operation) {
        T::describe(operation);
    }
}

/// A handler with described arguments and a described result.
pub(crate) trait Described<Arguments> {
    /// The description of the handler.
    fn operation() -> Operation;
}

macro_rules! described {
    ($($argument:ident),*) => {
        impl<Handler, Work, Answer, $($argument),*> Described<($($argument,)*)> for Handler
        where
            Handler: Fn($($argument),*) -> Work,
            Work: Future<Output = Answer>,
            Answer: DescribedOutput,
            $($argument: DescribedInput),*
        {
            fn operation() -> Operation {
                let mut operation = Operation::default();
                $($argument::describe(&mut operation);)*
                Answer::describe(&mut operation);
                operation
            }
        }
    };
}

described!();
described!(A);
described!(A, B);
described!(A, B, C);
described!(A, B, C, D);
described!(A, B, C, D, E);
