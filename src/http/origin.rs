//! The origin of a request: the network of its client, and whether others can read the request on its way.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap};
use ipnet::IpNet;

/// The origin of a request, in the extensions of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestOrigin {
    /// The network of the client, see [`network_of`].
    pub network: IpAddr,
    /// Whether the request came by TLS, or from this host to a listener that only this host reaches.
    pub confidential: bool,
}

impl RequestOrigin {
    /// The origin of a request. A request without an origin counts as sent in clear text by an unknown client.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Self {
        let unknown = Self { network: Ipv6Addr::UNSPECIFIED.into(), confidential: false };
        extensions.get::<Self>().copied().unwrap_or(unknown)
    }
}

/// The network that limits count an address to: an IPv4 address, or the 64 bits of an IPv6 address that a provider gives to one
/// customer. An IPv4 address in IPv6 form counts as IPv4 address.
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Whether a connection stays on this host: a loopback peer, on a listener with a loopback address. On another listener the peer
/// may be a proxy beside the operator, such as the sidecar of a service mesh.
#[must_use]
pub fn is_local(listener: SocketAddr, peer: SocketAddr) -> bool {
    listener.ip().to_canonical().is_loopback() && peer.ip().to_canonical().is_loopback()
}

/// The proxies whose header `X-Forwarded-For` counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// The proxies in these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks.into())
    }

    /// Whether an address is a proxy.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of the client. From a proxy, the last address in `X-Forwarded-For` that is not a proxy counts, because the client
    /// itself may have sent the addresses before it. A text that is no address ends the search.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
        let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
        while self.contains(client) {
            let Some(hop) = hops.next().and_then(address) else { break };
            client = hop.to_canonical();
        }
        client
    }
}

/// The address in a part of `X-Forwarded-For`, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// The client behind the proxies `10.0.0.0/8` and `2001:db8::/32`.
    fn client(peer: &str, forwarded: &[&str]) -> String {
        let proxies = TrustedProxies::new(["10.0.0.0/8", "2001:db8::/32"].map(|n| n.parse().unwrap()).into());
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        proxies.client(ip(peer), &headers).to_string()
    }

    #[test]
    fn only_a_trusted_proxy_names_the_client_and_the_last_untrusted_address_counts() {
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.1.1.1"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["203.0.113.9", "198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("2001:db8::1", &["[2001:db9::5]:443"]), "2001:db9::5");
        assert_eq!(client("10.0.0.1", &["198.51.100.7:5000"]), "198.51.100.7");
    }

    #[test]
    fn without_a_valid_address_the_proxy_is_the_client() {
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["198.51.100.7, unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["10.0.0.2"]), "10.0.0.2");
    }

    #[test]
    fn an_ipv6_client_counts_by_its_64_bits() {
        assert_eq!(network_of(ip("2001:db8:1:2:3:4:5:6")), ip("2001:db8:1:2::"));
        assert_eq!(network_of(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
        assert_eq!(network_of(ip("192.0.2.1")), ip("192.0.2.1"));
    }

    #[test]
    fn only_a_loopback_peer_on_a_loopback_listener_is_local() {
        let local = |listener: &str, peer: &str| is_local(listener.parse().unwrap(), peer.parse().unwrap());
        assert!(local("127.0.0.1:1", "127.0.0.1:2") && local("[::1]:1", "[::1]:2"));
        assert!(!local("0.0.0.0:1", "127.0.0.1:2"), "a sidecar connects by loopback too");
        assert!(!local("127.0.0.1:1", "10.0.0.1:2"));
    }
}
