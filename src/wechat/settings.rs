//! The settings of this part, and every reason why they would not do, all at once.
//!
//! Each member is optional so that `config check` can list everything that is missing instead of stopping at the
//! first. [`PaySettings::load`] (in [`super::account`]) and [`OfficialAccountSettings::load`] turn them into values
//! that need no second look.

use crate::domain::notification::{self, Kind};
use crate::keys;
use crate::setting::BadSetting;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Section `wechat_pay`. Where a value can be given directly or by file, exactly one of the two is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PaySettings {
    /// `https://api.mch.weixin.qq.com`, or the simulator's address.
    pub base_url: Option<String>,
    pub appid: Option<String>,
    pub mchid: Option<String>,
    /// Serial of the merchant's API certificate, 40 hex characters; the certificate's own when left out.
    pub merchant_serial_no: Option<String>,
    /// `apiclient_key.pem`, PKCS#8.
    pub merchant_private_key_file: Option<PathBuf>,
    pub merchant_private_key: Option<SecretString>,
    /// `apiclient_cert.pem`: tells the serial, and that the key belongs to it.
    pub merchant_certificate_file: Option<PathBuf>,
    /// 32 characters; older ones, under which callbacks may still come, on further lines.
    pub apiv3_key: Option<SecretString>,
    pub apiv3_key_file: Option<PathBuf>,
    /// The key before the last reset, while callbacks sent under it may still come (a day).
    pub previous_apiv3_key: Option<SecretString>,
    pub previous_apiv3_key_file: Option<PathBuf>,
    /// `PUB_KEY_ID_…` with its `wxp_pub.pem`. Left out, each block of the file has its id on the line before it, and
    /// the first is the one that we ask WeChat to sign with.
    pub public_key_id: Option<String>,
    pub public_key: Option<SecretString>,
    pub public_key_file: Option<PathBuf>,
    /// The WeChat Pay public key before a change, while both are in use.
    pub previous_public_key_id: Option<String>,
    pub previous_public_key: Option<SecretString>,
    pub previous_public_key_file: Option<PathBuf>,
    /// Also trust platform certificates and fetch them. Off for merchants opened since October 2024, who have none.
    pub platform_certificates: bool,
    /// Where WeChat sends payments; up to 255 characters, public https without a query.
    pub notify_url: Option<String>,
    /// Where WeChat sends refunds. Left out, it is the ingress's address for them when `notify_url` is the one for
    /// payments; otherwise refunds are followed by query alone.
    pub refund_notify_url: Option<String>,
    /// For a whole exchange, in milliseconds; 5 000 when left out.
    pub timeout_ms: Option<u64>,
}

/// Section `official_account`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OfficialAccountSettings {
    /// `https://api.weixin.qq.com`, or the simulator's address.
    pub base_url: Option<String>,
    pub appid: Option<String>,
    pub secret: Option<SecretString>,
    pub secret_file: Option<PathBuf>,
    pub templates: Templates,
    /// For a whole exchange, in milliseconds; 5 000 when left out.
    pub timeout_ms: Option<u64>,
}

/// A template as the account has it: its id, and its own keys where they differ from ours. WeChat gives out both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template<'a> {
    pub id: &'a str,
    /// Ours and theirs.
    keys: Vec<(&'a str, &'a str)>,
}

impl<'a> Template<'a> {
    /// Reads `ID`, or `ID thing1=thing4 time2=time9`.
    pub fn parse(kind: Kind, text: &'a str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let id = words.next().filter(|id| !id.contains('=')).ok_or("must begin with a template's id")?;
        let keys = words.map(|word| {
            let known: Vec<&str> = notification::keys(kind).iter().map(|(key, _)| *key).collect();
            let is_key = |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !key.is_empty();
            let pair = word.split_once('=').filter(|(ours, theirs)| known.contains(ours) && is_key(theirs));
            pair.ok_or_else(|| {
                format!("must say like {}=thing4 which key stands for one of {}", known[0], known.join(", "))
            })
        });
        Ok(Self { id, keys: keys.collect::<Result<_, _>>()? })
    }

    /// The template's own key for one of ours.
    pub fn key(&self, ours: &'a str) -> &'a str {
        self.keys.iter().find(|(key, _)| *key == ours).map_or(ours, |(_, theirs)| theirs)
    }
}

/// [`Template`]s by what the message tells. A kind without one is not sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Templates {
    pub booking_confirmed: Option<String>,
    pub booking_failed: Option<String>,
    pub hold_lapsed: Option<String>,
    pub order_expired: Option<String>,
    pub payment_received: Option<String>,
    pub refunded: Option<String>,
    pub waitlist_offer: Option<String>,
}

impl Templates {
    /// The template of a kind, when the merchant has one.
    pub fn of(&self, kind: Kind) -> Option<Template<'_>> {
        Template::parse(kind, self.text(kind)?).ok()
    }

    /// Every template that cannot be read, by the setting's name.
    pub(super) fn problems(&self) -> impl Iterator<Item = (String, String)> + '_ {
        Kind::ALL.into_iter().filter_map(|kind| {
            let problem = Template::parse(kind, self.text(kind)?).err()?;
            Some((format!("templates.{}", kind.as_str()), problem))
        })
    }

    fn text(&self, kind: Kind) -> Option<&str> {
        match kind {
            Kind::BookingConfirmed => &self.booking_confirmed,
            Kind::BookingFailed => &self.booking_failed,
            Kind::HoldLapsed => &self.hold_lapsed,
            Kind::OrderExpired => &self.order_expired,
            Kind::PaymentReceived => &self.payment_received,
            Kind::Refunded => &self.refunded,
            Kind::WaitlistOffer => &self.waitlist_offer,
        }
        .as_deref()
    }
}

/// Section of [`PaySettings`].
pub(super) const PAY: &str = "wechat_pay";
/// Gathers problems while values are read, so that none hides another.
#[derive(Debug)]
pub(super) struct Check {
    section: &'static str,
    pub(super) problems: Vec<BadSetting>,
}

impl Check {
    pub(super) fn new(section: &'static str) -> Self {
        Self { section, problems: Vec::new() }
    }

    pub(super) fn wrong(&mut self, name: &str, what: impl fmt::Display) {
        self.problems.push(BadSetting { setting: format!("{}.{name}", self.section), what: what.to_string() });
    }

    /// The value, or a note of the fault under the setting's name.
    pub(super) fn ok<T, E: fmt::Display>(&mut self, name: &str, result: Result<T, E>) -> Option<T> {
        result.map_err(|fault| self.wrong(name, fault)).ok()
    }

    /// A plain text that must be there and pass `rule`, which `expected` puts in words.
    pub(super) fn text<'v>(
        &mut self,
        name: &str,
        value: &'v Option<String>,
        expected: &str,
        rule: impl FnOnce(&str) -> bool,
    ) -> Option<&'v str> {
        let Some(text) = value.as_deref().filter(|text| !text.is_empty()) else {
            self.wrong(name, "is missing");
            return None;
        };
        if !rule(text) {
            self.wrong(name, format!("must be {expected}"));
            return None;
        }
        Some(text)
    }

    /// A secret given directly or by file; `None` when neither is. Ends of lines around it are not part of it.
    pub(super) fn secret(
        &mut self,
        name: &str,
        direct: &Option<SecretString>,
        file: &Option<PathBuf>,
    ) -> Option<SecretString> {
        match keys::text(&format!("{}.{name}", self.section), direct, file) {
            Ok(text) => text.map(|text| SecretString::from(text.expose_secret().trim())),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    /// As [`Check::secret`], but one of the two must be there.
    pub(super) fn needed_secret(
        &mut self,
        name: &str,
        direct: &Option<SecretString>,
        file: &Option<PathBuf>,
    ) -> Option<SecretString> {
        if direct.is_none() && file.is_none() {
            self.wrong(name, format!("is missing (or {name}_file)"));
        }
        self.secret(name, direct, file)
    }

    /// Where to call: scheme, host and port only; https unless the host is this machine or its private network.
    pub(super) fn base_url(&mut self, value: &Option<String>) -> Option<Url> {
        let text = self.text("base_url", value, "a URL", |_| true)?;
        let url = self.ok("base_url", Url::parse(text))?;
        match url.scheme() {
            "https" => {}
            "http" if is_local(&url) => {}
            _ => self.wrong("base_url", "must be https"),
        }
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || url.host().is_none() {
            self.wrong("base_url", "must be scheme and host alone");
        }
        Some(url)
    }

    /// WeChat Pay's rules for callback addresses. The simulator reaches local ones; WeChat needs public https. `path` is
    /// where the ingress takes these callbacks: at any other address nothing would.
    pub(super) fn notify_url(
        &mut self,
        name: &str,
        value: &Option<String>,
        max: usize,
        local_allowed: bool,
        path: &str,
    ) -> Option<String> {
        let text = self.text(name, value, "a URL", |_| true)?;
        let url = self.ok(name, Url::parse(text))?;
        let not_served = match path {
            PAYMENTS_PATH => "must end with /v1/wechat/notify/payments, where the ingress takes payments",
            _ => "must end with /v1/wechat/notify/refunds, where the ingress takes refunds",
        };
        let rules = [
            (text.len() > max, "is too long"),
            (text.contains(char::is_whitespace), "must not contain a blank"),
            (url.query().is_some() || url.fragment().is_some(), "must not have a query or fragment"),
            (url.path() == "/", "must have a path"),
            (url.has_host() && url.path() != "/" && !url.path().ends_with(path), not_served),
            (!url.username().is_empty() || url.password().is_some(), "must not carry a login"),
            (!local_allowed && url.scheme() != "https", "must be https"),
            (!local_allowed && is_local(&url), "must be reachable from the internet"),
        ];
        for (broken, what) in rules {
            if broken {
                self.wrong(name, what);
            }
        }
        Some(text.to_owned())
    }

    pub(super) fn timeout(&mut self, value: Option<u64>) -> Duration {
        let millis = value.unwrap_or(5_000);
        if !(100..=60_000).contains(&millis) {
            self.wrong("timeout_ms", "must be from 100 to 60000");
        }
        Duration::from_millis(millis)
    }
}

/// `wx` and 16 hex digits, as WeChat gives them out.
pub(super) fn is_appid(text: &str) -> bool {
    text.strip_prefix("wx").is_some_and(|rest| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Where WeChat Pay answers; the second is its other site (WeChat Pay, domain names).
pub(crate) const PAY_HOSTS: [&str; 2] = ["api.mch.weixin.qq.com", "api2.mch.weixin.qq.com"];

pub(super) fn is_pay_host(url: &Url) -> bool {
    url.host_str().is_some_and(|host| PAY_HOSTS.contains(&host))
}

/// Where the ingress takes WeChat's callbacks. A proxy may put something in front of it.
pub(super) const PAYMENTS_PATH: &str = "/v1/wechat/notify/payments";
pub(super) const REFUNDS_PATH: &str = "/v1/wechat/notify/refunds";

/// This machine, its private network, or a bare name as containers have: never WeChat's side of the internet.
pub(crate) fn is_local(url: &Url) -> bool {
    let Some(host) = url.host_str() else {
        return false;
    };
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => !host.trim_end_matches('.').contains('.'),
    }
}
