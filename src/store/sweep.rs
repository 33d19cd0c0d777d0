//! The sweep: every intent that is overdue, in bounded pages, and the mark that it was put back onto its queue.
//!
//! An intent is a row that says what is still to be done. The queue is only the fast way to it: whatever happens
//! to the queue, the row is still there.

use std::time::Duration;

use serde_json::json;
use sqlx::{AssertSqlSafe, FromRow};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Database, StoreError, case};
use crate::crash;
use crate::domain::{
    case::CaseKind,
    ids::{Malformed, OrderId, RefundId},
    message::{Alarm, Message, NotificationDue, OrderAlarm, OrderHeld, OrderOverride, RefundDue},
    money::Fen,
    notification::Kind,
};

/// The kinds of intents. An order is overdue in one way at a time, the one that says most: whose payment deadline
/// is over needs no code any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// The payment deadline is over.
    Payment,
    /// The hold is over.
    Hold,
    /// Held, and WeChat has given no code.
    Code,
    /// Lapsed, and no seat is left that could be paid for.
    SoldOut,
    Refund,
    Notification,
    /// Decided by operators, and nothing came of it yet.
    Override,
}

/// One sweep through all intents. What is overdue is judged by one moment, so that what a worker touches meanwhile
/// is not swept again by the same pass.
#[derive(Debug, Clone, Copy)]
pub struct Pass {
    /// The database's clock.
    pub now: OffsetDateTime,
    /// How long after its time an intent counts as overdue.
    pub grace: Duration,
    /// Queues were missing: what had been put there is gone, so no mark counts.
    pub queues_were_lost: bool,
}

impl Pass {
    pub async fn begin(db: &Database, grace: Duration, queues_were_lost: bool) -> Result<Self, StoreError> {
        let now = sqlx::query_scalar("SELECT now()").fetch_one(db.pool()).await?;
        Ok(Self { now, grace, queues_were_lost })
    }
}

/// An overdue intent; also the place after which the sweep's next page begins.
#[derive(Debug, Clone, FromRow)]
pub struct Overdue {
    since: OffsetDateTime,
    id: String,
    /// The rest of the row's key: a notification's kind, an override's id, else nothing.
    part: String,
}

/// Where intents of a kind are stored, and when they are due. In the condition `t` is the table, `$1` the pass's
/// moment, `$2` its grace.
pub(super) struct Source {
    pub(super) table: &'static str,
    id: &'static str,
    part: &'static str,
    /// Leading column of the partial index that the sweep walks along.
    pub(super) since: &'static str,
    /// From when its age counts: the older an intent, the more rarely it is swept.
    aged_from: &'static str,
    pub(super) is_open: &'static str,
}

impl Intent {
    pub const ALL: [Self; 7] =
        [Self::Payment, Self::Hold, Self::Code, Self::SoldOut, Self::Refund, Self::Notification, Self::Override];

    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Payment => "payment",
            Self::Hold => "hold",
            Self::Code => "code",
            Self::SoldOut => "sold_out",
            Self::Refund => "refund",
            Self::Notification => "notification",
            Self::Override => "override",
        }
    }

    pub(super) fn source(self) -> Source {
        let order = |since, is_open| Source {
            table: "payment_orders",
            id: "order_id",
            part: "''",
            since,
            aged_from: since,
            is_open,
        };
        match self {
            Self::Payment => order("pay_before", "t.status IN ('held', 'awaiting_payment', 'lapsed')"),
            Self::Hold => {
                order("hold_expires_at", "t.status IN ('held', 'awaiting_payment') AND t.pay_before >= $1 - $2")
            }
            Self::Code => order("updated_at", "t.status = 'held' AND t.hold_expires_at >= $1 - $2"),
            Self::SoldOut => order(
                "updated_at",
                "t.status = 'lapsed' AND t.pay_before >= $1 - $2
                 AND NOT EXISTS (SELECT FROM free_seats f WHERE f.schedule_id = t.schedule_id)",
            ),
            Self::Refund => Source {
                table: "refunds",
                id: "refund_id",
                part: "''",
                since: "next_check_at",
                aged_from: "created_at",
                // What a person decides about is not sent.
                is_open: concat!(
                    "(t.status = 'processing' OR t.status = 'requested' AND NOT ",
                    asks_person!("t.refund_id"),
                    ")"
                ),
            },
            Self::Notification => Source {
                table: "notifications",
                id: "order_id",
                part: "t.kind::text",
                since: "updated_at",
                aged_from: "created_at",
                // What is parked, or was discarded, waits for a person; another copy would only be parked as well.
                is_open: "t.status = 'pending' AND NOT EXISTS (
                     SELECT FROM dead_letters d
                      WHERE d.message_id = t.order_id || '/notify/' || t.kind AND d.state IN ('parked', 'discarded'))",
            },
            Self::Override => Source {
                table: "order_overrides",
                id: "order_id",
                part: "t.override_id::text",
                since: "proposed_at",
                aged_from: "proposed_at",
                is_open: "t.status = 'approved'",
            },
        }
    }

    /// The message that carries the intent on.
    ///
    /// # Errors
    /// The row's key is not what it must be.
    pub fn message(self, overdue: &Overdue) -> Result<Message, Malformed> {
        let order = || OrderId::try_from(overdue.id.clone());
        let alarm = |alarm| Ok(Message::OrderAlarm(OrderAlarm { order_id: order()?, alarm, after_ms: 0 }));
        match self {
            Self::Payment => alarm(Alarm::Payment),
            Self::Hold => alarm(Alarm::Hold),
            Self::SoldOut => alarm(Alarm::SoldOut),
            Self::Code => Ok(Message::OrderHeld(OrderHeld { order_id: order()? })),
            Self::Refund => Ok(Message::RefundDue(RefundDue { refund_id: RefundId::try_from(overdue.id.clone())? })),
            Self::Notification => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == overdue.part);
                let kind = kind.ok_or(Malformed("no notification is of this kind"))?;
                Ok(Message::NotificationDue(NotificationDue { order_id: order()?, kind }))
            }
            Self::Override => {
                let override_id = Uuid::parse_str(&overdue.part).map_err(|_| Malformed("an override is a UUID"))?;
                Ok(Message::OrderOverride(OrderOverride { override_id, order_id: order()? }))
            }
        }
    }
}

/// At most `limit` overdue intents of a kind, the longest overdue first, after this one.
///
/// What was swept rests for half of its age, at least the grace and at most an hour: a worker that is away for a
/// day comes back to a handful of copies of an intent, not to thousands.
pub async fn overdue(
    db: &Database,
    intent: Intent,
    pass: &Pass,
    after: Option<&Overdue>,
    limit: i64,
) -> Result<Vec<Overdue>, StoreError> {
    let Source { table, id, part, since, aged_from, is_open } = intent.source();
    // Put together from the constants above and nothing else.
    let query = AssertSqlSafe(format!(
        "SELECT t.{since} AS since, t.{id} AS id, {part} AS part FROM {table} t
          WHERE {is_open} AND t.{since} < $1 - $2
            AND ($3 OR t.swept_at IS NULL
                 OR t.swept_at < $1 - greatest($2, least(($1 - t.{aged_from}) / 2, interval '1 hour')))
            AND (t.{since}, t.{id}, {part}) > (coalesce($4, '-infinity'::timestamptz), coalesce($5, ''), coalesce($6, ''))
          ORDER BY 1, 2, 3
          LIMIT $7"
    ));
    Ok(sqlx::query_as(query)
        .bind(pass.now)
        .bind(pass.grace)
        .bind(pass.queues_were_lost)
        .bind(after.map(|last| last.since))
        .bind(after.map(|last| last.id.as_str()))
        .bind(after.map(|last| last.part.as_str()))
        .bind(limit)
        .fetch_all(db.pool())
        .await?)
}

/// A row that cannot be carried on, as a person finds it: its table and key, and why.
///
/// # Errors
/// PostgreSQL refuses or is away.
pub async fn report_unreadable(
    db: &Database,
    intent: Intent,
    overdue: &Overdue,
    why: &Malformed,
) -> Result<(), StoreError> {
    let table = intent.source().table;
    let mut step = db.begin("reconcile.unreadable").await?;
    let details = json!({ "table": table, "id": overdue.id, "part": overdue.part, "why": why.to_string() });
    let subject = format!("{table}/{}{}", overdue.id, overdue.part);
    case::open(&mut step, CaseKind::UnreadableRow, &subject, None, Fen::ZERO, details).await?;
    step.commit().await
}

/// Unpaid orders that hold a seat, after this one, in the order of their numbers: WeChat is looked at for them by an
/// alarm that repeats itself and stands in no row, so that it is gone with its queue.
pub async fn unpaid(db: &Database, after: Option<&String>, limit: i64) -> Result<Vec<String>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT order_id FROM payment_orders
          WHERE status IN ('held', 'awaiting_payment') AND order_id > coalesce($1, '') ORDER BY order_id LIMIT $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(db.pool())
    .await?)
}

/// Marks what was put back onto its queue. A row that is locked is in a worker's hands and needs no mark.
pub async fn mark(db: &Database, intent: Intent, pass: &Pass, swept: &[Overdue]) -> Result<(), StoreError> {
    let Source { table, id, part, .. } = intent.source();
    let query = AssertSqlSafe(format!(
        "UPDATE {table} SET swept_at = $1 WHERE ctid = ANY(ARRAY(
             SELECT t.ctid FROM {table} t JOIN unnest($2::text[], $3::text[]) AS s(id, part)
                 ON t.{id} = s.id AND {part} = s.part
                FOR NO KEY UPDATE OF t SKIP LOCKED))"
    ));
    let marked = sqlx::query(query)
        .bind(pass.now)
        .bind(swept.iter().map(|overdue| overdue.id.as_str()).collect::<Vec<_>>())
        .bind(swept.iter().map(|overdue| overdue.part.as_str()).collect::<Vec<_>>());
    crash::around("commit", "reconcile.mark", marked.execute(db.pool())).await?;
    Ok(())
}
