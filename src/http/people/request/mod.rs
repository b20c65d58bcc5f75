//! The query parameters and the bodies of requests. Each field is read separately, so that an error names the invalid field.

mod body;
mod query;

pub(crate) use self::body::{BodyFields, PROFILE_FIELDS, without_nulls};
pub(crate) use self::query::Query;
