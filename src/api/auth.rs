//! Who calls: a JSON Web Token, checked with the one key and algorithm that are configured.

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
    domain::{ids::UserId, message::Openid},
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
    /// For EdDSA and RS256: the issuer's public key, PEM.
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
    check: DecodingKey,
    mint: Option<EncodingKey>,
    validation: Validation,
}

impl fmt::Debug for AuthKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthKeys(…)")
    }
}

impl AuthKeys {
    /// # Errors
    /// The one setting that is missing or wrong. Reads the key file.
    pub fn from_settings(settings: &AuthSettings) -> Result<Self, BadSetting> {
        let wrong = |setting: &str, what: String| BadSetting { setting: setting.into(), what };
        let algorithm = settings.algorithm;
        let (check, mint, jwt_algorithm) = match algorithm {
            TokenAlgorithm::HS256 => {
                let secret = settings.secret.as_ref().map(|secret| secret.expose_secret().as_bytes());
                let secret = secret.ok_or_else(|| wrong("auth.secret", "is missing".into()))?;
                if secret.len() < SECRET_BYTES_MIN {
                    let what = format!("must have at least {SECRET_BYTES_MIN} bytes");
                    return Err(wrong("auth.secret", what));
                }
                let mint = EncodingKey::from_secret(secret);
                (DecodingKey::from_secret(secret), Some(mint), Algorithm::HS256)
            }
            TokenAlgorithm::EdDSA | TokenAlgorithm::RS256 => {
                let wrong = |what| wrong("auth.public_key_file", what);
                let file = settings.public_key_file.as_ref().ok_or_else(|| wrong("is missing".into()))?;
                let pem = std::fs::read(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
                let (key, jwt_algorithm) = if algorithm == TokenAlgorithm::EdDSA {
                    (DecodingKey::from_ed_pem(&pem), Algorithm::EdDSA)
                } else {
                    (DecodingKey::from_rsa_pem(&pem), Algorithm::RS256)
                };
                let key = key.map_err(|_| wrong(format!("is no {algorithm:?} public key in PEM")))?;
                (key, None, jwt_algorithm)
            }
        };
        let mut validation = Validation::new(jwt_algorithm);
        // `exp` must be there, but is compared below, with the clock that was passed in.
        validation.validate_exp = false;
        Ok(Self { check, mint, validation })
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
        let token =
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, key).map_err(|_| MintFault::Signing)?;
        // What we would refuse, we do not hand out: the caller hears what is wrong with the user or openid.
        self.check(&token, OffsetDateTime::UNIX_EPOCH).map_err(MintFault::Claims)?;
        Ok(token)
    }

    /// Whose token this is; otherwise why it is refused, without quoting it.
    pub fn check(&self, token: &str, now: OffsetDateTime) -> Result<Caller, &'static str> {
        use jsonwebtoken::errors::ErrorKind as E;
        let claims = jsonwebtoken::decode::<Claims>(token, &self.check, &self.validation)
            .map_err(|error| match error.kind() {
                E::InvalidSignature => "The token's signature does not match.",
                E::InvalidAlgorithm | E::InvalidAlgorithmName => {
                    "The token is signed with another algorithm than the configured one."
                }
                E::Json(_) | E::MissingRequiredClaim(_) => "The token lacks a usable sub, role or exp.",
                _ => "The token is not a JSON Web Token.",
            })?
            .claims;
        let expires_at = OffsetDateTime::from_unix_timestamp(claims.exp)
            .map_err(|_| "The token lacks a usable sub, role or exp.")?;
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
        api.auth.check(token, (api.now)()).map_err(refused)
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
    use time::Duration;

    fn keys(secret: &str) -> AuthKeys {
        AuthKeys::from_settings(&AuthSettings { secret: Some(secret.into()), ..AuthSettings::default() }).unwrap()
    }

    const SECRET: &str = "a secret of more than thirty-two bytes";
    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

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
            serde_json::json!({"sub": "ann", "exp": 100}),
            serde_json::json!({"sub": "ann", "role": "root", "exp": 100}),
            serde_json::json!({"sub": "", "role": "customer", "exp": 100}),
            serde_json::json!({"sub": "a b", "role": "customer", "exp": 100}),
            serde_json::json!({"sub": "ann", "role": "customer", "exp": 100, "nbf": 50}),
            serde_json::json!({"sub": "ann", "role": "customer", "exp": 100, "openid": "o\n"}),
        ] {
            let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
            assert!(keys(SECRET).check(&token, NOW).is_err(), "{claims}");
        }
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
