//! Clients by their addresses: which is whose, whoever stands in between, and how many connections or sessions each has.

mod counts;
mod places;
mod proxies;
mod proxy_protocol;

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub(crate) use counts::{AddressCounts, AddressSlot, ConnectionSlot, Full};
pub(crate) use places::{Place, Places};
pub use proxies::{AddressFrom, Network, Proxies};
pub(crate) use proxy_protocol::read;

/// An address as logs and answers show it: without the port where a proxy does not tell it.
pub fn shown_address(address: SocketAddr) -> impl fmt::Display {
    fmt::from_fn(move |f| match address.port() {
        0 => write!(f, "{}", address.ip()),
        _ => write!(f, "{address}"),
    })
}

/// What limits by address count as one: an IPv4 address, and of IPv6 what a single subscriber has, a /64.
pub(crate) fn block(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_subscriber_is_one_block() {
        let same = |one: &str, other: &str| block(one.parse().unwrap()) == block(other.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }

    #[test]
    fn a_port_that_nobody_told_is_not_shown() {
        let shown = |text: &str| shown_address(text.parse().unwrap()).to_string();
        assert_eq!(shown("192.0.2.1:0"), "192.0.2.1");
        assert_eq!(shown("192.0.2.1:80"), "192.0.2.1:80");
        assert_eq!(shown("[2001:db8::1]:0"), "2001:db8::1");
    }
}
