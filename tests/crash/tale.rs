//! The steps that stories are told with. Customers and operators are patient: they repeat what got no answer, under
//! the same key, as frontends do.

use std::{cell::RefCell, future::Future, time::Duration};

use holdfast::{
    api::Role,
    domain::{
        message::{Alarm, Message, OrderAlarm},
        notification::Kind,
    },
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::{
    crew::Crew,
    customer::Customer,
    queues::Queues,
    stack::{Answer, Stack, until_within},
    story::order_id,
};

/// The messages of a story to one customer.
pub(crate) struct Messages {
    pub user: String,
    /// Each of these, once.
    pub expected: Vec<Kind>,
    /// Each of these at most once: two acts meet, and either may come first.
    pub possible: Vec<Kind>,
}

/// One telling of a story.
pub(crate) struct Tale<'a> {
    pub stack: &'a Stack,
    pub crew: &'a Crew<'a>,
    /// Keeps its people and sessions apart from those of other tellings on the same stack.
    pub number: usize,
    pub patience: Duration,
    told: RefCell<Vec<Messages>>,
    cases: RefCell<Vec<&'static str>>,
}

impl<'a> Tale<'a> {
    pub(crate) fn new(stack: &'a Stack, crew: &'a Crew<'a>, number: usize, patience: Duration) -> Self {
        Self { stack, crew, number, patience, told: RefCell::default(), cases: RefCell::default() }
    }

    pub(crate) async fn until<T, F: Future<Output = Option<T>>>(&self, what: &str, look: impl FnMut() -> F) -> T {
        until_within(self.patience, what, look).await
    }

    /// Asks until there is an answer that is not "later".
    pub(crate) async fn asked(&self, what: &str, request: impl Fn() -> RequestBuilder) -> Answer {
        self.until(what, async || {
            let answer = Answer::try_of(request()).await.ok()?;
            (!answer.status.is_server_error()).then_some(answer)
        })
        .await
    }

    // ---- sessions and people

    /// A session of a course of its own, so that alternatives are those of this story.
    pub(crate) async fn session(&self, capacity: u32) -> String {
        self.stack.add_schedule_of(&format!("course-{}", self.number), capacity).await
    }

    pub(crate) fn guest(&self, name: &str) -> Guest<'_> {
        let user = format!("{name}-{}", self.number);
        let is_new = self.told.borrow().iter().all(|known| known.user != user);
        if is_new {
            self.told.borrow_mut().push(Messages { user: user.clone(), expected: Vec::new(), possible: Vec::new() });
        }
        Guest { tale: self, customer: Customer::of(self.stack, &user) }
    }

    // ---- WeChat and operators

    /// Everything that goes wrong at WeChat from now on.
    pub(crate) async fn at_wechat(&self, rules: Value) {
        self.stack.script(&json!({ "rules": rules })).await;
    }

    /// The customer pays by phone.
    pub(crate) async fn pay(&self, order: &str) {
        let paid = self.stack.pay(order).await;
        assert_eq!(paid.status, StatusCode::OK, "{}", paid.body);
    }

    /// The customer pays, and it is not what the books say: the money is set aside in a case.
    pub(crate) async fn pays_another_price(&self, order: &str) {
        sqlx::query("UPDATE payment_orders SET amount_fen = amount_fen + 1 WHERE order_id = $1")
            .bind(order)
            .execute(&self.stack.db)
            .await
            .expect("changed");
        self.expect_case("amount_mismatch");
        self.pay(order).await;
        self.until("it is set aside", async || {
            let cases = "SELECT count(*) FROM cases WHERE order_id = $1 AND status = 'open'";
            let open: i64 = sqlx::query_scalar(cases).bind(order).fetch_one(&self.stack.db).await.expect("a look");
            (open == 1).then_some(())
        })
        .await;
    }

    /// A queue loses what lies in it, while nobody takes from it.
    pub(crate) async fn lose(&self, queue: &'static str) {
        self.until(&format!("something lies in {queue}"), async || {
            (self.stack.ready_in(queue).await > 0).then_some(())
        })
        .await;
        Queues::of(self.stack).await.purge(queue).await;
    }

    /// The books' deadlines of an order are over; nobody is told.
    pub(crate) async fn let_pass(&self, order: &str, deadline: &str) {
        let past = sqlx::AssertSqlSafe(format!(
            "UPDATE payment_orders SET {deadline} = now() - interval '5 seconds' WHERE order_id = $1"
        ));
        sqlx::query(past).bind(order).execute(&self.stack.db).await.expect("changed");
    }

    /// An alarm of the order rings now.
    pub(crate) async fn ring(&self, order: &str, alarm: Alarm) {
        self.stack.lay(&Message::OrderAlarm(OrderAlarm { order_id: order_id(order), alarm, after_ms: 0 })).await;
    }

    pub(crate) async fn until_refund(&self, refund: &str, status: &str) {
        self.until(&format!("refund {refund} is {status}"), async || {
            let now: Option<String> = sqlx::query_scalar("SELECT status::text FROM refunds WHERE refund_id = $1")
                .bind(refund)
                .fetch_optional(&self.stack.db)
                .await
                .expect("a look");
            (now.as_deref() == Some(status)).then_some(())
        })
        .await
    }

    // ---- how it must end

    /// A case of this kind is opened in this story.
    pub(crate) fn expect_case(&self, kind: &'static str) {
        self.cases.borrow_mut().push(kind);
    }

    /// What everybody was to be told, and the cases that were to be opened.
    pub(crate) fn expected(self) -> (Vec<Messages>, Vec<&'static str>) {
        (self.told.into_inner(), self.cases.into_inner())
    }
}

/// A customer in a story.
pub(crate) struct Guest<'a> {
    tale: &'a Tale<'a>,
    customer: Customer,
}

impl Guest<'_> {
    pub(crate) fn user(&self) -> &str {
        &self.customer.user
    }

    pub(crate) async fn order(&self, session: &str) -> String {
        self.customer.submit(session, None).await
    }

    /// The same under a key of their choice.
    pub(crate) async fn order_as(&self, key: &str, session: &str) -> String {
        self.customer.with_key(key).submit(session, None).await
    }

    /// An order that can be paid.
    pub(crate) async fn payable(&self, session: &str) -> String {
        let order = self.order(session).await;
        self.until_payable(&order).await;
        order
    }

    pub(crate) async fn until_payable(&self, order: &str) {
        self.seen(order, "has a code", |document| document["code_url"].is_string()).await;
    }

    /// A paid and confirmed order, and its customer told so.
    pub(crate) async fn booked(&self, session: &str) -> String {
        let order = self.payable(session).await;
        self.tale.pay(&order).await;
        self.until_status(&order, "confirmed").await;
        self.is_told(&[Kind::BookingConfirmed]);
        order
    }

    pub(crate) async fn until_status(&self, order: &str, status: &str) -> Value {
        self.seen(order, &format!("is {status}"), |document| document["status"] == status).await
    }

    /// Looks at the order, as its page does, until it is as wished.
    pub(crate) async fn seen(&self, order: &str, what: &str, wished: impl Fn(&Value) -> bool) -> Value {
        let path = format!("/v1/orders/{order}");
        let what = format!("{}'s order {what}", self.user());
        self.tale
            .until(&what, async || {
                let answer = Answer::try_of(self.customer.request(Method::GET, &path)).await.ok()?;
                (answer.status == StatusCode::OK && wished(&answer.body)).then_some(answer.body)
            })
            .await
    }

    async fn post(&self, path: &str, wish: &Value) -> Answer {
        let key = key_of(path, wish);
        let what = format!("{path} is answered");
        let request = || self.customer.request(Method::POST, path).header("Idempotency-Key", &key).json(wish);
        self.tale.asked(&what, request).await
    }

    pub(crate) async fn cancel(&self, order: &str) {
        let answer = self.post(&format!("/v1/orders/{order}/cancel"), &json!({})).await;
        // Asked again after the API died: the first time may have been taken, and have found it paid.
        let is_taken = answer.status == StatusCode::ACCEPTED || answer.problem() == "already-paid";
        assert!(is_taken, "{}", answer.body);
    }

    /// Asks for money back, all that is left, or an operator asks for a sum; answers the refund's number.
    pub(crate) async fn refund(&self, order: &str, amount_fen: Option<i64>) -> String {
        let path = format!("/v1/orders/{order}/refunds");
        let answer = match amount_fen {
            None => self.post(&path, &json!({ "reason": "sick" })).await,
            Some(fen) => {
                let (wish, stack) = (json!({ "reason": "sick", "amount_fen": fen }), self.tale.stack);
                let (key, token) = (key_of(&path, &wish), stack.token_of_role("olga", Role::Operator));
                let request = || {
                    let request = stack.request(Method::POST, &path).bearer_auth(&token);
                    request.header("Idempotency-Key", &key).json(&wish)
                };
                self.tale.asked(&format!("{path} is answered"), request).await
            }
        };
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        answer.body["refund_id"].as_str().expect("a refund_id").to_owned()
    }

    pub(crate) async fn wait_in_line(&self, session: &str) {
        let answer = self.post(&format!("/v1/schedules/{session}/waitlist"), &json!({})).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        self.tale
            .until(&format!("{} waits", self.user()), async || {
                let waits = "SELECT count(*) FROM waitlist WHERE user_id = $1";
                let waits: i64 =
                    sqlx::query_scalar(waits).bind(self.user()).fetch_one(&self.tale.stack.db).await.expect("a look");
                (waits == 1).then_some(())
            })
            .await;
    }

    /// The order they were offered, once it can be paid.
    pub(crate) async fn offered(&self) -> String {
        self.offered_beside("").await
    }

    /// The same beside an order of their own.
    pub(crate) async fn offered_beside(&self, own: &str) -> String {
        let order = self
            .tale
            .until(&format!("{} is offered a seat", self.user()), async || {
                let orders = Answer::try_of(self.customer.request(Method::GET, "/v1/orders")).await.ok()?;
                let mut orders = orders.body["items"].as_array()?.iter().filter_map(|order| order["order_id"].as_str());
                orders.find(|order| *order != own).map(str::to_owned)
            })
            .await;
        self.until_payable(&order).await;
        order
    }

    /// What they are told in the course of the story, each once, and nothing else.
    pub(crate) fn is_told(&self, kinds: &[Kind]) {
        self.change_messages(|messages| messages.expected.extend(kinds));
    }

    /// What they may be told besides, each at most once.
    pub(crate) fn may_be_told(&self, kinds: &[Kind]) {
        self.change_messages(|messages| messages.possible.extend(kinds));
    }

    fn change_messages(&self, change: impl FnOnce(&mut Messages)) {
        let mut told = self.tale.told.borrow_mut();
        change(told.iter_mut().find(|messages| messages.user == self.user()).expect("a guest of this story"));
    }
}

/// The same request has the same key.
fn key_of(path: &str, wish: &Value) -> String {
    format!("{path} {wish}").replace(|c: char| !c.is_ascii_graphic(), "-")
}
