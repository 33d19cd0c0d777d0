//! What the stories of endings are told with: short deadlines, a customer's steps, messages laid by hand.

use holdfast::domain::{
    ids::{OrderId, RefundId, ScheduleId, UserId},
    message::{
        Alarm, Message, Openid, OrderAlarm, OrderCancel, RefundDue, RefundRequested, WaitlistChange, WaitlistWish,
    },
    money::Fen,
};
use serde_json::{Value, json};

use crate::{
    queues::Queues,
    stack::{Choice, Stack, until},
};

/// Deadlines of seconds, for tests that wait for them.
pub(crate) fn deadlines(hold: u32, payment: u32) -> Vec<(&'static str, String)> {
    vec![
        ("HOLDFAST_ORDER__HOLD_SECONDS", hold.to_string()),
        ("HOLDFAST_ORDER__PAYMENT_SECONDS", payment.to_string()),
        ("HOLDFAST_ORDER__CHECK_SECONDS", "1".into()),
        ("HOLDFAST_ORDER__REFUND_INTERVAL_SECONDS", "1".into()),
    ]
}

/// A stack whose hold and payment deadlines are seconds.
pub(crate) async fn hasty(test: &str, hold: u32, payment: u32) -> Stack {
    Stack::start_with(test, Choice { settings: deadlines(hold, payment), ..Choice::default() }).await
}

/// The same with these processes only.
pub(crate) async fn hasty_with(test: &str, hold: u32, payment: u32, roles: &[&'static str]) -> Stack {
    let (settings, roles) = (deadlines(hold, payment), roles.to_vec());
    Stack::start_with(test, Choice { settings, roles, ..Choice::default() }).await
}

pub(crate) fn order_id(order: &str) -> OrderId {
    OrderId::try_from(order.to_owned()).expect("an order id")
}

pub(crate) fn user_id(user: &str) -> UserId {
    UserId::try_from(user.to_owned()).expect("a user id")
}

pub(crate) fn refund_id(refund: &str) -> RefundId {
    RefundId::try_from(refund.to_owned()).expect("a refund id")
}

impl Stack {
    /// An order of this customer that can be paid: their token and its id.
    pub(crate) async fn payable(&self, user: &str, schedule: &str) -> (String, String) {
        let token = self.quick_token(user);
        let order = self.submit(&token, schedule).await;
        // Its hold may be over by then; its code can be paid all the same.
        until(&format!("{user} has a code"), async || {
            self.order(&token, &order).await.body["code_url"].is_string().then_some(())
        })
        .await;
        (token, order)
    }

    /// A paid and confirmed order of this customer.
    pub(crate) async fn booked(&self, user: &str, schedule: &str) -> (String, String) {
        let (token, order) = self.payable(user, schedule).await;
        assert_eq!(self.pay(&order).await.status, 200);
        self.until_status(&token, &order, "confirmed").await;
        (token, order)
    }

    /// Lays a message of ours into its queue.
    pub(crate) async fn lay(&self, message: &Message) {
        Queues::of(self).await.put_message(message).await;
    }

    pub(crate) async fn lay_cancel(&self, user: &str, order: &str) {
        let cancel = OrderCancel {
            order_id: order_id(order),
            user_id: user_id(user),
            requested_by: None,
            request_id: "test".into(),
        };
        self.lay(&Message::OrderCancel(cancel)).await;
    }

    pub(crate) async fn lay_waitlist(&self, user: &str, schedule: &str, wish: WaitlistWish) {
        let change = WaitlistChange {
            schedule_id: ScheduleId::parse(schedule).expect("an id"),
            user_id: user_id(user),
            openid: Some(Openid(format!("openid-{user}"))),
            wish,
            request_id: user.to_owned(),
        };
        self.lay(&Message::WaitlistChange(change)).await;
    }

    /// Joins in this order; returns when all of them wait.
    pub(crate) async fn wait_in_line(&self, users: &[&str], schedule: &str) {
        for user in users {
            self.lay_waitlist(user, schedule, WaitlistWish::Join).await;
        }
        until("all of them wait", async || {
            (self.count("SELECT count(*) FROM waitlist WHERE left_at IS NULL").await == users.len() as i64)
                .then_some(())
        })
        .await;
    }

    /// The order that a waiting customer was offered, once its code can be paid.
    pub(crate) async fn offered_to(&self, user: &str) -> String {
        until(&format!("{user} is offered a seat"), async || {
            sqlx::query_scalar(
                "SELECT o.order_id FROM payment_orders o JOIN waitlist w ON w.offered_order_id = o.order_id
                  WHERE w.user_id = $1 AND o.code_url IS NOT NULL",
            )
            .bind(user)
            .fetch_optional(&self.db)
            .await
            .expect("a look")
        })
        .await
    }

    /// Asks for a refund; answers its number.
    pub(crate) async fn lay_refund(&self, order: &str, key: &str, amount_fen: Option<i64>) -> String {
        let refund = format!("{order}-{key}");
        let request = RefundRequested {
            refund_id: refund_id(&refund),
            order_id: order_id(order),
            amount_fen: amount_fen.map(Fen),
            reason: "test".into(),
            requested_by: "operator:test".into(),
            requested_at: None,
            request_id: "test".into(),
        };
        self.lay(&Message::RefundRequested(request)).await;
        refund
    }

    /// Carries a refund on now, as the sweep would later.
    pub(crate) async fn lay_refund_due(&self, refund: &str) {
        self.lay(&Message::RefundDue(RefundDue { refund_id: refund_id(refund) })).await;
    }

    /// Waits until the refund has the status in our books; answers what is noted about it.
    pub(crate) async fn until_refund(&self, refund: &str, status: &str) -> Option<String> {
        until(&format!("refund {refund} is {status}"), async || {
            let (now, error): (String, Option<String>) =
                sqlx::query_as("SELECT status::text, error FROM refunds WHERE refund_id = $1")
                    .bind(refund)
                    .fetch_optional(&self.db)
                    .await
                    .expect("a look")?;
            (now == status).then_some(error)
        })
        .await
    }

    /// Open cases, by kind and subject.
    pub(crate) async fn open_cases(&self) -> Vec<(String, String)> {
        sqlx::query_as("SELECT kind, subject FROM cases WHERE status = 'open' ORDER BY opened_at")
            .fetch_all(&self.db)
            .await
            .expect("cases")
    }

    pub(crate) async fn until_count(&self, what: &str, query: &'static str, wanted: i64) {
        until(what, async || (self.count(query).await == wanted).then_some(())).await;
    }

    pub(crate) async fn advance_simulator(&self, seconds: u64) {
        let url = format!("{}/_sim/clock", self.simulator.url);
        let answer = self.http.post(url).json(&json!({ "advance_seconds": seconds })).send().await.expect("an answer");
        assert!(answer.status().is_success());
    }

    /// Lets the hold of an order run out now; the worker does the rest.
    pub(crate) async fn end_hold(&self, order: &str) {
        sqlx::query("UPDATE payment_orders SET hold_expires_at = now() WHERE order_id = $1")
            .bind(order)
            .execute(&self.db)
            .await
            .expect("changed");
        let alarm = OrderAlarm { order_id: order_id(order), alarm: Alarm::Hold, after_ms: 0 };
        self.lay(&Message::OrderAlarm(alarm)).await;
    }

    /// Lets the payment deadline of an order run out now.
    pub(crate) async fn end_deadline(&self, order: &str) {
        sqlx::query("UPDATE payment_orders SET hold_expires_at = now(), pay_before = now() WHERE order_id = $1")
            .bind(order)
            .execute(&self.db)
            .await
            .expect("changed");
        let alarm = OrderAlarm { order_id: order_id(order), alarm: Alarm::Payment, after_ms: 0 };
        self.lay(&Message::OrderAlarm(alarm)).await;
    }

    /// Cancels as the customer does.
    pub(crate) async fn cancel(&self, token: &str, order: &str) {
        let path = format!("/v1/orders/{order}/cancel");
        let answer = self.request(reqwest::Method::POST, &path).bearer_auth(token).send().await.expect("an answer");
        assert_eq!(answer.status(), 202);
    }

    pub(crate) async fn lapse_now(&self, token: &str, order: &str) -> Value {
        self.end_hold(order).await;
        self.until_status(token, order, "lapsed").await
    }
}
