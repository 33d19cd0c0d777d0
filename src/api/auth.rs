//! Who calls: the token of a request, and what its role permits.

use std::time::Duration;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use super::{
    Api,
    problem::{Kind, Problem},
    settings::ConsoleSignIn,
};
use crate::tokens::Unaccepted;

pub use crate::tokens::{AuthKeys, AuthSettings, Caller, Role};

/// The issuer's keys are asked for again about this soon.
const ISSUER_RETRY: Duration = Duration::from_secs(15);

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let token = bearer(&parts.headers).map_err(|why| Problem::new(Kind::Unauthenticated).detail(why))?;
        api.auth.check(token, (api.now)()).await.map_err(|unaccepted| {
            let detail = unaccepted.to_string();
            match unaccepted {
                Unaccepted::Refused(_) => Problem::new(Kind::Unauthenticated).detail(detail),
                Unaccepted::IssuerUnavailable => {
                    Problem::new(Kind::TemporarilyUnavailable).detail(detail).retry_after(ISSUER_RETRY)
                }
            }
        })
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
        if api.settings.console_sign_in == ConsoleSignIn::Proxy && is_of_another_site(&parts.headers) {
            return Err(Problem::new(Kind::Forbidden).detail("A page of another site sent this request."));
        }
        match caller.role {
            Role::Operator => Ok(Self(caller)),
            Role::Viewer => Err(Problem::new(Kind::Forbidden).detail("Viewers only look.")),
            Role::Customer => Err(Problem::new(Kind::Forbidden).detail("Only operators do this.")),
        }
    }
}

/// Returns whether a page of another site sent the request, by the browser's `Sec-Fetch-Site`. The browser adds the
/// proxy's cookie to such requests too, so the cookie alone does not prove an operator's intent.
fn is_of_another_site(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    sites.any(|site| site != "same-origin" && site != "none")
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
