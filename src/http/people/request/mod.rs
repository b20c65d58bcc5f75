//! The query parameters and the bodies of requests. The schema of their type, which the `OpenAPI` document shows, is what they are
//! checked against, so that an error names the invalid field and says what it takes.

mod agent_body;
mod json_body;
mod parameters;
mod profile;
mod schema;

pub(crate) use self::agent_body::{AgentCreate, AgentUpdate, Given, without_nulls};
pub(crate) use self::json_body::JsonBody;
pub(crate) use self::parameters::{NoParameters, Parameters};
pub(crate) use self::profile::PROFILE_FIELDS;
