//! The proxy on the way to gateways, as `HTTPS_PROXY` and `NO_PROXY` name it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::reach::{Reach, reach};

/// A proxy that opens a tunnel to a host by the method CONNECT of HTTP.
#[derive(Clone, Debug)]
pub struct HttpsProxy {
    /// The URL of the proxy, `http://host:port`, without credentials.
    pub url: Url,
    credentials: Option<SecretString>,
}

impl HttpsProxy {
    /// The host and the port of the proxy, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        self.url[url::Position::BeforeHost..url::Position::AfterPort].to_owned()
    }

    /// The user and the password of the proxy, as `user:password`.
    #[must_use]
    pub fn credentials(&self) -> Option<&str> {
        self.credentials.as_ref().map(ExposeSecret::expose_secret)
    }
}

impl FromStr for HttpsProxy {
    type Err = String;

    /// Reads `http://host:port` or `host:port`, with a user and a password before the host if the proxy wants them.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        // The text may have a password, so that no message repeats it.
        let mut url = Url::parse(&text).map_err(|error| format!("it is no URL of a proxy: {error}"))?;
        if url.scheme() != "http" {
            return Err(format!(
                "Muster speaks to proxies by http:// only, and not by {}://; the tunnel to the gateway inside is encrypted",
                url.scheme()
            ));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err("the URL of a proxy has a host and a port, and no path, query or fragment".to_owned());
        }
        let decoded = |text: &str| percent_decoded(text).ok_or("the user or the password of the proxy is no UTF-8");
        let credentials = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let text = format!("{}:{}", decoded(user)?, decoded(password.unwrap_or_default())?);
                Some(SecretString::from(text))
            }
        };
        // These cannot fail for a URL with a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(Self { url, credentials })
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let code = match (first, more) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &more[2..] } else { more };
    }
    String::from_utf8(bytes).ok()
}

/// The hosts that are reached without the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    /// Every host: `*`.
    All,
    /// A name and the names below it.
    Domain(String),
    /// The names below a name: `.example.com`.
    Below(String),
    /// The addresses of a network.
    Network(IpNet),
}

/// A list of hosts without the proxy, in the form of curl and Go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<(Exception, Option<u16>)>);

impl NoProxy {
    /// Reads names, addresses and networks, separated by commas, each with a port if it is meant for that port only. A name stands for the
    /// names below it too, a name with a dot before it for those alone. Anything else fits no host, as in curl and Go: the variable may be
    /// made for other programs.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.split(',').filter_map(|item| exception(item.trim())).collect())
    }
}

fn exception(item: &str) -> Option<(Exception, Option<u16>)> {
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').to_owned();
    let network = |text: &str| {
        let text = bare(text);
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).ok()?;
        Some(Exception::Network(network.trunc()))
    };
    if let Some(network) = network(item) {
        return Some((network, None));
    }
    let (host, port) = match item.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (item, None),
    };
    if let Some(network) = network(host) {
        return Some((network, port));
    }
    let host = host.to_ascii_lowercase();
    let name = host.strip_prefix('*').unwrap_or(&host).trim_end_matches('.');
    let exception = match name.strip_prefix('.') {
        Some(parent) => Exception::Below(parent.to_owned()),
        None if name.is_empty() && host == "*" => Exception::All,
        None => Exception::Domain(name.to_owned()),
    };
    Some((exception, port))
}

impl NoProxy {
    /// Whether a host is reached without the proxy. The own host always is.
    fn contains(&self, host: &Host<&str>, port: u16) -> bool {
        let address = match host {
            Host::Ipv4(address) => Some(IpAddr::V4(*address)),
            Host::Ipv6(address) => Some(IpAddr::V6(*address)),
            Host::Domain(_) => None,
        };
        let name = if let Host::Domain(name) = host { name.trim_end_matches('.') } else { "" };
        let is_below = |parent: &str| name.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
        let fits = |exception: &Exception| match exception {
            Exception::All => true,
            Exception::Domain(domain) => name == domain || is_below(domain),
            Exception::Below(domain) => is_below(domain),
            Exception::Network(network) => address.is_some_and(|address| network.contains(&address)),
        };
        let is_own = name == "localhost"
            || is_below("localhost")
            || address.is_some_and(|address| reach(address) == Reach::Loopback);
        is_own || self.0.iter().any(|(exception, of)| of.is_none_or(|of| of == port) && fits(exception))
    }
}

/// The proxy for gateways with `wss`, and the hosts without it.
#[derive(Clone, Default)]
pub struct ProxyRules {
    /// The proxy.
    pub proxy: Option<HttpsProxy>,
    /// The hosts that are reached without the proxy.
    pub exceptions: NoProxy,
}

impl fmt::Debug for ProxyRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.proxy.as_ref().map(|proxy| proxy.url.as_str());
        f.debug_struct("ProxyRules").field("proxy", &url).field("exceptions", &self.exceptions).finish()
    }
}

impl ProxyRules {
    /// The proxy on the way to a URL. A URL without TLS has none: the proxy would read the credential of the gateway.
    #[must_use]
    pub fn of(&self, url: &Url) -> Option<&HttpsProxy> {
        let (host, port) = (url.host()?, url.port_or_known_default()?);
        self.proxy.as_ref().filter(|_| url.scheme() == "wss" && !self.exceptions.contains(&host, port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses_proxy(no_proxy: &str, url: &str) -> bool {
        let rules = ProxyRules { proxy: Some("proxy:3128".parse().unwrap()), exceptions: NoProxy::new(no_proxy) };
        rules.of(&url.parse().unwrap()).is_some()
    }

    #[test]
    fn a_proxy_is_read_with_and_without_its_scheme_and_credentials() {
        let plain: HttpsProxy = "proxy.example:3128".parse().unwrap();
        assert_eq!((plain.url.as_str(), plain.credentials()), ("http://proxy.example:3128/", None));
        let full: HttpsProxy = "http://us%40er:p%3Ass@proxy.example:3128".parse().unwrap();
        assert_eq!((full.url.as_str(), full.credentials()), ("http://proxy.example:3128/", Some("us@er:p:ss")));
        let rules = ProxyRules { proxy: Some(full), ..ProxyRules::default() };
        assert!(!format!("{rules:?}").contains("ss\"") && !format!("{rules:?}").contains("us@er"), "{rules:?}");
    }

    #[test]
    fn another_kind_of_proxy_is_refused_and_its_password_not_repeated() {
        for (text, words) in [
            ("https://user:secret@proxy", "https://"),
            ("socks5://proxy:1080", "socks5://"),
            ("http://proxy/path", "no path"),
            ("http://user:secret@", "no URL"),
            ("", "no URL"),
        ] {
            let refusal = text.parse::<HttpsProxy>().unwrap_err();
            assert!(refusal.contains(words) && !refusal.contains("secret"), "{text}: {refusal}");
        }
    }

    #[test]
    fn only_encrypted_connections_to_other_hosts_go_through_the_proxy() {
        assert!(uses_proxy("", "wss://gw.example"));
        for url in ["ws://gw.example", "wss://localhost:1", "wss://a.localhost", "wss://127.0.0.1", "wss://[::1]:1"] {
            assert!(!uses_proxy("", url), "{url}");
        }
    }

    #[test]
    fn exceptions_are_names_addresses_networks_and_ports() {
        for (no_proxy, url, proxied) in [
            ("example.com", "wss://example.com", false),
            ("example.com", "wss://GW.Example.com.", false),
            ("example.com", "wss://notexample.com", true),
            (".example.com", "wss://example.com", true),
            (".example.com, other", "wss://gw.example.com", false),
            ("*.example.com", "wss://gw.example.com", false),
            (".svc,.cluster.local", "wss://gw.ns.svc", false),
            ("10.0.0.0/8", "wss://10.1.2.3", false),
            ("10.0.0.0/8", "wss://11.1.2.3", true),
            ("10.0.0.1", "wss://10.0.0.1:18789", false),
            ("fd00::/8", "wss://[fd12::1]", false),
            ("[fd12::1]:18789", "wss://[fd12::1]:18789", false),
            ("gw:18789", "wss://gw:18789", false),
            ("gw:18789", "wss://gw", true),
            ("*", "wss://anything", false),
            ("10.0.0.1/8", "wss://10.9.9.9", false),
            ("<local>,,http://gw,gw:port,.", "wss://gw", true),
            ("", "wss://gw", true),
        ] {
            assert_eq!(uses_proxy(no_proxy, url), proxied, "{no_proxy} {url}");
        }
    }
}
