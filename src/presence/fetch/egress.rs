//! Where requests may go whose URL a customer wrote: to the public internet, and to what the operator allows.
//!
//! Such a URL could name the metadata service of a cloud, or a database beside us. What counts is the address that a name
//! resolves to, since names and spellings of numbers are endless. Whatever is not known to be public is refused: the tables are
//! IANA's registries of special-purpose addresses. Never resolves anything itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Where a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress<'a> {
    /// The URL's origin is in the configuration: anywhere.
    Trusted,
    /// Public addresses and these networks.
    Checked(&'a [IpNet]),
}

impl Egress<'_> {
    /// Whether that address may be connected to.
    #[must_use]
    pub fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Trusted => true,
            Self::Checked(allowed) => {
                is_public(address) || allowed.iter().any(|network| network.contains(&address))
            }
        }
    }
}

/// IPv4 networks that are not the public internet (IANA's special-purpose registry), multicast, and what is reserved.
const NOT_PUBLIC_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];

/// The only IPv6 network that is given out: loopback, link-local, ULA, multicast, v4-mapped, NAT64 and all else lie outside.
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0], 3);

/// What of it is not the public internet, or leads to an IPv4 address: protocol assignments with Teredo and benchmarks, 6to4,
/// documentation.
const NOT_PUBLIC_V6: [Ipv6Net; 4] = [
    v6([0x2001, 0], 23),
    v6([0x2001, 0xdb8], 32),
    v6([0x2002, 0], 16),
    v6([0x3fff, 0], 20),
];

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6([a, b]: [u16; 2], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !NOT_PUBLIC_V6.iter().any(|net| net.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_reached_unasked() {
        let inside = "0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8 \
            192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.9 224.0.0.1 239.1.1.1 240.0.0.1 \
            255.255.255.255 :: ::1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::a00:1 64:ff9b:1::1 100::1 2001::1 2001:2::1 \
            2001:10::1 2001:db8::1 2002:7f00:1::1 3fff::1 5f00::1 fc00::1 fd12::1 fe80::1 fec0::1 ff02::1";
        for address in inside.split_whitespace() {
            let address = address.parse().unwrap();
            assert!(!Egress::Checked(&[]).allows(address), "{address}");
            assert!(Egress::Trusted.allows(address), "{address}");
        }
        let outside = "8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 198.20.0.1 223.255.255.255 \
            2606:4700::1111 2a00:1450::1 2001:4860::8888 2003::1";
        for address in outside.split_whitespace() {
            let address = address.parse().unwrap();
            assert!(Egress::Checked(&[]).allows(address), "{address}");
        }
    }

    #[test]
    fn an_operator_opens_networks() {
        let allowed = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let egress = Egress::Checked(&allowed);
        for (address, is_allowed) in [
            ("10.1.2.3", true),
            ("fd12::1", true),
            ("8.8.8.8", true),
            ("11.1.2.3", true),
            ("192.168.0.1", false),
            // Another spelling of an allowed address is another address.
            ("::ffff:10.1.2.3", false),
        ] {
            assert_eq!(
                egress.allows(address.parse().unwrap()),
                is_allowed,
                "{address}"
            );
        }
    }
}
