//! `notifications`: what customers are to be told, and how far each message got.

use std::collections::HashMap;

use sqlx::{FromRow, PgExecutor};
use time::{Duration, OffsetDateTime};

use super::{
    Database, Step, StoreError, readable,
    sealed::{Closed, PersonalKeys},
};
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
    /// `None` when nobody told it; an error when its key is not at hand.
    pub openid: Result<Option<Openid>, Closed>,
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
    order_id: OrderId,
    kind: Kind,
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

/// Takes one attempt at each of these notifications: marks its answer as in doubt before the call is made. One claim
/// each, in the same order; of two that name the same notification one finds it settled.
pub async fn claim(db: &Database, keys: &PersonalKeys, due: &[(OrderId, Kind)]) -> Result<Vec<Claim>, StoreError> {
    let (orders, kinds): (Vec<&OrderId>, Vec<Kind>) = due.iter().map(|(order, kind)| (order, *kind)).unzip();
    let claimed = sqlx::query_as(
        "WITH before AS (
             SELECT order_id, kind, in_doubt_since FROM notifications
              WHERE (order_id, kind) IN (SELECT t.order_id, t.kind FROM unnest($1::text[], $2::notification_kind[]) AS t(order_id, kind)) AND status = 'pending'
              ORDER BY order_id, kind FOR UPDATE
         ), claimed AS (
             UPDATE notifications n
                SET attempts = n.attempts + 1, in_doubt_since = coalesce(n.in_doubt_since, now()), updated_at = now()
               FROM before b WHERE n.order_id = b.order_id AND n.kind = b.kind
          RETURNING n.order_id, n.kind, extract(epoch FROM now() - b.in_doubt_since)::float8 AS in_doubt_for
         )
         SELECT claimed.order_id, claimed.kind, claimed.in_doubt_for, o.user_id, u.openid, c.title AS course, s.starts_at, o.amount_fen, o.refunded_fen,
                r.seat_no, o.reason
           FROM claimed
           JOIN payment_orders o USING (order_id)
           JOIN users u USING (user_id)
           JOIN course_schedules s USING (schedule_id)
           JOIN courses c USING (course_id)
           LEFT JOIN seat_reservations r USING (order_id)",
    )
    .bind(orders)
    .bind(kinds);
    let rows: Vec<ClaimRow> = crash::around("commit", "notifications.claim", claimed.fetch_all(db.pool())).await?;
    let mut claims: HashMap<(OrderId, Kind), Claim> =
        rows.into_iter().map(|row| ((row.order_id.clone(), row.kind), row.claim(keys))).collect();
    Ok(due.iter().map(|one| claims.remove(one).unwrap_or(Claim::Settled)).collect())
}

impl ClaimRow {
    fn claim(self, keys: &PersonalKeys) -> Claim {
        if self.in_doubt_for.is_some_and(|seconds| seconds >= REPEATABLE_FOR.as_seconds_f64()) {
            return Claim::TooLateToRepeat;
        }
        Claim::Ours(Box::new(Addressed {
            openid: self.openid.map(|sealed| keys.open(&self.user_id, &sealed)).transpose(),
            course: self.course,
            starts_at: self.starts_at,
            amount_fen: self.amount_fen,
            refunded_fen: self.refunded_fen,
            seat_no: self.seat_no,
            reason: self.reason,
            in_doubt_before: self.in_doubt_for.is_some(),
        }))
    }
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

/// An attempt that ended.
#[derive(Debug, Clone)]
pub struct Record {
    pub order_id: OrderId,
    pub kind: Kind,
    pub ended: Ended,
    /// The claim's.
    pub in_doubt_before: bool,
}

impl Record {
    fn status(&self) -> NotificationStatus {
        match self.ended {
            Ended::Sent { .. } => NotificationStatus::Sent,
            Ended::Failed { .. } => NotificationStatus::Failed,
            Ended::NotNow { .. } => NotificationStatus::Pending,
            Ended::Uncertain => NotificationStatus::Uncertain,
        }
    }

    fn msgid(&self) -> Option<i64> {
        match self.ended {
            Ended::Sent { msgid } => Some(msgid),
            Ended::Failed { .. } | Ended::NotNow { .. } | Ended::Uncertain => None,
        }
    }

    fn error(&self) -> (Option<i32>, Option<&str>) {
        match &self.ended {
            Ended::Sent { .. } => (None, None),
            Ended::Failed { errcode, error } | Ended::NotNow { errcode, error } => (*errcode, Some(error)),
            Ended::Uncertain => (None, Some("the answer was lost")),
        }
    }
}

/// Records how attempts ended. An answer lost is not recorded at all: the doubt stands from the claim.
pub async fn record(db: impl PgExecutor<'_>, records: &[Record]) -> Result<(), StoreError> {
    let recorded = sqlx::query(
        "UPDATE notifications n
            SET status = t.status, msgid = t.msgid, errcode = t.errcode, error = t.error, updated_at = now(),
                in_doubt_since = CASE WHEN t.status = 'pending' AND t.in_doubt_before THEN n.in_doubt_since END,
                sent_at = CASE WHEN t.status = 'sent' THEN now() END
           FROM unnest($1::text[], $2::notification_kind[], $3::notification_status[], $4::bigint[], $5::int[], $6::text[],
                       $7::bool[])
             AS t(order_id, kind, status, msgid, errcode, error, in_doubt_before)
          WHERE n.order_id = t.order_id AND n.kind = t.kind AND n.status = 'pending'",
    )
    .bind(records.iter().map(|record| &record.order_id).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.kind).collect::<Vec<_>>())
    .bind(records.iter().map(Record::status).collect::<Vec<_>>())
    .bind(records.iter().map(Record::msgid).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.error().0).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.error().1).collect::<Vec<_>>())
    .bind(records.iter().map(|record| record.in_doubt_before).collect::<Vec<_>>());
    crash::around("commit", "notifications.record", recorded.execute(db)).await?;
    Ok(())
}

/// The kinds still to be sent for these orders: what a worker derives its follow-ups from.
pub async fn pending(db: impl PgExecutor<'_>, orders: &[OrderId]) -> Result<Vec<(OrderId, Kind)>, StoreError> {
    let rows = sqlx::query("SELECT order_id, kind FROM notifications WHERE order_id = ANY($1) AND status = 'pending'")
        .bind(orders)
        .fetch_all(db)
        .await?;
    Ok(readable("notifications", &rows, i64::MAX))
}

/// A message of another kind is a newer release's to send, and keeps this one from none of its own.
pub(super) fn known_kinds() -> Vec<&'static str> {
    Kind::ALL.iter().map(|kind| kind.as_str()).collect()
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
