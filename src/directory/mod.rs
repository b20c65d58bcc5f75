//! A directory of souls on the web: how its list and its souls are fetched and read.
//!
//! This layer knows HTTP and the shape of such a directory. It knows nothing of Kubernetes, of agents or of gateways, and
//! it keeps nothing: what is kept, and for how long, is the matter of whoever asks. What comes from a directory is text
//! of strangers.
//!
//! A directory at `https://souls.example` has a sitemap at `/sitemap.xml`, which names pages `/souls/<handle>/<slug>`, and
//! the Markdown of each at `/api/souls/<handle>/<slug>.md`.

pub mod address;
pub mod fetch;
mod http;
pub mod layout;
pub mod sitemap;
pub mod web;

pub use fetch::{Fetch, FetchError, Fetched, Request};
pub use layout::{Kind, Listed};
pub use web::Web;
