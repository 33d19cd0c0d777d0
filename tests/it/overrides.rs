//! Operators decide about orders: each decision does what it says, asks WeChat first, is told with who and why, can be
//! taken back where the world allows, and leaves books that `verify` finds clean.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use holdfast::api::Role;

use crate::{
    queues::Queues,
    stack::{Answer, Choice, PRICE_FEN, Stack, until},
    story::deadlines,
};

pub(crate) async fn stage(test: &str, second_person_fen: i64) -> Stack {
    let mut settings = deadlines(600, 1200);
    settings.push(("HOLDFAST_ORDER__CHECK_SECONDS", "600".to_owned()));
    settings.push(("HOLDFAST_OVERRIDE__SECOND_PERSON_FEN", second_person_fen.to_string()));
    Stack::start_with(&format!("override_{test}"), Choice { settings, ..Choice::default() }).await
}

impl Stack {
    /// Decides by the command line: the exit code and the override.
    pub(crate) async fn decide(&self, order: &str, action: &str, more: &[&str]) -> (i32, Value) {
        let mut arguments = vec!["order", "override", order, action, "--reason", "a customer called", "--json"];
        arguments.extend(more);
        let (code, stdout, stderr) = self.holdfast(&arguments).await;
        (code, serde_json::from_str(&stdout).unwrap_or_else(|_| json!({ "stderr": stderr })))
    }

    pub(crate) async fn decided(&self, order: &str, action: &str, more: &[&str]) -> Value {
        let (code, document) = self.decide(order, action, more).await;
        assert_eq!((code, &document["status"]), (0, &json!("done")), "{action}: {document}");
        document
    }

    pub(crate) async fn verified(&self) {
        let (code, report, _) = self.holdfast(&["verify", "--json"]).await;
        assert_eq!(code, 0, "a promise is broken: {report}");
    }

    /// Who changed the order by this event, and why.
    pub(crate) async fn audited(&self, order: &str, event: &str) -> (String, Option<String>) {
        sqlx::query_as("SELECT actor, reason FROM payment_audit_log WHERE order_id = $1 AND event = $2")
            .bind(order)
            .bind(event)
            .fetch_one(&self.db)
            .await
            .expect("an audit row")
    }
}

pub(crate) fn by(operator: &str) -> (String, Option<String>) {
    (format!("operator:{operator}"), Some("a customer called".to_owned()))
}

#[tokio::test]
async fn s4_2_confirm_takes_wechats_word_and_nothing_else() {
    let stack = stage("confirm", 1_000_000).await;
    let schedule = stack.add_schedule(2).await;
    let (ann, paid) = stack.payable("ann", &schedule).await;
    let (_, unpaid) = stack.payable("bob", &schedule).await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never" }] })).await;
    stack.pay(&paid).await;
    stack.decided(&paid, "confirm", &["--as", "olga"]).await;
    stack.until_status(&ann, &paid, "confirmed").await;

    let (code, refused) = stack.decide(&unpaid, "confirm", &["--as", "olga"]).await;
    assert_eq!((code, &refused["status"]), (1, &json!("refused")), "{refused}");
    assert_eq!(refused["outcome"], "WeChat says it is not paid");
    let (code, again) = stack.decide(&paid, "confirm", &["--as", "olga"]).await;
    assert_eq!(code, 1, "{again}");
    stack.check_money().await;
}

#[tokio::test]
async fn s4_2_a_waived_seat_is_given_shown_and_taken_back_without_money() {
    let stack = stage("waive", 1_000_000).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    let waived = stack.decided(&order, "waive", &["--as", "olga"]).await;
    let confirmed = stack.until_status(&ann, &order, "confirmed").await;
    let id = waived["override_id"].as_str().expect("an id");
    assert_eq!((&confirmed["seat_no"], &confirmed["transaction_id"]), (&json!(1), &json!(format!("waived-{id}"))));
    assert_eq!(stack.audited(&order, "waived").await, by("olga"));
    assert_eq!(stack.pay(&order).await.status, 409, "closed at WeChat");
    assert_eq!(stack.timeline(&order).await["answer"], "Has seat 1: an operator waived the price. Nobody took money.");
    stack.verified().await;
    let (code, _) = stack.decide(&order, "refund", &["--as", "olga"]).await;
    assert_eq!(code, 1, "nobody took money that could go back");

    stack.decided(&order, "release", &["--as", "olga"]).await;
    stack.until_status(&ann, &order, "cancelled").await;
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1);
    stack.verified().await;

    assert_eq!(stack.decide(&order, "waive", &[]).await.0, 1, "once");
    // An order that lapsed gets a seat while there is one, and none when the room is full.
    let (bob, second) = stack.payable("bob", &schedule).await;
    stack.lapse_now(&bob, &second).await;
    let (cid, third) = stack.payable("cid", &schedule).await;
    let (code, refused) = stack.decide(&second, "waive", &[]).await;
    assert_eq!(code, 1, "{refused}");
    stack.decided(&third, "close", &[]).await;
    stack.until_status(&cid, &third, "cancelled").await;
    stack.decided(&third, "waive", &["--as", "olga"]).await;
    stack.until_status(&cid, &third, "confirmed").await;
    stack.verified().await;
}

#[tokio::test]
async fn s4_2_release_and_close_ask_wechat_first() {
    let stack = stage("release", 1_000_000).await;
    let schedule = stack.add_schedule(3).await;
    let (ann, released) = stack.payable("ann", &schedule).await;
    let (bob, closed) = stack.payable("bob", &schedule).await;
    let (cid, paid) = stack.payable("cid", &schedule).await;
    stack.decided(&released, "release", &["--as", "olga"]).await;
    stack.until_status(&ann, &released, "lapsed").await;
    assert_eq!(stack.audited(&released, "released").await, by("olga"));
    stack.decided(&closed, "close", &["--as", "olga"]).await;
    stack.until_status(&bob, &closed, "cancelled").await;
    assert_eq!(stack.audited(&closed, "closed").await, by("olga"));
    assert_eq!(stack.pay(&closed).await.status, 409);

    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never", "order": paid }] })).await;
    stack.pay(&paid).await;
    let (code, refused) = stack.decide(&paid, "close", &["--as", "olga"]).await;
    assert_eq!((code, &refused["outcome"]), (1, &json!("WeChat says it is paid: recorded")), "{refused}");
    stack.until_status(&cid, &paid, "confirmed").await;

    // What was released can still be paid: nothing is lost.
    stack.pay(&released).await;
    stack.until_status(&ann, &released, "confirmed").await;
    stack.check_money().await;
}

#[tokio::test]
async fn s4_2_a_refund_and_a_recorded_payment_by_override_keep_the_books() {
    let stack = stage("refund", 1_000_000).await;
    let schedule = stack.add_schedule(2).await;
    let (ann, booked) = stack.booked("ann", &schedule).await;
    stack.decided(&booked, "refund", &["--as", "olga"]).await;
    stack.until_status(&ann, &booked, "refunded").await;
    assert_eq!(stack.audited(&booked, "refund_requested").await, by("olga"));
    stack.check_money().await;

    let (bob, order) = stack.payable("bob", &schedule).await;
    assert_eq!(stack.decide(&order, "record-payment", &["--receipt", "r-1", "--amount-fen", "1"]).await.0, 1);
    stack.decided(&order, "record-payment", &["--as", "olga", "--receipt", "r-1"]).await;
    let confirmed = stack.until_status(&bob, &order, "confirmed").await;
    assert_eq!(confirmed["transaction_id"], "offline-r-1");
    let (actor, reason) = stack.audited(&order, "paid").await;
    assert_eq!(
        (actor.as_str(), reason.as_deref()),
        ("operator:olga", Some("taken offline by olga: a customer called"))
    );
    stack.verified().await;
}

#[tokio::test]
async fn s4_2_money_that_was_set_aside_goes_back_by_override() {
    let stack = stage("give_back", 1_000_000).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    assert_eq!(stack.decide(&order, "refund", &[]).await.0, 1, "nothing is paid");
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "wrong_amount" }] })).await;
    stack.pay(&order).await;
    until("a case is open", async || (!stack.open_cases().await.is_empty()).then_some(())).await;
    let listed: Value = serde_json::from_str(&stack.holdfast_ok(&["case", "list", "--json"]).await).expect("JSON");
    let case = &listed["items"][0];
    assert_eq!((&case["kind"], &case["money_fen"]), (&json!("amount_mismatch"), &json!(PRICE_FEN + 1)));
    stack.decided(&order, "refund", &["--as", "olga"]).await;
    let refunding = until("the order is over with it", async || {
        let order = stack.order(&ann, &order).await.body;
        (order["status"] == "refunding").then_some(order)
    })
    .await;
    assert_eq!(refunding["seat_no"], json!(null));
    assert_eq!(stack.count("SELECT count(*) FROM free_seats").await, 1, "the seat is free");
    assert_eq!(stack.audited(&order, "set_aside_returned").await, by("olga"));
    // WeChat holds one fen less than it said: it takes no refund of that sum, and a person is asked again.
    until("WeChat has answered", async || {
        stack.open_cases().await.iter().any(|(kind, _)| kind.starts_with("refund")).then_some(())
    })
    .await;
    stack.verified().await;
}

#[tokio::test]
async fn s4_2_more_money_needs_two_persons() {
    let stack = stage("two_persons", PRICE_FEN - 1).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    let path = "/v1/ops/overrides";
    let token = |user: &str| stack.token_of_role(user, Role::Operator);
    let post = |user: &str, path: &str| stack.request(Method::POST, path).bearer_auth(token(user));
    let wish = json!({ "order_id": order, "action": "close", "reason": "a customer called" });
    let propose = |user, key, wish: &Value| Answer::of(post(user, path).header("Idempotency-Key", key).json(wish));

    let proposed = propose("olga", "k", &wish).await;
    assert_eq!((proposed.status, &proposed.body["status"]), (StatusCode::ACCEPTED, &json!("proposed")));
    assert_eq!(propose("olga", "k", &wish).await.body, proposed.body, "the same wish is the same override");
    let mut other = wish.clone();
    other["reason"] = json!("another");
    assert_eq!(propose("olga", "k", &other).await.problem(), "idempotency-key-reused");
    assert_eq!(propose("otto", "k", &wish).await.problem(), "override-not-possible", "one decision at a time");
    let waits = stack.timeline(&order).await["waits_for"].to_string();
    assert!(waits.contains("a second operator's word on override `close`"), "{waits}");

    let one = format!("{path}/{}", proposed.body["override_id"].as_str().expect("an id"));
    let own = Answer::of(post("olga", &format!("{one}/approve"))).await;
    assert_eq!((own.status, own.problem()), (StatusCode::CONFLICT, "second-person-needed"));
    assert_eq!(stack.order(&ann, &order).await.body["status"], "awaiting_payment");
    for _ in 0..2 {
        let approved = Answer::of(post("otto", &format!("{one}/approve"))).await;
        assert_eq!(approved.status, StatusCode::ACCEPTED, "{}", approved.body);
    }
    stack.until_status(&ann, &order, "cancelled").await;
    assert_eq!(stack.audited(&order, "closed").await, by("otto"));
    let late = Answer::of(post("olga", &format!("{one}/withdraw"))).await;
    assert_eq!(late.problem(), "override-not-possible");

    // By command, and withdrawn.
    let (bob, second) = stack.payable("bob", &schedule).await;
    let (code, proposed) = stack.decide(&second, "release", &["--as", "olga"]).await;
    assert_eq!((code, &proposed["status"]), (0, &json!("proposed")));
    let (code, ..) = stack.holdfast(&["order", "override", &second, "approve", "--as", "olga"]).await;
    assert_eq!(code, 1);
    stack.holdfast_ok(&["order", "override", &second, "withdraw", "--as", "olga"]).await;
    assert_eq!(stack.order(&bob, &second).await.body["status"], "awaiting_payment");

    let viewer = stack.token_of_role("vera", Role::Viewer);
    let listed = Answer::of(stack.request(Method::GET, path).bearer_auth(&viewer)).await;
    let actions: Vec<&Value> = listed.body["items"].as_array().expect("a list").iter().map(|o| &o["action"]).collect();
    assert_eq!(actions, ["release", "close"], "the newest first");
    let looks = stack.request(Method::POST, path).bearer_auth(&viewer).header("Idempotency-Key", "v").json(&wish);
    assert_eq!(Answer::of(looks).await.status, StatusCode::FORBIDDEN);
    stack.check_money().await;
}

/// The message of a decision may be lost: the row is the intent.
#[tokio::test]
async fn p4_a_decision_whose_message_was_lost_is_swept() {
    let mut stack = stage("swept", 1_000_000).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.kill("expiry");
    let (code, _) = stack.decide(&order, "close", &["--as", "olga", "--no-wait"]).await;
    assert_eq!(code, 0);
    Queues::of(&stack).await.purge("expiry").await;
    stack.environment.insert("HOLDFAST_RECONCILE__EVERY_SECONDS".into(), "1".into());
    stack.environment.insert("HOLDFAST_RECONCILE__GRACE_SECONDS".into(), "1".into());
    stack.spawn("expiry");
    stack.spawn("reconcile");
    stack.until_status(&ann, &order, "cancelled").await;
    stack.check_money().await;
}

#[tokio::test]
async fn p4_a_case_is_listed_shown_and_closed_once() {
    let stack = stage("cases", 1_000_000).await;
    let schedule = stack.add_schedule(1).await;
    let (_, order) = stack.payable("ann", &schedule).await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "wrong_amount" }] })).await;
    stack.pay(&order).await;
    until("a case is open", async || (!stack.open_cases().await.is_empty()).then_some(())).await;
    let viewer = stack.token_of_role("vera", Role::Viewer);
    let operator = stack.token_of_role("olga", Role::Operator);
    let get = async |path: &str| Answer::of(stack.request(Method::GET, path).bearer_auth(&viewer)).await;
    let listed = get("/v1/ops/cases").await.body;
    let case = &listed["items"][0];
    assert_eq!((&case["kind"], &case["order_id"]), (&json!("amount_mismatch"), &json!(order)));
    assert!(case["age_seconds"].as_i64().is_some() && case["suggestion"].as_str().is_some(), "{case}");
    let path = format!("/v1/ops/cases/{}", case["case_id"].as_str().expect("an id"));
    let close = async |token: &str, body: &Value| {
        let close = stack.request(Method::POST, &format!("{path}/close")).bearer_auth(token).json(body);
        Answer::of(close).await
    };
    let resolution = json!({ "resolution": "refund 5000 in the merchant platform" });
    assert_eq!(close(&viewer, &resolution).await.problem(), "forbidden");
    assert_eq!(close(&operator, &json!({})).await.problem(), "invalid-request");
    let closed = close(&operator, &resolution).await;
    assert_eq!((closed.status, &closed.body["closed_by"]), (StatusCode::OK, &json!("operator:olga")));
    assert_eq!(close(&operator, &resolution).await.problem(), "case-closed");
    assert_eq!(get("/v1/ops/cases").await.body["items"], json!([]));
    assert_eq!(get("/v1/ops/cases?status=closed").await.body["items"][0]["status"], "closed");
    assert_eq!(get("/v1/ops/cases/nothing").await.problem(), "no-such-case");
    assert_eq!(
        stack.holdfast(&["case", "close", case["case_id"].as_str().expect("an id"), "--resolution", "x"]).await.0,
        1
    );
    stack.verified().await;
}
