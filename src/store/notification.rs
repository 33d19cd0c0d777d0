//! `notifications`: what customers are to be told, and how far each message got.

use sqlx::{FromRow, PgExecutor};
use time::{Duration, OffsetDateTime};

use super::{Database, Step, StoreError, user::PersonalKey};
use crate::crash;
use crate::domain::{
    ids::{OrderId, SeatNo, UserId},
    message::Openid,
    money::Fen,
    notification::{Kind, NotificationStatus},
};

/// How long an attempt whose answer was lost may be repeated. WeChat remembers a `client_msg_id` for ten minutes
/// (Official Account, template message); the last of them is for the call's own way.
pub const REPEATABLE_FOR: Duration = Duration::minutes(9);

/// Notes that these orders' customers are to be told. A note that exists already stays as it is.
pub(super) async fn intend(step: &mut Step<'_>, orders: &[OrderId], kind: Kind) -> Result<(), StoreError> {
    if orders.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO notifications (order_id, kind)
         SELECT unnest($1::text[]), $2 ON CONFLICT (order_id, kind) DO NOTHING",
    )
    .bind(orders)
    .bind(kind)
    .execute(&mut *step.transaction)
    .await?;
    Ok(())
}

/// Everything a message to the customer is made of.
#[derive(Debug, Clone)]
pub struct Addressed {
    pub openid: Option<Openid>,
    pub course: String,
    pub starts_at: OffsetDateTime,
    pub amount_fen: Fen,
    pub refunded_fen: Fen,
    pub seat_no: Option<SeatNo>,
    pub reason: Option<String>,
    /// An earlier attempt's answer was lost: whatever this one is told, that one may have arrived.
    pub in_doubt_before: bool,
}

/// What claiming a notification found.
#[derive(Debug)]
pub enum Claim {
    /// This attempt is ours; from now on its answer is in doubt until it is recorded.
    Ours(Box<Addressed>),
    /// Sent, failed or uncertain already, or never intended.
    Settled,
    /// An earlier answer was lost and WeChat does not remember it any more.
    TooLateToRepeat,
}

#[derive(FromRow)]
struct ClaimRow {
    in_doubt_for: Option<f64>,
    user_id: UserId,
    openid: Option<Vec<u8>>,
    course: String,
    starts_at: OffsetDateTime,
    amount_fen: Fen,
    refunded_fen: Fen,
    seat_no: Option<SeatNo>,
    reason: Option<String>,
}

/// Takes one attempt at a notification: marks its answer as in doubt before the call is made.
pub async fn claim(db: &Database, key: &PersonalKey, order: &OrderId, kind: Kind) -> Result<Claim, StoreError> {
    let claimed = sqlx::query_as(
        "WITH before AS (
             SELECT order_id, kind, in_doubt_since FROM notifications
              WHERE order_id = $1 AND kind = $2 AND status = 'pending' FOR UPDATE
         ), claimed AS (
             UPDATE notifications n
                SET attempts = n.attempts + 1, in_doubt_since = coalesce(n.in_doubt_since, now()), updated_at = now()
               FROM before b WHERE n.order_id = b.order_id AND n.kind = b.kind
          RETURNING n.order_id, extract(epoch FROM now() - b.in_doubt_since)::float8 AS in_doubt_for
         )
         SELECT claimed.in_doubt_for, o.user_id, u.openid, c.title AS course, s.starts_at, o.amount_fen, o.refunded_fen,
                r.seat_no, o.reason
           FROM claimed
           JOIN payment_orders o USING (order_id)
           JOIN users u USING (user_id)
           JOIN course_schedules s USING (schedule_id)
           JOIN courses c USING (course_id)
           LEFT JOIN seat_reservations r USING (order_id)",
    )
    .bind(order)
    .bind(kind);
    let row: Option<ClaimRow> =
        crash::around("commit", "notifications.claim", claimed.fetch_optional(db.pool())).await?;
    let Some(row) = row else {
        return Ok(Claim::Settled);
    };
    if row.in_doubt_for.is_some_and(|seconds| seconds >= REPEATABLE_FOR.as_seconds_f64()) {
        return Ok(Claim::TooLateToRepeat);
    }
    Ok(Claim::Ours(Box::new(Addressed {
        openid: row.openid.and_then(|sealed| key.open(&row.user_id, &sealed)),
        course: row.course,
        starts_at: row.starts_at,
        amount_fen: row.amount_fen,
        refunded_fen: row.refunded_fen,
        seat_no: row.seat_no,
        reason: row.reason,
        in_doubt_before: row.in_doubt_for.is_some(),
    })))
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub enum Ended {
    Sent {
        msgid: i64,
    },
    /// WeChat's word that this one will never be sent, or ours that it cannot be.
    Failed {
        errcode: Option<i32>,
        error: String,
    },
    /// WeChat's word that it was not sent now. The next attempt starts with no more doubt than this one.
    NotNow {
        errcode: Option<i32>,
        error: String,
    },
    Uncertain,
}

/// Records how the attempt ended. An answer lost is not recorded at all: the doubt stands from the claim.
/// `in_doubt_before` is the claim's.
pub async fn record(
    db: impl PgExecutor<'_>,
    order: &OrderId,
    kind: Kind,
    ended: &Ended,
    in_doubt_before: bool,
) -> Result<(), StoreError> {
    let (status, msgid, errcode, error) = match ended {
        Ended::Sent { msgid } => (NotificationStatus::Sent, Some(*msgid), None, None),
        Ended::Failed { errcode, error } => (NotificationStatus::Failed, None, *errcode, Some(error.as_str())),
        Ended::NotNow { errcode, error } => (NotificationStatus::Pending, None, *errcode, Some(error.as_str())),
        Ended::Uncertain => (NotificationStatus::Uncertain, None, None, Some("the answer was lost")),
    };
    let recorded = sqlx::query(
        "UPDATE notifications
            SET status = $3, msgid = $4, errcode = $5, error = $6, updated_at = now(),
                in_doubt_since = CASE WHEN $3 = 'pending'::notification_status AND $7 THEN in_doubt_since END,
                sent_at = CASE WHEN $3 = 'sent'::notification_status THEN now() END
          WHERE order_id = $1 AND kind = $2 AND status = 'pending'",
    )
    .bind(order)
    .bind(kind)
    .bind(status)
    .bind(msgid)
    .bind(errcode)
    .bind(error)
    .bind(in_doubt_before);
    crash::around("commit", "notifications.record", recorded.execute(db)).await?;
    Ok(())
}

/// The kinds still to be sent for these orders: what a worker derives its follow-ups from.
pub async fn pending(db: impl PgExecutor<'_>, orders: &[OrderId]) -> Result<Vec<(OrderId, Kind)>, StoreError> {
    Ok(sqlx::query_as("SELECT order_id, kind FROM notifications WHERE order_id = ANY($1) AND status = 'pending'")
        .bind(orders)
        .fetch_all(db)
        .await?)
}

/// How far a notification got; `None` when it was never intended.
pub async fn status(
    db: impl PgExecutor<'_>,
    order: &OrderId,
    kind: Kind,
) -> Result<Option<NotificationStatus>, StoreError> {
    Ok(sqlx::query_scalar("SELECT status FROM notifications WHERE order_id = $1 AND kind = $2")
        .bind(order)
        .bind(kind)
        .fetch_optional(db)
        .await?)
}
