//! `GET /v1/ops/errors`: what went wrong over the last hour, day or week, as rows of counts for plots.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Query, State},
};
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use crate::{
    api::{
        Api,
        auth::Viewer,
        fields::{Fields, text},
        problem::{Problem, ProblemDocument},
    },
    domain::calendar::Moment,
    store::{self, errors::ErrorCount},
};

/// How far the plot looks back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    Hour,
    Day,
    Week,
}

impl Range {
    /// The width of one column, and how many there are.
    fn columns(self) -> (Duration, usize) {
        match self {
            Self::Hour => (Duration::MINUTE, 60),
            Self::Day => (Duration::minutes(30), 48),
            Self::Week => (Duration::hours(4), 42),
        }
    }
}

/// One kind of error over time.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct ErrorRow {
    /// `retried` and `parked`: messages, by class. `wechat`: answers that settled nothing, by code.
    #[schema(example = "wechat")]
    source: String,
    #[schema(example = "SYSTEM_ERROR")]
    name: String,
    total: i64,
    /// One per column, oldest first.
    counts: Vec<i64>,
}

/// Errors of a range, the most frequent first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorList {
    items: Vec<ErrorRow>,
    /// Always null: there is one page.
    #[schema(value_type = Option<String>)]
    next: (),
    /// Where the first column begins.
    #[serde(with = "crate::domain::calendar::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    from: OffsetDateTime,
    column_seconds: i64,
    columns: usize,
}

/// Count errors over time
///
/// From the traces of orders, which may lack their last second, and the dead letters.
#[utoipa::path(
    get, path = "/v1/ops/errors", tag = "operators", security(("bearer" = ["viewer", "operator"])),
    params(("range" = Option<String>, Query, description = "`hour` (default), `day` or `week`")),
    responses(
        (status = 200, description = "A row per kind of error", body = ErrorList),
        (status = 403, description = "`forbidden`: a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<ErrorList>, Problem> {
    let mut fields = Fields::of_query(query);
    let range = fields.optional("range", |value| match text(value)? {
        "hour" => Ok(Range::Hour),
        "day" => Ok(Range::Day),
        "week" => Ok(Range::Week),
        _ => Err("must be hour, day or week"),
    });
    fields.finish()?;
    let (each, columns) = range.unwrap_or(Range::Hour).columns();
    let from = first_column((api.now)(), each, columns);
    let counts = store::errors::over_time(api.desk.pool(), from, each).await;
    let items = rows(counts.map_err(|error| Problem::from_store(&error))?, columns);
    Ok(Json(ErrorList { items, next: (), from, column_seconds: each.whole_seconds(), columns }))
}

/// Columns begin at whole minutes or hours, so that a bar stays where it is while time goes on.
fn first_column(now: OffsetDateTime, each: Duration, columns: usize) -> OffsetDateTime {
    let width = each.whole_seconds();
    let last = now.unix_timestamp().div_euclid(width) * width;
    let before = i64::try_from(columns).expect("a few dozen") - 1;
    Moment::of_seconds(last.saturating_sub(before.saturating_mul(width))).map_or(now, Moment::get)
}

fn rows(counts: Vec<ErrorCount>, columns: usize) -> Vec<ErrorRow> {
    let mut rows = BTreeMap::<(String, String), ErrorRow>::new();
    for ErrorCount { source, name, stretch, count } in counts {
        let row = rows.entry((source.clone(), name.clone())).or_insert_with(|| ErrorRow {
            source,
            name,
            total: 0,
            counts: vec![0; columns],
        });
        // What happened since the question was put belongs to the last column.
        let column = usize::try_from(stretch).unwrap_or(0).min(columns - 1);
        row.counts[column] += count;
        row.total += count;
    }
    let mut rows: Vec<ErrorRow> = rows.into_values().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.total));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_finds_its_column() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_010_000).unwrap();
        let from = first_column(now, Duration::MINUTE, 60);
        assert_eq!(from.unix_timestamp(), 1_800_009_960 - 59 * 60);
        let count =
            |name: &str, stretch, count| ErrorCount { source: "wechat".into(), name: name.into(), stretch, count };
        let rows = rows(vec![count("A", 0, 1), count("A", 59, 2), count("B", 60, 9)], 60);
        assert_eq!((rows[0].name.as_str(), rows[0].counts[59]), ("B", 9), "the most frequent first");
        assert_eq!((rows[1].total, rows[1].counts[0], rows[1].counts[59]), (3, 1, 2));
    }
}
