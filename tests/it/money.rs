//! Our books beside WeChat's ledger, to the fen and one by one, once everything has been said.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::stack::{Stack, until};

impl Stack {
    /// Every payment, refund and message of either side is on the other. A payment with an open case is what WeChat
    /// never said in that form: it is looked at by a person. What an operator took, WeChat never had.
    pub(crate) async fn check_money(&self) {
        self.check_invariants().await;
        let ledger = self.ledger().await;
        self.check_payments(&ledger).await;
        self.check_refunds(&ledger).await;
        self.check_messages().await;
        let (code, report, _) = self.holdfast(&["verify", "--json"]).await;
        assert_eq!(code, 0, "a promise is broken: {report}");
    }

    async fn check_payments(&self, ledger: &Value) {
        let taken: BTreeMap<String, (String, i64)> = entries(ledger, "payments")
            .map(|p| (text(p, "transaction_id"), (text(p, "out_trade_no"), fen(p, "total"))))
            .collect();
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT transaction_id, order_id, total_fen FROM payment_transactions t
              WHERE NOT EXISTS (SELECT FROM cases c WHERE c.subject = t.transaction_id AND c.status = 'open')
                AND transaction_id NOT LIKE 'offline-%'",
        )
        .fetch_all(&self.db)
        .await
        .expect("transactions");
        let booked: BTreeMap<_, _> = rows.into_iter().map(|(id, order, fen)| (id, (order, fen))).collect();
        let in_cases: BTreeSet<String> = self.open_cases().await.into_iter().map(|(_, subject)| subject).collect();
        let taken: BTreeMap<_, _> = taken.into_iter().filter(|(id, _)| !in_cases.contains(id)).collect();
        assert_eq!(booked, taken, "payments in our books and in WeChat's ledger");
    }

    async fn check_refunds(&self, ledger: &Value) {
        let theirs: BTreeMap<String, (String, i64, String)> = entries(ledger, "refunds")
            .map(|r| (text(r, "out_refund_no"), (text(r, "out_trade_no"), fen(r, "refund"), text(r, "status"))))
            .collect();
        // WeChat still has the failed attempt at a refund that a person ended.
        let ended: Vec<String> =
            sqlx::query_scalar("SELECT refund_id FROM refunds WHERE status IN ('paid_by_hand', 'not_owed')")
                .fetch_all(&self.db)
                .await
                .expect("refunds");
        let theirs: BTreeMap<_, _> =
            theirs.into_iter().filter(|(id, (.., status))| status == "SUCCESS" || !ended.contains(id)).collect();
        let rows: Vec<(String, String, i64, String)> = sqlx::query_as(
            "SELECT coalesce(out_refund_no, refund_id), order_id, amount_fen, CASE status WHEN 'succeeded' THEN 'SUCCESS' ELSE upper(status::text) END
               FROM refunds WHERE status NOT IN ('requested', 'refused', 'paid_by_hand', 'not_owed')",
        )
        .fetch_all(&self.db)
        .await
        .expect("refunds");
        let ours: BTreeMap<_, _> =
            rows.into_iter().map(|(id, order, fen, status)| (id, (order, fen, status))).collect();
        assert_eq!(ours, theirs, "refunds in our books and in WeChat's ledger");
        let given_back: i64 = theirs.values().filter(|(.., status)| status == "SUCCESS").map(|(_, fen, _)| fen).sum();
        let noted = self.count("SELECT coalesce(sum(refunded_fen), 0)::bigint FROM payment_orders").await;
        let by_hand = "SELECT coalesce(sum(amount_fen), 0)::bigint FROM refunds WHERE status = 'paid_by_hand'";
        let by_hand = self.count(by_hand).await;
        assert_eq!(noted, given_back + by_hand, "what the orders say was given back");
    }

    /// No message twice; each that was sent is noted so, apart from those whose answer was lost for good.
    async fn check_messages(&self) {
        until("every message is noted", async || {
            let ledger = self.ledger().await;
            let mut once = BTreeSet::new();
            for name in entries(&ledger, "messages").map(|message| text(message, "client_msg_id")) {
                assert!(once.insert(name.clone()), "the message {name} was sent twice");
            }
            let noted = self.count("SELECT count(*) FROM notifications WHERE status = 'sent'").await;
            let lost = self.count("SELECT count(*) FROM notifications WHERE status = 'uncertain'").await;
            (noted..=noted + lost).contains(&(once.len() as i64)).then_some(())
        })
        .await;
    }
}

fn entries<'a>(ledger: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    ledger[list].as_array().expect("a list").iter()
}

fn text(entry: &Value, member: &str) -> String {
    entry[member].as_str().unwrap_or_else(|| panic!("{member} of {entry}")).to_owned()
}

fn fen(entry: &Value, member: &str) -> i64 {
    entry[member].as_i64().unwrap_or_else(|| panic!("{member} of {entry}"))
}
