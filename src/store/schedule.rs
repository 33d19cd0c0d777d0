//! `courses`, `course_schedules` and their free seats.

use std::collections::HashMap;

use sqlx::{FromRow, PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Step, StoreError};
use crate::domain::{
    calendar::Moment,
    document::{Alternatives, Availability, OtherSchedule, ScheduleDocument, SeatDocument},
    ids::{OrderId, ScheduleId, SeatNo},
    money::Fen,
    order::Status,
    schedule::NewSchedule,
    session_rules::{RefundRules, SaleTimes},
};

#[derive(FromRow)]
struct ScheduleRow {
    schedule_id: ScheduleId,
    course_id: String,
    course: String,
    starts_at: OffsetDateTime,
    price_fen: Fen,
    capacity: i32,
    available: i64,
    status: String,
    sale_opens_at: Option<OffsetDateTime>,
    sale_closes_at: OffsetDateTime,
    seats_per_customer: i32,
    refund_rules: Json<RefundRules>,
}

impl From<ScheduleRow> for ScheduleDocument {
    fn from(row: ScheduleRow) -> Self {
        Self {
            schedule_id: row.schedule_id,
            course_id: row.course_id,
            course: row.course,
            starts_at: row.starts_at,
            price_fen: row.price_fen,
            capacity: row.capacity,
            available: row.available,
            status: row.status,
            sale_opens_at: row.sale_opens_at,
            sale_closes_at: row.sale_closes_at,
            seats_per_customer: row.seats_per_customer,
            refund_rules: row.refund_rules.0,
        }
    }
}

/// Adds a session with all its seats free; makes the course when it is new (an existing title stays). Whether it did:
/// a session of this id may have been added before.
pub async fn add(step: &mut Step<'_>, new: &NewSchedule) -> Result<bool, StoreError> {
    let tx = &mut *step.transaction;
    sqlx::query("INSERT INTO courses (course_id, title) VALUES ($1, $2) ON CONFLICT (course_id) DO NOTHING")
        .bind(new.course_id.as_str())
        .bind(new.course.as_str())
        .execute(&mut *tx)
        .await?;
    let added = sqlx::query(
        "INSERT INTO course_schedules (schedule_id, course_id, starts_at, price_fen, capacity, sale_opens_at, sale_closes_at,
                                       seats_per_customer, refund_rules)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (schedule_id) DO NOTHING",
    )
    .bind(new.schedule_id)
    .bind(new.course_id.as_str())
    .bind(new.starts_at.get())
    .bind(new.price_fen.get())
    .bind(new.capacity.get())
    .bind(new.rules.sale_opens_at.map(Moment::get))
    .bind(new.rules.sale_closes_at.map(Moment::get))
    .bind(new.rules.seats_per_customer.get())
    .bind(Json(&new.rules.refund_rules))
    .execute(&mut *tx)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query("INSERT INTO free_seats (schedule_id, seat_no) SELECT $1, generate_series(1, $2)")
        .bind(new.schedule_id)
        .bind(new.capacity.get())
        .execute(&mut *tx)
        .await?;
    Ok(true)
}

/// What a list of sessions is narrowed to. All times inclusive below, exclusive above.
#[derive(Debug, Clone, Default)]
pub struct ScheduleFilter {
    pub course_id: Option<String>,
    pub from: Option<OffsetDateTime>,
    pub to: Option<OffsetDateTime>,
    /// Where the page begins: after this session.
    pub after: Option<(OffsetDateTime, ScheduleId)>,
}

/// At most `limit` sessions, soonest first.
pub async fn list(
    db: impl PgExecutor<'_>,
    filter: &ScheduleFilter,
    limit: i64,
) -> Result<Vec<ScheduleDocument>, StoreError> {
    let rows: Vec<ScheduleRow> = sqlx::query_as(
        "SELECT s.schedule_id, s.course_id, c.title AS course, s.starts_at, s.price_fen, s.capacity,
                s.status::text AS status, s.sale_opens_at, coalesce(s.sale_closes_at, s.starts_at) AS sale_closes_at,
                s.seats_per_customer, s.refund_rules,
                (SELECT count(*) FROM free_seats f WHERE f.schedule_id = s.schedule_id) AS available
           FROM course_schedules s JOIN courses c USING (course_id)
          WHERE ($1::text IS NULL OR s.course_id = $1)
            AND ($2::timestamptz IS NULL OR s.starts_at >= $2)
            AND ($3::timestamptz IS NULL OR s.starts_at < $3)
            AND ($4::timestamptz IS NULL OR (s.starts_at, s.schedule_id) > ($4, $5))
          ORDER BY s.starts_at, s.schedule_id
          LIMIT $6",
    )
    .bind(&filter.course_id)
    .bind(filter.from)
    .bind(filter.to)
    .bind(filter.after.map(|(starts_at, _)| starts_at))
    .bind(filter.after.map(|(_, id)| id))
    .bind(limit)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(ScheduleDocument::from).collect())
}

/// One session.
pub async fn find(db: impl PgExecutor<'_>, id: ScheduleId) -> Result<Option<ScheduleDocument>, StoreError> {
    let row: Option<ScheduleRow> = sqlx::query_as(
        "SELECT s.schedule_id, s.course_id, c.title AS course, s.starts_at, s.price_fen, s.capacity,
                s.status::text AS status, s.sale_opens_at, coalesce(s.sale_closes_at, s.starts_at) AS sale_closes_at,
                s.seats_per_customer, s.refund_rules,
                (SELECT count(*) FROM free_seats f WHERE f.schedule_id = s.schedule_id) AS available
           FROM course_schedules s JOIN courses c USING (course_id)
          WHERE s.schedule_id = $1",
    )
    .bind(id)
    .fetch_optional(db)
    .await?;
    Ok(row.map(ScheduleDocument::from))
}

/// A session that is known to be there, since it was just added.
pub async fn added(db: impl PgExecutor<'_>, id: ScheduleId) -> Result<ScheduleDocument, StoreError> {
    find(db, id).await?.ok_or_else(|| StoreError::Bug(sqlx::Error::RowNotFound))
}

/// Each seat of a session, by number, with who has it.
pub async fn seats(db: impl PgExecutor<'_>, schedule: ScheduleId) -> Result<Vec<SeatDocument>, StoreError> {
    type Row = (SeatNo, String, Option<OrderId>, Option<Status>, Option<OffsetDateTime>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT seat_no, 'free' AS state, NULL AS order_id, NULL::order_status, NULL::timestamptz
           FROM free_seats WHERE schedule_id = $1
         UNION ALL
         SELECT r.seat_no, CASE r.status WHEN 'temporary' THEN 'held' ELSE 'confirmed' END, o.order_id, o.status, r.expires_at
           FROM seat_reservations r JOIN payment_orders o USING (order_id)
          WHERE r.schedule_id = $1 AND r.status <> 'cancelled'
          ORDER BY 1",
    )
    .bind(schedule)
    .fetch_all(db)
    .await?;
    let seat = |(seat_no, state, order_id, order_status, held_until)| SeatDocument {
        seat_no,
        state,
        order_id,
        order_status,
        held_until,
    };
    Ok(rows.into_iter().map(seat).collect())
}

/// Whether a session takes orders and customers who wait; `None` when there is no such session.
pub async fn is_open(db: impl PgExecutor<'_>, id: ScheduleId) -> Result<Option<bool>, StoreError> {
    Ok(sqlx::query_scalar("SELECT status = 'open' AND starts_at > now() FROM course_schedules WHERE schedule_id = $1")
        .bind(id)
        .fetch_optional(db)
        .await?)
}

/// Seats of one session now; `None` when there is no such session.
pub async fn availability(db: impl PgExecutor<'_>, schedule: ScheduleId) -> Result<Option<Availability>, StoreError> {
    type Row = (i32, i64, i64, Vec<SeatNo>, OffsetDateTime);
    let row: Option<Row> = sqlx::query_as(
        "SELECT s.capacity,
                (SELECT count(*) FROM seat_reservations r
                  WHERE r.schedule_id = s.schedule_id AND r.status = 'temporary'),
                (SELECT count(*) FROM seat_reservations r
                  WHERE r.schedule_id = s.schedule_id AND r.status = 'confirmed'),
                ARRAY(SELECT f.seat_no FROM free_seats f WHERE f.schedule_id = s.schedule_id ORDER BY f.seat_no),
                now()
           FROM course_schedules s WHERE s.schedule_id = $1",
    )
    .bind(schedule)
    .fetch_optional(db)
    .await?;
    Ok(row.map(|(capacity, held, confirmed, seats_free, as_of)| Availability {
        capacity,
        available: i64::try_from(seats_free.len()).expect("a room has fewer than 2^63 seats"),
        held,
        confirmed,
        seats_free,
        as_of,
    }))
}

/// What could be booked instead, per session asked for.
pub async fn alternatives(
    step: &mut Step<'_>,
    schedules: &[ScheduleId],
) -> Result<HashMap<ScheduleId, Alternatives>, StoreError> {
    let tx = &mut *step.transaction;
    let mut found: HashMap<ScheduleId, Alternatives> =
        schedules.iter().map(|id| (*id, Alternatives::default())).collect();
    let seats: Vec<(ScheduleId, SeatNo)> = sqlx::query_as(
        "SELECT f.schedule_id, f.seat_no
           FROM unnest($1::uuid[]) AS wanted(schedule_id)
           JOIN course_schedules s ON s.schedule_id = wanted.schedule_id AND s.status = 'open'
                AND coalesce(s.sale_closes_at, s.starts_at) > now() AND (s.sale_opens_at IS NULL OR s.sale_opens_at <= now())
          CROSS JOIN LATERAL (
                SELECT schedule_id, seat_no FROM free_seats
                 WHERE schedule_id = wanted.schedule_id ORDER BY seat_no LIMIT 20) f
          ORDER BY f.schedule_id, f.seat_no",
    )
    .bind(schedules)
    .fetch_all(&mut *tx)
    .await?;
    for (schedule, seat) in seats {
        found.entry(schedule).or_default().seats.push(seat);
    }
    let others: Vec<(ScheduleId, Uuid, String, OffsetDateTime, Fen, i64)> = sqlx::query_as(
        "SELECT wanted.schedule_id, o.schedule_id, o.title, o.starts_at, o.price_fen, o.available
           FROM unnest($1::uuid[]) AS wanted(schedule_id)
           JOIN course_schedules s ON s.schedule_id = wanted.schedule_id
          CROSS JOIN LATERAL (
                SELECT other.schedule_id, c.title, other.starts_at, other.price_fen,
                       (SELECT count(*) FROM free_seats f WHERE f.schedule_id = other.schedule_id) AS available
                  FROM course_schedules other JOIN courses c USING (course_id)
                 WHERE other.course_id = s.course_id AND other.schedule_id <> s.schedule_id
                   AND other.status = 'open' AND coalesce(other.sale_closes_at, other.starts_at) > now()
                   AND (other.sale_opens_at IS NULL OR other.sale_opens_at <= now())
                   AND EXISTS (SELECT FROM free_seats f WHERE f.schedule_id = other.schedule_id)
                 ORDER BY other.starts_at, other.schedule_id LIMIT 5) o
          ORDER BY o.starts_at, o.schedule_id",
    )
    .bind(schedules)
    .fetch_all(&mut *tx)
    .await?;
    for (wanted, other, course, starts_at, price_fen, available) in others {
        found.entry(wanted).or_default().schedules.push(OtherSchedule {
            schedule_id: ScheduleId(other),
            course,
            starts_at,
            price_fen,
            available,
        });
    }
    Ok(found)
}

/// What the ingress judges orders for a session by.
#[derive(Debug, Clone, Copy)]
pub struct ForSale {
    pub schedule_id: ScheduleId,
    pub price_fen: Fen,
    /// It is not cancelled.
    pub open: bool,
    pub times: SaleTimes,
}

/// Every session that can still be ordered or was over a day ago at most, for the catalogue that the ingress judges by: what
/// is read each half minute must not grow with the years.
///
/// # Errors
/// PostgreSQL is away or refuses.
pub async fn for_sale(db: impl PgExecutor<'_>) -> Result<Vec<ForSale>, StoreError> {
    type Row = (ScheduleId, Fen, bool, Option<OffsetDateTime>, OffsetDateTime);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT schedule_id, price_fen, status = 'open', sale_opens_at, coalesce(sale_closes_at, starts_at)
           FROM course_schedules WHERE starts_at > now() - interval '1 day'",
    )
    .fetch_all(db)
    .await?;
    let for_sale = |(schedule_id, price_fen, open, opens_at, closes_at)| ForSale {
        schedule_id,
        price_fen,
        open,
        times: SaleTimes { opens_at, closes_at },
    };
    Ok(rows.into_iter().map(for_sale).collect())
}

/// The clock that sales are judged by: the database's.
///
/// # Errors
/// PostgreSQL is away or refuses.
pub async fn clock(db: impl PgExecutor<'_>) -> Result<OffsetDateTime, StoreError> {
    Ok(sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(db).await?)
}
