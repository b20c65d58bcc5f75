//! The description of the HTTP API, from its types.
//!
//! A [`Route`](route::Route) declares a handler once, for the router and for the `OpenAPI` document. The types of the handler's
//! arguments say who may call it and what it takes, and the type of its result says what it answers
//! ([`operation`]). The document has the schemas of these types, and the comments of their fields as descriptions ([`document`]).

pub(crate) mod document;
pub(crate) mod operation;
pub(crate) mod route;
