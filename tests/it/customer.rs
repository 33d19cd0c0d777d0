//! A customer as a frontend serves one: asks under one key until answered, waits for the outcome, pays by phone.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::stack::{Answer, PRICE_FEN, Stack, until};

/// One person with one wish. Owns what it needs, so that hundreds can act side by side.
#[derive(Clone)]
pub(crate) struct Customer {
    pub user: String,
    http: Client,
    api: String,
    simulator: String,
    token: String,
    /// One wish: asking again under it is the same wish.
    key: String,
}

impl Customer {
    pub(crate) fn of(stack: &Stack, user: &str) -> Self {
        Self {
            user: user.to_owned(),
            http: stack.http.clone(),
            api: stack.api.clone(),
            simulator: stack.simulator.url.clone(),
            token: stack.quick_token(user),
            key: format!("click-of-{user}"),
        }
    }

    /// As many customers as wanted, `name-0`, `name-1`, …
    pub(crate) fn crowd(stack: &Stack, name: &str, size: usize) -> Vec<Self> {
        (0..size).map(|number| Self::of(stack, &format!("{name}-{number}"))).collect()
    }

    /// Somebody else, by their token, where there is no stack at hand to ask for one.
    #[allow(dead_code, reason = "for a load")]
    pub(crate) fn named(&self, user: &str, token: String) -> Self {
        Self { user: user.to_owned(), token, key: format!("click-of-{user}"), ..self.clone() }
    }

    /// The same person at another ingress.
    #[allow(dead_code, reason = "for a load")]
    pub(crate) fn at(&self, api: &str) -> Self {
        Self { api: api.to_owned(), ..self.clone() }
    }

    /// The same person with another wish.
    #[allow(dead_code, reason = "for the benchmark")]
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    fn submit_request(&self, schedule: &str, seat_no: Option<i64>) -> RequestBuilder {
        let mut wish = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN });
        if let Some(seat_no) = seat_no {
            wish["seat_no"] = json!(seat_no);
        }
        self.request(Method::POST, "/v1/orders").header("Idempotency-Key", &self.key).json(&wish)
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        // Longer than the longest wait that the API grants.
        self.http
            .request(method, format!("{}{path}", self.api))
            .bearer_auth(&self.token)
            .timeout(Duration::from_secs(20))
    }

    /// One click, whatever the answer.
    pub(crate) async fn click(&self, schedule: &str, seat_no: Option<i64>) -> reqwest::Result<Answer> {
        Answer::try_of(self.submit_request(schedule, seat_no)).await
    }

    /// Clicks once, and again while there is no answer or "later"; answers the order's id.
    pub(crate) async fn submit(&self, schedule: &str, seat_no: Option<i64>) -> String {
        let answer = until(&format!("{}'s order is taken", self.user), async || {
            self.click(schedule, seat_no).await.ok().filter(|answer| !is_later(answer))
        })
        .await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        answer.body["order_id"].as_str().expect("an order_id").to_owned()
    }

    /// Clicks and waits for the outcome: 201 with the code, or 409 with the alternatives. Tells how long it took.
    pub(crate) async fn order(&self, schedule: &str, seat_no: Option<i64>) -> (Answer, Duration) {
        let began = Instant::now();
        let answer = until(&format!("{} has a code or a no", self.user), async || {
            let click = self.submit_request(schedule, seat_no).header("Prefer", "wait=10");
            Answer::try_of(click).await.ok().filter(|answer| !is_later(answer) && answer.status != StatusCode::ACCEPTED)
        })
        .await;
        (answer, began.elapsed())
    }

    /// Waits until the order has the status, as the page does: by its events.
    pub(crate) async fn until_status(&self, order: &str, status: &str) -> Value {
        let path = format!("/v1/orders/{order}/events");
        until(&format!("{}'s order {order} is {status}", self.user), async || {
            let mut stream = self.request(Method::GET, &path).send().await.ok()?.bytes_stream();
            let mut events = String::new();
            while let Some(Ok(bytes)) = stream.next().await {
                events.push_str(&String::from_utf8_lossy(&bytes));
                while let Some((event, rest)) = events.split_once("\n\n") {
                    let data =
                        event.lines().find_map(|line| line.strip_prefix("data: ")).map(serde_json::from_str::<Value>);
                    if let Some(Ok(document)) = data
                        && document["status"] == status
                    {
                        return Some(document);
                    }
                    events = rest.to_owned();
                }
            }
            None
        })
        .await
    }

    /// Pays at WeChat, which is never away in our tests.
    pub(crate) async fn pay(&self, order: &str) {
        let answer = self.phone(order).await;
        assert_eq!(answer.status, StatusCode::OK, "{order} cannot be paid: {}", answer.body);
    }

    /// The same where WeChat may refuse.
    #[allow(dead_code, reason = "for those who pay late")]
    pub(crate) async fn try_pay(&self, order: &str) -> StatusCode {
        self.phone(order).await.status
    }

    /// What the customer's phone says to a payment.
    pub(crate) async fn phone(&self, order: &str) -> Answer {
        Answer::of(self.http.post(format!("{}/_sim/pay", self.simulator)).json(&json!({ "out_trade_no": order }))).await
    }
}

/// What a frontend repeats by itself.
pub(crate) fn is_later(answer: &Answer) -> bool {
    matches!(answer.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
}
