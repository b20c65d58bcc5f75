//! The classes of IP addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The class of an address, which decides whether Muster connects to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// An address of the internet.
    Public,
    /// An address of a private network.
    Private,
    /// An address of the operator's own host.
    Loopback,
    /// A link-local address, an address of a cloud's metadata service, a multicast address, or an address of no single host.
    /// Muster never connects to it.
    Never,
}

/// The class of an address. An IPv6 address with an embedded IPv4 address has the class of the IPv4 address.
#[must_use]
pub fn reach(address: IpAddr) -> Reach {
    match unwrapped(address) {
        IpAddr::V4(v4) => of_v4(v4),
        IpAddr::V6(v6) => of_v6(v6),
    }
}

/// The IPv4 address in an IPv6 address that embeds one; any other address unchanged.
pub(crate) fn unwrapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => embedded_v4(v6).map_or(address, IpAddr::V4),
    }
}

/// The addresses of metadata services outside the link-local network, from the clouds' own documentation: Azure, Alibaba Cloud
/// and Oracle Cloud over IPv4, AWS and Google Cloud over IPv6.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

fn of_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        _ if METADATA_V4.contains(&address) => Reach::Never,
        // This network, link-local, multicast, reserved and broadcast.
        (0 | 224.., ..) | (169, 254, _) => Reach::Never,
        (127, ..) => Reach::Loopback,
        (10, ..)
        | (100, 64..=127, _)
        | (172, 16..=31, _)
        | (192, 168, _)
        // Protocol assignments, documentation, the old 6to4 relays, and benchmark networks.
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18..=19, _)
        | (198, 51, 100)
        | (203, 0, 113) => Reach::Private,
        _ => Reach::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Reach {
    let [first, second, ..] = address.segments();
    match (first, second) {
        _ if address.is_loopback() => Reach::Loopback,
        _ if METADATA_V6.contains(&address) => Reach::Never,
        // Unique local, and the retired site-local.
        (0xfc00..=0xfdff | 0xfec0..=0xfeff, _)
        // Local-use NAT64, Teredo, other protocol assignments, and documentation.
        | (0x64, 0xff9b)
        | (0x2001, 0..=0x1ff | 0xdb8)
        | (0x3fff, 0..=0xfff) => Reach::Private,
        // Global unicast is 2000::/3.
        (0x2000..=0x3fff, _) => Reach::Public,
        // Link-local, multicast, unspecified and unassigned.
        _ => Reach::Never,
    }
}

/// The IPv4 address inside an IPv6 address: mapped, compatible, NAT64 (well-known and local-use) and 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0 | 0xffff, 0 | 0xffff, high, low]
        | [0x64, 0xff9b, 0 | 1, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str) -> Reach {
        reach(address.parse().unwrap())
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "192.0.1.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert_eq!(of(address), Reach::Public, "{address}");
        }
    }

    #[test]
    fn loopback_addresses_are_recognized_in_each_notation() {
        for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "2002:7f00:1::", "::127.0.0.1"] {
            assert_eq!(of(address), Reach::Loopback, "{address}");
        }
    }

    #[test]
    fn private_networks_are_private_in_each_notation() {
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "198.18.0.1",
            "192.0.2.1",
            "fc00::1",
            "fd12::1",
            "fec0::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::a00:1",
            "64:ff9b:2::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert_eq!(of(address), Reach::Private, "{address}");
        }
    }

    #[test]
    fn link_local_multicast_and_unspecified_addresses_are_never_allowed() {
        for address in [
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "::ffff:100.100.100.200",
            "fd00:ec2::254",
            "fd20:ce::254",
            "2002:a9fe:a9fe::",
            "::ffff:0.0.0.0",
            "4000::1",
        ] {
            assert_eq!(of(address), Reach::Never, "{address}");
        }
    }
}
