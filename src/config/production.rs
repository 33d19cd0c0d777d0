//! What is right on a developer's machine and wrong where real money is taken: `holdfast config check --production`.

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use super::{Settings, problem};
use crate::{domain::notification::Kind, keys, setting::BadSetting, wechat::settings::PAY_HOSTS};

/// Where the Official Account answers; the others are its other sites (Official Account, interface domain names).
const ACCOUNT_HOSTS: [&str; 5] =
    ["api.weixin.qq.com", "api2.weixin.qq.com", "sh.api.weixin.qq.com", "sz.api.weixin.qq.com", "hk.api.weixin.qq.com"];
/// Numbers that WeChat's own documentation uses, and our simulator after it.
const EXAMPLE_APPID: &str = "wx8888888888888888";
const EXAMPLE_MCHID: &str = "1900000109";
const DEFAULT_PASSWORDS: [&str; 8] = ["", "guest", "password", "postgres", "holdfast", "rabbitmq", "redis", "changeme"];

/// Everything that must not go live. What cannot start at all is told by [`Settings::problems`].
pub(super) fn problems(settings: &Settings) -> Vec<BadSetting> {
    let mut found = Vec::new();
    let mut wrong = |is_wrong: bool, setting: &str, what: &str| {
        if is_wrong {
            found.push(problem(setting, what));
        }
    };
    let Settings { api, auth, log, .. } = settings;
    wrong(api.development, "api.development", "must be false: it gives a token to anybody");
    wrong(api.phone_url.is_some(), "api.phone_url", "must not be set: it leads customers to a simulator");
    wrong(
        api.trusted_proxies.are_too_wide(),
        "api.trusted_proxies",
        "must name proxies alone: customers in these networks could say of themselves whoever they like",
    );
    let is_https = |url: &Option<String>| url.as_ref().is_some_and(|url| url.starts_with("https://"));
    wrong(!is_https(&api.public_url), "api.public_url", "must be the https address that customers use");
    for (setting, url) in [("auth.issuer", &auth.issuer), ("auth.jwks_url", &auth.jwks_url)] {
        let is_plain = url.as_ref().is_some_and(|url| url.starts_with("http://"));
        wrong(is_plain, setting, "must be https: who answers there decides who is an operator");
    }
    // What cannot be read is told by others.
    let secrets = auth.secrets().unwrap_or_default();
    let personal = settings.personal.text().ok().and_then(|text| keys::lines(&text).ok()).unwrap_or_default();
    let personal = personal.iter().filter_map(|one| STANDARD.decode(one.key.expose_secret()).ok());
    for (setting, bytes) in [
        ("auth.secret", secrets.iter().map(|one| one.key.expose_secret().as_bytes().to_vec()).collect::<Vec<_>>()),
        ("personal.key", personal.collect()),
    ] {
        wrong(bytes.iter().any(|key| is_guessable(key)), setting, "is guessable: take 32 random bytes");
    }
    wrong(
        ["debug", "trace"].iter().any(|level| log.filter.contains(level)),
        "log.filter",
        "must be info or less: more costs speed and says more than operators need",
    );

    for (setting, url, tls) in [
        ("database.url", &settings.database.url, "must have sslmode=verify-full where the server is another machine"),
        (
            "database.operators_url",
            &settings.database.operators_url,
            "must have sslmode=verify-full where the server is another machine",
        ),
        ("broker.url", &settings.broker.url, "must be amqps:// where the server is another machine"),
        ("cache.url", &settings.cache.url, "must be rediss:// where the server is another machine"),
    ] {
        let Some(url) = url.as_ref().and_then(parsed) else { continue };
        let password = url.password().unwrap_or_default();
        wrong(DEFAULT_PASSWORDS.contains(&password), setting, "has no password, or one that everybody knows");
        wrong(!is_here(&url) && !is_encrypted(&url), setting, tls);
    }

    let pay = &settings.wechat_pay;
    wrong(!is_at(&pay.base_url, &PAY_HOSTS), "wechat_pay.base_url", "must be https://api.mch.weixin.qq.com");
    wrong(pay.appid.as_deref() == Some(EXAMPLE_APPID), "wechat_pay.appid", "is the one of WeChat's documentation");
    wrong(pay.mchid.as_deref() == Some(EXAMPLE_MCHID), "wechat_pay.mchid", "is the one of WeChat's documentation");
    for (setting, url) in
        [("wechat_pay.notify_url", &pay.notify_url), ("wechat_pay.refund_notify_url", &pay.refund_notify_url)]
    {
        wrong(url.is_some() && !is_https(url), setting, "must be https");
    }
    wrong(
        pay.merchant_certificate_file.is_none(),
        "wechat_pay.merchant_certificate_file",
        "must be given, so that key and serial are known to belong together",
    );
    let account = &settings.official_account;
    wrong(!is_at(&account.base_url, &ACCOUNT_HOSTS), "official_account.base_url", "must be https://api.weixin.qq.com");
    wrong(
        account.appid.as_deref() == Some(EXAMPLE_APPID),
        "official_account.appid",
        "is the one of WeChat's documentation",
    );
    for kind in Kind::ALL {
        let setting = format!("official_account.templates.{}", kind.as_str());
        wrong(account.templates.of(kind).is_none(), &setting, "is missing: customers would not be told");
    }
    found
}

fn parsed(url: &SecretString) -> Option<Url> {
    Url::parse(url.expose_secret()).ok()
}

/// The server is on this machine.
fn is_here(url: &Url) -> bool {
    match url.host() {
        None => true,
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
        }
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
    }
}

fn is_encrypted(url: &Url) -> bool {
    match url.scheme() {
        "amqps" | "rediss" => true,
        _ => url.query_pairs().any(|(name, value)| name == "sslmode" && value == "verify-full"),
    }
}

fn is_at(url: &Option<String>, hosts: &[&str]) -> bool {
    let url = url.as_ref().and_then(|url| Url::parse(url).ok());
    url.is_some_and(|url| url.scheme() == "https" && url.host_str().is_some_and(|host| hosts.contains(&host)))
}

/// Not 32 random bytes, however they are written: those have at least ten different letters (hex has 16 at most), and
/// spell nothing.
fn is_guessable(secret: &[u8]) -> bool {
    const WORDS: [&str; 7] = ["secret", "password", "changeme", "example", "holdfast", "0123456789", "abcdef0123"];
    let different: std::collections::BTreeSet<u8> = secret.iter().copied().collect();
    let text = String::from_utf8_lossy(secret).to_lowercase();
    different.len() < 10 || WORDS.iter().any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crate::config::load;

    const GOOD: [(&str, &str); 16] = [
        ("HOLDFAST_API__PUBLIC_URL", "https://book.example.com"),
        ("HOLDFAST_AUTH__SECRET", "q7Vn2yXo9BfLr4Tz1KdW8mGs6HcJp3Ua"),
        ("HOLDFAST_PERSONAL__KEY", "n1GZ0p8LkT3xVb6YqRc2WmHs9JdFu4AoEiTg7KyXvQw="),
        ("DATABASE_URL", "postgres://app:Lr4Tz1KdW8@db.internal/holdfast?sslmode=verify-full&sslrootcert=/etc/ca.pem"),
        ("AMQP_URL", "amqps://app:Lr4Tz1KdW8@mq.internal/holdfast"),
        ("REDIS_URL", "redis://:Lr4Tz1KdW8@127.0.0.1:6379/0"),
        ("HOLDFAST_WECHAT_PAY__BASE_URL", "https://api.mch.weixin.qq.com"),
        ("HOLDFAST_WECHAT_PAY__APPID", "wx1234567890abcdef"),
        ("HOLDFAST_WECHAT_PAY__MCHID", "1612345678"),
        ("HOLDFAST_WECHAT_PAY__MERCHANT_CERTIFICATE_FILE", "/etc/holdfast/apiclient_cert.pem"),
        ("HOLDFAST_WECHAT_PAY__NOTIFY_URL", "https://book.example.com/v1/wechat/notify/payments"),
        ("HOLDFAST_OFFICIAL_ACCOUNT__BASE_URL", "https://api.weixin.qq.com"),
        ("HOLDFAST_OFFICIAL_ACCOUNT__APPID", "wx1234567890abcdef"),
        ("HOLDFAST_OFFICIAL_ACCOUNT__TEMPLATES__BOOKING_CONFIRMED", "a"),
        ("HOLDFAST_OFFICIAL_ACCOUNT__TEMPLATES__BOOKING_FAILED", "b"),
        ("HOLDFAST_OFFICIAL_ACCOUNT__TEMPLATES__HOLD_LAPSED", "c"),
    ];

    fn wrong_in(changed: &[(&str, &str)]) -> Vec<String> {
        let more = ["ORDER_EXPIRED", "PAYMENT_RECEIVED", "REFUNDED", "WAITLIST_OFFER"]
            .map(|kind| (format!("HOLDFAST_OFFICIAL_ACCOUNT__TEMPLATES__{kind}"), "d".to_owned()));
        let given = GOOD.iter().chain(changed).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment: BTreeMap<String, String> = given.chain(more).collect();
        let settings = load(environment).settings.expect("readable");
        settings.production_problems().into_iter().map(|problem| problem.setting).collect()
    }

    #[test]
    fn s2_1_what_must_not_go_live_is_told_setting_by_setting() {
        assert_eq!(wrong_in(&[]), Vec::<String>::new());
        for (name, value, setting) in [
            ("HOLDFAST_API__DEVELOPMENT", "true", "api.development"),
            ("HOLDFAST_API__PHONE_URL", "http://127.0.0.1:8090/phone", "api.phone_url"),
            ("HOLDFAST_API__PUBLIC_URL", "http://book.example.com", "api.public_url"),
            ("HOLDFAST_API__TRUSTED_PROXIES", "10.0.0.1, 0.0.0.0/0", "api.trusted_proxies"),
            ("HOLDFAST_AUTH__SECRET", "this is a secret of 32 bytes or so", "auth.secret"),
            ("HOLDFAST_AUTH__SECRET", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "auth.secret"),
            ("HOLDFAST_AUTH__ISSUER", "http://127.0.0.1:9000", "auth.issuer"),
            ("HOLDFAST_AUTH__JWKS_URL", "http://127.0.0.1:9000/keys", "auth.jwks_url"),
            ("HOLDFAST_PERSONAL__KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "personal.key"),
            ("HOLDFAST_LOG__FILTER", "info,holdfast=debug", "log.filter"),
            ("DATABASE_URL", "postgres://app:Lr4Tz1KdW8@db.internal/holdfast?sslmode=require", "database.url"),
            ("DATABASE_URL", "postgres://postgres:postgres@localhost/holdfast", "database.url"),
            ("AMQP_URL", "amqp://app:Lr4Tz1KdW8@mq.internal/holdfast", "broker.url"),
            ("AMQP_URL", "amqp://guest:guest@127.0.0.1/holdfast", "broker.url"),
            ("REDIS_URL", "redis://127.0.0.1:6379/0", "cache.url"),
            ("REDIS_URL", "redis://:Lr4Tz1KdW8@cache.internal:6379/0", "cache.url"),
            ("HOLDFAST_WECHAT_PAY__BASE_URL", "http://127.0.0.1:8090", "wechat_pay.base_url"),
            ("HOLDFAST_WECHAT_PAY__BASE_URL", "https://api.mch.weixin.qq.com.evil.example", "wechat_pay.base_url"),
            ("HOLDFAST_WECHAT_PAY__APPID", "wx8888888888888888", "wechat_pay.appid"),
            ("HOLDFAST_WECHAT_PAY__MCHID", "1900000109", "wechat_pay.mchid"),
            (
                "HOLDFAST_WECHAT_PAY__NOTIFY_URL",
                "http://book.example.com/v1/wechat/notify/payments",
                "wechat_pay.notify_url",
            ),
            ("HOLDFAST_OFFICIAL_ACCOUNT__BASE_URL", "http://127.0.0.1:8090", "official_account.base_url"),
        ] {
            assert_eq!(wrong_in(&[(name, value)]), [setting], "{name}={value}");
        }
    }

    /// What docs/install.md begins with says all that is needed, and lacks nothing but what only its owner knows.
    #[test]
    fn s2_1_the_settings_to_begin_with_lack_only_what_their_owner_knows() {
        // As the shell of an operator's commands reads them.
        let text = [include_str!("../../deploy/settings.env"), include_str!("../../deploy/roles/desk.env")].concat();
        let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        let given: Vec<(String, String)> =
            lines.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect();
        let loaded = load(given.clone());
        let unfilled = loaded.unfilled();
        assert_eq!(unfilled.len(), given.iter().filter(|(_, value)| value.contains("CHANGE_ME")).count());

        let fill = |value: String| {
            value.replace("https://CHANGE_ME", "https://book.example.com").replace("CHANGE_ME", "Lr4Tz1KdW8")
        };
        let filled = given.into_iter().map(|(name, value)| (name, fill(value)));
        let loaded = load(filled);
        assert!(loaded.unfilled().is_empty());
        let settings = loaded.settings.expect("every name is a setting's");
        assert!(settings.production_problems().is_empty());
        for problem in settings.problems() {
            let is_owners = ["cannot be read", "must be wx", "must be 8", "must be 40", "must be PUB_KEY_ID"];
            let what = problem.to_string();
            assert!(is_owners.iter().any(|words| what.contains(words)), "{what}");
        }
    }
}
