//! What can be set about the ingress.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Deserialize;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiSettings {
    pub listen: SocketAddr,
    /// How customers reach it; shown in the documentation. None: as they came.
    pub public_url: Option<String>,
    /// Lets anybody make themselves a token (`POST /dev/token`). Never outside a developer's machine.
    pub development: bool,
    /// Where the simulator's phone is (`…/phone`); the booking page then links to it.
    pub phone_url: Option<String>,
    pub request_timeout_seconds: u64,
    /// How long what is in hand may take to finish when the process stops.
    pub drain_seconds: u64,
    /// Connections at once; more wait in the kernel's line.
    pub connections_max: usize,
    /// Requests at once, waiting ones included; more are refused with 503.
    pub requests_max: usize,
    /// Customers following an order at once (`/events`); more are refused with 503.
    pub event_streams_max: usize,
    /// Order requests per customer, in the long run …
    pub orders_per_second: u32,
    /// … and at once.
    pub orders_burst: u32,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            public_url: None,
            development: false,
            phone_url: None,
            request_timeout_seconds: 15,
            drain_seconds: 10,
            connections_max: 20_000,
            requests_max: 12_000,
            event_streams_max: 5_000,
            orders_per_second: 20,
            orders_burst: 40,
        }
    }
}
