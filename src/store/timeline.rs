//! The whole story of one order, gathered from every table that knows of it, in one snapshot of the books.

use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection, types::Json};
use time::OffsetDateTime;

use super::{
    Database, StoreError, case,
    dead_letter::{self, OfOrder},
    order, overrides, readable, trace,
};
use crate::domain::{
    case::{CaseDocument, CaseStatus},
    dead_letter::LetterState,
    document::Snapshot,
    explain::{self, Facts, RefundFact},
    ids::{OrderId, RefundId},
    message::Message,
    money::Fen,
    notification::{Kind, NotificationStatus},
    order::Status,
    overrides::{OverrideDocument, OverrideStatus, WAIVED},
    refund::RefundStatus,
    timeline::{Entry, EntryKind, Money, Timeline, Trace},
};

/// Rows of the trace that a story shows at most: a retry in a loop must not hide the rest.
const TRACES: i64 = 1_000;
/// Cases and overrides of one order; there are never so many.
const FEW: i64 = 100;

/// The story of an order; `None` when neither the books nor the catalogue of dead letters know it.
pub async fn read(db: &Database, id: &OrderId) -> Result<Option<Timeline>, StoreError> {
    let mut tx = db.snapshot().await?;
    let traces = trace::of_order(&mut *tx, id, TRACES).await?;
    let letters = dead_letter::of_order(&mut *tx, id, FEW).await?;
    let parked = parked(&traces, &letters);
    let mut entries: Vec<Entry> = letters.iter().filter(|letter| !is_traced(letter, &traces)).map(set_aside).collect();
    entries.extend(traces.into_iter().map(traced));
    let Some(snapshot) = order::snapshot(&mut *tx, id).await? else {
        return undecided(&mut tx, entries, &letters, parked).await;
    };
    entries.extend(changes(&mut tx, id).await?);
    entries.extend(callbacks(&mut tx, id).await?);
    entries.extend(payments(&mut tx, id).await?);
    let refunds = refunds(&mut tx, id).await?;
    entries.extend(refunds.iter().flat_map(refunded));
    let (told, pending) = notifications(&mut tx, id).await?;
    entries.extend(told);
    let of_order = case::CaseFilter { order_id: Some(id.clone()), ..case::CaseFilter::default() };
    let cases = case::list(&mut *tx, &of_order, FEW).await?;
    entries.extend(cases.iter().flat_map(looked_at));
    let of_order = overrides::OverrideFilter { order_id: Some(id.clone()), ..overrides::OverrideFilter::default() };
    let mut overrides = overrides::list(&mut *tx, &of_order, FEW).await?;
    overrides.reverse();
    entries.extend(overrides.iter().flat_map(decided));
    entries.sort_by_key(|entry| (entry.at, entry.kind));
    let standing = standing(&mut tx, id).await?;
    tx.rollback().await?;

    let order = snapshot.document;
    let money = Money {
        price_fen: order.amount_fen,
        paid_fen: standing.paid_fen,
        promised_back_fen: standing.refund_promised_fen,
        refunded_fen: order.refunded_fen,
        set_aside_fen: standing.set_aside_fen,
    };
    let facts = Facts {
        status: order.status,
        now: standing.now,
        hold_expires_at: order.hold_expires_at,
        pay_before: order.pay_before,
        holds_seat: standing.holds_seat,
        seat_is_free: standing.seat_is_free,
        seat_no: order.seat_no.map(|seat| seat.0),
        reason: order.reason.clone(),
        is_waived: order.transaction_id.as_ref().is_some_and(|id| id.starts_with(WAIVED)),
        money,
        refunds: refunds.into_iter().map(RefundFact::from).collect(),
        pending,
        open_cases: open(&cases),
        proposed: proposed(&overrides),
        parked,
    };
    Ok(Some(Timeline {
        answer: explain::answer(&facts),
        waits_for: explain::waits_for(&facts),
        next: explain::next(&facts),
        endings: explain::endings(&facts),
        user_id: snapshot.owner.as_str().to_owned(),
        money,
        entries,
        cases,
        overrides,
        as_of: standing.now,
        order,
    }))
}

/// The story of an order that was accepted and that no worker could take: it is in no table but the letters'. `None`
/// when there is no letter with the order itself.
async fn undecided(
    tx: &mut PgConnection,
    mut entries: Vec<Entry>,
    letters: &[OfOrder],
    parked: Vec<String>,
) -> Result<Option<Timeline>, StoreError> {
    let read = |letter: &OfOrder| match Message::read(&letter.kind, letter.shown.as_bytes()) {
        Ok(Message::OrderSubmitted(order)) => Some((order, letter.clone())),
        Ok(_) | Err(_) => None,
    };
    let Some((order, letter)) = letters.iter().rev().find_map(read) else { return Ok(None) };
    let now = sqlx::query_scalar("SELECT now()").fetch_one(tx).await?;
    entries.sort_by_key(|entry| (entry.at, entry.kind));
    let money = Money { price_fen: order.amount_fen, ..Money::default() };
    let facts = Facts::of_submitted(now, money, parked);
    let OfOrder { letter_id, state, error_class, error, .. } = letter;
    let state = state.as_str();
    Ok(Some(Timeline {
        answer: format!(
            "Accepted, and set aside by its worker ({error_class}: {error}); letter {letter_id} is {state}. Nothing was \
             decided and nothing was charged."
        ),
        waits_for: explain::waits_for(&facts),
        next: explain::next(&facts),
        endings: explain::endings(&facts),
        user_id: order.user_id.as_str().to_owned(),
        money,
        entries,
        cases: Vec::new(),
        overrides: Vec::new(),
        as_of: now,
        order: Snapshot::of_submitted(&order).document,
    }))
}

/// Kinds of messages that were set aside, and whose like was not handled since: by the catalogue, and by the trace for
/// what the catalogue has not read yet.
fn parked(traces: &[Trace], letters: &[OfOrder]) -> Vec<String> {
    let messages = || traces.iter().filter(|trace| trace.kind == EntryKind::Message);
    let known =
        |parked: &Trace| letters.iter().any(|letter| letter.message_id.is_some() && letter.message_id == key(parked));
    let traced = messages()
        .filter(|trace| trace.outcome == "parked" && !known(trace))
        .filter(|parked| !messages().any(|later| later.at > parked.at && key(later) == key(parked)))
        .map(|trace| trace.what.clone());
    let letters = letters.iter().filter(|letter| letter.state == LetterState::Parked).map(|letter| letter.kind.clone());
    let mut kinds: Vec<String> = letters.chain(traced).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// A message's business key, as its trace has it.
fn key(trace: &Trace) -> Option<String> {
    trace.details.as_ref().and_then(|details| details["key"].as_str().map(str::to_owned))
}

/// Whether the trace has a row for this letter: it may have been dropped.
fn is_traced(letter: &OfOrder, traces: &[Trace]) -> bool {
    traces.iter().any(|trace| trace.outcome == "parked" && key(trace) == letter.message_id)
}

fn set_aside(letter: &OfOrder) -> Entry {
    Entry {
        who: letter.worker.as_ref().map(|worker| format!("worker:{worker}")),
        details: Some(without_nulls(json!({
            "letter_id": letter.letter_id, "state": letter.state.as_str(), "class": letter.error_class,
            "error": letter.error, "key": letter.message_id,
        }))),
        ..Entry::new(letter.failed_at, EntryKind::Message, &letter.kind, "parked")
    }
}

fn traced(trace: Trace) -> Entry {
    Entry {
        who: trace.who,
        request_id: trace.request_id,
        took_ms: trace.took_ms,
        details: trace.details.map(without_nulls),
        ..Entry::new(trace.at, trace.kind, trace.what, trace.outcome)
    }
}

fn without_nulls(details: Value) -> Value {
    match details {
        Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        other => other,
    }
}

#[derive(FromRow)]
struct ChangeRow {
    version: i32,
    at: OffsetDateTime,
    event: String,
    from_status: Option<Status>,
    to_status: Status,
    actor: String,
    reason: Option<String>,
    request_id: Option<String>,
    before: Option<Json<Value>>,
    after: Json<Value>,
}

async fn changes(tx: &mut PgConnection, id: &OrderId) -> Result<Vec<Entry>, StoreError> {
    let rows: Vec<ChangeRow> = sqlx::query_as(
        "SELECT version, at, event, from_status, to_status, actor, reason, request_id, before, after
           FROM payment_audit_log WHERE order_id = $1 ORDER BY version",
    )
    .bind(id)
    .fetch_all(tx)
    .await?;
    let entry = |row: ChangeRow| {
        let details = json!({
            "version": row.version, "before": row.before.map(|Json(before)| before), "after": row.after.0,
        });
        Entry {
            who: Some(row.actor),
            request_id: row.request_id,
            from: row.from_status,
            to: Some(row.to_status),
            reason: row.reason,
            details: Some(without_nulls(details)),
            ..Entry::new(row.at, EntryKind::State, row.event, row.to_status.as_str())
        }
    };
    Ok(rows.into_iter().map(entry).collect())
}

async fn callbacks(tx: &mut PgConnection, id: &OrderId) -> Result<Vec<Entry>, StoreError> {
    type Row = (String, String, String, Option<String>, OffsetDateTime);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT notification_id, event_type, outcome, request_id, received_at FROM wechat_callbacks
          WHERE out_trade_no = $1 ORDER BY received_at",
    )
    .bind(id)
    .fetch_all(tx)
    .await?;
    let entry = |(notification_id, event_type, outcome, request_id, at): Row| Entry {
        who: Some("wechat".into()),
        request_id,
        details: Some(json!({ "notification_id": notification_id })),
        ..Entry::new(at, EntryKind::Callback, event_type, outcome)
    };
    Ok(rows.into_iter().map(entry).collect())
}

async fn payments(tx: &mut PgConnection, id: &OrderId) -> Result<Vec<Entry>, StoreError> {
    type Row = (String, String, Fen, String, OffsetDateTime, String, Option<String>, OffsetDateTime);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT transaction_id, status::text, total_fen, trade_type, success_time, learned_by, wechat_request_id, created_at
           FROM payment_transactions WHERE order_id = $1 ORDER BY created_at",
    )
    .bind(id)
    .fetch_all(tx)
    .await?;
    let entry = |(transaction_id, status, total, trade_type, success_time, learned_by, request_id, at): Row| Entry {
        request_id: request_id.filter(|id| !id.is_empty()),
        details: Some(json!({
            "transaction_id": transaction_id, "total_fen": total, "trade_type": trade_type, "learned_by": learned_by,
            "success_time": success_time.unix_timestamp(),
        })),
        ..Entry::new(at, EntryKind::Payment, "payment", status)
    };
    Ok(rows.into_iter().map(entry).collect())
}

#[derive(FromRow)]
struct RefundRow {
    refund_id: RefundId,
    status: RefundStatus,
    amount_fen: Fen,
    reason: String,
    requested_by: String,
    replaces: Option<RefundId>,
    error: Option<String>,
    next_check_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    asks_person: bool,
    receipt: Option<String>,
}

impl From<RefundRow> for RefundFact {
    fn from(row: RefundRow) -> Self {
        Self {
            refund_id: row.refund_id,
            status: row.status,
            amount_fen: row.amount_fen,
            next_check_at: row.next_check_at,
            error: row.error,
            asks_person: row.asks_person,
        }
    }
}

async fn refunds(tx: &mut PgConnection, id: &OrderId) -> Result<Vec<RefundRow>, StoreError> {
    let rows = sqlx::query(concat!(
        "SELECT refund_id, status, amount_fen, reason, requested_by, replaces, error, next_check_at, created_at,
                updated_at, receipt, ",
        asks_person!("refund_id"),
        " AS asks_person
           FROM refunds WHERE order_id = $1 ORDER BY created_at, refund_id"
    ))
    .bind(id)
    .fetch_all(tx)
    .await?;
    Ok(readable("refunds", &rows, i64::MAX))
}

/// The request, and where the refund is now.
fn refunded(row: &RefundRow) -> Vec<Entry> {
    let details = |more: Option<&str>| {
        without_nulls(json!({
            "refund_id": row.refund_id, "amount_fen": row.amount_fen, "replaces": row.replaces, "trouble": more,
            "receipt": row.receipt.as_ref().filter(|_| more.is_some() || row.status == RefundStatus::PaidByHand),
        }))
    };
    let asked = Entry {
        who: Some(row.requested_by.clone()),
        reason: Some(row.reason.clone()),
        details: Some(details(None)),
        ..Entry::new(row.created_at, EntryKind::Refund, "refund", RefundStatus::Requested.as_str())
    };
    let mut entries = vec![asked];
    if row.status != RefundStatus::Requested || row.error.is_some() {
        entries.push(Entry {
            details: Some(details(row.error.as_deref())),
            ..Entry::new(row.updated_at, EntryKind::Refund, "refund", row.status.as_str())
        });
    }
    entries
}

/// What the customer was told, and what they are still to be told.
async fn notifications(tx: &mut PgConnection, id: &OrderId) -> Result<(Vec<Entry>, Vec<Kind>), StoreError> {
    type Row = (Kind, NotificationStatus, i32, Option<i32>, Option<String>, OffsetDateTime);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT kind, status, attempts, errcode, error, coalesce(sent_at, updated_at)
           FROM notifications WHERE order_id = $1 AND kind::text = ANY($2)",
    )
    .bind(id)
    .bind(super::notification::known_kinds())
    .fetch_all(tx)
    .await?;
    let pending = rows.iter().filter(|row| row.1 == NotificationStatus::Pending).map(|row| row.0).collect();
    let entry = |(kind, status, attempts, errcode, error, at): Row| Entry {
        who: Some("worker:notifications".into()),
        details: Some(without_nulls(json!({ "attempts": attempts, "errcode": errcode, "trouble": error }))),
        ..Entry::new(at, EntryKind::Notification, kind.as_str(), status.as_str())
    };
    Ok((rows.into_iter().map(entry).collect(), pending))
}

fn looked_at(case: &CaseDocument) -> Vec<Entry> {
    let opened = Entry {
        details: Some(json!({ "case_id": case.case_id, "subject": case.subject, "money_fen": case.money_fen })),
        ..Entry::new(case.opened_at, EntryKind::Case, &case.kind, CaseStatus::Open.as_str())
    };
    let closed = case.closed_at.map(|at| Entry {
        who: case.closed_by.clone(),
        reason: case.resolution.clone(),
        details: Some(json!({ "case_id": case.case_id })),
        ..Entry::new(at, EntryKind::Case, &case.kind, CaseStatus::Closed.as_str())
    });
    [opened].into_iter().chain(closed).collect()
}

fn decided(document: &OverrideDocument) -> Vec<Entry> {
    let entry = |at, outcome: OverrideStatus, who: Option<&String>, reason: Option<&String>| Entry {
        who: who.map(|who| format!("operator:{who}")),
        reason: reason.cloned(),
        details: Some(json!({ "override_id": document.override_id, "money_fen": document.money_fen })),
        ..Entry::new(at, EntryKind::Override, document.action.as_str(), outcome.as_str())
    };
    let proposed =
        entry(document.proposed_at, OverrideStatus::Proposed, Some(&document.proposed_by), Some(&document.reason));
    let decided = document.decided_at.map(|at| {
        let is_withdrawn = document.status == OverrideStatus::Withdrawn;
        let outcome = if is_withdrawn { OverrideStatus::Withdrawn } else { OverrideStatus::Approved };
        entry(at, outcome, document.decided_by.as_ref(), None)
    });
    let settled = document.settled_at.map(|at| entry(at, document.status, None, document.outcome.as_ref()));
    [proposed].into_iter().chain(decided).chain(settled).collect()
}

fn open(cases: &[CaseDocument]) -> Vec<(String, Fen)> {
    let open = cases.iter().filter(|case| case.status == CaseStatus::Open);
    open.map(|case| (case.kind.clone(), case.money_fen)).collect()
}

fn proposed(overrides: &[OverrideDocument]) -> Vec<String> {
    let waiting = overrides.iter().filter(|document| document.status == OverrideStatus::Proposed);
    waiting.map(|document| document.action.as_str().to_owned()).collect()
}

#[derive(FromRow)]
struct StandingRow {
    paid_fen: Fen,
    refund_promised_fen: Fen,
    set_aside_fen: Fen,
    holds_seat: bool,
    seat_is_free: bool,
    now: OffsetDateTime,
}

async fn standing(tx: &mut PgConnection, id: &OrderId) -> Result<StandingRow, StoreError> {
    Ok(sqlx::query_as(
        "SELECT o.paid_fen, o.refund_promised_fen, now() AS now, coalesce(r.status = 'temporary', false) AS holds_seat,
                s.status = 'open' AND s.starts_at > now()
                    AND EXISTS (SELECT FROM free_seats f WHERE f.schedule_id = o.schedule_id) AS seat_is_free,
                coalesce((SELECT sum(t.total_fen) FROM payment_transactions t JOIN cases c ON c.subject = t.transaction_id
                           WHERE t.order_id = o.order_id AND t.status = 'mismatched' AND c.status = 'open'), 0)::bigint
                    AS set_aside_fen
           FROM payment_orders o JOIN course_schedules s USING (schedule_id)
           LEFT JOIN seat_reservations r ON r.order_id = o.order_id
          WHERE o.order_id = $1",
    )
    .bind(id)
    .fetch_one(tx)
    .await?)
}
