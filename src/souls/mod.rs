//! The directories of souls on the web: how a list and its souls are fetched and read (`fetch`, `http_client`, `ip_filter`,
//! `sitemap`, `urls`), which soul fits a role (`choice`), and what is kept of a directory (`soul_cache`, `directories`).
//!
//! The client knows HTTP and the shape of such a directory, and keeps nothing. What comes from a directory is text of
//! strangers.
//!
//! A directory at `https://souls.example` has a sitemap at `/sitemap.xml`, which names pages `/souls/<handle>/<slug>`, and
//! the Markdown of each at `/api/souls/<handle>/<slug>.md`.

pub mod choice;
pub mod directories;
pub mod fetch;
pub mod http_client;
mod http_exchange;
pub mod ip_filter;
pub mod sitemap;
mod soul_cache;
pub mod urls;
