//! The addresses that Muster connects to: the resolution of a name, and the check of each address before the connection.
//!
//! `souls` and `openclaw` connect only to addresses that were checked here. A name is resolved once, so that no second answer
//! of a name server replaces a checked address.

pub mod networks;
pub mod reach;
pub mod resolve;

use url::Url;

/// The scheme, host and port of a URL in one form.
#[must_use]
pub fn server(url: &Url) -> String {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    format!("{}://{host}:{port}", url.scheme())
}
