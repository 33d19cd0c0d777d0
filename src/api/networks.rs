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
        self.holds(number(address))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Network {
    /// So wide that customers are in it: more than a /8 of IPv4, or than a /20 of IPv6 outside its private range.
    fn is_too_wide(self) -> bool {
        const MAPPED: Network = Network { base: 0xFFFF << 32, bits: 96 };
        const PRIVATE: Network = Network { base: 0xFC << 120, bits: 7 };
        let is_within = |wide: Network| self.bits >= wide.bits && wide.holds(self.base);
        if self.bits <= MAPPED.bits && self.holds(MAPPED.base) {
            true
        } else if is_within(MAPPED) {
            self.bits < MAPPED.bits + 8
        } else {
            self.bits < 20 && !is_within(PRIVATE)
        }
    }

    fn holds(self, number: u128) -> bool {
        (number ^ self.base).leading_zeros() >= self.bits
    }
}

impl Networks {
    /// Whether whoever reaches us could be taken for a proxy.
    pub(crate) fn are_too_wide(&self) -> bool {
        self.0.iter().any(|network| network.is_too_wide())
    }

    pub(super) fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::api) fn networks(text: &str) -> Networks {
        Networks::try_from(text.to_owned()).unwrap()
    }

    pub(in crate::api) fn ip(text: &str) -> IpAddr {
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

    /// F4: a network in which customers are is no proxy's.
    #[test]
    fn networks_that_hold_everybody_are_too_wide() {
        for wide in [
            "0.0.0.0/0",
            "0.0.0.0/1, 128.0.0.0/1",
            "::/0",
            "::/64",
            "::ffff:0:0/96",
            "::ffff:0:0/97",
            "2000::/3",
            "fc00::/6",
        ] {
            assert!(networks(wide).are_too_wide(), "{wide}");
        }
        for fit in [
            "",
            "127.0.0.0/8, ::1",
            "10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16",
            "104.16.0.0/13",
            "2400:cb00::/32",
            "fc00::/7",
            "fd00::/8",
        ] {
            assert!(!networks(fit).are_too_wide(), "{fit}");
        }
    }

    proptest! {
        #[test]
        fn any_text_as_networks_is_answered(text in "[0-9a-f:./, x\\[\\]]{0,80}") {
            let _ = Networks::try_from(text);
        }
    }
}
