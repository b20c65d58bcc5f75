//! The networks in which the admin allows gateways.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::reach::{Reach, reach, unwrapped};

/// A network in CIDR notation, such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpNetwork {
    address: IpAddr,
    prefix: u32,
}

impl FromStr for IpNetwork {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is no network; write 10.0.0.0/8, 2001:db8::/32 or one address");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| invalid())?;
        let network = Self { address, prefix };
        if prefix > longest {
            return Err(invalid());
        }
        if network.bits(address) != bits(address) {
            return Err(format!("{text:?} has bits after its prefix; write the first address of the network"));
        }
        Ok(network)
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The bits of an address, from the highest bit on.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl IpNetwork {
    /// The bits of an address up to the prefix of this network.
    fn bits(&self, address: IpAddr) -> u128 {
        bits(address) & u128::MAX.checked_shl(128 - self.prefix).unwrap_or_default()
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && self.bits(address) == bits(self.address)
    }
}

/// The networks in which gateways may be.
///
/// # Guarantees
/// A link-local address, an address of a cloud's metadata service and a multicast address are never allowed. A loopback address
/// is allowed only by a network of loopback addresses, or by default outside of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayNetworks {
    /// The networks of the admin; empty without a choice.
    listed: Vec<IpNetwork>,
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
    pub fn new(listed: Vec<IpNetwork>, in_cluster: bool) -> Self {
        Self { listed, in_cluster }
    }

    /// The decision about an address.
    #[must_use]
    pub fn admission(&self, address: IpAddr) -> Admission {
        let class = reach(address);
        let lists = |network: &IpNetwork| {
            let fits = class != Reach::Loopback || reach(network.address) == Reach::Loopback;
            fits && (network.contains(address) || network.contains(unwrapped(address)))
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
        let listed = listed.iter().map(|network| network.parse().unwrap()).collect();
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
            assert_eq!(text.parse::<IpNetwork>().unwrap().to_string(), shown);
        }
        for text in ["", "10.0.0.0/33", "10.0.0.1/8", "gw", "10.0.0.0/", "::/129", "10.0.0.0/-1"] {
            assert!(text.parse::<IpNetwork>().is_err(), "{text}");
        }
    }
}
