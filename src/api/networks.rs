//! Networks in the settings: whose word about others is believed.

use std::net::IpAddr;

use serde::Deserialize;

/// Networks as they are written in the settings: "127.0.0.0/8, ::1, 10.1.0.7".
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Networks(Vec<Network>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    /// As a number, so that IPv4 and IPv6 are compared alike: `a.b.c.d` is `::ffff:a.b.c.d`.
    base: u128,
    /// How many of its 128 bits count.
    bits: u32,
}

impl TryFrom<String> for Networks {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let network = |word: &str| Network::parse(word).ok_or_else(|| format!("{word:?} is no address or network"));
        words.map(network).collect::<Result<_, _>>().map(Self)
    }
}

impl Network {
    fn parse(word: &str) -> Option<Self> {
        let (address, bits) = word.split_once('/').map_or((word, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().ok()?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(longest), |bits| bits.parse().ok().filter(|bits| *bits <= longest))?;
        Some(Self { base: number(address), bits: 128 - longest + bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        (number(address) ^ self.base).leading_zeros() >= self.bits
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Networks {
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(text: &str) -> Networks {
        Networks::try_from(text.to_owned()).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn s6_4_networks_hold_the_addresses_that_they_say() {
        let some = networks("127.0.0.0/8, ::1,10.1.0.7, 2001:db8::/32");
        for (address, is_in) in [
            ("127.0.0.1", true),
            ("127.255.0.9", true),
            ("128.0.0.1", false),
            ("::ffff:127.0.0.1", true),
            ("::1", true),
            ("::2", false),
            ("10.1.0.7", true),
            ("10.1.0.8", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::", false),
        ] {
            assert_eq!(some.contain(ip(address)), is_in, "{address}");
        }
        assert!(networks("0.0.0.0/0").contain(ip("203.0.113.9")) && !networks("0.0.0.0/0").contain(ip("2001:db8::")));
        assert!(networks("::/0").contain(ip("203.0.113.9")) && !networks("").contain(ip("127.0.0.1")));
        for wrong in ["10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "localhost", "::/129", "10.0.0.1/", "1.2.3.4:80"] {
            assert!(Networks::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_as_networks_is_answered(text in "[0-9a-f:./, x\\[\\]]{0,80}") {
            let _ = Networks::try_from(text);
        }
    }
}
