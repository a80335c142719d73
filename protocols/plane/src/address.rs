//! Whose an address is, where shares are counted by address.

use std::net::{IpAddr, Ipv6Addr};

/// An IPv4 address stands for itself. Of IPv6, whoever has one address has its whole /64: that counts as one.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_64_is_one_and_a_mapped_address_is_its_ipv4() {
        let of = |text: &str| network_of(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2:ffff::1"), "2001:db8:1:2::");
        assert_ne!(of("2001:db8:1:3::1"), "2001:db8:1:2::");
    }
}
