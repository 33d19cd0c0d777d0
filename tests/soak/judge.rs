//! What must hold at the end of a run: nothing open, nothing parked, and three books that say the same.

use std::{collections::BTreeMap, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use serde_json::{Value, json};

use crate::{books::DEAD, load::words, queues::Queues, stack::Stack};

/// For everything that was begun to come to its end.
const SETTLED_WITHIN: Duration = Duration::from_secs(300);

pub(crate) struct Verdict {
    pub endings: BTreeMap<String, i64>,
    pub table: String,
    pub findings: Vec<String>,
}

pub(crate) async fn of(stack: &Stack) -> Verdict {
    let mut findings = Vec::new();
    stack.pay_offers().await;
    stack.script(&json!({})).await;
    if let Err(panic) = AssertUnwindSafe(stack.come_to_an_end(SETTLED_WITHIN)).catch_unwind().await {
        findings.push(format!("not everything came to its end: {}", words(panic.as_ref())));
        findings.extend(still_open(stack).await);
    }
    findings.extend(dead_letters(stack).await);
    findings.extend(payments_without_an_outcome(stack).await);
    if let Err(panic) = AssertUnwindSafe(stack.check_money()).catch_unwind().await {
        findings.push(words(panic.as_ref()));
    }
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT status::text, count(*) FROM payment_orders GROUP BY status ORDER BY status")
            .fetch_all(&stack.db)
            .await
            .expect("counts");
    let mut table: String = rows.iter().map(|(status, count)| format!("{status:<28} {count:>9}\n")).collect();
    for (what, query) in [
        ("payments", "SELECT count(*) FROM payment_transactions"),
        ("refunds", "SELECT count(*) FROM refunds"),
        ("open cases", "SELECT count(*) FROM cases WHERE status = 'open'"),
        ("messages sent", "SELECT count(*) FROM notifications WHERE status = 'sent'"),
        ("messages uncertain", "SELECT count(*) FROM notifications WHERE status = 'uncertain'"),
    ] {
        table += &format!("{what:<28} {:>9}\n", stack.count(query).await);
    }
    Verdict { endings: rows.into_iter().collect(), table, findings }
}

async fn still_open(stack: &Stack) -> Vec<String> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT order_id, 'order ' || status::text FROM payment_orders WHERE status IN ('submitted', 'held', 'awaiting_payment', 'lapsed')
         UNION ALL SELECT order_id, 'refund ' || refund_id || ' ' || status::text FROM refunds WHERE status IN ('requested', 'processing')
         UNION ALL SELECT order_id, 'message ' || kind::text FROM notifications WHERE status = 'pending' LIMIT 20",
    )
    .fetch_all(&stack.db)
    .await
    .expect("rows");
    rows.into_iter().map(|(order, what)| format!("{order}: {what} is still under way")).collect()
}

/// An outage parks nothing: each dead letter is a finding, with the reason it gives.
async fn dead_letters(stack: &Stack) -> Vec<String> {
    let queues = Queues::of(stack).await;
    let mut findings = Vec::new();
    for queue in DEAD {
        for _ in 0..stack.ready_in(queue).await.min(10) {
            let letter = queues.take(queue).await;
            let body = String::from_utf8_lossy(&letter.body).chars().take(160).collect::<String>();
            findings.push(format!("{queue}: {:?} {body}", letter.headers));
        }
    }
    findings
}

/// Each payment that WeChat took is a confirmed seat, was given back, or waits for a person.
async fn payments_without_an_outcome(stack: &Stack) -> Vec<String> {
    let ledger = stack.ledger().await;
    let list = |name: &str| ledger[name].as_array().cloned().unwrap_or_default();
    let mut given_back: BTreeMap<String, i64> = BTreeMap::new();
    for refund in list("refunds").iter().filter(|refund| refund["status"] == "SUCCESS") {
        *given_back.entry(text(refund, "out_trade_no")).or_default() += refund["refund"].as_i64().unwrap_or(0);
    }
    let rows: Vec<(String, bool, bool)> = sqlx::query_as(
        "SELECT o.order_id, o.status = 'confirmed' AND EXISTS (SELECT FROM bookings b WHERE b.order_id = o.order_id),
                EXISTS (SELECT FROM cases c WHERE c.order_id = o.order_id AND c.status = 'open') FROM payment_orders o",
    )
    .fetch_all(&stack.db)
    .await
    .expect("orders");
    let known: BTreeMap<String, (bool, bool)> =
        rows.into_iter().map(|(order, seat, case)| (order, (seat, case))).collect();
    let mut findings = Vec::new();
    for payment in list("payments") {
        let (order, paid) = (text(&payment, "out_trade_no"), payment["total"].as_i64().unwrap_or(0));
        let back = given_back.get(&order).copied().unwrap_or(0);
        let (has_seat, has_case) = known.get(&order).copied().unwrap_or_default();
        if back > paid {
            findings.push(format!("{order}: {back} fen were given back of {paid}"));
        } else if !(has_seat || has_case || back == paid) {
            findings.push(format!("{order}: {paid} fen were paid for no seat, {back} given back, and no case is open"));
        }
    }
    findings
}

fn text(entry: &Value, member: &str) -> String {
    entry[member].as_str().unwrap_or_default().to_owned()
}
