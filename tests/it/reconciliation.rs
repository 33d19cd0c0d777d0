//! Our books against WeChat's bill: every planted difference is found, what can be healed is, the rest is for a person.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stack::{Answer, Choice, PRICE_FEN, Stack, until};

/// What becomes of each order: how many, what is planted, and the difference that must be found.
const PLANTED: [(&str, usize, &str); 12] = [
    ("clean", 60, ""),
    ("unseen", 40, "payment_unseen"),
    ("missing", 30, "payment_missing"),
    ("extra", 30, "unknown_order"),
    ("doubled", 20, "payment_extra"),
    ("wrong_amount", 30, "payment_amount"),
    ("wrong_state", 20, "payment_state"),
    ("refund unseen", 10, "refund_unseen"),
    ("refund missing", 6, "refund_missing"),
    ("refund doubled", 4, "unknown_refund"),
    ("refund wrong_amount", 4, "refund_amount"),
    ("refund wrong_state", 6, "refund_state"),
];

/// An order with its owner's token.
type Order = (String, String);

pub(crate) async fn close_day(stack: &Stack, body: &Value) -> Value {
    let answer = Answer::of(stack.http.post(format!("{}/_sim/bill", stack.simulator.url)).json(body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body
}

pub(crate) async fn reconcile(stack: &Stack, date: &str) -> (i32, Value) {
    let (code, stdout, stderr) = stack.holdfast(&["reconcile", "--date", date, "--json"]).await;
    (code, serde_json::from_str(&stdout).unwrap_or(Value::String(stderr)))
}

/// Orders that wait for their payment.
async fn ordered(stack: &Stack, schedule: &str, count: usize) -> Vec<Order> {
    let made = stream::iter(0..count).map(async |number| {
        let token = stack.quick_token(&format!("customer-{number}"));
        let order = stack.submit(&token, schedule).await;
        (order, token)
    });
    let orders: Vec<Order> = made.buffer_unordered(16).collect().await;
    until("every order can be paid", async || {
        let payable = stack.count("SELECT count(*) FROM payment_orders WHERE status = 'awaiting_payment'").await;
        (payable == i64::try_from(count).expect("few")).then_some(())
    })
    .await;
    orders
}

async fn refund(stack: &Stack, (order, token): &Order) {
    stack.until_status(token, order, "confirmed").await;
    let request = stack.request(Method::POST, &format!("/v1/orders/{order}/refunds")).bearer_auth(token);
    let request = request.header("Idempotency-Key", order).json(&json!({ "reason": "cannot come" }));
    assert_eq!(Answer::of(request).await.status, StatusCode::ACCEPTED);
}

fn rules(orders: &[(Order, &str)]) -> Value {
    let mut rules = Vec::new();
    for ((order, _), plan) in orders {
        match plan.split_once(' ') {
            None if *plan == "clean" => {}
            None if *plan == "unseen" => {
                rules.push(json!({"on": "callback_payment", "order": order, "callback": "never"}));
            }
            None => rules.push(json!({"on": "bill_payment", "order": order, "bill": plan})),
            Some((_, "unseen")) => {
                rules.push(json!({"on": "callback_refund", "order": order, "callback": "never"}));
            }
            Some((_, fault)) => rules.push(json!({"on": "bill_refund", "order": order, "bill": fault})),
        }
    }
    json!({ "rules": rules })
}

/// Kind and order of every difference that stands. Of what nobody knows there is no order to tell.
fn standing(report: &Value) -> Vec<(String, String)> {
    let items = report["items"].as_array().expect("items").iter().filter(|item| item["settled_at"].is_null());
    let mut facts: Vec<_> = items
        .map(|item| {
            let text = |name: &str| item[name].as_str().expect("a text").to_owned();
            let kind = text("kind");
            let order = if kind == "unknown_order" { String::new() } else { text("order_id") };
            (kind, order)
        })
        .collect();
    facts.sort();
    facts
}

#[tokio::test]
async fn s4_2_two_hundred_differences_of_a_day_are_found_and_the_safe_ones_healed() {
    // Nobody asks WeChat by the clock, so that what its callbacks did not tell stays untold.
    let roles = vec!["api", "seats", "prepay", "payments", "refunds", "notifications"];
    let stack = Stack::start_with("reconciliation", Choice { roles, ..Choice::default() }).await;
    let schedule = stack.add_schedule(300).await;
    let plans: Vec<&str> = PLANTED.iter().flat_map(|(plan, count, _)| vec![*plan; *count]).collect();
    let orders: Vec<(Order, &str)> =
        ordered(&stack, &schedule, plans.len()).await.into_iter().zip(plans.iter().copied()).collect();
    stack.script(&rules(&orders)).await;

    for (order, _) in &orders {
        assert_eq!(stack.pay(&order.0).await.status, StatusCode::OK);
    }
    until("every payment that was told is settled", async || {
        let confirmed = stack.count("SELECT count(*) FROM payment_orders WHERE status = 'confirmed'").await;
        (confirmed == 220).then_some(())
    })
    .await;
    for (order, _) in orders.iter().filter(|(_, plan)| plan.starts_with("refund")) {
        refund(&stack, order).await;
    }
    until("every refund that was told is settled", async || {
        let settled = stack.count("SELECT count(*) FROM refunds WHERE status = 'succeeded'").await;
        let sent = stack.count("SELECT count(*) FROM refunds WHERE status = 'processing'").await;
        let done = stack.ledger().await["refunds"].as_array()?.iter().all(|refund| refund["status"] == "SUCCESS");
        (settled == 20 && sent == 10 && done).then_some(())
    })
    .await;

    let closed = close_day(&stack, &json!({})).await;
    assert_eq!(closed["planted"].as_array().map(Vec::len), Some(150));
    let date = closed["bill_date"].as_str().expect("a date");
    let ledger = stack.ledger().await;

    let (code, report) = reconcile(&stack, date).await;
    assert_eq!((code, &report["status"]), (1, &json!("differs")), "{report}");
    let mut expected: Vec<(String, String)> = orders
        .iter()
        .filter_map(|((order, _), plan)| {
            let (.., kind) = PLANTED.iter().find(|(known, ..)| known == plan).expect("planted");
            let order = if *kind == "unknown_order" { String::new() } else { order.clone() };
            (!kind.is_empty()).then(|| ((*kind).to_owned(), order))
        })
        .collect();
    expected.sort();
    assert_eq!(expected.len(), 200);
    assert_eq!(standing(&report), expected);
    assert_eq!((&report["found"], &report["standing"], &report["cases"]), (&json!(200), &json!(200), &json!(150)));
    assert_eq!(report["books"]["payments"], 220);

    until("the safe ones are healed", async || {
        let paid = stack.count("SELECT count(*) FROM payment_transactions WHERE status = 'settled'").await;
        let back = stack.count("SELECT count(*) FROM refunds WHERE status = 'succeeded'").await;
        (paid == 260 && back == 30).then_some(())
    })
    .await;
    assert_eq!(stack.count("SELECT count(*) FROM cases").await, 150, "one for each fact that needs a person");

    let (code, second) = reconcile(&stack, date).await;
    let healed: BTreeSet<&str> = ["payment_unseen", "refund_unseen"].into();
    expected.retain(|(kind, _)| !healed.contains(kind.as_str()));
    assert_eq!((code, standing(&second)), (1, expected));
    assert_eq!((&second["found"], &second["standing"]), (&json!(200), &json!(150)));
    let (_, third) = reconcile(&stack, date).await;
    let without_time = |report: &Value| {
        let mut report = report.clone();
        report["checked_at"] = Value::Null;
        report
    };
    assert_eq!(without_time(&third), without_time(&second), "the same day again changes nothing");
    assert_eq!(stack.count("SELECT count(*) FROM cases").await, 150);
    assert_eq!(stack.ledger().await["payments"], ledger["payments"]);
    assert_eq!(stack.ledger().await["refunds"], ledger["refunds"]);
    until("the books are at rest", async || (stack.holdfast(&["verify"]).await.0 == 0).then_some(())).await;

    the_api_tells_the_same(&stack, date, &third).await;
    stack.check_invariants().await;
}

async fn the_api_tells_the_same(stack: &Stack, date: &str, report: &Value) {
    let viewer = stack.holdfast_ok(&["token", "--user", "vera", "--role", "viewer"]).await.trim().to_owned();
    let mut items = Vec::new();
    let mut path = format!("/v1/ops/reconciliations/{date}");
    loop {
        let page = Answer::of(stack.request(Method::GET, &path).bearer_auth(&viewer)).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        assert_eq!(page.body["standing"], report["standing"]);
        items.extend(page.body["items"].as_array().expect("items").clone());
        let Some(next) = page.body["next"].as_str() else { break };
        path = format!("/v1/ops/reconciliations/{date}?cursor={next}");
    }
    assert_eq!(json!(items), report["items"]);

    let days = Answer::of(stack.request(Method::GET, "/v1/ops/reconciliations").bearer_auth(&viewer)).await;
    assert_eq!(days.body["items"][0]["date"], date);
    let customer = stack.token("ann").await;
    for path in ["/v1/ops/reconciliations".to_owned(), format!("/v1/ops/reconciliations/{date}")] {
        let answer = Answer::of(stack.request(Method::GET, &path).bearer_auth(&customer)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    for unknown in ["2020-01-01", "yesterday"] {
        let path = format!("/v1/ops/reconciliations/{unknown}");
        let answer = Answer::of(stack.request(Method::GET, &path).bearer_auth(&viewer)).await;
        assert_eq!((answer.status, answer.problem()), (StatusCode::NOT_FOUND, "not-found"));
    }
}

#[tokio::test]
async fn a_doubt_about_the_bill_is_no_empty_day() {
    let roles = vec!["api", "seats", "prepay", "payments"];
    let stack = Stack::start_with("reconciliation-doubt", Choice { roles, ..Choice::default() }).await;
    let schedule = stack.add_schedule(2).await;
    let token = stack.token("ann").await;
    let order = stack.submit(&token, &schedule).await;
    stack.until_status(&token, &order, "awaiting_payment").await;
    stack.pay(&order).await;
    stack.until_status(&token, &order, "confirmed").await;
    let closed = close_day(&stack, &json!({})).await;
    let date = closed["bill_date"].as_str().expect("a date");

    for doubt in [
        json!({"on": "bill", "status": 400, "code": "STATEMENT_CREATING"}),
        json!({"on": "bill", "status": 502, "html": true}),
        json!({"on": "bill", "answer_lost": true}),
        json!({"on": "bill", "wrong_signature": true}),
        json!({"on": "bill", "signtest": true}),
        json!({"on": "bill_download", "status": 400, "code": "INVALID_REQUEST"}),
        json!({"on": "bill_download", "answer_lost": true}),
        json!({"on": "bill_download", "damaged": true}),
    ] {
        stack.script(&json!({ "rules": [doubt] })).await;
        let (code, words) = reconcile(&stack, date).await;
        assert_eq!(code, 3, "{doubt}: {words}");
        let unfinished =
            stack.count("SELECT count(*) FROM book_days WHERE finished_at IS NULL AND error IS NOT NULL").await;
        assert_eq!(unfinished, 1, "{doubt}");
    }
    assert_eq!(stack.count("SELECT count(*) FROM book_differences").await, 0);

    stack.script(&json!({"rules": [{"on": "bill", "status": 400, "code": "NO_STATEMENT_EXIST"}]})).await;
    let (code, report) = reconcile(&stack, date).await;
    assert_eq!((code, &report["status"]), (1, &json!("differs")), "our books know better: {report}");
    assert_eq!(standing(&report), [("payment_missing".to_owned(), order)]);
    let open = "SELECT count(*) FROM cases WHERE kind = 'bill_missing' AND status = 'open'";
    assert_eq!((stack.count(open).await, stack.count("SELECT count(*) FROM cases").await), (1, 1));

    stack.script(&json!({})).await;
    let (code, report) = reconcile(&stack, date).await;
    assert_eq!((code, &report["status"]), (0, &json!("balanced")), "{report}");
    assert_eq!(report["bill"], json!({"payments": 1, "paid_fen": PRICE_FEN, "refunds": 0, "refunded_fen": 0}));
    assert_eq!(report["bill"], report["books"]);
    assert_eq!(stack.count(open).await, 0, "the fact that opened it is over");

    for wrong in ["today", "2999-01-01"] {
        let (code, words) = reconcile(&stack, wrong).await;
        assert_eq!(code, 2, "{words}");
    }
}

#[tokio::test]
async fn every_day_since_the_last_is_caught_up_and_a_day_without_trade_is_normal() {
    let settings =
        vec![("HOLDFAST_RECONCILE__EVERY_SECONDS", "1".to_owned()), ("HOLDFAST_RECONCILE__BILL_HOUR", "0".to_owned())];
    let mut stack =
        Stack::start_with("reconciliation-days", Choice { settings, roles: vec![], ..Choice::default() }).await;
    stack.add_schedule(2).await;
    let aged = sqlx::query("UPDATE course_schedules SET created_at = now() - interval '4 days'").execute(&stack.db);
    aged.await.expect("it is four days old");
    let yesterday: String =
        sqlx::query_scalar("SELECT (now() AT TIME ZONE 'UTC' + interval '8 hours' - interval '1 day')::date::text")
            .fetch_one(&stack.db)
            .await
            .expect("a date");
    close_day(&stack, &json!({ "date": yesterday })).await;
    stack.spawn("reconcile");
    until("four days are in the books", async || {
        (stack.count("SELECT count(*) FROM book_days WHERE finished_at IS NOT NULL").await == 4).then_some(())
    })
    .await;
    assert_eq!(stack.count("SELECT count(*) FROM cases").await, 0);
    let (code, report) = reconcile(&stack, &yesterday).await;
    assert_eq!((code, &report["status"]), (0, &json!("no_trade")), "{report}");
}

/// Two environments, one merchant number, one bill.
#[tokio::test]
async fn a_neighbours_orders_in_the_merchants_bill_are_no_cases() {
    let roles = vec!["api", "seats", "prepay", "payments"];
    let stack = Stack::start_with("reconciliation-neighbour", Choice { roles, ..Choice::default() }).await;
    let schedule = stack.add_schedule(1).await;
    stack.booked("ann", &schedule).await;
    let closed = close_day(&stack, &json!({})).await;
    let date = closed["bill_date"].as_str().expect("a date");

    let mut staging =
        Stack::start_with("reconciliation-staging", Choice { roles: Vec::new(), ..Choice::default() }).await;
    let mut set = |name: &str, value: &str| drop(staging.environment.insert(name.to_owned(), value.to_owned()));
    set("HOLDFAST_WECHAT_PAY__BASE_URL", &stack.simulator.url);
    set("HOLDFAST_ORDER__ID_PREFIX", "st");
    let (code, report) = reconcile(&staging, date).await;
    assert_eq!((code, standing(&report)), (1, vec![("unknown_order".to_owned(), String::new())]));

    staging.environment.insert("HOLDFAST_ORDER__NEIGHBOURS".to_owned(), "qa, hf".to_owned());
    let (code, report) = reconcile(&staging, date).await;
    assert_eq!((code, &report["status"], standing(&report)), (0, &json!("no_trade"), Vec::new()));
    assert_eq!(staging.count("SELECT count(*) FROM cases WHERE status = 'open'").await, 0, "it closed by itself");

    staging.environment.insert("HOLDFAST_ORDER__NEIGHBOURS".to_owned(), "stx".to_owned());
    assert_eq!(reconcile(&staging, date).await.0, 2, "an order of ours may begin with stx");
}
