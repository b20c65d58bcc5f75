//! The URL of a gateway. The schema has the same rules (`spec.url` in `api/gateway.rs`). An older schema may lack them.

use url::Url;

use crate::api::Reason;
use crate::core::error::ReconcileError;

/// Parses `spec.url`.
///
/// # Errors
/// `InvalidSpec`, with what to do. A URL that may carry a credential is not repeated.
pub fn parse(text: &str) -> Result<Url, ReconcileError> {
    let invalid = |message: String| ReconcileError::permanent(Reason::InvalidSpec, message);
    if text.contains(['@', '?', '#']) {
        return Err(invalid(
            "spec.url must not carry credentials, a query or a fragment; put the credential into a Secret and name it in spec.auth"
                .to_owned(),
        ));
    }
    let url = Url::parse(text).map_err(|error| invalid(format!("spec.url {text:?} is no URL: {error}")))?;
    if !matches!(url.scheme(), "ws" | "wss") || url.host_str().is_none_or(str::is_empty) {
        return Err(invalid(format!("spec.url {text:?} must be ws://host[:port] or wss://host[:port]")));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_a_websocket_is_accepted() {
        for text in ["ws://gw", "wss://gw.example:18789/", "ws://[::1]:18789", "wss://10.0.0.1/path"] {
            assert_eq!(parse(text).unwrap().as_str().trim_end_matches('/'), text.trim_end_matches('/'));
        }
    }

    #[test]
    fn credentials_a_query_and_a_fragment_are_refused_and_not_repeated() {
        for text in ["ws://user:secret@gw", "ws://gw/?token=secret", "ws://gw#secret", "ws://gw?", "ws://gw/#"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.reason, Reason::InvalidSpec, "{text}");
            assert!(!error.message.contains("secret") && error.message.contains("spec.auth"), "{text}: {error}");
        }
    }

    #[test]
    fn another_scheme_and_a_missing_host_are_refused() {
        for text in ["http://gw", "gw:18789", "ws://", "ws:", "file:///x", "", "ws://a b"] {
            assert_eq!(parse(text).unwrap_err().reason, Reason::InvalidSpec, "{text}");
        }
    }
}
