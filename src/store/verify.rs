//! The promises of the whole system as questions to the books. Each says what it promises, counts what it looked
//! at, and finds the rows that break it.

use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, types::Json};
use time::Duration;

use super::{
    Database, StoreError,
    promise::{Item, ROWS_SHOWN},
    replay,
};

/// A promise that one statement can check.
struct Check {
    name: &'static str,
    promise: &'static str,
    /// A relation whose rows are what is looked at.
    checked: &'static str,
    /// The rows that break it. `late(t)` in it stands for: `t` is over by more than the grace.
    broken: &'static str,
}

const CHECKS: &[Check] = &[
    Check {
        name: "seat_once",
        promise: "no seat is held or booked twice",
        checked: "seat_reservations WHERE status <> 'cancelled'",
        broken: "SELECT schedule_id, seat_no, array_agg(order_id ORDER BY order_id) AS orders
                   FROM seat_reservations WHERE status <> 'cancelled'
                  GROUP BY schedule_id, seat_no HAVING count(*) > 1",
    },
    Check {
        name: "seats_add_up",
        promise: "the free and the taken seats of a session are its capacity",
        checked: "course_schedules",
        broken: "SELECT schedule_id, capacity, free, taken FROM (
                   SELECT schedule_id, capacity,
                          (SELECT count(*) FROM free_seats f WHERE f.schedule_id = s.schedule_id) AS free,
                          (SELECT count(*) FROM seat_reservations r
                            WHERE r.schedule_id = s.schedule_id AND r.status <> 'cancelled') AS taken
                     FROM course_schedules s) counted
                  WHERE free + taken <> capacity",
    },
    Check {
        name: "seats_known",
        promise: "a seat is one of its room, and never free and taken at once",
        checked: "(SELECT FROM free_seats UNION ALL SELECT FROM seat_reservations WHERE status <> 'cancelled') seat",
        broken: "SELECT schedule_id, seat_no, 'free and taken' AS what
                   FROM free_seats JOIN seat_reservations USING (schedule_id, seat_no) WHERE status <> 'cancelled'
                  UNION ALL
                 SELECT schedule_id, seat_no, 'not in the room'
                   FROM (SELECT schedule_id, seat_no FROM free_seats UNION ALL
                         SELECT schedule_id, seat_no FROM seat_reservations WHERE status <> 'cancelled') seat
                   JOIN course_schedules USING (schedule_id) WHERE seat_no > capacity",
    },
    Check {
        name: "seats_not_lost",
        promise: "every seat of a room is free, or belongs to an order that can still give it back",
        checked: "course_schedules",
        broken: "SELECT s.schedule_id, room.seat_no FROM course_schedules s
                  CROSS JOIN LATERAL generate_series(1, s.capacity) AS room(seat_no)
                   LEFT JOIN free_seats f ON f.schedule_id = s.schedule_id AND f.seat_no = room.seat_no
                   LEFT JOIN (SELECT r.schedule_id, r.seat_no FROM seat_reservations r JOIN payment_orders o USING (order_id)
                               WHERE r.status <> 'cancelled' AND o.status IN ('held', 'awaiting_payment', 'confirmed')) taken
                     ON taken.schedule_id = s.schedule_id AND taken.seat_no = room.seat_no
                  WHERE f.seat_no IS NULL AND taken.seat_no IS NULL",
    },
    Check {
        name: "sold_within_capacity",
        promise: "no session has more bookings than seats",
        checked: "course_schedules",
        broken: "SELECT schedule_id, capacity, count(*) AS sold
                   FROM bookings JOIN course_schedules USING (schedule_id) WHERE cancelled_at IS NULL
                  GROUP BY schedule_id, capacity HAVING count(*) > capacity",
    },
    Check {
        name: "seats_have_owners",
        promise: "a held seat belongs to an unpaid order within its hold, a booked one to a confirmed order, and no other has one",
        checked: "payment_orders",
        broken: "SELECT o.order_id, o.status, r.status AS reservation, r.seat_no
                   FROM payment_orders o
                   LEFT JOIN seat_reservations r ON r.order_id = o.order_id AND r.status <> 'cancelled'
                  WHERE r.schedule_id <> o.schedule_id OR r.status::text IS DISTINCT FROM
                        CASE WHEN o.status IN ('held', 'awaiting_payment') THEN 'temporary'
                             WHEN o.status = 'confirmed' THEN 'confirmed' END",
    },
    Check {
        name: "confirmed_once",
        promise: "a confirmed order has one booking, of its seat, and one payment, of its amount, or an operator's waiver; no other order has a booking",
        checked: "payment_orders WHERE status = 'confirmed'",
        broken: "SELECT order_id, o.status, o.amount_fen, o.transaction_id, r.seat_no, b.seats AS booked, t.payments
                   FROM payment_orders o
                   LEFT JOIN seat_reservations r USING (order_id)
                   LEFT JOIN (SELECT order_id, array_agg(seat_no) AS seats FROM bookings
                               WHERE cancelled_at IS NULL GROUP BY order_id) b USING (order_id)
                   LEFT JOIN (SELECT order_id, array_agg(transaction_id || ' ' || total_fen) AS payments
                                FROM payment_transactions WHERE status = 'settled' GROUP BY order_id) t USING (order_id)
                  WHERE CASE WHEN o.status = 'confirmed' AND o.transaction_id LIKE 'waived-%'
                             THEN b.seats IS DISTINCT FROM ARRAY[r.seat_no] OR o.paid_fen <> 0 OR t.payments IS NOT NULL
                                  OR NOT EXISTS (SELECT FROM order_overrides v
                                      WHERE v.order_id = o.order_id AND v.action = 'waive' AND v.status = 'done'
                                        AND o.transaction_id = 'waived-' || v.override_id)
                             WHEN o.status = 'confirmed'
                             THEN b.seats IS DISTINCT FROM ARRAY[r.seat_no] OR o.paid_fen <> o.amount_fen
                                  OR t.payments IS DISTINCT FROM ARRAY[o.transaction_id || ' ' || o.amount_fen]
                             ELSE b.seats IS NOT NULL END",
    },
    Check {
        name: "every_fen",
        promise: "what WeChat took for an order is a seat, a refund, a case, or what the session's rules kept of it",
        checked: "payment_transactions",
        broken: "SELECT order_id, status, took, refunds, cases, seat, kept FROM (
                   SELECT o.order_id, o.status, t.took, coalesce(b.back, 0) AS refunds, t.cases,
                          CASE WHEN o.status = 'confirmed' THEN o.paid_fen - coalesce(b.back, 0) ELSE 0 END AS seat,
                          -- Of an order without a seat: what a person ended as not owed, or what the rules of the session
                          -- left with the studio when the customer gave the booking back.
                          CASE WHEN o.status = 'confirmed' THEN 0
                               WHEN o.status IN ('refunding', 'refunded') AND g.order_id IS NOT NULL
                               THEN o.paid_fen - coalesce(b.back, 0)
                               ELSE least(coalesce(b.kept, 0), o.paid_fen - coalesce(b.back, 0)) END AS kept
                     FROM payment_orders o
                     JOIN (SELECT order_id, sum(total_fen) AS took,
                                  coalesce(sum(total_fen) FILTER (WHERE status = 'mismatched' AND EXISTS (
                                      SELECT FROM cases c WHERE c.subject = p.transaction_id AND c.money_fen = p.total_fen
                                         AND (c.status = 'open' OR c.resolution IS NOT NULL))), 0) AS cases
                             FROM payment_transactions p GROUP BY order_id) t USING (order_id)
                     LEFT JOIN (SELECT order_id,
                                       sum(amount_fen) FILTER (WHERE status IN
                                           ('requested', 'processing', 'succeeded', 'abnormal', 'paid_by_hand')) AS back,
                                       sum(amount_fen) FILTER (WHERE status = 'not_owed') AS kept
                                  FROM refunds GROUP BY order_id) b USING (order_id)
                     LEFT JOIN (SELECT DISTINCT order_id FROM refunds
                                 WHERE requested_by LIKE 'user:%' AND status NOT IN ('refused', 'not_owed')) g
                       USING (order_id)) fen
                  WHERE took <> seat + refunds + cases + kept",
    },
    Check {
        name: "refunds_add_up",
        promise: "refunds stay within the payment, and an order's sums are those of its refunds",
        checked: "refunds",
        broken: "SELECT order_id, o.status, o.paid_fen, o.refund_promised_fen, o.refunded_fen,
                        coalesce(r.promised, 0) AS promised, coalesce(r.succeeded, 0) AS succeeded
                   FROM payment_orders o
                   LEFT JOIN (SELECT order_id,
                                     sum(amount_fen) FILTER (WHERE status IN
                                         ('requested', 'processing', 'succeeded', 'abnormal', 'paid_by_hand')) AS promised,
                                     sum(amount_fen) FILTER (WHERE status IN ('succeeded', 'paid_by_hand')) AS succeeded,
                                     sum(amount_fen) FILTER (WHERE status = 'not_owed') AS kept,
                                     bool_or(requested_by LIKE 'user:%' AND status NOT IN ('refused', 'not_owed')) AS by_customer
                                FROM refunds GROUP BY order_id) r USING (order_id)
                  WHERE o.refund_promised_fen <> coalesce(r.promised, 0) OR o.refunded_fen <> coalesce(r.succeeded, 0)
                     OR o.refund_promised_fen > o.paid_fen
                     OR o.status IN ('refunding', 'refunded', 'cancelled')
                        AND o.refund_promised_fen + coalesce(r.kept, 0) < o.paid_fen AND NOT coalesce(r.by_customer, false)
                     OR o.status = 'refunding' AND o.refund_promised_fen = o.refunded_fen
                     OR o.status = 'refunded' AND o.refunded_fen <> o.paid_fen
                        AND NOT (coalesce(r.by_customer, false) AND o.refunded_fen = o.refund_promised_fen)",
    },
    Check {
        name: "holds_end",
        promise: "no seat is held beyond its time",
        checked: "payment_orders WHERE status IN ('held', 'awaiting_payment')",
        broken: "SELECT order_id, status, hold_expires_at FROM payment_orders
                  WHERE status IN ('held', 'awaiting_payment') AND late(hold_expires_at)",
    },
    Check {
        name: "deadlines_end",
        promise: "no order can be paid beyond its deadline",
        checked: "payment_orders WHERE status IN ('held', 'awaiting_payment', 'lapsed')",
        broken: "SELECT order_id, status, pay_before FROM payment_orders
                  WHERE status IN ('held', 'awaiting_payment', 'lapsed') AND late(pay_before)",
    },
    Check {
        name: "refunds_move",
        promise: "no unfinished refund is forgotten",
        checked: "refunds",
        broken: concat!(
            "SELECT refund_id, order_id, status, amount_fen, next_check_at FROM refunds
              WHERE status IN ('requested', 'processing') AND (next_check_at IS NULL OR late(next_check_at))
                AND NOT (status = 'requested' AND ",
            asks_person!("refund_id"),
            ")"
        ),
    },
    Check {
        name: "refunds_wait",
        promise: "a refund about which a person decides is not sent",
        checked: "refunds",
        broken: "SELECT r.refund_id, r.order_id, r.status, r.amount_fen, r.sent_at, c.kind, c.opened_at
                   FROM refunds r JOIN cases c ON c.subject = r.refund_id
                  WHERE c.status = 'open' AND c.kind <> 'merchant_balance' AND r.sent_at > c.opened_at",
    },
    Check {
        name: "refunds_known",
        promise: "money that went back at WeChat is in a refund of the order, or a person looks after it",
        checked: "payment_orders WHERE paid_fen > 0",
        broken: "SELECT w.out_refund_no, w.order_id, w.refund_fen, w.standing FROM wechat_refunds w
                   JOIN payment_orders o USING (order_id)
                  WHERE w.standing <> 'closed' AND o.transaction_id = coalesce(w.transaction_id, o.transaction_id)
                    AND late(w.updated_at)
                    AND NOT EXISTS (SELECT FROM refunds r WHERE r.refund_id = w.refund_id AND r.amount_fen = w.refund_fen)
                    AND NOT EXISTS (SELECT FROM cases c WHERE c.subject = w.out_refund_no
                                       AND (c.status = 'open' OR c.resolution IS NOT NULL)
                                       AND c.kind IN ('refund_mismatch', 'refunded_twice'))",
    },
    Check {
        name: "refunds_readable",
        promise: "every refund has a number that WeChat takes",
        checked: "refunds",
        broken: "SELECT refund_id, order_id, status FROM refunds WHERE refund_id !~ '^[0-9a-z-]{6,64}$'",
    },
    Check {
        name: "messages_due",
        promise: "the customer is, or is to be, told of what became of the order",
        checked: "payment_orders WHERE status IN ('confirmed', 'rejected', 'lapsed', 'expired', 'refunded')",
        broken: "SELECT o.order_id, o.status, due.kind
                   FROM (VALUES ('confirmed', 'booking_confirmed'), ('rejected', 'booking_failed'), ('lapsed', 'hold_lapsed'),
                                ('expired', 'order_expired'), ('refunded', 'refunded')) AS due(status, kind)
                   JOIN payment_orders o ON o.status = due.status::order_status
                  WHERE NOT EXISTS (SELECT FROM notifications n
                                     WHERE n.order_id = o.order_id AND n.kind = due.kind::notification_kind)",
    },
    Check {
        name: "messages_sent_or_explained",
        promise: "a message is sent, or says why not, or is under way",
        checked: "notifications",
        // Under way is also what was refused for now, and what is in doubt while WeChat still knows its name.
        broken: "SELECT order_id, kind, status, attempts, errcode, error, updated_at FROM notifications
                  WHERE status = 'pending' AND late(updated_at) AND error IS NULL
                        AND (in_doubt_since IS NULL OR in_doubt_since < now() - interval '20 minutes')
                     OR status IN ('failed', 'uncertain') AND error IS NULL
                     OR status = 'sent' AND sent_at IS NULL",
    },
    Check {
        name: "cancellations_end",
        promise: "a cancelled session has an intent that is carried to its end; then no order and nobody who waits is left",
        checked: "course_schedules",
        broken: "SELECT s.schedule_id, c.requested_by, c.requested_at, c.asked_at, c.finished_at, o.left_over, w.waiting
                   FROM course_schedules s
                   LEFT JOIN schedule_cancellations c USING (schedule_id)
                  CROSS JOIN LATERAL (SELECT count(*) AS left_over FROM payment_orders o
                                       WHERE o.schedule_id = s.schedule_id
                                         AND o.status IN ('confirmed', 'held', 'awaiting_payment', 'lapsed')) o
                  CROSS JOIN LATERAL (SELECT count(*) AS waiting FROM waitlist w
                                       WHERE w.schedule_id = s.schedule_id
                                         AND w.left_at IS NULL AND w.offered_order_id IS NULL) w
                  WHERE s.status = 'cancelled'
                    AND (w.waiting > 0 OR o.left_over > 0 AND (c.schedule_id IS NULL OR c.finished_at IS NOT NULL)
                         OR c.finished_at IS NULL AND late(coalesce(c.asked_at, c.requested_at)))",
    },
    Check {
        name: "accepted_is_decided",
        promise: "a request that was accepted is decided: none lies in a dead-letter queue and waits for an operator",
        checked: "payment_orders",
        broken: "SELECT letter_id, kind, order_id, error_class, error, failed_at FROM dead_letters d
                  WHERE state = 'parked'
                    AND CASE kind WHEN 'order.submitted'
                                  THEN NOT EXISTS (SELECT FROM payment_orders o WHERE o.order_id = d.order_id)
                                  WHEN 'refund.requested'
                                  THEN NOT EXISTS (SELECT FROM refunds r WHERE r.refund_id || '/requested' = d.message_id)
                                  WHEN 'order.cancel'
                                  THEN NOT EXISTS (SELECT FROM payment_orders o WHERE o.order_id = d.order_id
                                                      AND o.status NOT IN ('held', 'awaiting_payment', 'lapsed'))
                                  ELSE kind IN ('waitlist.change') END",
    },
    Check {
        name: "no_offer_failed",
        promise: "who waits for a seat is offered one in turn: no offer has failed",
        checked: "waitlist",
        broken: "SELECT w.ticket, w.schedule_id, w.user_id, w.offer_failed_at, w.offer_error FROM waitlist w
                   JOIN course_schedules s USING (schedule_id)
                  WHERE w.offer_failed_at IS NOT NULL AND w.left_at IS NULL AND w.offered_order_id IS NULL
                    AND s.status = 'open' AND s.starts_at > now()",
    },
    Check {
        name: "history_exists",
        promise: "every order has an audit log, or its last link where its months were pruned",
        checked: "payment_orders",
        broken: "SELECT order_id, status FROM payment_orders o
                  WHERE NOT EXISTS (SELECT FROM payment_audit_log a WHERE a.order_id = o.order_id)
                    AND NOT EXISTS (SELECT FROM audit_log_pruned p
                                     WHERE (p.order_id, p.version, p.to_status, p.hash)
                                         = (o.order_id, o.version, o.status, o.audit_head))",
    },
    Check {
        name: "audit_in_months",
        promise: "every row of the audit log lies in the partition of its month",
        checked: "payment_audit_log",
        broken: "SELECT order_id, version, at FROM payment_audit_log_rest",
    },
];

/// How many items an answer to everything has.
pub const ITEMS: usize = CHECKS.len() + replay::ITEMS + 2;

/// Asks everything of one snapshot of the books, so that a system at work is judged at a single moment. `grace`:
/// how long after its time something counts as overdue.
pub async fn run(db: &Database, grace: Duration) -> Result<Vec<Item>, StoreError> {
    let mut items = Vec::with_capacity(ITEMS);
    run_telling(db, grace, None, |item| items.push(item)).await?;
    Ok(items)
}

/// The same for somebody who watches: each item is told as soon as it is known. PostgreSQL gives up a question that
/// takes longer than `limit`, also when nobody listens any more.
pub async fn run_telling(
    db: &Database,
    grace: Duration,
    limit: Option<std::time::Duration>,
    mut tell: impl FnMut(Item),
) -> Result<(), StoreError> {
    let mut tx = db.snapshot().await?;
    if let Some(limit) = limit {
        sqlx::query("SELECT set_config('statement_timeout', $1, true)")
            .bind(limit.as_millis().to_string())
            .execute(&mut *tx)
            .await?;
    }
    for check in CHECKS {
        tell(ask(&mut tx, check, grace).await?);
    }
    replay::histories(&mut tx).await?.into_iter().for_each(&mut tell);
    tell(open_cases(&mut tx).await?);
    tell(open_cancellations(&mut tx).await?);
    tx.rollback().await?;
    Ok(())
}

async fn ask(tx: &mut PgConnection, check: &Check, grace: Duration) -> Result<Item, StoreError> {
    // Put together from the constants above and nothing else.
    let checked = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {}", check.checked)));
    let checked = checked.fetch_one(&mut *tx).await?;
    let rows: Vec<(i64, Json<Value>)> = sqlx::query_as(AssertSqlSafe(format!(
        "SELECT count(*) OVER (), to_jsonb(offender) FROM ({}) offender, (SELECT $1::interval) given LIMIT $2",
        with_grace(check.broken)
    )))
    .bind(grace)
    .bind(ROWS_SHOWN as i64)
    .fetch_all(&mut *tx)
    .await?;
    Ok(Item {
        checked,
        broken: rows.first().map_or(0, |(broken, _)| *broken),
        rows: rows.into_iter().map(|(_, Json(row))| row).collect(),
        ..Item::new(check.name, check.promise)
    })
}

/// `late(t)` written out.
fn with_grace(broken: &str) -> String {
    broken.replace("late(", "(now() - $1::interval > ")
}

/// Not a promise: what waits for a person.
async fn open_cases(tx: &mut PgConnection) -> Result<Item, StoreError> {
    let rows: Vec<(i64, Json<Value>)> = sqlx::query_as(
        "SELECT count(*) OVER (), to_jsonb(c) FROM (
             SELECT case_id, kind, subject, order_id, money_fen, opened_at FROM cases WHERE status = 'open') c
          ORDER BY c.opened_at LIMIT $1",
    )
    .bind(ROWS_SHOWN as i64)
    .fetch_all(&mut *tx)
    .await?;
    Ok(Item {
        checked: rows.first().map_or(0, |(open, _)| *open),
        rows: rows.into_iter().map(|(_, Json(row))| row).collect(),
        ..Item::new("open_cases", "information: what waits for a person")
    })
}

/// Not a promise: cancelled sessions that are being carried to their end, with the orders and refunds that are left.
async fn open_cancellations(tx: &mut PgConnection) -> Result<Item, StoreError> {
    let rows: Vec<(i64, Json<Value>)> = sqlx::query_as(
        "SELECT count(*) OVER (), to_jsonb(c) FROM (
             SELECT schedule_id, requested_by, requested_at, asked_at,
                    (SELECT count(*) FROM payment_orders o WHERE o.schedule_id = k.schedule_id
                        AND o.status IN ('confirmed', 'held', 'awaiting_payment', 'lapsed')) AS orders_left,
                    (SELECT count(*) FROM refunds r JOIN payment_orders o USING (order_id)
                      WHERE o.schedule_id = k.schedule_id AND r.status IN ('requested', 'processing')) AS refunds_open
               FROM schedule_cancellations k WHERE finished_at IS NULL) c
          ORDER BY c.requested_at LIMIT $1",
    )
    .bind(ROWS_SHOWN as i64)
    .fetch_all(&mut *tx)
    .await?;
    Ok(Item {
        checked: rows.first().map_or(0, |(open, _)| *open),
        rows: rows.into_iter().map(|(_, Json(row))| row).collect(),
        ..Item::new("open_cancellations", "information: cancelled sessions that are not settled yet")
    })
}
