//! Where a request comes from, and how much may come from there.
//!
//! Behind a proxy every connection is the proxy's. Whom the proxy speaks for, it says in `X-Forwarded-For`, and so
//! can anybody; it is believed only of the networks in `api.trusted_proxies`. What a trusted proxy asks on its own
//! account is not counted. What it asks for somebody whom we cannot read counts against the proxy.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName};

use super::{networks::Networks, settings::ApiSettings};
use crate::cache::rate::LocalRate;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Other ways to say whom one speaks for, which we do not read.
const FORWARDED_OTHERWISE: [HeaderName; 2] =
    [HeaderName::from_static("forwarded"), HeaderName::from_static("x-real-ip")];

/// Against whom a request counts, when the connection is `peer`'s: the last address in `X-Forwarded-For` that no trusted
/// proxy is, or the proxy that says something else there. `None` for a trusted proxy on its own account.
fn counted(trusted: &Networks, peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
    let mut client = peer;
    let lines = headers.get_all(FORWARDED_FOR).iter().rev();
    let mut said = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    while trusted.contain(client) {
        match said.next().map(address) {
            Some(Some(address)) => client = address,
            Some(None) => return Some(client),
            None => return FORWARDED_OTHERWISE.iter().any(|name| headers.contains_key(name)).then_some(client),
        }
    }
    Some(client)
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn address(word: &str) -> Option<IpAddr> {
    let word = word.trim();
    let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
    bare.parse().ok().or_else(|| word.parse::<SocketAddr>().ok().map(|address| address.ip()))
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
        counted(&self.trusted, peer, headers).map_or(Ok(()), |client| self.rate.take(whole(client)))
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
    use crate::api::networks::tests::{ip, networks};
    use proptest::prelude::*;

    #[test]
    fn s6_4_whom_a_proxy_speaks_for_is_believed_of_trusted_ones_only() {
        let trusted = networks("127.0.0.1, 10.0.0.0/8");
        for (peer, lines, asks) in [
            ("203.0.113.9", &["198.51.100.1"][..], Some("203.0.113.9")),
            ("127.0.0.1", &["198.51.100.1"], Some("198.51.100.1")),
            // On its own account.
            ("127.0.0.1", &[], None),
            ("127.0.0.1", &["10.0.0.2"], None),
            // What the client itself put in front is not looked at.
            ("127.0.0.1", &["127.0.0.1, 198.51.100.1, 203.0.113.9"], Some("203.0.113.9")),
            ("127.0.0.1", &["198.51.100.1", "203.0.113.9, 10.0.0.2"], Some("203.0.113.9")),
            ("127.0.0.1", &["2001:db8::7"], Some("2001:db8::7")),
            ("127.0.0.1", &["203.0.113.9:4711"], Some("203.0.113.9")),
            ("127.0.0.1", &["[2001:db8::7]"], Some("2001:db8::7")),
            ("127.0.0.1", &["[2001:db8::7]:4711"], Some("2001:db8::7")),
        ] {
            let headers = lines.iter().map(|line| (FORWARDED_FOR, line.parse().unwrap())).collect();
            assert_eq!(counted(&trusted, ip(peer), &headers), asks.map(ip), "{peer} {lines:?}");
        }
    }

    /// F4: what a proxy says in words that cannot be read counts against the proxy.
    #[test]
    fn whom_we_cannot_read_counts_against_the_proxy() {
        let trusted = networks("127.0.0.1, 10.0.0.0/8");
        for (line, asks) in [
            ("203.0.113.9, unknown", "127.0.0.1"),
            ("203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
            ("_hidden", "127.0.0.1"),
            ("for=203.0.113.9", "127.0.0.1"),
            ("203.0.113.9,", "127.0.0.1"),
            ("203.0.113.999", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            let headers = HeaderMap::from_iter([(FORWARDED_FOR, line.parse().unwrap())]);
            assert_eq!(counted(&trusted, ip("127.0.0.1"), &headers), Some(ip(asks)), "{line}");
        }
        let bytes = axum::http::HeaderValue::from_bytes(b"\xff").unwrap();
        for (name, value) in [(FORWARDED_FOR, bytes.clone()), (FORWARDED_OTHERWISE[0].clone(), bytes.clone())] {
            let headers = HeaderMap::from_iter([(name, value)]);
            assert_eq!(counted(&trusted, ip("127.0.0.1"), &headers), Some(ip("127.0.0.1")));
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
            let _ = counted(&networks("0.0.0.0/0"), ip("127.0.0.1"), &headers);
        }
    }
}
