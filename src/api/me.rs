//! `GET /v1/me`: whose token it is, as the API judges it. An issuer may name roles its own way, and behind a proxy that
//! signs people in a page never sees the token.

use axum::Json;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{
    auth::{Caller, Role},
    problem::ProblemDocument,
};

/// The caller.
#[derive(Serialize, ToSchema)]
#[schema(as = Caller)]
pub(super) struct CallerDocument {
    /// The token's `sub`.
    #[schema(example = "oscar")]
    user: String,
    /// `customer`, `viewer` or `operator`.
    #[schema(example = "operator")]
    role: &'static str,
    /// From then on the token is refused.
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    expires_at: OffsetDateTime,
}

/// Read who you are
///
/// The user and role that your token gives you here.
#[utoipa::path(
    get, path = "/v1/me", tag = "operators", security(("bearer" = [])),
    responses(
        (status = 200, description = "The caller", body = CallerDocument),
        (status = 503, description = "`temporarily-unavailable`: the issuer's keys cannot be fetched", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn one(caller: Caller) -> Json<CallerDocument> {
    let role: Role = caller.role;
    Json(CallerDocument { user: caller.user.as_str().to_owned(), role: role.name(), expires_at: caller.expires_at })
}
