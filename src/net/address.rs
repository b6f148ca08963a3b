//! Prefixes of IP addresses: the part of an address that identifies a client, or a site.

use std::net::{IpAddr, Ipv6Addr};

/// Prefix of one client: the whole IPv4 address, or the IPv6 /64 (RFC 6177).
pub(crate) fn client_prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => masked(address, 64),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Prefix shared by the clients of one site: the IPv4 /24, or the IPv6 /48.
pub(crate) fn site_prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => masked(address, 48),
        IpAddr::V4(address) => IpAddr::V4((u32::from(address) & !0xff).into()),
    }
}

fn masked(address: Ipv6Addr, bits: u32) -> IpAddr {
    IpAddr::V6((u128::from(address) & (u128::MAX << (128 - bits))).into())
}
