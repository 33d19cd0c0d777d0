//! The keys that tokens may be signed with, and the check of one token.
//!
//! Each key has one algorithm, by its own kind: the `alg` of a token only chooses among keys of that algorithm, so a public
//! key never serves as the secret of an HMAC.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{
    claims::{Caller, Rules},
    jwks,
    roles::{Role, RoleRules},
    settings::{AuthSettings, TokenAlgorithm, wrong},
};
use crate::{keys::Listed, setting::BadSetting};

/// Why a token is refused. Its words never repeat the token or what it claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Token(Cow<'static, str>),
    /// A key that is not among the known ones may have signed it.
    #[error("The token's signature matches no key that is accepted.")]
    UnknownKey,
}

const NO_TOKEN: Refused = Refused::Token(Cow::Borrowed("The token is not a JSON Web Token."));

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintFault {
    #[error("the configured key can only check tokens, not make them")]
    NoSecret,
    #[error("the token could not be signed")]
    Signing,
    #[error("such a token would be refused: {0}")]
    Claims(Refused),
}

/// A key and the one algorithm that it is for.
#[derive(Clone)]
pub(super) struct VerifyingKey {
    /// What a token's `kid` has to be.
    pub(super) name: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Checks tokens with the keys of the settings, and makes them when one is a shared secret.
pub struct AuthKeys {
    accepted: Vec<VerifyingKey>,
    mint: Option<EncodingKey>,
    rules: Rules,
}

impl fmt::Debug for AuthKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AuthKeys").field(&self.names()).finish()
    }
}

impl AuthKeys {
    /// Reads the key files.
    ///
    /// # Errors
    /// The first setting that is missing or wrong.
    pub fn from_settings(settings: &AuthSettings) -> Result<Self, BadSetting> {
        let rules = Rules {
            issuer: settings.issuer().map(str::to_owned),
            audience: settings.audience.as_slice().to_vec(),
            leeway: settings.leeway()?,
            roles: RoleRules::new(&settings.role_claim, &settings.roles)?,
        };
        let (mut accepted, mut mint) = (Vec::new(), None);
        if settings.has_own_keys() {
            let public = |algorithm, read: fn(&[u8]) -> jsonwebtoken::errors::Result<DecodingKey>| {
                let listed = settings.public_keys()?.into_iter().map(|Listed { name, key }| {
                    let key = read(key.expose_secret().as_bytes()).map_err(|_| {
                        wrong("auth.public_key_file", format!("is no {:?} public key in PEM", settings.algorithm))
                    })?;
                    Ok(VerifyingKey { name, algorithm, key })
                });
                listed.collect::<Result<Vec<_>, BadSetting>>()
            };
            accepted = match settings.algorithm {
                TokenAlgorithm::HS256 => {
                    let secrets = settings.secrets()?;
                    let bytes = |one: &Listed| one.key.expose_secret().as_bytes().to_vec();
                    mint = secrets.first().map(|one| EncodingKey::from_secret(&bytes(one)));
                    let accepted = |one: &Listed| VerifyingKey {
                        name: one.name.clone(),
                        algorithm: Algorithm::HS256,
                        key: DecodingKey::from_secret(&bytes(one)),
                    };
                    secrets.iter().map(accepted).collect()
                }
                TokenAlgorithm::EdDSA => public(Algorithm::EdDSA, DecodingKey::from_ed_pem)?,
                TokenAlgorithm::RS256 => public(Algorithm::RS256, DecodingKey::from_rsa_pem)?,
            };
        }
        if let Some(text) = settings.jwks()? {
            let set = jwks::parse(text.expose_secret().as_bytes());
            accepted.extend(set.map_err(|fault| wrong("auth.jwks_file", fault.to_string()))?);
        }
        Ok(Self { accepted, mint, rules })
    }

    /// The names of all keys, in their order; a token's `kid` may name one.
    pub fn names(&self) -> Vec<Option<&str>> {
        self.accepted.iter().map(|one| one.name.as_deref()).collect()
    }

    /// Makes a token that is good until `expires`.
    ///
    /// # Errors
    /// No secret is configured, or the token would be refused.
    pub fn mint(
        &self,
        user: &str,
        role: Role,
        openid: Option<&str>,
        expires: OffsetDateTime,
    ) -> Result<String, MintFault> {
        let key = self.mint.as_ref().ok_or(MintFault::NoSecret)?;
        let claims = self.rules.write(user, role, openid, expires.unix_timestamp()).map_err(MintFault::Claims)?;
        let kid = self.accepted.first().and_then(|one| one.name.clone());
        let header = Header { kid, ..Header::new(Algorithm::HS256) };
        let token = jsonwebtoken::encode(&header, &claims, key).map_err(|_| MintFault::Signing)?;
        // A token that would be refused is not issued; the error names the wrong claim.
        self.check(&token, OffsetDateTime::UNIX_EPOCH).map_err(MintFault::Claims)?;
        Ok(token)
    }

    /// Whose token this is.
    ///
    /// # Errors
    /// Why the token is refused.
    pub fn check(&self, token: &str, now: OffsetDateTime) -> Result<Caller, Refused> {
        self.check_beside(token, now, &[])
    }

    /// The same, with an issuer's keys that were fetched beside the keys of the settings.
    ///
    /// # Errors
    /// Why the token is refused; `UnknownKey` only for a token that the issuer can have signed.
    pub(super) fn check_beside(
        &self,
        token: &str,
        now: OffsetDateTime,
        fetched: &[VerifyingKey],
    ) -> Result<Caller, Refused> {
        let token = Signed::read(token)?;
        match self.verify(&token, fetched) {
            Ok(()) => self.rules.judge(&token.claims()?, now),
            // A token whose `iss` names another issuer is refused for its issuer, the more useful reason.
            Err(Refused::UnknownKey) => {
                self.rules.issued_by(&token.claims()?)?;
                Err(Refused::UnknownKey)
            }
            Err(refused) => Err(refused),
        }
    }

    /// Whether one of the keys has signed it: those that its `kid` names, or else any that has no name or is not asked for
    /// by one.
    fn verify(&self, token: &Signed<'_>, fetched: &[VerifyingKey]) -> Result<(), Refused> {
        let all = || self.accepted.iter().chain(fetched);
        let named: Vec<&VerifyingKey> = all().filter(|one| token.kid.is_some() && one.name == token.kid).collect();
        let is_named = !named.is_empty();
        let candidates =
            if is_named { named } else { all().filter(|one| token.kid.is_none() || one.name.is_none()).collect() };
        let mut of_algorithm = candidates.iter().filter(|one| one.algorithm == token.algorithm).peekable();
        let has_algorithm = of_algorithm.peek().is_some();
        if of_algorithm.any(|one| token.is_signed_by(one)) {
            return Ok(());
        }
        // A secret is never fetched, and a key that is named is known.
        match (is_named, token.algorithm) {
            (false, algorithm) if algorithm != Algorithm::HS256 => Err(Refused::UnknownKey),
            _ if has_algorithm || !is_named && all().any(|one| one.algorithm == token.algorithm) => {
                Err(Refused::Token("The token's signature does not match.".into()))
            }
            _ => Err(Refused::Token("The token is signed with another algorithm than the configured one.".into())),
        }
    }
}

/// A token taken apart, its signature not checked yet.
struct Signed<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
}

impl<'a> Signed<'a> {
    fn read(token: &'a str) -> Result<Self, Refused> {
        let (message, signature) = token.rsplit_once('.').ok_or(NO_TOKEN)?;
        let (head, payload) = message.split_once('.').filter(|(_, payload)| !payload.contains('.')).ok_or(NO_TOKEN)?;
        let head = object(head)?;
        // RFC 7515, 4.1.11: an extension that must be understood, and none is.
        if head.contains_key("crit") {
            return Err(Refused::Token("The token's header has crit: no extension of tokens is supported.".into()));
        }
        let kid = match head.get("kid") {
            None | Some(Value::Null) => None,
            Some(kid) => Some(kid.as_str().ok_or(NO_TOKEN)?.to_owned()),
        };
        let algorithm = match head.get("alg").and_then(Value::as_str) {
            Some("HS256") => Algorithm::HS256,
            Some("RS256") => Algorithm::RS256,
            Some("ES256") => Algorithm::ES256,
            // RFC 9864 names the algorithm after its curve.
            Some("EdDSA" | "Ed25519") => Algorithm::EdDSA,
            _ => {
                const ACCEPTED: &str = "The token is signed with an algorithm that is not accepted: none but HS256, RS256, \
                                        ES256 and EdDSA are, each with a key of its kind.";
                return Err(Refused::Token(ACCEPTED.into()));
            }
        };
        Ok(Self { algorithm, kid, message, payload, signature })
    }

    fn is_signed_by(&self, one: &VerifyingKey) -> bool {
        jsonwebtoken::crypto::verify(self.signature, self.message.as_bytes(), &one.key, one.algorithm).unwrap_or(false)
    }

    fn claims(&self) -> Result<Map<String, Value>, Refused> {
        object(self.payload)
    }
}

/// A part of a token: a JSON object in base64url.
fn object(part: &str) -> Result<Map<String, Value>, Refused> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| NO_TOKEN)?;
    serde_json::from_slice(&bytes).map_err(|_| NO_TOKEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ids::UserId, message::Openid};
    use proptest::prelude::*;
    use serde_json::json;
    use time::{Duration, macros::datetime};

    fn keys(secret: &str) -> AuthKeys {
        AuthKeys::from_settings(&AuthSettings { secret: Some(secret.into()), ..AuthSettings::default() }).unwrap()
    }

    const SECRET: &str = "a secret of more than thirty-two bytes";
    const NOW: OffsetDateTime = datetime!(2026-12-01 08:00 UTC);

    /// A token that our own secret signed, with any header and claims.
    fn signed(header: &Value, claims: &Value) -> String {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    #[test]
    fn s6_4_a_minted_token_is_taken_until_it_expires() {
        let keys = keys(SECRET);
        let token = keys.mint("ann", Role::Customer, Some("o-1"), NOW + Duration::HOUR).unwrap();
        let caller = keys.check(&token, NOW).unwrap();
        let ann = UserId::try_from("ann".to_owned()).unwrap();
        assert_eq!((caller.user, caller.openid), (ann, Some(Openid("o-1".into()))));
        let last = NOW + Duration::HOUR + Duration::seconds(59);
        assert!(keys.check(&token, last).is_ok() && keys.check(&token, last + Duration::SECOND).is_err());
        assert_eq!(caller.expires_at, last + Duration::SECOND);
    }

    #[test]
    fn s6_4_foreign_unsigned_and_mangled_tokens_are_refused() {
        let foreign = keys("another secret of thirty-two bytes or more")
            .mint("ann", Role::Operator, None, NOW + Duration::HOUR)
            .unwrap();
        // {"alg":"none"} . {"sub":"ann","role":"operator","exp":9999999999}
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJyb2xlIjoib3BlcmF0b3IiLCJleHAiOjk5OTk5OTk5OTl9.";
        for token in [foreign.as_str(), unsigned, "", ".", "..", "a.b.c", "a.b.c.d", "é"] {
            assert!(keys(SECRET).check(token, NOW).is_err(), "{token:?}");
        }
    }

    /// F12: A header with `crit` is refused whatever it lists, and so is every algorithm that no key has.
    #[test]
    fn f12_headers_that_change_the_meaning_are_refused() {
        let claims = json!({"sub": "ann", "role": "customer", "exp": 4_000_000_000_i64});
        let taken = |header: Value| keys(SECRET).check(&signed(&header, &claims), NOW).is_ok();
        assert!(
            taken(json!({"alg": "HS256"})) && taken(json!({"alg": "HS256", "typ": "at+jwt", "kid": "any", "x": 1}))
        );
        for header in [
            json!({"alg": "HS256", "crit": ["exp"], "exp": 1}),
            json!({"alg": "HS256", "crit": ["b64"], "b64": true}),
            json!({"alg": "HS256", "crit": []}),
            json!({"alg": "HS256", "crit": null}),
            json!({"alg": "hs256"}),
            json!({"alg": "HS512"}),
            json!({"alg": "none"}),
            json!({"alg": ""}),
            json!({"alg": "RS256"}),
            json!({"alg": "ES256"}),
            json!({"alg": "EdDSA"}),
            json!({"alg": ["HS256"]}),
            json!({"alg": "HS256", "kid": 1}),
            json!({}),
            json!([]),
        ] {
            assert!(!taken(header.clone()), "{header}");
        }
    }

    /// F12: Any audience is accepted where none is configured, and a date may be a fraction.
    #[test]
    fn f12_tokens_of_ordinary_issuers_are_taken() {
        for more in
            [json!({"aud": "anything"}), json!({"aud": ["a", "b"], "iss": "x", "iat": 1.5, "exp": 4e9, "nbf": 1.25})]
        {
            let mut claims = json!({"sub": "ann", "role": "customer", "exp": 4_000_000_000.5});
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let checked = keys(SECRET).check(&signed(&json!({"alg": "HS256"}), &claims), NOW);
            assert!(checked.is_ok(), "{claims}: {checked:?}");
        }
    }

    #[test]
    fn s6_4_a_token_without_exp_role_or_usable_sub_is_refused() {
        for claims in [
            json!({"sub": "ann", "role": "customer"}),
            json!({"sub": "ann", "exp": 4_000_000_000_i64}),
            json!({"sub": "ann", "role": "root", "exp": 4_000_000_000_i64}),
            json!({"sub": "", "role": "customer", "exp": 4_000_000_000_i64}),
            json!({"sub": "a b", "role": "customer", "exp": 4_000_000_000_i64}),
            json!({"sub": "ann", "role": "customer", "exp": 4_000_000_000_i64, "nbf": 3_900_000_000_i64}),
            json!({"sub": "ann", "role": "customer", "exp": 4_000_000_000_i64, "openid": "o\n"}),
            json!(["sub"]),
        ] {
            assert!(keys(SECRET).check(&signed(&json!({"alg": "HS256"}), &claims), NOW).is_err(), "{claims}");
        }
    }

    /// F12: `holdfast token` makes what the configured issuer would: its own tokens pass the same rules.
    #[test]
    fn f12_a_minted_token_fits_the_configured_issuer() {
        let settings = AuthSettings {
            secret: Some(SECRET.into()),
            issuer: Some("https://login.example.com".into()),
            audience: vec!["holdfast", "other"].into(),
            role_claim: "realm_access.roles".into(),
            ..AuthSettings::default()
        };
        let ours = AuthKeys::from_settings(&settings).unwrap();
        let token = ours.mint("oscar", Role::Operator, None, NOW + Duration::HOUR).unwrap();
        assert_eq!(ours.check(&token, NOW).map(|caller| caller.role), Ok(Role::Operator));
        let bare = keys(SECRET).mint("oscar", Role::Operator, None, NOW + Duration::HOUR).unwrap();
        let refused = ours.check(&bare, NOW).unwrap_err().to_string();
        assert!(refused.contains("iss") && refused.contains("https://login.example.com"), "{refused}");
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

    proptest! {
        #[test]
        fn any_text_as_a_token_is_answered(token in ".{0,200}") {
            let _ = keys(SECRET).check(&token, NOW);
        }

        #[test]
        fn any_claims_under_a_good_signature_are_answered(
            exp in any::<f64>(), nbf in any::<f64>(), sub in ".{0,140}", aud in ".{0,20}",
        ) {
            let claims = json!({"sub": sub, "role": [aud], "exp": exp, "nbf": nbf, "aud": aud});
            let _ = keys(SECRET).check(&signed(&json!({"alg": "HS256"}), &claims), NOW);
        }
    }
}
