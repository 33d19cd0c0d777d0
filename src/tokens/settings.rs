//! `auth.*`: which keys sign tokens, and what tokens must claim.

use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use super::{issuer, keys::AuthKeys, roles::RoleValues};
use crate::{
    keys::{self, Listed},
    setting::BadSetting,
};

/// HMAC-SHA-256 wants a key as long as its output (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;
/// Clocks that differ by more than five minutes are to be set, not tolerated.
const LEEWAY_SECONDS_MAX: u32 = 300;

/// How tokens are signed, and what they must claim.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    pub algorithm: TokenAlgorithm,
    /// For HS256: at least 32 bytes, shared with the issuer of the tokens.
    pub secret: Option<SecretString>,
    /// One or several of them, as [`keys::lines`] reads them. The first signs what we mint.
    pub secret_file: Option<PathBuf>,
    /// For EdDSA and RS256: the issuer's public keys, PEM, as [`keys::blocks`] reads them.
    pub public_key_file: Option<PathBuf>,
    /// The one `iss` that is accepted; an address, where it publishes its keys.
    pub issuer: Option<String>,
    /// Of a token's `aud` one must be among these; empty: any.
    pub audience: Names,
    pub leeway_seconds: u32,
    /// Where the issuer's JWK Set is, if it is not to be discovered.
    pub jwks_url: Option<String>,
    /// The issuer's JWK Set as a file.
    pub jwks_file: Option<PathBuf>,
    pub role_claim: String,
    pub roles: RoleValues,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            algorithm: TokenAlgorithm::default(),
            secret: None,
            secret_file: None,
            public_key_file: None,
            issuer: None,
            audience: Names::default(),
            leeway_seconds: 60,
            jwks_url: None,
            jwks_file: None,
            role_claim: "role".into(),
            roles: RoleValues::default(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum TokenAlgorithm {
    #[default]
    HS256,
    EdDSA,
    RS256,
}

/// Several names in one setting: a list, or a text with commas between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct Names(Vec<String>);

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Names {
    fn from(given: OneOrMany) -> Self {
        match given {
            OneOrMany::One(text) => text.split(',').collect::<Vec<_>>().into(),
            OneOrMany::Many(names) => names.iter().map(String::as_str).collect::<Vec<_>>().into(),
        }
    }
}

impl From<Vec<&str>> for Names {
    fn from(names: Vec<&str>) -> Self {
        Self(names.into_iter().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }
}

impl Names {
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

/// Where the keys of an OpenID issuer are fetched from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Published {
    /// The JWK Set itself.
    Keys(Url),
    /// The issuer's metadata, which name the JWK Set and must name this issuer.
    Metadata { url: Url, issuer: String },
}

impl AuthSettings {
    /// Everything that is wrong; empty when tokens can be checked. `plain_http`: with `api.development` keys may be fetched
    /// from any address without TLS.
    pub fn problems(&self, plain_http: bool) -> Vec<BadSetting> {
        let mut problems: Vec<BadSetting> = AuthKeys::from_settings(self).err().into_iter().collect();
        problems.extend(self.published(plain_http).err());
        problems
    }

    /// Files that are read again when they change.
    pub fn files(&self) -> Vec<PathBuf> {
        [&self.secret_file, &self.public_key_file, &self.jwks_file].into_iter().flatten().cloned().collect()
    }

    /// The keys of HS256.
    ///
    /// # Errors
    /// There is none, or one is too short.
    pub fn secrets(&self) -> Result<Vec<Listed>, BadSetting> {
        const NAME: &str = "auth.secret";
        let text = keys::text(NAME, &self.secret, &self.secret_file)?.ok_or_else(|| wrong(NAME, "is missing"))?;
        let listed = match &self.secret {
            // Given directly it is one key, whatever is in it.
            Some(_) => vec![Listed { name: None, key: text }],
            None => keys::lines(&text).map_err(|what| wrong(NAME, what))?,
        };
        let is_short = |one: &Listed| one.key.expose_secret().len() < SECRET_BYTES_MIN;
        if listed.iter().any(is_short) {
            return Err(wrong(NAME, format!("must have at least {SECRET_BYTES_MIN} bytes")));
        }
        Ok(listed)
    }

    /// The issuer's public keys in PEM.
    ///
    /// # Errors
    /// The file is missing, unreadable, or gives two keys one name.
    pub(super) fn public_keys(&self) -> Result<Vec<Listed>, BadSetting> {
        const NAME: &str = "auth.public_key_file";
        let text = keys::text("auth.public_key", &None, &self.public_key_file)?;
        keys::blocks(&text.ok_or_else(|| wrong(NAME, "is missing"))?).map_err(|what| wrong(NAME, what))
    }

    /// The text of the JWK Set in `auth.jwks_file`; `None` when no file is named.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn jwks(&self) -> Result<Option<SecretString>, BadSetting> {
        keys::text("auth.jwks", &None, &self.jwks_file)
    }

    /// Whether a secret or public key is given by hand. Without one, and without an OpenID issuer, one is missing.
    pub(super) fn has_own_keys(&self) -> bool {
        let given = self.secret.is_some() || self.secret_file.is_some() || self.public_key_file.is_some();
        given || (self.issuer().is_none() && self.jwks_url().is_none() && self.jwks_file.is_none())
    }

    pub(super) fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref().filter(|issuer| !issuer.is_empty())
    }

    fn jwks_url(&self) -> Option<&str> {
        self.jwks_url.as_deref().filter(|url| !url.is_empty())
    }

    /// # Errors
    /// The leeway is outside its range.
    pub(super) fn leeway(&self) -> Result<i64, BadSetting> {
        if self.leeway_seconds > LEEWAY_SECONDS_MAX {
            return Err(wrong("auth.leeway_seconds", format!("must be from 0 to {LEEWAY_SECONDS_MAX}")));
        }
        Ok(self.leeway_seconds.into())
    }

    /// Where the issuer's keys are fetched from; `None` when all keys are given by hand.
    ///
    /// An issuer signs tokens for many applications. So its keys, fetched or in a file, are used only with issuer and
    /// audience.
    ///
    /// # Errors
    /// An address is unusable, or issuer or audience is missing beside it.
    pub(super) fn published(&self, plain_http: bool) -> Result<Option<Published>, BadSetting> {
        let of_issuer = self.jwks_url().is_some() || self.jwks_file.is_some() || !self.has_own_keys();
        if of_issuer && self.issuer().is_none() {
            return Err(wrong("auth.issuer", "is missing: it names whose keys these are"));
        }
        if of_issuer && self.audience.as_slice().is_empty() {
            return Err(wrong("auth.audience", "is missing: the issuer signs tokens for other applications as well"));
        }
        if let Some(text) = self.jwks_url() {
            if self.jwks_file.is_some() {
                return Err(wrong("auth.jwks_url", "is given twice, also as jwks_file"));
            }
            let url = Url::parse(text).ok().filter(|url| issuer::may_be_asked(url, plain_http));
            return Ok(Some(Published::Keys(url.ok_or_else(|| wrong("auth.jwks_url", MUST_BE_HTTPS))?)));
        }
        // By hand are all of an issuer's keys, or none.
        let by_hand = self.jwks_file.is_some() || self.public_key_file.is_some();
        let Some(text) = self.issuer().filter(|_| !by_hand && !self.audience.as_slice().is_empty()) else {
            return Ok(None);
        };
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        match url {
            Some(url) if issuer::may_be_asked(&url, plain_http) && url.query().is_none() => {
                let metadata = format!("{}/.well-known/openid-configuration", text.trim_end_matches('/'));
                let url = Url::parse(&metadata).map_err(|_| wrong("auth.issuer", MUST_BE_HTTPS))?;
                Ok(Some(Published::Metadata { url, issuer: text.to_owned() }))
            }
            // A login of the house may call itself anything; its keys are then the ones given by hand.
            None if self.has_own_keys() => Ok(None),
            Some(_) | None => Err(wrong("auth.issuer", MUST_BE_HTTPS)),
        }
    }
}

const MUST_BE_HTTPS: &str =
    "must be an https address for keys to be fetched; http is accepted on this machine and with api.development";

pub(super) fn wrong(setting: &str, what: impl Into<String>) -> BadSetting {
    BadSetting { setting: setting.into(), what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret of more than thirty-two bytes";

    fn openid(issuer: &str) -> AuthSettings {
        AuthSettings { issuer: Some(issuer.into()), audience: vec!["holdfast"].into(), ..AuthSettings::default() }
    }

    fn found(settings: &AuthSettings) -> String {
        settings.problems(false).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn s2_1_a_short_secret_is_a_fault_of_the_settings() {
        let settings =
            |secret: Option<&str>| AuthSettings { secret: secret.map(Into::into), ..AuthSettings::default() };
        assert_eq!(found(&settings(None)), "auth.secret is missing");
        assert_eq!(found(&settings(Some("short"))), "auth.secret must have at least 32 bytes");
        assert_eq!(found(&settings(Some(SECRET))), "");
    }

    /// F12: An OpenID issuer needs no other key, and no key of one is used without issuer and audience.
    #[test]
    fn f12_settings_of_an_issuer_are_checked_together() {
        let https = "https://login.example.com/realms/studio";
        assert_eq!(found(&openid(https)), "");
        let metadata = |settings: &AuthSettings| match settings.published(false).unwrap() {
            Some(Published::Metadata { url, .. }) => Some(url.to_string()),
            Some(Published::Keys(_)) | None => None,
        };
        let expected = format!("{https}/.well-known/openid-configuration");
        assert_eq!(metadata(&openid(https)), Some(expected.clone()));
        assert_eq!(metadata(&openid(&format!("{https}/"))), Some(expected.clone()));
        let beside_a_secret = AuthSettings { secret: Some(SECRET.into()), ..openid(https) };
        assert_eq!(metadata(&beside_a_secret), Some(expected));
        let by_hand = AuthSettings { public_key_file: Some("issuer.pem".into()), ..openid(https) };
        assert_eq!(metadata(&by_hand), None, "keys given by hand are not looked up");
        let unnamed = AuthSettings { audience: Names::default(), ..beside_a_secret };
        assert_eq!((found(&unnamed).as_str(), metadata(&unnamed)), ("", None));

        let url = |url: &str| AuthSettings { jwks_url: Some(url.into()), ..openid(https) };
        for (settings, named) in [
            (AuthSettings { audience: Names::default(), ..openid(https) }, "auth.audience is missing"),
            (AuthSettings { issuer: None, ..url("https://login.example.com/keys") }, "auth.issuer is missing"),
            (AuthSettings { audience: Names::default(), ..url("https://a.example/k") }, "auth.audience is missing"),
            (
                AuthSettings { jwks_file: Some("k".into()), ..url("https://a.example/k") },
                "auth.jwks_url is given twice",
            ),
            (url("http://login.example.com/keys"), "auth.jwks_url must be an https address"),
            (url("file:///etc/passwd"), "auth.jwks_url must be an https address"),
            (openid("http://login.example.com"), "auth.issuer must be an https address"),
            (openid("our login"), "auth.issuer must be an https address"),
            (AuthSettings { leeway_seconds: 301, ..openid(https) }, "auth.leeway_seconds must be from 0 to 300"),
            (AuthSettings { role_claim: String::new(), ..openid(https) }, "auth.role_claim must be"),
        ] {
            assert!(found(&settings).contains(named), "{named}: {}", found(&settings));
        }
        for here in ["http://127.0.0.1:9000", "http://[::1]:9000/", "http://localhost:9000/realms/a"] {
            assert_eq!(found(&openid(here)), "", "{here}");
        }
        assert!(openid("http://login:8080").problems(true).is_empty(), "development");
    }

    #[test]
    fn several_names_are_a_list_or_a_text_with_commas() {
        let names = |given: serde_json::Value| serde_json::from_value::<Names>(given).unwrap();
        let both: Names = vec!["a", "b c"].into();
        assert_eq!(names("a, b c,".into()), both);
        assert_eq!(names(serde_json::json!(["a", "b c"])), both);
        assert_eq!(names("".into()), Names::default());
    }
}
