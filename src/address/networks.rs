//! The networks in which the admin allows gateways.

use std::net::IpAddr;

use ipnet::IpNet;

use super::reach::{Reach, reach, unwrapped};

/// A larger network, such as 0.0.0.0/0, has other addresses between its first and its last.
const MIN_REFUSED_PREFIX: u8 = 4;

/// Reads a network in CIDR notation, such as `10.0.0.0/8`, or one address.
///
/// # Errors
/// The text is neither, or has bits after its prefix: it may mean another network.
pub fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network =
        network.map_err(|_| format!("{text:?} is no network; write 10.0.0.0/8, 2001:db8::/32 or one address"))?;
    if network.trunc() != network {
        return Err(format!("{text:?} has bits after its prefix; write {}", network.trunc()));
    }
    Ok(network)
}

/// Reads a network in which gateways may be.
///
/// # Errors
/// As [`network`], or the network is never allowed.
pub fn gateway_network(text: &str) -> Result<IpNet, String> {
    let network = network(text)?;
    let is_never = [network.network(), network.broadcast()].map(reach) == [Reach::Never; 2];
    if is_never && network.prefix_len() >= MIN_REFUSED_PREFIX {
        return Err(format!(
            "{text} has link-local, metadata, multicast or reserved addresses only, which are never allowed"
        ));
    }
    Ok(network)
}

/// The networks in which gateways may be.
///
/// # Guarantees
/// A link-local address, an address of a cloud's metadata service and a multicast address are never allowed. A loopback address
/// is allowed only by a network of loopback addresses, or by default outside of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayNetworks {
    /// The networks of the admin; empty without a choice.
    listed: Vec<IpNet>,
    /// Whether the operator runs with the account of a pod.
    in_cluster: bool,
}

/// The decision about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// The admin listed the network of the address.
    Listed,
    /// The address is allowed because the admin listed no network.
    Unlisted,
    /// Muster does not connect to the address.
    Refused,
}

impl GatewayNetworks {
    /// The networks of the admin. Without any, all networks but loopback (in a cluster) are allowed, and the loopback network counts
    /// as listed outside of a cluster.
    #[must_use]
    pub fn new(listed: Vec<IpNet>, in_cluster: bool) -> Self {
        Self { listed, in_cluster }
    }

    /// Whether the admin listed networks.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        !self.listed.is_empty()
    }

    /// The decision about an address.
    #[must_use]
    pub fn admission(&self, address: IpAddr) -> Admission {
        let class = reach(address);
        let lists = |network: &IpNet| {
            let fits = class != Reach::Loopback || reach(network.network()) == Reach::Loopback;
            fits && (network.contains(&address) || network.contains(&unwrapped(address)))
        };
        match class {
            Reach::Never => Admission::Refused,
            Reach::Public | Reach::Private | Reach::Loopback if !self.listed.is_empty() => {
                if self.listed.iter().any(lists) { Admission::Listed } else { Admission::Refused }
            }
            Reach::Public | Reach::Private => Admission::Unlisted,
            Reach::Loopback if self.in_cluster => Admission::Refused,
            Reach::Loopback => Admission::Listed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(listed: &[&str], in_cluster: bool, address: &str) -> Admission {
        let listed = listed.iter().map(|listed| network(listed).unwrap()).collect();
        GatewayNetworks::new(listed, in_cluster).admission(address.parse().unwrap())
    }

    #[test]
    fn without_a_choice_only_metadata_link_local_and_loopback_of_a_pod_are_refused() {
        for address in ["10.1.2.3", "1.1.1.1", "fd12::1"] {
            assert_eq!(admission(&[], true, address), Admission::Unlisted, "{address}");
        }
        for address in ["169.254.169.254", "fe80::1", "fd00:ec2::254", "168.63.129.16", "0.0.0.0", "::ffff:169.254.1.1"]
        {
            assert_eq!(admission(&[], false, address), Admission::Refused, "{address}");
        }
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"] {
            assert_eq!(admission(&[], true, address), Admission::Refused, "{address}");
            assert_eq!(admission(&[], false, address), Admission::Listed, "{address}");
        }
    }

    #[test]
    fn a_network_that_is_never_allowed_is_refused_at_the_start() {
        for never in ["169.254.0.0/16", "169.254.169.254", "fe80::/10", "224.0.0.0/4", "240.0.0.0/4"] {
            assert!(gateway_network(never).is_err(), "{never}");
        }
        for good in ["0.0.0.0/0", "::/0", "10.0.0.0/8", "127.0.0.1"] {
            assert!(gateway_network(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn a_choice_allows_its_networks_alone_in_each_notation_of_an_address() {
        let listed = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"];
        for address in ["10.255.0.1", "::ffff:10.0.0.1", "2001:db8:1::2", "192.0.2.7"] {
            assert_eq!(admission(&listed, true, address), Admission::Listed, "{address}");
        }
        for address in ["11.0.0.1", "2001:db9::1", "192.0.2.8", "127.0.0.1", "::1"] {
            assert_eq!(admission(&listed, false, address), Admission::Refused, "{address}");
        }
    }

    #[test]
    fn a_wide_network_allows_neither_metadata_nor_loopback() {
        for address in ["169.254.169.254", "127.0.0.1", "0.0.0.0", "224.0.0.1"] {
            assert_eq!(admission(&["0.0.0.0/0"], true, address), Admission::Refused, "{address}");
        }
        for address in ["::1", "fe80::1", "fd00:ec2::254"] {
            assert_eq!(admission(&["::/0"], true, address), Admission::Refused, "{address}");
        }
        assert_eq!(admission(&["127.0.0.0/8"], true, "127.0.0.1"), Admission::Listed);
        assert_eq!(admission(&["::1"], true, "::1"), Admission::Listed);
    }

    #[test]
    fn a_network_is_read_and_shown_in_cidr_notation() {
        for (text, shown) in [("10.0.0.0/8", "10.0.0.0/8"), ("::1", "::1/128"), ("0.0.0.0/0", "0.0.0.0/0")] {
            assert_eq!(network(text).unwrap().to_string(), shown);
        }
        for text in ["", "10.0.0.0/33", "10.0.0.1/8", "gw", "10.0.0.0/", "::/129", "10.0.0.0/-1"] {
            assert!(network(text).is_err(), "{text}");
        }
    }
}
