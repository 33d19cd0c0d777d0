//! What customers do with the code they got, so that they end in every way there is; and how such a crowd comes to rest.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    customer::{Customer, is_later},
    stack::{Answer, Choice, Stack, WORKERS, until, until_within},
    story::deadlines,
};

/// A stack in which every ending is reached within seconds, with all its roles.
pub(crate) fn every_ending() -> Choice {
    let sweep = vec![
        ("HOLDFAST_RECONCILE__EVERY_SECONDS", "1".to_owned()),
        ("HOLDFAST_RECONCILE__GRACE_SECONDS", "3".to_owned()),
    ];
    let settings = [deadlines(8, 14), sweep].concat();
    Choice { settings, roles: ["api"].into_iter().chain(WORKERS).chain(["reconcile"]).collect(), ..Choice::default() }
}

/// Rates of everything that can go wrong; which order meets what is decided by the seed.
pub(crate) fn weather(seed: usize) -> Value {
    json!({ "seed": seed, "rules": [
        { "on": "order", "rate": 0.04, "answer_lost": true },
        { "on": "order", "rate": 0.04, "status": 503, "html": true },
        { "on": "order", "rate": 0.02, "signtest": true },
        { "on": "query", "rate": 0.05, "status": 502, "html": true },
        { "on": "query", "rate": 0.02, "wrong_signature": true },
        { "on": "close", "rate": 0.10, "answer_lost": "error" },
        { "on": "refund", "rate": 0.10, "answer_lost": true },
        { "on": "refund", "rate": 0.10, "status": 404, "code": "RESOURCE_NOT_EXISTS" },
        { "on": "refund", "rate": 0.04, "refund": "NOT_ENOUGH" },
        { "on": "refund", "rate": 0.04, "refund": "ABNORMAL" },
        { "on": "refund", "rate": 0.05, "refund": "CLOSED" },
        { "on": "refund_query", "rate": 0.05, "status": 500 },
        { "on": "callback_payment", "rate": 0.10, "callback": "never" },
        { "on": "callback_payment", "rate": 0.10, "callback": "twice" },
        { "on": "callback_payment", "rate": 0.10, "callback": { "late_ms": 2000 } },
        { "on": "callback_payment", "rate": 0.05, "callback": "reordered" },
        { "on": "callback_payment", "rate": 0.03, "callback": "wrong_amount" },
        { "on": "callback_payment", "rate": 0.05, "callback": "signtest" },
        { "on": "callback_payment", "rate": 0.03, "callback": "wrong_key" },
        { "on": "callback_refund", "rate": 0.20, "callback": "never" },
        { "on": "callback_refund", "rate": 0.10, "callback": "twice" },
        { "on": "template_send", "rate": 0.05, "answer_lost": true },
        { "on": "template_send", "rate": 0.05, "errcode": -1 },
        { "on": "template_send", "rate": 0.01, "expire_token": true },
    ]})
}

/// What one customer does with the code they got.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Habit {
    Pays,
    PaysAfterTheHold,
    Forgets,
    Cancels,
    CancelsWhilePaying,
    WantsAllBack,
    WantsBackTwice,
}

impl Habit {
    /// Every twenty in a row have all of them.
    pub(crate) fn of(number: usize) -> Self {
        match number % 20 {
            0..=7 => Self::Pays,
            8..=10 => Self::PaysAfterTheHold,
            11 | 12 => Self::Forgets,
            13 => Self::Cancels,
            14 | 15 => Self::CancelsWhilePaying,
            16..=18 => Self::WantsAllBack,
            _ => Self::WantsBackTwice,
        }
    }
}

impl Customer {
    /// One customer's story, which never waits for an end. Tells the order, if it came to one.
    pub(crate) async fn live(&self, habit: Habit, session: &str, seat_no: Option<i64>) -> Option<String> {
        let (answer, _) = self.order(session, seat_no).await;
        let Some(order) = answer.body["order_id"].as_str() else { panic!("{}: {}", self.user, answer.body) };
        if answer.status == StatusCode::CONFLICT {
            if self.user.ends_with(['0', '2', '4', '6', '8']) {
                self.post(&format!("/v1/schedules/{session}/waitlist"), &json!({})).await;
            }
            return None;
        }
        let (cancel, nothing) = (format!("/v1/orders/{order}/cancel"), json!({}));
        match habit {
            Habit::Forgets => {}
            Habit::Pays => drop(self.try_pay(order).await),
            Habit::PaysAfterTheHold => {
                // Longer than the longest outage: the worker that ends holds waits for its servers, too.
                until_within(Duration::from_secs(180), "the hold is over", async || {
                    let now = self.look(order).await;
                    (!["held", "awaiting_payment"].contains(&now["status"].as_str()?)).then_some(())
                })
                .await;
                self.try_pay(order).await;
            }
            Habit::Cancels => drop(self.post(&cancel, &nothing).await),
            Habit::CancelsWhilePaying => drop(tokio::join!(self.post(&cancel, &nothing), self.try_pay(order))),
            Habit::WantsAllBack | Habit::WantsBackTwice => {
                if self.try_pay(order).await == StatusCode::OK {
                    self.want_back(order, habit).await;
                }
            }
        }
        Some(order.to_owned())
    }

    async fn want_back(&self, order: &str, habit: Habit) {
        until(&format!("the payment of {order} is known"), async || {
            self.look(order).await["transaction_id"].is_string().then_some(())
        })
        .await;
        let path = format!("/v1/orders/{order}/refunds");
        if matches!(habit, Habit::WantsBackTwice) {
            self.post(&path, &json!({ "reason": "一部分" })).await;
        }
        self.post(&path, &json!({ "reason": "不去了" })).await;
    }

    pub(crate) async fn look(&self, order: &str) -> Value {
        let path = format!("/v1/orders/{order}");
        until(&format!("{} sees {order}", self.user), async || {
            Answer::try_of(self.request(Method::GET, &path)).await.ok().filter(|answer| !is_later(answer))
        })
        .await
        .body
    }

    /// Asks for something under one key until it is answered, whatever the answer; each wish has its own key.
    async fn post(&self, path: &str, wish: &Value) -> Answer {
        let key = format!("{wish}-of-{}", self.user).replace(|c: char| !c.is_ascii_graphic(), "-");
        until(&format!("{path} is answered"), async || {
            let asked = self.request(Method::POST, path).header("Idempotency-Key", &key).json(wish);
            Answer::try_of(asked).await.ok().filter(|answer| !is_later(answer))
        })
        .await
    }
}

impl Stack {
    /// Two of three of those who were offered a seat pay for it.
    pub(crate) async fn pay_offers(&self) {
        let offered: Vec<String> = sqlx::query_scalar(
            "SELECT order_id FROM payment_orders JOIN waitlist ON offered_order_id = order_id
              WHERE status = 'awaiting_payment' ORDER BY ticket",
        )
        .fetch_all(&self.db)
        .await
        .expect("offers");
        for (_, order) in offered.iter().enumerate().filter(|(number, _)| number % 3 != 0) {
            self.pay(order).await;
        }
    }

    /// Waits until no order, refund or message is under way. With no order left, WeChat's time passes quicker: its
    /// minute between two refunds, and the looks that are minutes away.
    pub(crate) async fn come_to_an_end(&self, patience: Duration) {
        let hurried = Cell::new(None::<Instant>);
        until_within(patience, "nothing is under way", async || {
            let orders = "SELECT count(*) FROM payment_orders
                           WHERE status IN ('submitted', 'held', 'awaiting_payment', 'lapsed')";
            let others = "SELECT (SELECT count(*) FROM refunds WHERE status IN ('requested', 'processing'))
                               + (SELECT count(*) FROM notifications WHERE status = 'pending')";
            match (self.count(orders).await, self.count(others).await) {
                (0, 0) => return Some(()),
                (0, _) if hurried.get().is_none_or(|last| last.elapsed() > Duration::from_secs(2)) => {
                    hurried.set(Some(Instant::now()));
                    self.hurry().await;
                }
                _ => {}
            }
            None
        })
        .await;
        let work = ["prepay", "payments", "expiry", "refunds", "notifications"];
        for queue in work.map(str::to_owned).into_iter().chain((0..8).map(|lane| format!("orders.{lane}"))) {
            until(&format!("{queue} is empty"), async || (self.ready_in(&queue).await == 0).then_some(())).await;
        }
    }

    async fn hurry(&self) {
        self.advance_simulator(61).await;
        for overdue in [
            "UPDATE refunds SET next_check_at = now() - interval '1 hour', swept_at = NULL
              WHERE status IN ('requested', 'processing')",
            "UPDATE notifications SET updated_at = now() - interval '1 hour', swept_at = NULL WHERE status = 'pending'",
        ] {
            sqlx::query(overdue).execute(&self.db).await.expect("changed");
        }
    }
}
