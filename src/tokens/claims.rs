//! What a token claims, and whether that makes it good here and now.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::{
    keys::Refused,
    roles::{Role, RoleRules},
};
use crate::domain::{calendar::Moment, ids::UserId, message::Openid};

/// The sender of a request that had a valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub user: UserId,
    pub role: Role,
    pub openid: Option<Openid>,
    /// `exp` and the leeway: from then on the token is refused.
    pub expires_at: OffsetDateTime,
}

/// What every token must claim.
pub(super) struct Rules {
    pub(super) issuer: Option<String>,
    /// Empty: any audience, or none.
    pub(super) audience: Vec<String>,
    /// Seconds by which the issuer's clock may differ from ours.
    pub(super) leeway: i64,
    pub(super) roles: RoleRules,
}

impl Rules {
    /// Whose token has these claims.
    ///
    /// # Errors
    /// The claim that is missing or wrong, with what is expected; a claim's own value is not repeated.
    pub(super) fn judge(&self, claims: &Map<String, Value>, now: OffsetDateTime) -> Result<Caller, Refused> {
        self.issued_by(claims)?;
        self.meant_for(claims)?;
        let expires_at = self.valid(claims, now)?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let user = text("sub").and_then(|sub| UserId::try_from(sub.to_owned()).ok());
        let user = user.ok_or(Refused::Token("The token's sub is not 1 to 128 visible ASCII characters.".into()))?;
        let role = self.roles.role_of(claims).ok_or_else(|| Refused::Token(self.roles.to_string().into()))?;
        let openid = match claims.get("openid") {
            None | Some(Value::Null) => None,
            Some(_) => {
                let fits = |openid: &&str| {
                    (1..=128).contains(&openid.len()) && openid.bytes().all(|byte| byte.is_ascii_graphic())
                };
                let wrong = Refused::Token("The token's openid is not 1 to 128 visible ASCII characters.".into());
                Some(Openid(text("openid").filter(fits).ok_or(wrong)?.to_owned()))
            }
        };
        Ok(Caller { user, role, openid, expires_at })
    }

    /// # Errors
    /// `iss` is not the configured issuer.
    pub(super) fn issued_by(&self, claims: &Map<String, Value>) -> Result<(), Refused> {
        let Some(expected) = &self.issuer else { return Ok(()) };
        if claims.get("iss").and_then(Value::as_str) == Some(expected) {
            return Ok(());
        }
        Err(Refused::Token(format!("The token's iss is missing or wrong; auth.issuer expects {expected:?}.").into()))
    }

    fn meant_for(&self, claims: &Map<String, Value>) -> Result<(), Refused> {
        let is_ours = |one: &Value| one.as_str().is_some_and(|one| self.audience.iter().any(|ours| ours == one));
        let fits = match claims.get("aud") {
            _ if self.audience.is_empty() => true,
            Some(Value::Array(several)) => several.iter().any(is_ours),
            Some(one) => is_ours(one),
            None => false,
        };
        if fits {
            return Ok(());
        }
        let expected = self.audience.join(", ");
        Err(Refused::Token(
            format!("The token's aud is missing or wrong; auth.audience expects one of: {expected}.").into(),
        ))
    }

    /// The moment from which the token is refused. `exp` and `nbf` are compared in whole seconds: a part of a second is
    /// never to the token's advantage.
    fn valid(&self, claims: &Map<String, Value>, now: OffsetDateTime) -> Result<OffsetDateTime, Refused> {
        const NO_EXP: &str = "The token's exp is missing or not a number of seconds since 1970.";
        const BAD_NBF: &str = "The token's nbf is not a number of seconds since 1970.";
        let exp = claims.get("exp").and_then(|exp| seconds(exp, f64::floor)).ok_or(Refused::Token(NO_EXP.into()))?;
        // An end beyond the calendar is its end: some issuers write one that never comes.
        let expires_at = Moment::nearest_of_seconds(exp.saturating_add(self.leeway)).get();
        if expires_at <= now {
            return Err(Refused::Token("The token has expired (exp).".into()));
        }
        let nbf = claims.get("nbf").filter(|nbf| !nbf.is_null());
        let nbf = nbf.map(|nbf| seconds(nbf, f64::ceil).ok_or(Refused::Token(BAD_NBF.into()))).transpose()?;
        if nbf.is_some_and(|nbf| nbf.saturating_sub(self.leeway) > now.unix_timestamp()) {
            return Err(Refused::Token("The token is not valid yet (nbf).".into()));
        }
        Ok(expires_at)
    }

    /// The claims of a token that [`Self::judge`] accepts, as far as user and openid permit.
    pub(super) fn write(
        &self,
        user: &str,
        role: Role,
        openid: Option<&str>,
        exp: i64,
    ) -> Result<Map<String, Value>, Refused> {
        let mut claims = Map::new();
        claims.insert("sub".into(), json!(user));
        claims.insert("exp".into(), json!(exp));
        let ours =
            [("openid", openid), ("iss", self.issuer.as_deref()), ("aud", self.audience.first().map(String::as_str))];
        for (name, value) in ours {
            if let Some(value) = value {
                claims.insert(name.into(), json!(value));
            }
        }
        if self.roles.write(role, &mut claims) {
            Ok(claims)
        } else {
            Err(Refused::Token(format!("auth.roles.{} has no value that gives the role", role.name()).into()))
        }
    }
}

/// A numeric date (RFC 7519, 2), which may have a fraction. Beyond the range of `i64` it is the nearest end of it.
fn seconds(value: &Value, round: fn(f64) -> f64) -> Option<i64> {
    let number = value.as_number()?;
    // The conversion saturates.
    number.as_i64().or_else(|| number.as_f64().map(|whole| round(whole) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::RoleValues;
    use time::macros::datetime;

    const NOW: OffsetDateTime = datetime!(2026-12-01 08:00 UTC);

    fn rules(leeway: i64) -> Rules {
        Rules {
            issuer: Some("https://issuer.example".into()),
            audience: vec!["holdfast".into(), "booking".into()],
            leeway,
            roles: RoleRules::new("role", &RoleValues::default()).unwrap(),
        }
    }

    fn with(changes: Value) -> Map<String, Value> {
        let mut claims = json!({
            "iss": "https://issuer.example", "aud": "holdfast", "sub": "ann", "role": "customer",
            "exp": NOW.unix_timestamp() + 300,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object().unwrap().clone()
    }

    fn refusal(changes: Value) -> Option<String> {
        rules(60).judge(&with(changes), NOW).err().map(|refused| refused.to_string())
    }

    /// F12: A wrong issuer or audience is named with what is expected; a token with several audiences fits by one.
    #[test]
    fn f12_issuer_and_audience_are_compared() {
        for fits in [json!({}), json!({"aud": ["other", "booking"]}), json!({"aud": "booking", "azp": "app"})] {
            assert_eq!(refusal(fits.clone()), None, "{fits}");
        }
        for iss in [
            json!("https://issuer.example/"),
            json!("HTTPS://issuer.example"),
            json!(["https://issuer.example"]),
            json!(null),
        ] {
            let said = refusal(json!({ "iss": iss })).unwrap();
            assert!(said.contains("iss") && said.contains("https://issuer.example"), "{said}");
        }
        for aud in [json!("other"), json!([]), json!(["HOLDFAST", 1]), json!(null), json!({"holdfast": true})] {
            let said = refusal(json!({ "aud": aud })).unwrap();
            assert!(said.contains("aud") && said.contains("holdfast, booking") && !said.contains("other"), "{said}");
        }
    }

    /// F12: Clocks may differ by the leeway, dates may be fractions, and neither gives a second more.
    #[test]
    fn f12_numeric_dates_bear_fractions_and_the_leeway() {
        let now = NOW.unix_timestamp();
        for fits in [
            json!({"exp": now - 59}),
            json!({"exp": 1_796_112_300.25}),
            json!({"nbf": now + 60}),
            json!({"nbf": 1_796_112_002.5}),
            json!({"exp": 1e300}),
            json!({"exp": u64::MAX}),
            json!({"nbf": null}),
        ] {
            assert_eq!(refusal(fits.clone()), None, "{fits}");
        }
        for (wrong, named) in [
            (json!({"exp": now - 60}), "exp"),
            (json!({"exp": -1e300}), "exp"),
            (json!({"exp": null}), "exp"),
            (json!({"exp": now.to_string()}), "exp"),
            (json!({"nbf": now + 61}), "nbf"),
            (json!({"nbf": 1e300}), "nbf"),
            (json!({"nbf": "now"}), "nbf"),
            (json!({"sub": 7}), "sub"),
            (json!({"sub": ""}), "sub"),
            (json!({"role": "root"}), "customer, viewer, operator"),
            (json!({"openid": "o\n"}), "openid"),
            (json!({"openid": 1}), "openid"),
        ] {
            let said = refusal(wrong.clone()).unwrap_or_else(|| panic!("{wrong}"));
            assert!(said.contains(named), "{wrong}: {said}");
        }
        let strict = |changes: Value| rules(0).judge(&with(changes), NOW).is_ok();
        assert!(strict(json!({"exp": now + 1, "nbf": now})));
        assert!(!strict(json!({"exp": 1_796_112_000.9})), "a part of a second does not lengthen a token's life");
        assert!(!strict(json!({"nbf": 1_796_112_000.1})));
    }
}
