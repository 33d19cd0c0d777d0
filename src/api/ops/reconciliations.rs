//! `GET /v1/ops/reconciliations` and `…/{date}`: our books against WeChat's bill, day by day.

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Serialize;
use serde_json::Value;
use time::Date;
use utoipa::ToSchema;

use super::super::{
    Api,
    auth::Viewer,
    fields::{Fields, text},
    paging::{PAGE, Page, Place},
    problem::{Kind, Problem, ProblemDocument},
};
use crate::{
    domain::{
        books::{DayDocument, DifferenceDocument},
        calendar::china_day,
    },
    store::books,
};

/// List days
///
/// The days that were compared with WeChat's bill, newest first.
#[utoipa::path(
    get, path = "/v1/ops/reconciliations", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(("cursor" = Option<String>, Query, description = "`next` of the page before")),
    responses(
        (status = 200, description = "A page of days", body = Page<DayDocument>),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<DayDocument>>, Problem> {
    let mut fields = Fields::of_query(query);
    let before = fields.optional("cursor", |value| parsed(&Place::parse(text(value)?)?.id));
    fields.finish()?;
    let days = books::days(api.desk.pool(), before, one_more()).await;
    let days = days.map_err(|error| Problem::from_store(&error))?;
    Ok(Json(Page::cut(days, |day| Place { at: day.date.midnight().assume_utc(), id: day.date.to_string() })))
}

/// A day and what differs in it.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct DayPage {
    #[serde(flatten)]
    day: DayDocument,
    #[serde(flatten)]
    differences: Page<DifferenceDocument>,
}

/// Read a day
///
/// In numbers, and every fact that differed, in the order of their numbers.
#[utoipa::path(
    get, path = "/v1/ops/reconciliations/{date}", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(
        ("date" = String, Path, description = "China's day, like 2026-11-22"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "The day, with a page of its differences", body = DayPage),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`not-found`: this day was never compared", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(date): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<DayPage>, Problem> {
    let never = || Problem::new(Kind::NotFound).detail("This day was never compared with WeChat's bill.");
    let date = parsed(&date).map_err(|_| never())?;
    let mut fields = Fields::of_query(query);
    let after = fields.optional("cursor", after);
    fields.finish()?;
    let db = api.desk.pool();
    let day = books::day(db, date).await.map_err(|error| Problem::from_store(&error))?.ok_or_else(never)?;
    let differences = books::differences(db, date, after.as_ref(), one_more()).await;
    let differences = differences.map_err(|error| Problem::from_store(&error))?;
    let place =
        |item: &DifferenceDocument| Place { at: item.found_at, id: format!("{} {}", item.kind.as_str(), item.number) };
    Ok(Json(DayPage { day, differences: Page::cut(differences, place) }))
}

fn one_more() -> i64 {
    i64::try_from(PAGE).expect("a page is small") + 1
}

fn parsed(date: &str) -> Result<Date, &'static str> {
    china_day(date).map_err(|_| "is not a cursor of this list")
}

/// A place in a day's list: the number, which may hold a blank, and the kind, which does not.
fn after(value: &Value) -> Result<(String, String), &'static str> {
    let place = Place::parse(text(value)?)?;
    let (kind, number) = place.id.split_once(' ').ok_or("is not a cursor of this list")?;
    if number.contains('\0') || kind.contains('\0') {
        return Err("is not a cursor of this list");
    }
    Ok((number.to_owned(), kind.to_owned()))
}
