//! The condition TransportSecure of an AgentGateway: a warning that is not a part of Ready.

use url::{Host, Url};

use super::conditions::is_unchecked;
use crate::api::conditions::ConditionUpdate;
use crate::api::{AgentGateway, ConditionType, Reason};

/// The HTTP API for agents, as the operator serves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServedApi {
    /// The flag `--api-url`, the default of `spec.apiUrl`.
    pub default_url: Option<String>,
    /// Whether the API takes no HTTP without TLS.
    pub https_only: bool,
}

/// Whether others on the network can read or change what goes to the gateway and what its agents send.
pub(crate) fn condition(gateway: &AgentGateway, served: &ServedApi) -> ConditionUpdate {
    let api_url = gateway.spec.api_url.as_deref().or(served.default_url.as_deref());
    let mut warnings = Vec::new();
    if is_clear_text(&gateway.spec.url, "ws") {
        warnings.push((
            Reason::GatewayUnencrypted,
            "spec.url is ws:// to another host: others on the network can read the gateway's credential and every message; use wss://",
        ));
    } else if is_unchecked(gateway) {
        warnings.push((
            Reason::GatewayUnverified,
            "spec.tls.insecureSkipVerify accepts every certificate, also of another server that answers in the gateway's place; name the certificate in spec.tls.fingerprint or its issuer in spec.tls.caSecretRef",
        ));
    }
    if served.https_only && api_url.is_some_and(|url| url.starts_with("http://")) {
        warnings.push((
            Reason::ApiUnencrypted,
            "spec.apiUrl (or its default, --api-url of the operator) is http://, and this operator answers HTTPS only, because it has --tls-cert-file: agents cannot check in, unless a proxy before it takes HTTP; use https://",
        ));
    } else if api_url.is_some_and(|url| is_clear_text(url, "http")) {
        warnings.push((
            Reason::ApiUnencrypted,
            "spec.apiUrl (or its default, --api-url of the operator) is http:// to another host: others on the network can read the tokens of the agents; use https://",
        ));
    }
    let Some((reason, _)) = warnings.first() else {
        let message = if api_url.is_some() {
            "spec.url and spec.apiUrl are encrypted, or stay on the host"
        } else {
            "spec.url is encrypted, or stays on the host; agents do not check in, because there is no spec.apiUrl and no --api-url of the operator"
        };
        return ConditionUpdate::new(ConditionType::TransportSecure, true, Reason::Encrypted, message);
    };
    let messages: Vec<_> = warnings.iter().map(|(_, message)| *message).collect();
    ConditionUpdate::new(ConditionType::TransportSecure, false, *reason, messages.join(". "))
}

/// Whether a URL has the scheme without encryption and names another host.
fn is_clear_text(url: &str, scheme: &str) -> bool {
    Url::parse(url).is_ok_and(|url| {
        let local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        url.scheme() == scheme && !local
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::conditions::ConditionStatus;

    fn of(url: &str, api_url: &str, unchecked: bool) -> ConditionUpdate {
        let tls = json!({ "insecureSkipVerify": unchecked });
        let spec = json!({ "url": url, "auth": {}, "tls": tls, "workspaceRoot": "~/w", "apiUrl": api_url });
        condition(&AgentGateway::new("gw", serde_json::from_value(spec).unwrap()), &ServedApi::default())
    }

    #[test]
    fn tls_and_the_same_host_are_secure() {
        for (url, api) in [
            ("wss://gw", "https://muster"),
            ("ws://127.0.0.1:18789", "http://localhost:8080"),
            ("ws://[::1]:18789", "http://127.8.0.1:8080"),
        ] {
            let condition = of(url, api, false);
            assert_eq!((condition.status, condition.reason), (ConditionStatus::True, Reason::Encrypted), "{url} {api}");
        }
    }

    #[test]
    fn a_gateway_whose_agents_have_no_url_to_check_in_at_says_so() {
        let spec = json!({ "url": "wss://gw", "auth": {}, "workspaceRoot": "~/w" });
        let gateway = AgentGateway::new("gw", serde_json::from_value(spec).unwrap());
        let message = |default: Option<&str>| {
            condition(&gateway, &ServedApi { default_url: default.map(str::to_owned), https_only: true }).message
        };
        assert!(message(None).contains("agents do not check in"), "{}", message(None));
        assert!(!message(Some("https://muster")).contains("agents do not check in"));
        assert!(message(Some("http://127.0.0.1:8080")).contains("answers HTTPS only"));
    }

    #[test]
    fn clear_text_to_another_host_is_a_warning_that_names_the_field() {
        for (url, api, unchecked, reason, fields) in [
            ("ws://gw:18789", "https://muster", false, Reason::GatewayUnencrypted, &["spec.url "][..]),
            ("wss://gw", "https://muster", true, Reason::GatewayUnverified, &["insecureSkipVerify"]),
            ("wss://gw", "http://muster:8080", false, Reason::ApiUnencrypted, &["spec.apiUrl "]),
            ("ws://10.0.0.1", "http://10.0.0.2", true, Reason::GatewayUnencrypted, &["spec.url ", "spec.apiUrl "]),
            ("ws://127.0.0.1.example", "https://muster", false, Reason::GatewayUnencrypted, &["spec.url "]),
        ] {
            let condition = of(url, api, unchecked);
            assert_eq!((condition.status, condition.reason), (ConditionStatus::False, reason), "{url} {api}");
            for field in fields {
                assert!(condition.message.contains(field), "{}", condition.message);
            }
        }
    }
}
