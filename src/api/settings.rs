//! What can be set about the ingress. The defaults and their reasons are in `holdfast.toml`.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use super::{networks::Networks, tls::Tls};
use crate::setting::BadSetting;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSettings {
    pub listen: SocketAddr,
    /// PEM. With it, the listener speaks TLS and nothing else.
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// How customers reach it; shown in the documentation.
    pub public_url: Option<String>,
    /// Lets anybody make themselves a token (`POST /dev/token`).
    pub development: bool,
    /// How operators sign in to the console.
    pub console_sign_in: ConsoleSignIn,
    /// Where the simulator's phone is (`…/phone`); the booking page then links to it.
    pub phone_url: Option<String>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Networks,
    /// For a request's head, and for silence between two.
    pub head_timeout_seconds: u64,
    pub request_timeout_seconds: u64,
    pub connections_max: usize,
    pub address_connections_max: usize,
    pub requests_max: usize,
    pub event_streams_max: usize,
    pub orders_per_second: u32,
    pub orders_burst: u32,
    pub address_requests_per_second: u32,
    pub address_requests_burst: u32,
}

/// How operators sign in to the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsoleSignIn {
    /// They bring a token, in the address or pasted.
    Token,
    /// A proxy knows them by its cookie and adds the token to each request.
    Proxy,
}

impl ConsoleSignIn {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Proxy => "proxy",
        }
    }
}

impl ApiSettings {
    /// The listener's TLS; none where it speaks plain HTTP, behind something that ends TLS.
    ///
    /// # Errors
    /// One of the two files is not named, or cannot be used.
    pub(super) fn tls(&self) -> Result<Option<Tls>, BadSetting> {
        let wrong = |what: String| BadSetting { setting: "api.certificate_file".into(), what };
        match (&self.certificate_file, &self.key_file) {
            (None, None) => Ok(None),
            (Some(certificates), Some(key)) => Tls::load(certificates.clone(), key.clone())
                .map(Some)
                .map_err(|error| wrong(format!("cannot be used: {error}"))),
            _ => Err(wrong("and api.key_file must be given together".into())),
        }
    }

    /// Whether customers come by https, as far as the settings say.
    pub(super) fn is_reached_by_https(&self) -> bool {
        self.public_url.as_ref().is_some_and(|url| url.starts_with("https://"))
    }

    /// Everything that is wrong; empty when the API can start.
    pub fn problems(&self) -> Vec<BadSetting> {
        let wrong = |setting: &str, what: &str| BadSetting { setting: format!("api.{setting}"), what: what.into() };
        let mut problems: Vec<BadSetting> = self.tls().err().into_iter().collect();
        for (setting, url) in [("public_url", &self.public_url), ("phone_url", &self.phone_url)] {
            let fits = |url: &String| url.starts_with("https://") || url.starts_with("http://");
            if !url.as_ref().is_none_or(fits) {
                problems.push(wrong(setting, "must begin with https:// or http://"));
            }
        }
        // `Prefer: wait=10` must end before the request does.
        if self.request_timeout_seconds <= 10 {
            problems.push(wrong("request_timeout_seconds", "must be above 10"));
        }
        let counts = [
            ("head_timeout_seconds", self.head_timeout_seconds == 0),
            ("connections_max", self.connections_max == 0),
            ("address_connections_max", self.address_connections_max == 0),
            ("requests_max", self.requests_max == 0),
            ("event_streams_max", self.event_streams_max == 0),
            ("orders_per_second", self.orders_per_second == 0),
            ("orders_burst", self.orders_burst == 0),
            ("address_requests_per_second", self.address_requests_per_second == 0),
            ("address_requests_burst", self.address_requests_burst == 0),
        ];
        for (setting, is_zero) in counts {
            if is_zero {
                problems.push(wrong(setting, "must be above 0"));
            }
        }
        problems
    }
}
