//! `payment_orders`: reading them as documents and moving them along the state table.

use std::borrow::Cow;

use serde_json::json;
use sqlx::{FromRow, PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Step, StoreError,
    audit::{self, AuditRow},
    sealed::{Closed, PersonalKeys},
};
use crate::{
    crash,
    domain::{
        document::{Alternatives, OrderDocument, Snapshot},
        ids::{OrderId, ScheduleId, SeatNo, UserId},
        message::Openid,
        money::Fen,
        order::{Channel, Status},
        overrides::WAIVED,
    },
};

#[derive(FromRow)]
struct OrderRow {
    order_id: OrderId,
    user_id: UserId,
    schedule_id: ScheduleId,
    status: Status,
    channel: Channel,
    amount_fen: Fen,
    currency: String,
    seat_no: Option<SeatNo>,
    request_hash: String,
    reason: Option<String>,
    alternatives: Option<Json<Alternatives>>,
    code_url: Option<String>,
    jsapi: Option<Json<serde_json::Value>>,
    hold_expires_at: Option<OffsetDateTime>,
    pay_before: Option<OffsetDateTime>,
    paid_at: Option<OffsetDateTime>,
    transaction_id: Option<String>,
    refunded_fen: Fen,
    version: i32,
    submitted_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl From<OrderRow> for Snapshot {
    fn from(row: OrderRow) -> Self {
        Self {
            owner: row.user_id,
            request_hash: row.request_hash,
            document: OrderDocument {
                order_id: row.order_id,
                status: row.status,
                schedule_id: row.schedule_id,
                seat_no: row.seat_no,
                amount_fen: row.amount_fen,
                currency: row.currency,
                channel: row.channel,
                // A code that must not be paid any more is not shown.
                code_url: row.code_url.filter(|_| row.status.is_payable()),
                jsapi: row.jsapi.map(|Json(jsapi)| jsapi).filter(|_| row.status.is_payable()),
                hold_expires_at: row.hold_expires_at,
                pay_before: row.pay_before,
                paid_at: row.paid_at,
                transaction_id: row.transaction_id,
                refunded_fen: row.refunded_fen,
                reason: row.reason,
                alternatives: row.alternatives.map(|Json(alternatives)| alternatives),
                created_at: row.submitted_at,
                updated_at: row.updated_at,
                version: row.version,
            },
            sale: None,
        }
    }
}

/// The orders with these ids, in no particular order; unknown ids are left out.
pub async fn snapshots(db: impl PgExecutor<'_>, ids: &[OrderId]) -> Result<Vec<Snapshot>, StoreError> {
    let rows: Vec<OrderRow> = sqlx::query_as(
        "SELECT o.order_id, o.user_id, o.schedule_id, o.status, o.channel, o.amount_fen, o.currency, r.seat_no,
                o.request_hash, o.reason, o.alternatives, o.code_url, o.jsapi, o.hold_expires_at, o.pay_before,
                o.paid_at, o.transaction_id, o.refunded_fen, o.version, o.submitted_at, o.updated_at
           FROM payment_orders o
           LEFT JOIN seat_reservations r ON r.order_id = o.order_id AND r.status <> 'cancelled'
          WHERE o.order_id = ANY($1)",
    )
    .bind(ids)
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Snapshot::from).collect())
}

pub async fn snapshot(db: impl PgExecutor<'_>, id: &OrderId) -> Result<Option<Snapshot>, StoreError> {
    Ok(snapshots(db, std::slice::from_ref(id)).await?.pop())
}

/// Where a page of a customer's orders begins: after this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderCursor {
    pub created_at: OffsetDateTime,
    pub order_id: OrderId,
}

/// At most `limit` of a customer's orders, newest first. One in a state that only a newer release knows is left out.
pub async fn of_user(
    db: impl PgExecutor<'_>,
    user: &UserId,
    after: Option<&OrderCursor>,
    limit: i64,
) -> Result<Vec<Snapshot>, StoreError> {
    let rows: Vec<OrderRow> = sqlx::query_as(
        "SELECT o.order_id, o.user_id, o.schedule_id, o.status, o.channel, o.amount_fen, o.currency, r.seat_no,
                o.request_hash, o.reason, o.alternatives, o.code_url, o.jsapi, o.hold_expires_at, o.pay_before,
                o.paid_at, o.transaction_id, o.refunded_fen, o.version, o.submitted_at, o.updated_at
           FROM payment_orders o
           LEFT JOIN seat_reservations r ON r.order_id = o.order_id AND r.status <> 'cancelled'
          WHERE o.user_id = $1 AND o.status::text = ANY($5)
            AND ($2::timestamptz IS NULL OR (o.submitted_at, o.order_id) < ($2, $3))
          ORDER BY o.submitted_at DESC, o.order_id DESC
          LIMIT $4",
    )
    .bind(user)
    .bind(after.map(|cursor| cursor.created_at))
    .bind(after.map(|cursor| &cursor.order_id))
    .bind(limit)
    .bind(Status::ALL.iter().map(|status| status.as_str()).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(Snapshot::from).collect())
}

/// An order whose row is locked until the transaction ends.
#[derive(Debug, Clone, FromRow)]
pub struct Locked {
    pub order_id: OrderId,
    pub user_id: UserId,
    pub schedule_id: ScheduleId,
    pub status: Status,
    pub amount_fen: Fen,
    pub transaction_id: Option<String>,
    pub paid_fen: Fen,
    pub refund_promised_fen: Fen,
    pub refunded_fen: Fen,
    pub version: i32,
    audit_head: Vec<u8>,
    pub reservation_id: Option<Uuid>,
    pub seat_no: Option<SeatNo>,
    /// Whether its reservation still holds a seat for it.
    pub holds_seat: bool,
    /// When the sale of its session ends.
    pub sale_closes_at: OffsetDateTime,
}

impl Locked {
    /// An operator waived its price: nobody took money for it.
    pub fn is_waived(&self) -> bool {
        self.transaction_id.as_ref().is_some_and(|id| id.starts_with(WAIVED))
    }
}

/// Locks the orders, in the order of their ids so that two transactions never wait for each other crosswise.
pub async fn lock(step: &mut Step<'_>, ids: &[OrderId]) -> Result<Vec<Locked>, StoreError> {
    // A statement of its own: one that waits for a lock goes on with the newest row of what it locks, but with the
    // rows it saw before of everything it joins, such as a reservation that has ended meanwhile.
    sqlx::query("SELECT FROM payment_orders WHERE order_id = ANY($1) ORDER BY order_id FOR UPDATE")
        .bind(ids)
        .execute(&mut *step.transaction)
        .await?;
    read_locked(step, ids).await
}

/// Locks one order under an account that may not write orders; the rest of the transaction is a function of the
/// schema's owner.
pub(super) async fn lock_for_person(step: &mut Step<'_>, id: &OrderId) -> Result<Option<Locked>, StoreError> {
    sqlx::query("SELECT payment_order_lock($1)").bind(id).execute(&mut *step.transaction).await?;
    Ok(read_locked(step, std::slice::from_ref(id)).await?.pop())
}

async fn read_locked(step: &mut Step<'_>, ids: &[OrderId]) -> Result<Vec<Locked>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT o.order_id, o.user_id, o.schedule_id, o.status, o.amount_fen, o.transaction_id, o.paid_fen,
                o.refund_promised_fen, o.refunded_fen, o.version, o.audit_head,
                r.reservation_id, r.seat_no, coalesce(r.status = 'temporary', false) AS holds_seat,
                coalesce(s.sale_closes_at, s.starts_at) AS sale_closes_at
           FROM payment_orders o
           JOIN course_schedules s USING (schedule_id)
           LEFT JOIN seat_reservations r ON r.order_id = o.order_id
          WHERE o.order_id = ANY($1)",
    )
    .bind(ids)
    .fetch_all(&mut *step.transaction)
    .await?)
}

/// One change of one locked order. What is `None` stays as it is.
#[derive(Debug, Clone)]
pub struct Change {
    pub to: Status,
    /// What happened, for the audit log.
    pub event: &'static str,
    /// `worker:seats`, `user:…`, `operator:…`
    pub actor: Cow<'static, str>,
    /// Why, where it does not go without saying.
    pub reason: Option<String>,
    pub request_id: Option<String>,
    pub code: Option<Code>,
    pub paid: Option<Paid>,
    /// Added to what has been promised back; below zero when a promise is given up.
    pub promised: Fen,
    /// Added to what has been given back.
    pub refunded: Fen,
}

impl Change {
    /// A change of status and nothing else.
    pub fn of_status(to: Status, event: &'static str, actor: impl Into<Cow<'static, str>>) -> Self {
        Self {
            to,
            event,
            actor: actor.into(),
            reason: None,
            request_id: None,
            code: None,
            paid: None,
            promised: Fen::ZERO,
            refunded: Fen::ZERO,
        }
    }
}

/// What WeChat gave to pay with.
#[derive(Debug, Clone)]
pub enum Code {
    /// The text of the QR code.
    Native(String),
    /// For the payment sheet inside WeChat.
    Jsapi { prepay_id: String, invocation: serde_json::Value },
}

/// The payment that settles an order.
#[derive(Debug, Clone)]
pub struct Paid {
    pub transaction_id: String,
    pub at: OffsetDateTime,
    pub fen: Fen,
}

/// Changes locked orders, at most once each per transaction, and writes their audit rows: there is no
/// other way to change a status.
pub async fn change(step: &mut Step<'_>, changes: &[(&Locked, Change)]) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let rows: Vec<AuditRow> = changes.iter().map(|(order, change)| audit_row(order, change)).collect();
    let columns = |of: fn(&Change) -> Option<String>| changes.iter().map(|(_, change)| of(change)).collect::<Vec<_>>();
    sqlx::query(
        "UPDATE payment_orders o
            SET status = t.status, code_url = coalesce(t.code_url, o.code_url), prepay_id = coalesce(t.prepay_id, o.prepay_id),
                jsapi = coalesce(t.jsapi, o.jsapi), transaction_id = coalesce(t.transaction_id, o.transaction_id),
                paid_at = coalesce(t.paid_at, o.paid_at), paid_fen = coalesce(t.paid_fen, o.paid_fen),
                refund_promised_fen = o.refund_promised_fen + t.promised, refunded_fen = o.refunded_fen + t.refunded,
                version = o.version + 1, audit_head = t.audit_head, updated_at = now()
           FROM unnest($1::text[], $2::order_status[], $3::text[], $4::text[], $5::jsonb[], $6::text[], $7::timestamptz[],
                       $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[])
             AS t(order_id, status, code_url, prepay_id, jsapi, transaction_id, paid_at, paid_fen, promised, refunded, audit_head)
          WHERE o.order_id = t.order_id",
    )
    .bind(changes.iter().map(|(order, _)| order.order_id.clone()).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.to).collect::<Vec<_>>())
    .bind(columns(|change| match &change.code {
        Some(Code::Native(code_url)) => Some(code_url.clone()),
        Some(Code::Jsapi { .. }) | None => None,
    }))
    .bind(columns(|change| match &change.code {
        Some(Code::Jsapi { prepay_id, .. }) => Some(prepay_id.clone()),
        Some(Code::Native(_)) | None => None,
    }))
    .bind(
        changes
            .iter()
            .map(|(_, change)| match &change.code {
                Some(Code::Jsapi { invocation, .. }) => Some(Json(invocation.clone())),
                Some(Code::Native(_)) | None => None,
            })
            .collect::<Vec<_>>(),
    )
    .bind(columns(|change| change.paid.as_ref().map(|paid| paid.transaction_id.clone())))
    .bind(changes.iter().map(|(_, change)| change.paid.as_ref().map(|paid| paid.at)).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.paid.as_ref().map(|paid| paid.fen)).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.promised).collect::<Vec<_>>())
    .bind(changes.iter().map(|(_, change)| change.refunded).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.hash(step.now)).collect::<Vec<_>>())
    .execute(&mut *step.transaction)
    .await?;
    audit::append(step, &rows).await
}

pub(super) fn audit_row(order: &Locked, change: &Change) -> AuditRow {
    let mut after = serde_json::Map::new();
    if let Some(seat) = order.seat_no {
        after.insert("seat_no".into(), json!(seat));
    }
    if let Some(paid) = &change.paid {
        after.insert("transaction_id".into(), json!(paid.transaction_id));
        after.insert("paid_fen".into(), json!(paid.fen));
    }
    if change.promised != Fen::ZERO {
        after.insert("promised_fen".into(), json!(change.promised));
    }
    if change.refunded != Fen::ZERO {
        after.insert("refunded_fen".into(), json!(change.refunded));
    }
    AuditRow {
        order_id: order.order_id.clone(),
        version: order.version + 1,
        event: change.event,
        from: Some(order.status),
        to: change.to,
        actor: change.actor.clone(),
        reason: change.reason.clone(),
        request_id: change.request_id.clone(),
        before: order.seat_no.map(|seat| json!({ "seat_no": seat })),
        after: after.into(),
        prev_hash: order.audit_head.clone(),
    }
}

/// What WeChat must be told to make the code of a held order.
#[derive(Debug, Clone, FromRow)]
pub struct Unpriced {
    pub order_id: OrderId,
    pub status: Status,
    pub channel: Channel,
    pub amount_fen: Fen,
    pub course: String,
    pub starts_at: OffsetDateTime,
    pub seat_no: Option<SeatNo>,
    pub pay_before: Option<OffsetDateTime>,
    /// Whether there is still time to pay, by the database's clock.
    pub in_time: bool,
    user_id: UserId,
    openid: Option<Vec<u8>>,
}

impl Unpriced {
    /// The payer inside WeChat; `None` when nobody told who that is.
    ///
    /// # Errors
    /// The key is not at hand.
    pub fn openid(&self, keys: &PersonalKeys) -> Result<Option<Openid>, Closed> {
        self.openid.as_ref().map(|sealed| keys.open(&self.user_id, sealed)).transpose()
    }
}

/// An order as its deadlines see it, by the database's clock.
#[derive(Debug, Clone, FromRow)]
pub struct Due {
    pub order_id: OrderId,
    pub user_id: UserId,
    pub schedule_id: ScheduleId,
    pub status: Status,
    pub hold_over: bool,
    pub deadline_over: bool,
    pub session_sold_out: bool,
}

/// Where an order stands between its deadlines.
pub async fn due(db: impl PgExecutor<'_>, id: &OrderId) -> Result<Option<Due>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT order_id, user_id, schedule_id, status, coalesce(hold_expires_at <= now(), false) AS hold_over,
                coalesce(pay_before <= now(), false) AS deadline_over,
                NOT EXISTS (SELECT FROM free_seats f WHERE f.schedule_id = o.schedule_id) AS session_sold_out
           FROM payment_orders o WHERE order_id = $1",
    )
    .bind(id)
    .fetch_optional(db)
    .await?)
}

/// Takes the look at WeChat that is due in this period for an unpaid order; `false` when another timer has taken it.
///
/// # Errors
/// See [`StoreError`].
pub async fn take_look(db: impl PgExecutor<'_>, id: &OrderId, period: std::time::Duration) -> Result<bool, StoreError> {
    // Three quarters: a timer that is delivered a little early is no second one.
    let taken = sqlx::query(
        "UPDATE payment_orders SET looked_at = now()
          WHERE order_id = $1 AND (looked_at IS NULL OR looked_at <= now() - make_interval(secs => $2 * 0.75))",
    )
    .bind(id)
    .bind(period.as_secs_f64());
    Ok(crash::around("commit", "expiry.look", taken.execute(db)).await?.rows_affected() > 0)
}

/// At most `limit` lapsed orders of the sessions whose last free seat one of these orders took, while none is free.
/// Which order took it is decided and stored under the session's lock (`seat_reservations.took_last`).
pub async fn lapsed_by_last_seat(
    db: impl PgExecutor<'_>,
    orders: &[OrderId],
    limit: i64,
) -> Result<Vec<OrderId>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT o.order_id FROM seat_reservations r JOIN payment_orders o ON o.schedule_id = r.schedule_id
          WHERE r.order_id = ANY($1) AND r.took_last AND r.status <> 'cancelled' AND o.status = 'lapsed'
            AND NOT EXISTS (SELECT FROM free_seats f WHERE f.schedule_id = r.schedule_id)
          ORDER BY o.order_id LIMIT $2",
    )
    .bind(orders)
    .bind(limit)
    .fetch_all(db)
    .await?)
}

/// The orders as the prepay worker needs them, in no particular order; unknown ids are left out.
pub async fn for_prepay(db: impl PgExecutor<'_>, ids: &[OrderId]) -> Result<Vec<Unpriced>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT o.order_id, o.status, o.channel, o.amount_fen, c.title AS course, s.starts_at, r.seat_no, o.pay_before,
                coalesce(o.pay_before > now(), false) AS in_time, o.user_id, u.openid
           FROM payment_orders o
           JOIN course_schedules s USING (schedule_id)
           JOIN courses c USING (course_id)
           JOIN users u USING (user_id)
           LEFT JOIN seat_reservations r USING (order_id)
          WHERE o.order_id = ANY($1)",
    )
    .bind(ids)
    .fetch_all(db)
    .await?)
}
