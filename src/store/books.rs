//! `book_days` and `book_differences`: what comparing our books with WeChat's bill found, day by day.

use serde_json::json;
use sqlx::{FromRow, PgExecutor};
use time::{Date, Duration, OffsetDateTime, Time};

use super::{Database, SPARE_ROWS, Step, StoreError, case, failure::NewerLabel, readable};
use crate::{
    crash,
    domain::{
        books::{DayDocument, DayStatus, DifferenceDocument, Kind, Pair, Remedy, Sums, at_stake},
        calendar::in_china,
        case::CaseKind,
        ids::OrderId,
    },
};

const BY: &str = "worker:reconcile";
/// WeChat keeps bills for about three months.
const KEPT_DAYS: i64 = 89;
/// What was put onto a queue to be healed should be whole after this, and is looked for again …
const HEALS_WITHIN: Duration = Duration::HOUR;
/// … for so long.
const LOOKED_FOR: Duration = Duration::days(3);

/// One fact that differs, and what was done about it.
#[derive(Debug, Clone)]
pub struct Difference {
    pub kind: Kind,
    pub remedy: Remedy,
    pub pair: Pair,
}

/// China's day, by the database's clock.
pub async fn today(db: &Database) -> Result<Date, StoreError> {
    let now: OffsetDateTime = sqlx::query_scalar("SELECT now()").fetch_one(db.pool()).await?;
    Ok(in_china(now).date())
}

/// The days that are to be compared now, oldest first: every finished day of ours that WeChat still has a bill of
/// and that was not compared since the bill was there; those where something should have healed meanwhile; and those
/// of which WeChat says that there is no bill, against our books.
/// `ready`: when, in China, the bill of the day before can be had.
pub async fn due(db: &Database, ready: Time) -> Result<Vec<Date>, StoreError> {
    let now: OffsetDateTime = sqlx::query_scalar("SELECT now()").fetch_one(db.pool()).await?;
    let now = in_china(now);
    let newest = now.date() - Duration::days(if now.time() >= ready { 1 } else { 2 });
    let oldest = now.date() - Duration::days(KEPT_DAYS);
    Ok(sqlx::query_scalar(
        "SELECT day::date
           -- Before the first session there was nothing to order; before there is one, there is no day at all.
           FROM (SELECT (min(created_at) AT TIME ZONE 'UTC' + interval '8 hours')::date AS opened
                   FROM course_schedules HAVING count(*) > 0) first,
                generate_series(greatest($1, opened)::timestamp, $2::timestamp, interval '1 day') day
           LEFT JOIN book_days d ON d.bill_date = day
          WHERE d.finished_at IS NULL
             -- Asked for by hand before the bill was complete.
             OR d.finished_at < (day + interval '1 day' - interval '8 hours' + $3::time) AT TIME ZONE 'UTC'
             OR d.finished_at < now() - $4 AND EXISTS (
                    SELECT FROM book_differences f
                     WHERE f.bill_date = d.bill_date AND f.remedy = 'heal' AND f.settled_at IS NULL
                       AND f.found_at > now() - $5)
             -- That there is no bill comes without a signature: asked again while our books say otherwise.
             OR d.finished_at < now() - $4 AND bill_payments + bill_refunds = 0 AND books_payments + books_refunds > 0
          ORDER BY day",
    )
    .bind(oldest)
    .bind(newest)
    .bind(ready)
    .bind(HEALS_WITHIN)
    .bind(LOOKED_FOR)
    .fetch_all(db.pool())
    .await?)
}

/// Notes that a day's comparing begins; answers the moment, by which what it sees is told from what is over.
pub async fn start(db: &Database, date: Date) -> Result<OffsetDateTime, StoreError> {
    let started = sqlx::query_scalar(
        "INSERT INTO book_days (bill_date, started_at) VALUES ($1, now())
         ON CONFLICT (bill_date) DO UPDATE SET started_at = excluded.started_at
         RETURNING started_at",
    )
    .bind(date);
    Ok(crash::around("commit", "books.start", started.fetch_one(db.pool())).await?)
}

/// Notes why a day could not be compared to the end.
pub async fn fail(db: &Database, date: Date, error: &str) -> Result<(), StoreError> {
    let failed = sqlx::query("UPDATE book_days SET error = $2 WHERE bill_date = $1").bind(date).bind(error);
    crash::around("commit", "books.fail", failed.execute(db.pool())).await?;
    Ok(())
}

/// Keeps differences, and opens the cases of those that are for a person. `started` is the moment of [`start`].
pub async fn record(
    step: &mut Step<'_>,
    date: Date,
    started: OffsetDateTime,
    differences: &[Difference],
    open_cases: bool,
) -> Result<(), StoreError> {
    for difference in differences {
        let Difference { kind, remedy, pair } = difference;
        let (billed, booked) = (pair.billed.as_ref(), pair.booked.as_ref());
        let order = billed.map(|billed| &billed.out_trade_no).or(booked.map(|booked| &booked.order_id));
        let our_state = booked.map(|booked| booked.refund.map_or("paid", |refund| refund.as_str()));
        sqlx::query(
            "INSERT INTO book_differences (bill_date, kind, number, remedy, order_id,
                                           bill_fen, books_fen, bill_state, books_state, found_at, seen_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)
             ON CONFLICT (bill_date, kind, number) DO UPDATE
                SET remedy = excluded.remedy, bill_fen = excluded.bill_fen, books_fen = excluded.books_fen,
                    bill_state = excluded.bill_state, books_state = excluded.books_state,
                    seen_at = excluded.seen_at, settled_at = NULL",
        )
        .bind(date)
        .bind(kind.as_str())
        .bind(&pair.number)
        .bind(remedy.as_str())
        .bind(order.map_or("", |order| order.as_str()))
        .bind(billed.map(|billed| billed.amount))
        .bind(booked.map(|booked| booked.amount))
        .bind(billed.map(|billed| &billed.state))
        .bind(our_state)
        .bind(started)
        .execute(&mut *step.transaction)
        .await?;
        if *remedy == Remedy::Case && open_cases {
            let order = order.filter(|_| booked.is_some() || pair.order_known);
            let order = order.and_then(|order| OrderId::try_from(order.clone()).ok());
            let money = at_stake(billed.map(|billed| billed.amount), booked.map(|booked| booked.amount), *kind);
            let details = json!({
                "bill_date": date.to_string(), "out_trade_no": billed.map(|billed| &billed.out_trade_no),
                "bill_fen": billed.map(|billed| billed.amount), "bill_state": billed.map(|billed| &billed.state),
                "books_fen": booked.map(|booked| booked.amount), "books_state": our_state,
            });
            case::open(step, (*kind).into(), &pair.number, order.as_ref(), money, details).await?;
        }
    }
    Ok(())
}

/// WeChat says, without a signature, that there was no trade on a day of which our books know some.
pub async fn record_no_statement(step: &mut Step<'_>, date: Date, books: Sums) -> Result<(), StoreError> {
    let money = crate::domain::money::Fen(books.paid_fen);
    case::open(step, CaseKind::BillMissing, &date.to_string(), None, money, json!({ "books": books })).await
}

/// The day was compared to the end: what was not seen this time is settled.
pub async fn finish(
    step: &mut Step<'_>,
    date: Date,
    started: OffsetDateTime,
    bill: Sums,
    books: Sums,
) -> Result<(), StoreError> {
    let settled: Vec<(String, String)> = sqlx::query_as(
        "UPDATE book_differences SET settled_at = now()
          WHERE bill_date = $1 AND seen_at < $2 AND settled_at IS NULL RETURNING kind, number",
    )
    .bind(date)
    .bind(started)
    .fetch_all(&mut *step.transaction)
    .await?;
    for (kind, number) in settled {
        case::close_one(step, &kind, &number, BY, "our books and WeChat's bill agree about it now").await?;
    }
    if bill.payments + bill.refunds > 0 {
        case::close_one(
            step,
            CaseKind::BillMissing.as_str(),
            &date.to_string(),
            BY,
            "WeChat has a bill of this day now",
        )
        .await?;
    }
    sqlx::query(
        "UPDATE book_days SET finished_at = now(), error = NULL,
                bill_payments = $2, bill_paid_fen = $3, bill_refunds = $4, bill_refunded_fen = $5,
                books_payments = $6, books_paid_fen = $7, books_refunds = $8, books_refunded_fen = $9
          WHERE bill_date = $1",
    )
    .bind(date)
    .bind(bill.payments)
    .bind(bill.paid_fen)
    .bind(bill.refunds)
    .bind(bill.refunded_fen)
    .bind(books.payments)
    .bind(books.paid_fen)
    .bind(books.refunds)
    .bind(books.refunded_fen)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

/// Days that were begun, newest first; those before `before`.
pub async fn days(db: impl PgExecutor<'_>, before: Option<Date>, limit: i64) -> Result<Vec<DayDocument>, StoreError> {
    let rows: Vec<DayRow> = sqlx::query_as(
        "SELECT d.bill_date, d.started_at, d.finished_at, d.error, d.bill_payments, d.bill_paid_fen, d.bill_refunds,
                d.bill_refunded_fen, d.books_payments, d.books_paid_fen, d.books_refunds, d.books_refunded_fen,
                f.found, f.standing, f.cases FROM (
             SELECT bill_date, started_at, finished_at, error, bill_payments, bill_paid_fen, bill_refunds,
                    bill_refunded_fen, books_payments, books_paid_fen, books_refunds, books_refunded_fen
               FROM book_days WHERE $1::date IS NULL OR bill_date < $1 ORDER BY bill_date DESC LIMIT $2) d,
         LATERAL (SELECT count(*) AS found, count(*) FILTER (WHERE settled_at IS NULL) AS standing,
                         count(*) FILTER (WHERE settled_at IS NULL AND remedy = 'case') AS cases
                    FROM book_differences WHERE bill_date = d.bill_date) f
          ORDER BY d.bill_date DESC",
    )
    .bind(before)
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(DayRow::document).collect())
}

/// One day, if it was ever begun.
pub async fn day(db: impl PgExecutor<'_>, date: Date) -> Result<Option<DayDocument>, StoreError> {
    let newest = days(db, date.next_day(), 1).await?.pop();
    Ok(newest.filter(|day| day.date == date))
}

/// A day's differences in the order of their numbers; those after `after`, a number and a kind.
pub async fn differences(
    db: impl PgExecutor<'_>,
    date: Date,
    after: Option<&(String, String)>,
    limit: i64,
) -> Result<Vec<DifferenceDocument>, StoreError> {
    let (number, kind) = after.map(|(number, kind)| (number.as_str(), kind.as_str())).unzip();
    let rows = sqlx::query(
        "SELECT kind, remedy, number, order_id, bill_fen, books_fen, bill_state, books_state, found_at, settled_at
           FROM book_differences
          WHERE bill_date = $1 AND ($2::text IS NULL OR (number, kind) > ($2, $3))
          ORDER BY number, kind LIMIT $4",
    )
    .bind(date)
    .bind(number)
    .bind(kind)
    .bind(limit.saturating_add(SPARE_ROWS))
    .fetch_all(db)
    .await?;
    // Kinds and remedies that only a newer release knows are left out, too.
    let known = readable::<DifferenceRow>("book_differences", &rows, i64::MAX).into_iter().filter_map(|row| {
        let number = row.number.clone();
        row.document()
            .inspect_err(|error| tracing::error!(number, %error, "skipped a difference of an unknown kind"))
            .ok()
    });
    Ok(known.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect())
}

#[derive(FromRow)]
struct DayRow {
    bill_date: Date,
    started_at: OffsetDateTime,
    finished_at: Option<OffsetDateTime>,
    error: Option<String>,
    bill_payments: i64,
    bill_paid_fen: i64,
    bill_refunds: i64,
    bill_refunded_fen: i64,
    books_payments: i64,
    books_paid_fen: i64,
    books_refunds: i64,
    books_refunded_fen: i64,
    found: i64,
    standing: i64,
    cases: i64,
}

impl DayRow {
    fn document(self) -> DayDocument {
        let finished = self.finished_at.is_some_and(|finished| finished >= self.started_at);
        let status = if !finished {
            DayStatus::Unfinished
        } else if self.standing > 0 {
            DayStatus::Differs
        } else if self.bill_payments + self.bill_refunds + self.books_payments + self.books_refunds == 0 {
            DayStatus::NoTrade
        } else {
            DayStatus::Balanced
        };
        DayDocument {
            date: self.bill_date,
            status,
            checked_at: self.finished_at,
            bill: Sums {
                payments: self.bill_payments,
                paid_fen: self.bill_paid_fen,
                refunds: self.bill_refunds,
                refunded_fen: self.bill_refunded_fen,
            },
            books: Sums {
                payments: self.books_payments,
                paid_fen: self.books_paid_fen,
                refunds: self.books_refunds,
                refunded_fen: self.books_refunded_fen,
            },
            found: self.found,
            standing: self.standing,
            cases: self.cases,
            error: self.error,
        }
    }
}

#[derive(FromRow)]
struct DifferenceRow {
    kind: String,
    remedy: String,
    number: String,
    order_id: String,
    bill_fen: Option<i64>,
    books_fen: Option<i64>,
    bill_state: Option<String>,
    books_state: Option<String>,
    found_at: OffsetDateTime,
    settled_at: Option<OffsetDateTime>,
}

impl DifferenceRow {
    fn document(self) -> Result<DifferenceDocument, StoreError> {
        let unknown = |word: &str| {
            let newer = NewerLabel { label: word.to_owned(), of: "book_differences" };
            StoreError::Newer(sqlx::Error::Decode(newer.into()))
        };
        Ok(DifferenceDocument {
            kind: *Kind::ALL.iter().find(|kind| kind.as_str() == self.kind).ok_or_else(|| unknown(&self.kind))?,
            remedy: match self.remedy.as_str() {
                "heal" => Remedy::Heal,
                "case" => Remedy::Case,
                other => return Err(unknown(other)),
            },
            number: self.number,
            order_id: self.order_id,
            bill_fen: self.bill_fen,
            books_fen: self.books_fen,
            bill_state: self.bill_state,
            books_state: self.books_state,
            found_at: self.found_at,
            settled_at: self.settled_at,
        })
    }
}
