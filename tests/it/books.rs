//! What must hold when everything has come to rest: our books, WeChat's ledger and the queues tell the same story.

use std::collections::BTreeMap;

use crate::stack::{Stack, WORKERS, until};

impl Stack {
    /// Lets the workers finish, in the order of their work, each stopped in order when nothing is left for it.
    pub(crate) async fn come_to_rest(&mut self) {
        let orders: Vec<String> = (0..8).map(|lane| format!("orders.{lane}")).collect();
        for worker in WORKERS {
            let queues = if worker == "seats" { orders.clone() } else { vec![worker.to_owned()] };
            self.until_empty(&TIERS).await;
            self.until_empty(&queues).await;
            assert!(self.terminate(worker).await.success(), "{worker} did not stop in order");
            // What a worker had not acknowledged would be here again.
            self.assert_empty(&queues).await;
        }
        self.assert_empty(&TIERS).await;
        self.assert_empty(&DEAD).await;
    }

    async fn until_empty(&self, queues: &[impl AsRef<str>]) {
        for queue in queues {
            let queue = queue.as_ref();
            until(&format!("{queue} is empty"), async || (self.ready_in(queue).await == 0).then_some(())).await;
        }
    }

    pub(crate) async fn assert_empty(&self, queues: &[impl AsRef<str>]) {
        for queue in queues {
            let queue = queue.as_ref();
            assert_eq!(self.ready_in(queue).await, 0, "messages in {queue}");
        }
    }

    /// Every fen that WeChat took is in our books, for the same order, once, and the other way round.
    pub(crate) async fn check_ledger(&self) {
        let ledger = self.ledger().await;
        let taken: BTreeMap<String, (String, i64)> = ledger["payments"]
            .as_array()
            .expect("payments")
            .iter()
            .map(|payment| {
                let text = |name: &str| payment[name].as_str().expect("a text").to_owned();
                (text("transaction_id"), (text("out_trade_no"), payment["total"].as_i64().expect("fen")))
            })
            .collect();
        let rows: Vec<(String, String, i64)> = sqlx::query_as(
            "SELECT transaction_id, order_id, total_fen FROM payment_transactions WHERE status = 'settled'",
        )
        .fetch_all(&self.db)
        .await
        .expect("transactions");
        let booked: BTreeMap<_, _> = rows.into_iter().map(|(id, order, fen)| (id, (order, fen))).collect();
        assert_eq!(booked, taken, "our books and WeChat's ledger differ");
    }

    /// How many messages each customer got.
    pub(crate) async fn messages_by_user(&self) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for message in self.ledger().await["messages"].as_array().expect("messages") {
            let openid = message["touser"].as_str().expect("a text");
            *count.entry(openid.trim_start_matches("openid-").to_owned()).or_default() += 1;
        }
        count
    }
}

pub(crate) const TIERS: [&str; 6] = ["delay.1s", "delay.5s", "delay.30s", "delay.2m", "delay.10m", "delay.1h"];
pub(crate) const DEAD: [&str; 6] =
    ["orders.dead", "prepay.dead", "payments.dead", "expiry.dead", "refunds.dead", "notifications.dead"];
