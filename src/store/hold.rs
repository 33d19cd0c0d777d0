//! Taking submitted orders into the books: seats are set aside, or the order is rejected, for a whole
//! batch in one transaction and in sets.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::json;
use sqlx::{FromRow, types::Json};
use time::{Duration, OffsetDateTime};

use super::{
    Step, StoreError,
    audit::{self, AuditRow},
};
use crate::domain::{
    document::Alternatives,
    ids::{OrderId, ScheduleId, SeatNo},
    message::OrderSubmitted,
    money::Fen,
    order::Status,
    session_rules::{Sale, SaleTimes},
};

/// A session as the seats worker needs it, its row locked against other takers of seats.
#[derive(Debug, Clone)]
pub struct Session {
    pub schedule_id: ScheduleId,
    pub price_fen: Fen,
    /// It is not cancelled.
    pub takes_place: bool,
    /// It takes place and has not begun.
    pub open: bool,
    pub times: SaleTimes,
    /// Where it is in its sale, at the moment of the lock.
    pub sale: Sale,
    /// Held and booked seats that one customer may have.
    pub seats_per_customer: i32,
}

#[derive(FromRow)]
struct SessionRow {
    schedule_id: ScheduleId,
    price_fen: Fen,
    takes_place: bool,
    starts_at: OffsetDateTime,
    sale_opens_at: Option<OffsetDateTime>,
    sale_closes_at: OffsetDateTime,
    seats_per_customer: i32,
}

impl SessionRow {
    fn at(self, now: OffsetDateTime) -> Session {
        let times = SaleTimes { opens_at: self.sale_opens_at, closes_at: self.sale_closes_at };
        Session {
            schedule_id: self.schedule_id,
            price_fen: self.price_fen,
            takes_place: self.takes_place,
            open: self.takes_place && now < self.starts_at,
            times,
            sale: times.at(now),
            seats_per_customer: self.seats_per_customer,
        }
    }
}

/// Locks the sessions and reads them; unknown ones are left out.
///
/// Everybody who takes a free seat holds this lock, so that "none is free" is true when it is said. With one
/// active consumer per session nobody ever waits for it, except while one consumer hands over to the next.
///
/// The step's clock is read again: what is decided under the lock is dated in the order of the decisions, not of the
/// transactions' beginnings.
pub async fn lock_sessions(
    step: &mut Step<'_>,
    schedules: &BTreeSet<ScheduleId>,
) -> Result<HashMap<ScheduleId, Session>, StoreError> {
    let sessions: Vec<SessionRow> = sqlx::query_as(
        "SELECT schedule_id, price_fen, status = 'open' AS takes_place, starts_at, sale_opens_at,
                coalesce(sale_closes_at, starts_at) AS sale_closes_at, seats_per_customer
           FROM course_schedules WHERE schedule_id = ANY($1)
          ORDER BY schedule_id FOR NO KEY UPDATE",
    )
    .bind(schedules.iter().copied().collect::<Vec<_>>())
    .fetch_all(&mut *step.transaction)
    .await?;
    step.now = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *step.transaction).await?;
    Ok(sessions.into_iter().map(|session| (session.schedule_id, session.at(step.now))).collect())
}

/// Which of these orders are in the books already.
pub async fn known<'a>(
    step: &mut Step<'_>,
    orders: impl Iterator<Item = &'a OrderId>,
) -> Result<HashSet<OrderId>, StoreError> {
    let known: Vec<OrderId> = sqlx::query_scalar("SELECT order_id FROM payment_orders WHERE order_id = ANY($1)")
        .bind(orders.collect::<Vec<_>>())
        .fetch_all(&mut *step.transaction)
        .await?;
    Ok(known.into_iter().collect())
}

/// What of a session's free seats a batch can want: its `most` lowest, and these.
#[derive(Debug, Clone, Default)]
pub struct SeatsWanted {
    pub most: i64,
    pub these: Vec<SeatNo>,
}

/// The free seats that the batch may need. Costs the same however large the room is.
pub async fn free_seats(
    step: &mut Step<'_>,
    wanted: &HashMap<ScheduleId, SeatsWanted>,
) -> Result<HashMap<ScheduleId, BTreeSet<SeatNo>>, StoreError> {
    let mut schedules = Vec::new();
    let mut most = Vec::new();
    let mut these_schedules = Vec::new();
    let mut these_seats = Vec::new();
    for (schedule, seats) in wanted {
        schedules.push(*schedule);
        most.push(seats.most);
        for seat in &seats.these {
            these_schedules.push(*schedule);
            these_seats.push(*seat);
        }
    }
    let seats: Vec<(ScheduleId, SeatNo)> = sqlx::query_as(
        "SELECT f.schedule_id, f.seat_no
           FROM unnest($1::uuid[], $2::bigint[]) AS wanted(schedule_id, most)
          CROSS JOIN LATERAL (SELECT schedule_id, seat_no FROM free_seats
                               WHERE schedule_id = wanted.schedule_id ORDER BY seat_no LIMIT wanted.most) f
         UNION
         SELECT f.schedule_id, f.seat_no
           FROM unnest($3::uuid[], $4::int[]) AS this(schedule_id, seat_no)
           JOIN free_seats f USING (schedule_id, seat_no)",
    )
    .bind(schedules)
    .bind(most)
    .bind(these_schedules)
    .bind(these_seats)
    .fetch_all(&mut *step.transaction)
    .await?;
    let mut free: HashMap<ScheduleId, BTreeSet<SeatNo>> = HashMap::new();
    for (schedule, seat) in seats {
        free.entry(schedule).or_default().insert(seat);
    }
    Ok(free)
}

/// What was decided for one submitted order.
#[derive(Debug, Clone)]
pub enum Decision {
    Held(SeatNo),
    /// `reason` is the slug the customer's document shows.
    Rejected {
        reason: &'static str,
        alternatives: Alternatives,
    },
}

/// How long a seat is held and an order can be paid, from now; the end of the session's sale comes first.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    pub hold: Duration,
    pub payment: Duration,
}

/// Until when one order's seat is held, and until when it can be paid.
#[derive(Debug, Clone, Copy)]
struct Until {
    hold: OffsetDateTime,
    payment: OffsetDateTime,
}

impl Deadlines {
    fn until(self, now: OffsetDateTime, sale_closes_at: OffsetDateTime) -> Until {
        Until { hold: (now + self.hold).min(sale_closes_at), payment: (now + self.payment).min(sale_closes_at) }
    }
}

/// Reads the end of the sale of each of these locked sessions here, so that no caller can give an order that outlives it.
async fn deadlines_of(
    step: &mut Step<'_>,
    decided: &[(&OrderSubmitted, Decision)],
    deadlines: Deadlines,
) -> Result<Vec<Until>, StoreError> {
    let schedules: Vec<ScheduleId> = decided.iter().map(|(order, _)| order.schedule_id).collect();
    let closes: Vec<(ScheduleId, OffsetDateTime)> = sqlx::query_as(
        "SELECT schedule_id, coalesce(sale_closes_at, starts_at) FROM course_schedules WHERE schedule_id = ANY($1)",
    )
    .bind(&schedules)
    .fetch_all(&mut *step.transaction)
    .await?;
    let closes: HashMap<ScheduleId, OffsetDateTime> = closes.into_iter().collect();
    let until = |schedule| closes.get(schedule).map(|closes_at| deadlines.until(step.now, *closes_at));
    schedules.iter().map(|schedule| until(schedule).ok_or(StoreError::Bug(sqlx::Error::RowNotFound))).collect()
}

/// Writes the batch: orders in arrival order, reservations, audit rows, notifications of rejections.
/// The users exist, the orders do not, the sessions are locked.
pub async fn record(
    step: &mut Step<'_>,
    decided: &[(&OrderSubmitted, Decision)],
    deadlines: Deadlines,
) -> Result<(), StoreError> {
    let until = deadlines_of(step, decided, deadlines).await?;
    let rows: Vec<AuditRow> =
        decided.iter().zip(&until).map(|((order, decision), until)| first_audit_row(order, decision, *until)).collect();

    insert_orders(step, decided, &rows, &until).await?;
    take_seats(step, decided, &until).await?;
    audit::append(step, &rows).await?;
    let rejected: Vec<OrderId> = decided
        .iter()
        .filter(|(_, decision)| matches!(decision, Decision::Rejected { .. }))
        .map(|(order, _)| order.order_id.clone())
        .collect();
    super::notification::intend(step, &rejected, crate::domain::notification::Kind::BookingFailed).await
}

fn first_audit_row(order: &OrderSubmitted, decision: &Decision, until: Until) -> AuditRow {
    let (event, to, reason, after) = match decision {
        Decision::Held(seat) => (
            "seat_held",
            Status::Held,
            None,
            json!({ "seat_no": seat, "hold_expires_at": until.hold.unix_timestamp(), "pay_before": until.payment.unix_timestamp() }),
        ),
        Decision::Rejected { reason, .. } => {
            ("no_seat", Status::Rejected, Some((*reason).to_owned()), json!({ "reason": reason }))
        }
    };
    AuditRow {
        order_id: order.order_id.clone(),
        version: 1,
        event,
        from: Some(Status::Submitted),
        to,
        actor: "worker:seats".into(),
        reason,
        request_id: Some(order.request_id.clone()),
        before: None,
        after,
        prev_hash: audit::GENESIS.to_vec(),
    }
}

async fn insert_orders(
    step: &mut Step<'_>,
    decided: &[(&OrderSubmitted, Decision)],
    rows: &[AuditRow],
    until: &[Until],
) -> Result<(), StoreError> {
    let column = |of: fn(&OrderSubmitted) -> String| decided.iter().map(|(order, _)| of(order)).collect::<Vec<_>>();
    let rejection = |decision: &Decision| match decision {
        Decision::Held(_) => (None, None),
        Decision::Rejected { reason, alternatives } => (Some(*reason), Some(Json(alternatives.clone()))),
    };
    // The identity column `arrival` numbers the rows as they are inserted: in the order of the batch.
    sqlx::query(
        "INSERT INTO payment_orders
                (order_id, user_id, schedule_id, status, channel, amount_fen, seat_wish, request_hash, reason, alternatives,
                 hold_expires_at, pay_before, audit_head, submitted_at)
         SELECT order_id, user_id, schedule_id, status, channel, amount_fen, seat_wish, request_hash, reason, alternatives,
                CASE WHEN status = 'held' THEN hold_expires_at END, CASE WHEN status = 'held' THEN pay_before END,
                audit_head, submitted_at
           FROM unnest($1::text[], $2::text[], $3::uuid[], $4::order_status[], $5::payment_channel[], $6::bigint[], $7::int[],
                       $8::text[], $9::text[], $10::jsonb[], $11::bytea[], $12::timestamptz[], $13::timestamptz[],
                       $14::timestamptz[])
                WITH ORDINALITY
             AS t(order_id, user_id, schedule_id, status, channel, amount_fen, seat_wish, request_hash, reason, alternatives,
                  audit_head, hold_expires_at, pay_before, submitted_at, place)
          ORDER BY place",
    )
    .bind(column(|order| order.order_id.as_str().to_owned()))
    .bind(column(|order| order.user_id.as_str().to_owned()))
    .bind(decided.iter().map(|(order, _)| order.schedule_id).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.to).collect::<Vec<_>>())
    .bind(decided.iter().map(|(order, _)| order.channel).collect::<Vec<_>>())
    .bind(decided.iter().map(|(order, _)| order.amount_fen).collect::<Vec<_>>())
    .bind(decided.iter().map(|(order, _)| order.seat_no).collect::<Vec<_>>())
    .bind(column(|order| order.request_hash.clone()))
    .bind(decided.iter().map(|(_, decision)| rejection(decision).0).collect::<Vec<_>>())
    .bind(decided.iter().map(|(_, decision)| rejection(decision).1).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.hash(step.now)).collect::<Vec<_>>())
    .bind(until.iter().map(|until| until.hold).collect::<Vec<_>>())
    .bind(until.iter().map(|until| until.payment).collect::<Vec<_>>())
    .bind(decided.iter().map(|(order, _)| order.submitted_at).collect::<Vec<_>>())
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

async fn take_seats(
    step: &mut Step<'_>,
    decided: &[(&OrderSubmitted, Decision)],
    until: &[Until],
) -> Result<(), StoreError> {
    let held = decided.iter().zip(until).filter_map(|((order, decision), until)| match decision {
        Decision::Held(seat) => Some((order.order_id.clone(), (order.schedule_id, (*seat, until.hold)))),
        Decision::Rejected { .. } => None,
    });
    type Columns = (Vec<OrderId>, (Vec<ScheduleId>, (Vec<SeatNo>, Vec<OffsetDateTime>)));
    let (orders, (schedules, (seats, expire_at))): Columns = held.unzip();
    if orders.is_empty() {
        return Ok(());
    }
    // A reservation is made only for a seat whose row was there to be deleted.
    let taken = sqlx::query(
        "WITH wish AS (
             SELECT t.order_id, t.schedule_id, t.seat_no, t.expires_at
               FROM unnest($1::text[], $2::uuid[], $3::int[], $4::timestamptz[])
                 AS t(order_id, schedule_id, seat_no, expires_at)
         ), taken AS (
             DELETE FROM free_seats f USING wish w
              WHERE f.schedule_id = w.schedule_id AND f.seat_no = w.seat_no
          RETURNING w.order_id, f.schedule_id, f.seat_no, w.expires_at
         )
         INSERT INTO seat_reservations (order_id, schedule_id, seat_no, status, expires_at)
         SELECT order_id, schedule_id, seat_no, 'temporary', expires_at FROM taken",
    )
    .bind(&orders)
    .bind(schedules)
    .bind(seats)
    .bind(expire_at)
    .execute(&mut *step.transaction)
    .await?
    .rows_affected();
    if taken != orders.len() as u64 {
        return Err(StoreError::Conflict(sqlx::Error::RowNotFound));
    }
    mark_sold_out(step, decided).await
}

/// Notes at the last order of each session that was given a seat whether it left none: the session sells out here, once.
async fn mark_sold_out(step: &mut Step<'_>, decided: &[(&OrderSubmitted, Decision)]) -> Result<(), StoreError> {
    let mut last: HashMap<ScheduleId, &OrderId> = HashMap::new();
    for (order, decision) in decided {
        match decision {
            Decision::Held(_) => drop(last.insert(order.schedule_id, &order.order_id)),
            Decision::Rejected { .. } => {}
        }
    }
    super::seat::note_last(step, &last.into_values().collect::<Vec<_>>()).await
}
