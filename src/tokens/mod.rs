//! JSON Web Tokens: which keys sign them, what they must claim, whose they are.
//!
//! - `settings`: `auth.*`.
//! - `keys`: the keys of the settings, and the check of one token.
//! - `claims`: issuer, audience, times, user.
//! - `roles`: from the values of one claim to a role.
//! - `jwks`: public keys from a JWK Set.
//! - `issuer`: the keys that an OpenID issuer publishes, fetched again when they change. The only file here with reqwest.

mod claims;
mod issuer;
mod jwks;
mod keys;
mod roles;
mod settings;

use std::fmt;

use time::OffsetDateTime;

use crate::live::Live;

pub use claims::Caller;
pub use issuer::Issuer;
pub use keys::{AuthKeys, MintFault, Refused};
pub use roles::{Role, RoleValues};
pub use settings::{AuthSettings, Names, TokenAlgorithm};

/// Checks tokens with all keys that this process accepts.
pub struct Tokens {
    keys: Live<AuthKeys>,
    /// `None`: the settings name no OpenID issuer whose keys are fetched.
    issuer: Option<Issuer>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tokens").field(&self.keys).finish()
    }
}

/// Why a token was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unaccepted {
    #[error(transparent)]
    Refused(Refused),
    /// The token may be good: its key is not known, and the issuer's keys cannot be fetched at present.
    #[error("The issuer's keys cannot be fetched at present.")]
    IssuerUnavailable,
}

impl Tokens {
    pub fn new(keys: AuthKeys, issuer: Option<Issuer>) -> Self {
        Self { keys: Live::new(keys), issuer }
    }

    /// Puts keys into force that were read again from their files.
    pub fn replace(&self, keys: AuthKeys) {
        self.keys.replace(keys);
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
        self.keys.get().mint(user, role, openid, expires)
    }

    /// Whose token this is. When its key is not known, the issuer's keys are fetched again, as often as their allowance
    /// permits.
    ///
    /// # Errors
    /// The token is refused, or its key cannot be looked up at present.
    pub async fn check(&self, token: &str, now: OffsetDateTime) -> Result<Caller, Unaccepted> {
        let keys = self.keys.get();
        let Some(issuer) = &self.issuer else {
            return keys.check(token, now).map_err(Unaccepted::Refused);
        };
        let known = issuer.known();
        match keys.check_beside(token, now, &known.keys) {
            Err(Refused::UnknownKey) => {}
            checked => return checked.map_err(Unaccepted::Refused),
        }
        let fresh = issuer.newer_than(&known).await;
        match keys.check_beside(token, now, &fresh.keys) {
            Err(Refused::UnknownKey) if fresh.failed => Err(Unaccepted::IssuerUnavailable),
            checked => checked.map_err(Unaccepted::Refused),
        }
    }
}
