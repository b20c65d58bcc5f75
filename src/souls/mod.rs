//! Soul directories on the web.
//!
//! - `fetch`, `http_client`, `http_exchange`, `sitemap`, `urls`: the client. It knows HTTP and the form of a
//!   directory, and keeps no state. Its texts are untrusted.
//! - `choice`: the choice of a soul for a role.
//! - `soul_cache`, `directories`: the cached content of the directories in use.
//!
//! A directory at `https://souls.example` has a sitemap at `/sitemap.xml` with the pages `/souls/<handle>/<slug>`, and the
//! Markdown of each soul at `/api/souls/<handle>/<slug>.md`.

pub mod choice;
pub mod directories;
pub mod fetch;
pub mod http_client;
mod http_exchange;
pub mod sitemap;
mod soul_cache;
pub mod urls;
