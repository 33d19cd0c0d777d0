//! Settings: composed from the parts' own, read from the compiled-in defaults, a file and the environment.

mod loads;
mod order;
mod production;

use std::{collections::BTreeMap, path::PathBuf};

use config::{Config, Environment, File, FileFormat, Value, ValueKind};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::{
    api::ApiSettings,
    broker::BrokerSettings,
    cache::CacheSettings,
    keys,
    setting::BadSetting,
    spans::TelemetrySettings,
    store::sealed::PersonalKeys,
    telemetry::LogSettings,
    tls::Secured,
    tokens::AuthSettings,
    wechat::settings::{OfficialAccountSettings, PaySettings, is_local},
    workers::reconcile::Pace,
};

pub use loads::{Loads, PayUse};
pub use order::OrderSettings;

/// Where a setting comes from that nobody gave.
const DEFAULT: &str = "default";
const DEFAULTS: &str = include_str!("holdfast.toml");

/// Everything a process can be told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub api: ApiSettings,
    pub auth: AuthSettings,
    pub database: DatabaseSettings,
    pub broker: BrokerSettings,
    pub cache: CacheSettings,
    pub order: OrderSettings,
    #[serde(rename = "override")]
    pub overrides: OverrideSettings,
    pub retention: RetentionSettings,
    pub personal: PersonalSettings,
    pub reconcile: ReconcileSettings,
    pub health: HealthSettings,
    pub log: LogSettings,
    pub telemetry: TelemetrySettings,
    pub process: ProcessSettings,
    #[serde(default)]
    pub wechat_pay: PaySettings,
    #[serde(default)]
    pub official_account: OfficialAccountSettings,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    pub url: Option<SecretString>,
    pub operators_url: Option<SecretString>,
    pub max_connections: u32,
}

impl DatabaseSettings {
    /// Where operators' decisions are written, and the setting that says so.
    ///
    /// # Errors
    /// Neither that address nor the ordinary one is given.
    pub fn for_operators(&self) -> Result<(&'static str, SecretString), BadSetting> {
        match &self.operators_url {
            Some(url) => Ok(("database.operators_url", url.clone())),
            None => Ok(("database.url", needed("database.url", &self.url)?)),
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideSettings {
    pub second_person_fen: i64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionSettings {
    pub audit_months: u16,
    pub trace_months: u16,
}

impl RetentionSettings {
    fn problems(&self) -> Vec<BadSetting> {
        let months = [("retention.audit_months", self.audit_months), ("retention.trace_months", self.trace_months)];
        let none = months.into_iter().filter(|(_, months)| *months == 0);
        none.map(|(setting, _)| problem(setting, "must be above zero")).collect()
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonalSettings {
    pub key: Option<SecretString>,
    pub key_file: Option<PathBuf>,
}

impl PersonalSettings {
    /// # Errors
    /// Missing, unreadable, or not a list of keys that can seal.
    pub fn load(&self) -> Result<PersonalKeys, BadSetting> {
        PersonalKeys::parse(&self.text()?).map_err(|what| problem("personal.key", what))
    }

    fn text(&self) -> Result<SecretString, BadSetting> {
        keys::text("personal.key", &self.key, &self.key_file)?.ok_or_else(|| problem("personal.key", "is missing"))
    }

    /// The file that is read again when it changes.
    pub fn files(&self) -> Vec<PathBuf> {
        self.key_file.iter().cloned().collect()
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcileSettings {
    pub every_seconds: u64,
    pub grace_seconds: u64,
    pub batch: u16,
    pub canary_seconds: u64,
    pub bill_hour: u8,
}

impl ReconcileSettings {
    pub fn pace(&self, retention: &RetentionSettings, order: &OrderSettings) -> Pace {
        Pace {
            keep_audit: retention.audit_months,
            keep_traces: retention.trace_months,
            every: std::time::Duration::from_secs(self.every_seconds),
            grace: std::time::Duration::from_secs(self.grace_seconds),
            batch: self.batch,
            canary_every: std::time::Duration::from_secs(self.canary_seconds),
            check: order.alarms().check,
        }
    }

    /// When, in China, WeChat's bill of the day before is asked for.
    pub fn bill_ready(&self) -> time::Time {
        time::Time::from_hms(self.bill_hour.min(23), 0, 0).expect("hours below 24 are hours")
    }

    fn problems(&self) -> Vec<BadSetting> {
        let mut problems = Vec::new();
        if self.every_seconds == 0 {
            problems.push(problem("reconcile.every_seconds", "must be above zero"));
        }
        if self.bill_hour > 23 {
            problems.push(problem("reconcile.bill_hour", "must be an hour: 0 to 23"));
        }
        if self.batch == 0 {
            problems.push(problem("reconcile.batch", "must be above zero"));
        }
        problems
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthSettings {
    pub listen: std::net::SocketAddr,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSettings {
    pub grace_seconds: u64,
}

/// What `deploy/settings.env` says where only its owner knows.
const PLACEHOLDER: &str = "CHANGE_ME";

/// The settings, or why they cannot be read.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Result<Settings, BadSetting>,
    /// Every setting that has a value, secrets masked.
    pub shown: Vec<Shown>,
}

/// One setting as `config check` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    pub setting: String,
    pub value: String,
    pub source: String,
    /// It still has the sign of `deploy/settings.env` for what only its owner knows.
    #[serde(skip)]
    pub is_unfilled: bool,
}

/// Reads defaults, file and environment. `environment` is passed in so that tests choose it.
pub fn load(environment: impl IntoIterator<Item = (String, String)>) -> Loaded {
    let mut ours = BTreeMap::new();
    let mut file = None;
    for (name, value) in environment {
        match name.as_str() {
            "HOLDFAST_CONFIG" => file = Some(value),
            "DATABASE_URL" => drop(ours.entry("HOLDFAST_DATABASE__URL".to_owned()).or_insert(value)),
            "AMQP_URL" => drop(ours.entry("HOLDFAST_BROKER__URL".to_owned()).or_insert(value)),
            "REDIS_URL" => drop(ours.entry("HOLDFAST_CACHE__URL".to_owned()).or_insert(value)),
            // Standard (OpenTelemetry, OTLP exporter configuration).
            "OTEL_EXPORTER_OTLP_ENDPOINT" => {
                let _ = ours.entry("HOLDFAST_TELEMETRY__OTLP_ENDPOINT".to_owned()).or_insert(value);
            }
            // Other HOLDFAST_ variables (HOLDFAST_API, say) are for scripts.
            _ if name.starts_with("HOLDFAST_") && name.contains("__") => drop(ours.insert(name, value)),
            _ => {}
        }
    }
    let environment = Environment::with_prefix("HOLDFAST")
        .prefix_separator("_")
        .separator("__")
        .source(Some(ours.into_iter().collect::<config::Map<_, _>>()));
    let mut builder = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
    if let Some(file) = file {
        builder = builder.add_source(File::new(&file, FileFormat::Toml));
    }
    let unreadable = |error: config::ConfigError| problem("settings", error.to_string());
    let config = match builder.add_source(environment).build() {
        Ok(config) => config,
        Err(error) => return Loaded { settings: Err(unreadable(error)), shown: Vec::new() },
    };
    let mut shown = Vec::new();
    show("", &config.cache, &mut shown);
    shown.sort_by(|a, b| a.setting.cmp(&b.setting));
    let settings: Result<Settings, _> = config.try_deserialize().map_err(unreadable);
    if settings.is_err() {
        // A name that nobody knows may be a secret's, spelled wrongly.
        for given in shown.iter_mut().filter(|shown| shown.source != DEFAULT) {
            given.value = hidden(&given.value);
        }
    }
    Loaded { settings, shown }
}

impl Loaded {
    /// What was copied and not filled in.
    pub fn unfilled(&self) -> Vec<BadSetting> {
        let unfilled = self.shown.iter().filter(|shown| shown.is_unfilled);
        unfilled.map(|shown| problem(&shown.setting, format!("still says {PLACEHOLDER}"))).collect()
    }
}

impl Settings {
    /// Everything that must not go live where real money is taken, beside [`Self::problems`].
    pub fn production_problems(&self) -> Vec<BadSetting> {
        production::problems(self)
    }

    /// Everything that is wrong, for all roles, at once; empty when every role can start.
    pub fn problems(&self) -> Vec<BadSetting> {
        self.problems_of(Loads::EVERYTHING)
    }

    /// The same for a process that reads these parts; addresses of servers and plain settings are every process's.
    pub fn problems_of(&self, loads: Loads) -> Vec<BadSetting> {
        let mut problems = Vec::new();
        let urls =
            [("database.url", &self.database.url), ("broker.url", &self.broker.url), ("cache.url", &self.cache.url)];
        for (setting, url) in urls {
            if url.as_ref().is_none_or(|url| url.expose_secret().is_empty()) {
                problems.push(problem(setting, "is missing"));
            }
        }
        for (setting, url) in [("broker.url", &self.broker.url), ("cache.url", &self.cache.url)] {
            let given = url.as_ref().filter(|url| !url.expose_secret().is_empty());
            let fault = given.and_then(|url| Secured::parse(url.expose_secret()).err());
            problems.extend(fault.map(|fault| problem(setting, fault.to_string())));
        }
        if loads.ingress {
            problems.extend(self.api.problems());
            problems.extend(self.auth.problems(self.api.development));
        }
        problems.extend(self.broker.problems());
        problems.extend(self.order.problems());
        if self.overrides.second_person_fen < 0 {
            problems.push(problem("override.second_person_fen", "must not be below zero"));
        }
        problems.extend(self.retention.problems());
        if loads.personal {
            problems.extend(self.personal.load().err());
        }
        problems.extend(self.reconcile.problems());
        problems.extend(self.telemetry.problems());
        problems.extend(loads.pay.problems(&self.wechat_pay));
        if loads.official_account {
            problems.extend(self.official_account.problems());
        }
        problems.extend(self.development_problems());
        problems
    }

    /// With `api.development` anybody makes themselves an operator's token. So it goes with a simulator, and where only
    /// this machine or its private network can come.
    pub fn development_problems(&self) -> Vec<BadSetting> {
        if !self.api.development {
            return Vec::new();
        }
        let parsed = |url: &Option<String>| url.as_ref().and_then(|url| url::Url::parse(url).ok());
        let is_elsewhere = |url: &Option<String>| parsed(url).is_some_and(|url| !is_local(&url));
        let is_named_local = parsed(&self.api.public_url).is_some_and(|url| is_local(&url));
        let ip = self.api.listen.ip().to_canonical();
        let is_public = match ip {
            std::net::IpAddr::V4(ip) => !(ip.is_private() || ip.is_link_local() || ip.is_unspecified()),
            std::net::IpAddr::V6(ip) => !(ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified()),
        };
        [
            (is_elsewhere(&self.wechat_pay.base_url), "with WeChat's own address in wechat_pay.base_url"),
            (is_elsewhere(&self.official_account.base_url), "with WeChat's own address in official_account.base_url"),
            (is_elsewhere(&self.api.public_url), "with a public address in api.public_url"),
            (
                !ip.is_loopback() && (is_public || !is_named_local),
                "with an api.listen that is not loopback, unless api.public_url is an address of this machine or its \
                 private network",
            ),
        ]
        .into_iter()
        .filter(|(is_wrong, _)| *is_wrong)
        .map(|(_, with)| problem("api.development", format!("must be false {with}: it gives a token to anybody")))
        .collect()
    }
}

/// A required address, or the problem that it is missing.
///
/// # Errors
/// It is missing.
pub fn needed(setting: &str, url: &Option<SecretString>) -> Result<SecretString, BadSetting> {
    url.clone().filter(|url| !url.expose_secret().is_empty()).ok_or_else(|| problem(setting, "is missing"))
}

fn problem(setting: &str, what: impl Into<String>) -> BadSetting {
    BadSetting { setting: setting.to_owned(), what: what.into() }
}

fn show(path: &str, value: &Value, shown: &mut Vec<Shown>) {
    if let ValueKind::Table(table) = &value.kind {
        for (name, value) in table {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            show(&path, value, shown);
        }
    } else {
        let text = value.to_string();
        shown.push(Shown {
            setting: path.to_owned(),
            value: masked(path, &text),
            is_unfilled: text.contains(PLACEHOLDER),
            source: value.origin().unwrap_or(DEFAULT).to_owned(),
        });
    }
}

fn hidden(value: &str) -> String {
    format!("({} characters)", value.chars().count())
}

/// A secret shows only that it is there; an address keeps its host.
fn masked(path: &str, value: &str) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    let is_secret =
        ["secret", "key", "password"].iter().any(|word| name == *word || name.ends_with(&format!("_{word}")));
    if is_secret {
        return hidden(value);
    }
    // A password may also stand behind the question mark.
    let (address, options) = value.split_once('?').unwrap_or((value, ""));
    let options = if options.contains("password") { "?…".to_owned() } else { value[address.len()..].to_owned() };
    match (name.ends_with("url"), address.split_once("://"), address.rsplit_once('@')) {
        (true, Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}{options}"),
        (true, ..) => format!("{address}{options}"),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(environment: &[(&str, &str)]) -> Loaded {
        load(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn s2_1_an_empty_environment_lists_everything_that_is_missing_at_once() {
        let settings = with(&[]).settings.expect("the defaults are readable");
        let missing: Vec<String> = settings.problems().iter().map(|problem| problem.setting.clone()).collect();
        for setting in [
            "database.url",
            "broker.url",
            "cache.url",
            "auth.secret",
            "personal.key",
            "wechat_pay.mchid",
            "official_account.secret",
        ] {
            assert!(missing.iter().any(|missing| missing == setting), "{setting} is not among {missing:?}");
        }
    }

    #[test]
    fn the_environment_wins_and_short_names_serve() {
        let loaded = with(&[
            ("DATABASE_URL", "postgres://u:hidden@h/db"),
            ("HOLDFAST_ORDER__HOLD_SECONDS", "5"),
            ("HOLDFAST_API", "http://127.0.0.1:8080"),
        ]);
        let settings = loaded.settings.expect("readable");
        assert_eq!(settings.order.hold_seconds, 5);
        assert!(settings.database.url.is_some());
        assert!(!format!("{:?}", loaded.shown).contains("hidden"));
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let problem = with(&[("HOLDFAST_ORDER__HOLD_SECOND", "5")]).settings.expect_err("unknown");
        assert!(problem.what.contains("hold_second"), "{problem}");
    }
}
