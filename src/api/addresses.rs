//! Where a request comes from, and how much may come from there.
//!
//! Behind a proxy every connection is the proxy's. Whom the proxy speaks for, it says in `X-Forwarded-For`, and so
//! can anybody; it is believed only of the networks in `api.trusted_proxies`. What a trusted proxy asks on its own
//! account is not counted.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName};

use super::{networks::Networks, settings::ApiSettings};
use crate::cache::rate::LocalRate;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who asks, when the connection is `peer`'s: the last address in `X-Forwarded-For` that no trusted proxy is.
fn client(trusted: &Networks, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let mut client = peer;
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut said = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    while trusted.contain(client) {
        // What a trusted proxy could not say in words that we read, it said of nobody.
        match said.next().and_then(|word| word.trim().parse().ok()) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// The other end of the connection.
#[derive(Clone, Copy)]
pub(super) struct Peer(pub(super) IpAddr);

/// What one address may ask for, counted by each process for itself: a flood is stopped where it arrives.
pub(super) struct AddressLimit {
    trusted: Networks,
    rate: LocalRate<IpAddr>,
}

impl AddressLimit {
    pub(super) fn new(settings: &ApiSettings) -> Self {
        Self {
            trusted: settings.trusted_proxies.clone(),
            rate: LocalRate::new(settings.address_requests_per_second, settings.address_requests_burst),
        }
    }

    /// `Err` says after how long to ask again.
    pub(super) fn take(&self, Peer(peer): Peer, headers: &HeaderMap) -> Result<(), Duration> {
        let client = client(&self.trusted, peer, headers);
        if self.trusted.contain(client) { Ok(()) } else { self.rate.take(whole(client)) }
    }
}

/// One subscriber has a whole /64 of IPv6, and may use any address of it.
fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// How many connections each address holds.
pub(super) struct Crowd {
    trusted: Networks,
    max: usize,
    held: Mutex<HashMap<IpAddr, usize>>,
}

impl Crowd {
    pub(super) fn new(settings: &ApiSettings) -> Arc<Self> {
        let (trusted, max) = (settings.trusted_proxies.clone(), settings.address_connections_max);
        Arc::new(Self { trusted, max, held: Mutex::default() })
    }

    /// A place among the connections of this address; `None` when it holds too many.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<CrowdPlace> {
        if self.trusted.contain(peer) {
            return Some(CrowdPlace(None));
        }
        let address = whole(peer);
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = all.entry(address).or_default();
        if *held >= self.max {
            return None;
        }
        *held += 1;
        Some(CrowdPlace(Some((Arc::clone(self), address))))
    }
}

/// Given back when it is dropped.
pub(super) struct CrowdPlace(Option<(Arc<Crowd>, IpAddr)>);

impl Drop for CrowdPlace {
    fn drop(&mut self) {
        let Some((crowd, address)) = self.0.take() else { return };
        let mut all = crowd.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = all.get_mut(&address) {
            *held -= 1;
            if *held == 0 {
                all.remove(&address);
            }
        }
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
    fn s6_4_whom_a_proxy_speaks_for_is_believed_of_trusted_ones_only() {
        let trusted = networks("127.0.0.1, 10.0.0.0/8");
        for (peer, lines, asks) in [
            ("203.0.113.9", &["198.51.100.1"][..], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            // What the client itself put in front is not looked at.
            ("127.0.0.1", &["127.0.0.1, 198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("127.0.0.1", &["203.0.113.9, unknown"], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
            ("127.0.0.1", &["10.0.0.2"], "10.0.0.2"),
            ("127.0.0.1", &["2001:db8::7"], "2001:db8::7"),
        ] {
            let headers = lines.iter().map(|line| (FORWARDED_FOR, line.parse().unwrap())).collect();
            assert_eq!(client(&trusted, ip(peer), &headers), ip(asks), "{peer} {lines:?}");
        }
    }

    #[test]
    fn s6_4_an_address_holds_so_many_connections_and_a_prefix_is_one_address() {
        let crowd = Arc::new(Crowd { trusted: networks("::1"), max: 2, held: Mutex::default() });
        let one = crowd.enter(ip("2001:db8::1"));
        let two = crowd.enter(ip("2001:db8::2:0:0:3"));
        assert!(one.is_some() && two.is_some() && crowd.enter(ip("2001:db8::4")).is_none());
        assert!(crowd.enter(ip("2001:db8:0:1::1")).is_some() && crowd.enter(ip("203.0.113.9")).is_some());
        drop(one);
        assert!(crowd.enter(ip("2001:db8::4")).is_some());
        drop(two);
        assert!(crowd.held.lock().unwrap().is_empty(), "what is given back is forgotten");
        assert!((0..9).all(|_| crowd.enter(ip("::1")).is_some()), "a proxy holds its clients' connections");
    }

    proptest! {
        #[test]
        fn any_header_has_an_answer(line in "[0-9a-f:., x\\[\\]]{0,80}") {
            let headers = HeaderMap::from_iter([(FORWARDED_FOR, line.parse().unwrap())]);
            let _ = client(&networks("0.0.0.0/0"), ip("127.0.0.1"), &headers);
        }
    }
}
