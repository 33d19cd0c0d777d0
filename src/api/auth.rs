//! Who calls: a JSON Web Token, checked with the keys and the one algorithm that are configured.

use std::{fmt, path::PathBuf, str::FromStr};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{
    Api,
    problem::{Kind, Problem},
};
use crate::{
    domain::{calendar::Moment, ids::UserId, message::Openid},
    keys::{self, Listed},
    setting::BadSetting,
};

/// HMAC-SHA-256 wants a key as long as its output (RFC 7518, 3.2).
const SECRET_BYTES_MIN: usize = 32;

/// How tokens are signed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    pub algorithm: TokenAlgorithm,
    /// For HS256: at least 32 bytes, shared with whoever issues the tokens.
    pub secret: Option<SecretString>,
    /// One or several of them, as [`keys::lines`] reads them. The first signs what we mint.
    pub secret_file: Option<PathBuf>,
    /// For EdDSA and RS256: the issuer's public keys, PEM, as [`keys::blocks`] reads them.
    pub public_key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum TokenAlgorithm {
    #[default]
    HS256,
    EdDSA,
    RS256,
}

impl AuthSettings {
    /// Everything that is wrong; empty when tokens can be checked.
    pub fn problems(&self) -> Vec<BadSetting> {
        AuthKeys::from_settings(self).err().into_iter().collect()
    }

    /// Files that are read again when they change.
    pub fn files(&self) -> Vec<PathBuf> {
        [&self.secret_file, &self.public_key_file].into_iter().flatten().cloned().collect()
    }

    /// The keys of HS256.
    ///
    /// # Errors
    /// There is none, or one is too short.
    pub fn secrets(&self) -> Result<Vec<Listed>, BadSetting> {
        const NAME: &str = "auth.secret";
        let wrong = |what: String| BadSetting { setting: NAME.into(), what };
        let text = keys::text(NAME, &self.secret, &self.secret_file)?.ok_or_else(|| wrong("is missing".into()))?;
        let listed = match &self.secret {
            // Given directly it is one key, whatever is in it.
            Some(_) => vec![Listed { name: None, key: text }],
            None => keys::lines(&text).map_err(|what| wrong(what.into()))?,
        };
        let is_short = |one: &Listed| one.key.expose_secret().len() < SECRET_BYTES_MIN;
        if listed.iter().any(is_short) {
            return Err(wrong(format!("must have at least {SECRET_BYTES_MIN} bytes")));
        }
        Ok(listed)
    }

    fn public_keys(&self) -> Result<Vec<Accepted>, BadSetting> {
        let wrong = |what: String| BadSetting { setting: "auth.public_key_file".into(), what };
        let text = keys::text("auth.public_key", &None, &self.public_key_file)?;
        let text = text.ok_or_else(|| wrong("is missing".into()))?;
        let listed = keys::blocks(&text).map_err(|what| wrong(what.into()))?;
        let read = listed.into_iter().map(|Listed { name, key }| {
            let pem = key.expose_secret().as_bytes();
            let key = match self.algorithm {
                TokenAlgorithm::EdDSA => DecodingKey::from_ed_pem(pem),
                TokenAlgorithm::HS256 | TokenAlgorithm::RS256 => DecodingKey::from_rsa_pem(pem),
            };
            let key = key.map_err(|_| wrong(format!("is no {:?} public key in PEM", self.algorithm)))?;
            Ok(Accepted { name, key })
        });
        read.collect()
    }
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintFault {
    #[error("the configured key can only check tokens, not make them")]
    NoSecret,
    #[error("the token could not be signed")]
    Signing,
    #[error("such a token would be refused: {0}")]
    Claims(&'static str),
}

/// Checks tokens, and makes them when the key is a shared secret.
pub struct AuthKeys {
    /// At least one; any of them may have signed.
    accepted: Vec<Accepted>,
    mint: Option<EncodingKey>,
    validation: Validation,
}

struct Accepted {
    name: Option<String>,
    key: DecodingKey,
}

impl fmt::Debug for AuthKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuthKeys").field(&self.names()).finish()
    }
}

impl AuthKeys {
    /// # Errors
    /// The one setting that is missing or wrong. Reads the key files.
    pub fn from_settings(settings: &AuthSettings) -> Result<Self, BadSetting> {
        let (accepted, mint, algorithm) = match settings.algorithm {
            TokenAlgorithm::HS256 => {
                let secrets = settings.secrets()?;
                let bytes = |one: &Listed| one.key.expose_secret().as_bytes().to_vec();
                let mint = secrets.first().map(|one| EncodingKey::from_secret(&bytes(one)));
                let accepted =
                    |one: &Listed| Accepted { name: one.name.clone(), key: DecodingKey::from_secret(&bytes(one)) };
                (secrets.iter().map(accepted).collect(), mint, Algorithm::HS256)
            }
            TokenAlgorithm::EdDSA => (settings.public_keys()?, None, Algorithm::EdDSA),
            TokenAlgorithm::RS256 => (settings.public_keys()?, None, Algorithm::RS256),
        };
        let mut validation = Validation::new(algorithm);
        // `exp` must be there, but is compared below, with the clock that was passed in.
        validation.validate_exp = false;
        Ok(Self { accepted, mint, validation })
    }

    /// The names of all keys, in their order; a token's `kid` may say one.
    pub fn names(&self) -> Vec<Option<&str>> {
        self.accepted.iter().map(|one| one.name.as_deref()).collect()
    }

    /// Makes a token that is good until `expires`.
    pub fn mint(
        &self,
        user: &str,
        role: Role,
        openid: Option<&str>,
        expires: OffsetDateTime,
    ) -> Result<String, MintFault> {
        let key = self.mint.as_ref().ok_or(MintFault::NoSecret)?;
        let claims = Claims {
            sub: user.to_owned(),
            role,
            exp: expires.unix_timestamp(),
            nbf: None,
            openid: openid.map(str::to_owned),
        };
        let kid = self.accepted.first().and_then(|one| one.name.clone());
        let header = Header { kid, ..Header::new(Algorithm::HS256) };
        let token = jsonwebtoken::encode(&header, &claims, key).map_err(|_| MintFault::Signing)?;
        // What we would refuse, we do not hand out: the caller hears what is wrong with the user or openid.
        self.check(&token, OffsetDateTime::UNIX_EPOCH).map_err(MintFault::Claims)?;
        Ok(token)
    }

    /// Whose token this is; otherwise why it is refused, without quoting it.
    pub fn check(&self, token: &str, now: OffsetDateTime) -> Result<Caller, &'static str> {
        let claims = self.verified(token)?;
        // An end beyond the calendar is its end: some issuers write one that never comes.
        let expires_at = Moment::nearest_of_seconds(claims.exp).get();
        if expires_at <= now {
            return Err("The token has expired.");
        }
        if claims.nbf.is_some_and(|nbf| nbf > now.unix_timestamp()) {
            return Err("The token is not valid yet.");
        }
        let user =
            UserId::try_from(claims.sub).map_err(|_| "The token's sub is not 1 to 128 visible ASCII characters.")?;
        let openid = claims.openid.map(|openid| {
            let fits = (1..=128).contains(&openid.len());
            if fits && openid.bytes().all(|byte| byte.is_ascii_graphic()) {
                Ok(Openid(openid))
            } else {
                Err("The token's openid is not 1 to 128 visible ASCII characters.")
            }
        });
        Ok(Caller { user, role: claims.role, openid: openid.transpose()?, expires_at })
    }

    /// What a token claims, once one of the keys is known to have signed it: the one that its `kid` names, or any that
    /// has no name or is not asked for by one.
    fn verified(&self, token: &str) -> Result<Claims, &'static str> {
        use jsonwebtoken::errors::ErrorKind as E;
        let kid = jsonwebtoken::decode_header(token).ok().and_then(|header| header.kid);
        let named = self.accepted.iter().find(|one| kid.is_some() && one.name == kid);
        let candidates = match named {
            Some(named) => std::slice::from_ref(named),
            None => &self.accepted,
        };
        let mut refused = E::InvalidSignature;
        for one in candidates.iter().filter(|one| named.is_some() || kid.is_none() || one.name.is_none()) {
            match jsonwebtoken::decode::<Claims>(token, &one.key, &self.validation) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => refused = error.into_kind(),
            }
            // Any other fault is the token's, whoever looks.
            if !matches!(refused, E::InvalidSignature) {
                break;
            }
        }
        Err(match refused {
            E::InvalidSignature => "The token's signature does not match.",
            E::InvalidAlgorithm | E::InvalidAlgorithmName => {
                "The token is signed with another algorithm than the configured one."
            }
            E::Json(_) | E::MissingRequiredClaim(_) => "The token lacks a usable sub, role or exp.",
            _ => "The token is not a JSON Web Token.",
        })
    }
}

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Books, and sees their own orders.
    Customer,
    /// Looks at everything operators see.
    Viewer,
    Operator,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Customer, Self::Viewer, Self::Operator];
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "customer" => Ok(Self::Customer),
            "viewer" => Ok(Self::Viewer),
            "operator" => Ok(Self::Operator),
            _ => Err("a role is customer, viewer or operator"),
        }
    }
}

/// Other claims (`iat`, `iss`, …) may be there and mean nothing to us.
#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    role: Role,
    exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    openid: Option<String>,
}

/// Whoever sent a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub user: UserId,
    pub role: Role,
    pub openid: Option<Openid>,
    pub expires_at: OffsetDateTime,
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let refused = |why| Problem::new(Kind::Unauthenticated).detail(why);
        let token = bearer(&parts.headers).map_err(refused)?;
        api.auth.get().check(token, (api.now)()).map_err(refused)
    }
}

/// A caller with the role `customer`.
pub struct Customer(pub Caller);

impl FromRequestParts<Api> for Customer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, api).await?;
        match caller.role {
            Role::Customer => Ok(Self(caller)),
            Role::Viewer | Role::Operator => Err(Problem::new(Kind::Forbidden).detail("Only customers do this.")),
        }
    }
}

/// A caller who may look at everything: the role `viewer` or `operator`.
pub struct Viewer(pub Caller);

impl FromRequestParts<Api> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, api).await?;
        match caller.role {
            Role::Viewer | Role::Operator => Ok(Self(caller)),
            Role::Customer => Err(Problem::new(Kind::Forbidden).detail("Only operators and viewers see this.")),
        }
    }
}

/// A caller who may act for the house: the role `operator`.
pub struct Operator(pub Caller);

impl FromRequestParts<Api> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, api).await?;
        match caller.role {
            Role::Operator => Ok(Self(caller)),
            Role::Viewer => Err(Problem::new(Kind::Forbidden).detail("Viewers only look.")),
            Role::Customer => Err(Problem::new(Kind::Forbidden).detail("Only operators do this.")),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, &'static str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or("The Authorization header is missing.")?;
    if values.next().is_some() {
        return Err("There is more than one Authorization header.");
    }
    let (scheme, token) = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or("The Authorization header is not \"Bearer <token>\".")?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(token.trim())
    } else {
        Err("The Authorization header is not \"Bearer <token>\".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use time::{Duration, macros::datetime};

    fn keys(secret: &str) -> AuthKeys {
        AuthKeys::from_settings(&AuthSettings { secret: Some(secret.into()), ..AuthSettings::default() }).unwrap()
    }

    const SECRET: &str = "a secret of more than thirty-two bytes";
    const NOW: OffsetDateTime = datetime!(2026-12-01 08:00 UTC);

    fn ann() -> UserId {
        UserId::try_from("ann".to_owned()).unwrap()
    }

    #[test]
    fn s6_4_a_minted_token_is_taken_until_it_expires() {
        let keys = keys(SECRET);
        let token = keys.mint("ann", Role::Customer, Some("o-1"), NOW + Duration::HOUR).unwrap();
        let caller = keys.check(&token, NOW).unwrap();
        assert_eq!((caller.user, caller.openid), (ann(), Some(Openid("o-1".into()))));
        assert!(keys.check(&token, NOW + Duration::HOUR).is_err());
    }

    #[test]
    fn s6_4_foreign_unsigned_and_mangled_tokens_are_refused() {
        let foreign = keys("another secret of thirty-two bytes or more")
            .mint("ann", Role::Operator, None, NOW + Duration::HOUR)
            .unwrap();
        // {"alg":"none"} . {"sub":"ann","role":"operator","exp":9999999999}
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJyb2xlIjoib3BlcmF0b3IiLCJleHAiOjk5OTk5OTk5OTl9.";
        for token in [foreign.as_str(), unsigned, "", "a.b.c", "é"] {
            assert!(keys(SECRET).check(token, NOW).is_err(), "{token:?}");
        }
    }

    #[test]
    fn s6_4_a_token_without_exp_role_or_usable_sub_is_refused() {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        for claims in [
            serde_json::json!({"sub": "ann", "role": "customer"}),
            serde_json::json!({"sub": "ann", "exp": 4_000_000_000_i64}),
            serde_json::json!({"sub": "ann", "role": "root", "exp": 4_000_000_000_i64}),
            serde_json::json!({"sub": "", "role": "customer", "exp": 4_000_000_000_i64}),
            serde_json::json!({"sub": "a b", "role": "customer", "exp": 4_000_000_000_i64}),
            serde_json::json!({"sub": "ann", "role": "customer", "exp": 4_000_000_000_i64, "nbf": 3_900_000_000_i64}),
            serde_json::json!({"sub": "ann", "role": "customer", "exp": 4_000_000_000_i64, "openid": "o\n"}),
        ] {
            let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
            assert!(keys(SECRET).check(&token, NOW).is_err(), "{claims}");
        }
    }

    /// The keys of a file that lists them.
    fn listed(lines: &str) -> AuthKeys {
        let name = format!("auth-{}-{:x}", std::process::id(), lines.len());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, lines).unwrap();
        let settings = AuthSettings { secret_file: Some(file.clone()), ..AuthSettings::default() };
        let keys = AuthKeys::from_settings(&settings).unwrap();
        std::fs::remove_file(file).unwrap();
        keys
    }

    #[test]
    fn s6_4_tokens_of_every_listed_key_are_taken_and_the_first_signs() {
        const OLD: &str = "an-older-secret-of-more-than-thirty-two-bytes";
        const NEW: &str = "a-newer-secret-of-more-than-thirty-two-bytes";
        let of = |keys: &AuthKeys| keys.mint("ann", Role::Customer, None, NOW + Duration::HOUR).unwrap();
        let takes = |keys: &AuthKeys, token: &str| keys.check(token, NOW).is_ok();
        let (old, both) = (of(&keys(OLD)), listed(&format!("may {NEW}\n{OLD}\n")));
        let new = of(&both);
        assert!(takes(&both, &old) && takes(&both, &new));
        assert_eq!(jsonwebtoken::decode_header(&new).unwrap().kid.as_deref(), Some("may"));
        let (only_new, only_old) = (listed(&format!("may {NEW}")), listed(&format!("april {OLD}")));
        assert!(takes(&only_new, &new) && !takes(&only_new, &old));
        assert!(takes(&only_old, &old), "a token without a kid is tried with every key");
        assert!(!takes(&only_old, &new), "a kid that nobody has is tried with no named key");
        let misnamed = listed(&format!("may {OLD}\nspare {NEW}"));
        assert!(!takes(&misnamed, &new), "the key that a kid names is the only one");
    }

    #[test]
    fn s2_1_a_short_secret_is_a_fault_of_the_settings() {
        let settings =
            |secret: Option<&str>| AuthSettings { secret: secret.map(Into::into), ..AuthSettings::default() };
        let problem = |secret| settings(secret).problems().remove(0).to_string();
        assert_eq!(problem(None), "auth.secret is missing");
        assert_eq!(problem(Some("short")), "auth.secret must have at least 32 bytes");
        assert!(settings(Some(SECRET)).problems().is_empty());
    }

    proptest! {
        #[test]
        fn any_text_as_a_token_is_answered(token in ".{0,200}") {
            let _ = keys(SECRET).check(&token, NOW);
        }
    }
}
