//! Which secret each kind of process needs. The one source for `holdfast config check --role`, for `holdfast accounts
//! ROLE --secrets`, and for the test that compares the deployment files with it (`tests/it/rights_files.rs`).

use super::{WorkerName, role::Role};
use crate::{
    config::{Loads, PayUse, Settings},
    tokens::TokenAlgorithm,
};

/// A value that opens something to its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Secret {
    /// The role's account at PostgreSQL.
    Database,
    /// The account at PostgreSQL for operators' acts.
    OperatorsDatabase,
    /// The role's account at RabbitMQ.
    Broker,
    Cache,
    /// Signs and checks tokens (HS256).
    Tokens,
    /// Of the ingress's own certificate.
    IngressKey,
    /// Seals openids in the database.
    Personal,
    /// Signs requests to WeChat Pay.
    MerchantKey,
    /// Opens callbacks and platform certificates.
    ApiV3Key,
    OfficialAccount,
}

/// Whether a role needs a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Always,
    When(Condition),
    Never,
}

/// A choice in the settings that decides whether a secret is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// `auth.algorithm` is HS256.
    SharedTokenSecret,
    /// The ingress speaks TLS by itself.
    IngressTls,
    /// `wechat_pay.platform_certificates`: WeChat sends them sealed with the APIv3 key.
    PlatformCertificates,
}

impl Condition {
    pub fn holds(self, settings: &Settings) -> bool {
        match self {
            Self::SharedTokenSecret => settings.auth.algorithm == TokenAlgorithm::HS256,
            Self::IngressTls => settings.api.certificate_file.is_some(),
            Self::PlatformCertificates => settings.wechat_pay.platform_certificates,
        }
    }

    /// As people read it, after "when".
    pub fn words(self) -> &'static str {
        match self {
            Self::SharedTokenSecret => "auth.algorithm is HS256",
            Self::IngressTls => "api.certificate_file is given",
            Self::PlatformCertificates => "wechat_pay.platform_certificates is true",
        }
    }
}

impl Need {
    pub fn holds(self, settings: &Settings) -> bool {
        match self {
            Self::Always => true,
            Self::When(condition) => condition.holds(settings),
            Self::Never => false,
        }
    }
}

impl Secret {
    pub const ALL: [Self; 10] = [
        Self::Database,
        Self::OperatorsDatabase,
        Self::Broker,
        Self::Cache,
        Self::Tokens,
        Self::IngressKey,
        Self::Personal,
        Self::MerchantKey,
        Self::ApiV3Key,
        Self::OfficialAccount,
    ];

    /// The settings that carry it, directly or as the path of a file. Any of them may.
    pub fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Database => &["database.url"],
            Self::OperatorsDatabase => &["database.operators_url"],
            Self::Broker => &["broker.url"],
            Self::Cache => &["cache.url"],
            Self::Tokens => &["auth.secret", "auth.secret_file"],
            Self::IngressKey => &["api.key_file"],
            Self::Personal => &["personal.key", "personal.key_file"],
            Self::MerchantKey => &["wechat_pay.merchant_private_key", "wechat_pay.merchant_private_key_file"],
            Self::ApiV3Key => &[
                "wechat_pay.apiv3_key",
                "wechat_pay.apiv3_key_file",
                "wechat_pay.previous_apiv3_key",
                "wechat_pay.previous_apiv3_key_file",
            ],
            Self::OfficialAccount => &["official_account.secret", "official_account.secret_file"],
        }
    }
}

impl Role {
    pub fn needs(self, secret: Secret) -> Need {
        use WorkerName::{Expiry, Notifications, Payments, Prepay, Reconcile, Refunds, Seats};
        let only = |needed: bool| if needed { Need::Always } else { Need::Never };
        let worker = match self {
            Self::Api => None,
            Self::Worker(worker) => Some(worker),
        };
        match secret {
            Secret::Database | Secret::Broker | Secret::Cache => Need::Always,
            Secret::OperatorsDatabase => only(self == Self::Api),
            Secret::Tokens => worker.map_or(Need::When(Condition::SharedTokenSecret), |_| Need::Never),
            Secret::IngressKey => worker.map_or(Need::When(Condition::IngressTls), |_| Need::Never),
            Secret::Personal => match worker {
                None | Some(Seats | Prepay | Notifications | Reconcile) => Need::Always,
                Some(Payments | Expiry | Refunds) => Need::Never,
            },
            Secret::MerchantKey => match worker {
                // The ingress asks WeChat when an operator wants its word.
                None | Some(Prepay | Expiry | Refunds | Reconcile) => Need::Always,
                Some(Seats | Payments | Notifications) => Need::Never,
            },
            Secret::ApiV3Key => match worker {
                None => Need::Always,
                Some(Prepay | Expiry | Refunds | Reconcile) => Need::When(Condition::PlatformCertificates),
                Some(Seats | Payments | Notifications) => Need::Never,
            },
            Secret::OfficialAccount => only(worker == Some(Notifications)),
        }
    }

    /// The parts of the settings that its start reads.
    pub fn loads(self) -> Loads {
        let needs = |secret| self.needs(secret) != Need::Never;
        let pay = match self {
            Self::Api => PayUse::CallsAndCallbacks,
            Self::Worker(WorkerName::Payments) => PayUse::Numbers,
            Self::Worker(_) if needs(Secret::MerchantKey) => PayUse::Calls,
            Self::Worker(_) => PayUse::Nothing,
        };
        Loads {
            ingress: self == Self::Api,
            personal: needs(Secret::Personal),
            pay,
            official_account: needs(Secret::OfficialAccount),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// F5: a secret that a new setting brings is in the list, or is named here as none.
    #[test]
    fn f5_every_setting_that_looks_secret_is_known() {
        // What anybody may know, or what carries no login.
        const PUBLIC: [&str; 12] = [
            "api.public_url",
            "api.phone_url",
            "auth.public_key_file",
            "auth.jwks_url",
            "wechat_pay.base_url",
            "wechat_pay.notify_url",
            "wechat_pay.refund_notify_url",
            "wechat_pay.public_key",
            "wechat_pay.public_key_file",
            "wechat_pay.previous_public_key",
            "wechat_pay.previous_public_key_file",
            "official_account.base_url",
        ];
        let known: BTreeSet<&str> = Secret::ALL.iter().flat_map(|secret| secret.settings()).copied().collect();
        let mut section = String::new();
        let mut seen = BTreeSet::new();
        for line in include_str!("../holdfast.toml").lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']').to_owned();
            }
            let Some((name, _)) = line.trim_start_matches("# ").split_once(" = ") else { continue };
            if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_') {
                continue;
            }
            let bare = name.trim_end_matches("_file");
            let looks_secret = ["secret", "key", "password", "token", "url"]
                .iter()
                .any(|word| bare == *word || bare.ends_with(&format!("_{word}")));
            let setting = format!("{section}.{name}");
            if looks_secret && !PUBLIC.contains(&setting.as_str()) {
                assert!(known.contains(setting.as_str()), "{setting} is a secret of no role");
            }
            seen.insert(setting);
        }
        for setting in known {
            assert!(seen.contains(setting), "{setting} is no setting");
        }
    }

    /// F5: an account that a role has is a secret that it needs.
    #[test]
    fn f5_accounts_and_secrets_agree() {
        for role in Role::all() {
            let operators = role.accounts().iter().any(|account| account.setting.ends_with("OPERATORS_URL"));
            assert_eq!(operators, role.needs(Secret::OperatorsDatabase) == Need::Always, "{}", role.name());
        }
    }
}
