//! The rules of URLs in flags, from the resources, so that the API server accepts the URLs. Pure.

use url::{Host, Url};

/// The longest URL in a resource, in characters.
const MAX_URL_CHARS: usize = 512;

/// Parses the URL of a gateway.
///
/// # Errors
/// See [`plain_url`].
pub(crate) fn gateway_url(flag: &str, text: &str) -> Result<Url, String> {
    plain_url(flag, text, ["ws", "wss"])
}

/// Whether a connection to this URL takes a credential over a network in clear.
pub(crate) fn is_in_clear(url: &Url) -> bool {
    let is_local = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    };
    url.scheme() != "wss" && !is_local
}

/// Parses the URL of a flag.
///
/// # Errors
/// A sentence that names the flag, and does not repeat a URL that may contain a credential.
pub(crate) fn plain_url(flag: &str, text: &str, schemes: [&str; 2]) -> Result<Url, String> {
    let begins = format!("{}:// or {}://", schemes[0], schemes[1]);
    if text.contains(['@', '?', '#']) {
        return Err(format!(
            "{flag}: the URL must have no credentials, query or fragment; leave them out, and give the gateway's credential with \
             --token-file or --password-file"
        ));
    }
    let url = Url::parse(text).map_err(|e| format!("{flag} {text}: {e}; give a URL that begins with {begins}"))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("{flag} {url}: give a URL that begins with {begins}"));
    }
    if url.as_str().len() > MAX_URL_CHARS {
        return Err(format!("{flag}: an AgentGateway takes at most {MAX_URL_CHARS} characters; give a shorter URL"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tls_and_this_host_keep_a_credential_from_the_network() {
        for (url, expected) in [
            ("wss://gateway", false),
            ("ws://127.0.0.1:1", false),
            ("ws://[::1]:1", false),
            ("ws://localhost", false),
            ("ws://gateway.fleet.svc:18789", true),
            ("ws://10.0.0.1", true),
            ("ws://localhost.example", true),
        ] {
            assert_eq!(is_in_clear(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
