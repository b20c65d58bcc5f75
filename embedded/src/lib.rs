//! A Kubernetes API in the process, for the kinds that Muster uses. It is not a cluster: it stores objects and checks them, and nothing runs.
//!
//! A request goes through these files: `request` reads its path and its query, `decode` its body, `write` applies the rules of a write
//! (`meta`, `schema` with `node`, `typed`), and `objects` stores it. `collect` then does what the controllers of a cluster would do. `answer`,
//! `watch` and `select` read, and `reviews` answers whose a token is. `database` keeps the objects in one file. `refusal` and `field_error` have the words of kube-apiserver. `service` is the way in.
//!
//! Where it differs from kube-apiserver by intent is listed in `docs/embedded-api.md`; `tests/conformance` compares the two.

mod answer;
mod collect;
mod database;
mod decode;
mod dropped;
mod field_error;
mod meta;
mod node;
mod objects;
mod part;
mod path;
mod refusal;
mod request;
mod resource;
mod reviews;
mod schema;
mod select;
mod service;
mod shared;
mod text;
mod typed;
mod watch;
mod write;

pub use database::OpenError;
pub use resource::{Resources, UnservedDefinition};
pub use service::{Clock, EmbeddedApi};
