//! Anything at every door of a running stack: whatever a body, a query or an argument says, the answer is no 500 and no
//! process panics; and what was taken can be listed, shown, sold and removed.

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

use holdfast::api::Role;

use crate::{
    stack::{Answer, Choice, Stack},
    story::{deadlines, hasty},
};

/// Bodies and queries for each operation of the API.
const EACH: usize = 8;
const SESSIONS: usize = 40;
const COMMANDS: usize = 25;

/// Texts at the edges of what some part can bear, and any other.
fn any_text() -> impl Strategy<Value = String> {
    let edges = [
        "",
        " ",
        "\0",
        "a\0b",
        "\u{1b}[31m",
        "line\nbreak",
        "\u{202E}abc",
        "\u{FFFF}",
        "课程",
        "0",
        "-1",
        "1e999",
        "9223372036854775807",
        "0000-01-01T00:00:00+08:00",
        "9999-12-31T23:30:00-08:00",
        "9999-12-31T23:59:60Z",
        "2026-12-01T19:30:00+08:00",
        "00000000-0000-0000-0000-000000000000",
        "native",
        "operator:x",
        "%00",
        "' OR 1=1 --",
    ];
    prop_oneof![2 => prop::sample::select(edges.to_vec()).prop_map(String::from), 1 => ".{0,40}", 1 => any::<String>()]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => prop::sample::select(vec![0, 1, -1, 2, 20_000, i64::MAX, i64::MIN, 1 << 32, 100_000_000]).prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        4 => any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((any_text(), inner), 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The same values in every run: a failure can be looked at again.
fn runner() -> TestRunner {
    TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    )
}

fn one<T: std::fmt::Debug>(runner: &mut TestRunner, values: &impl Strategy<Value = T>) -> T {
    values.new_tree(runner).expect("values can be made").current()
}

/// An operation of the API: its method, its path, and the names of what it reads.
struct Operation {
    method: Method,
    path: String,
    queries: Vec<String>,
    members: Vec<String>,
}

async fn operations(stack: &Stack) -> Vec<Operation> {
    let document = Answer::of(stack.request(Method::GET, "/openapi.json")).await.body;
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else { continue };
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            let named = |place: &str| {
                let here = parameters.iter().filter(|one| one["in"] == place);
                here.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect::<Vec<_>>()
            };
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            let schema = body["$ref"]
                .as_str()
                .map(|reference| reference.trim_start_matches('#'))
                .and_then(|at| document.pointer(at));
            let members =
                schema.unwrap_or(body)["properties"].as_object().map(|members| members.keys().cloned().collect());
            found.push(Operation {
                method,
                path: path.clone(),
                queries: named("query"),
                members: members.unwrap_or_default(),
            });
        }
    }
    found
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// E1, E2: every operation of the API with any query, any path and any body.
#[tokio::test]
async fn e_any_request_is_answered() {
    let stack = hasty("values-any", 600, 1200).await;
    let schedule = stack.add_schedule(4).await;
    let (_, booked) = stack.booked("ann", &schedule).await;
    let operator = stack.token_of_role("olga", Role::Operator);
    let customer = stack.quick_token("ann");
    let mut runner = runner();
    let mut asked = 0;
    for operation in operations(&stack).await {
        for round in 0..EACH {
            // Some requests are about what exists, so that their bodies are judged to the end.
            let id = match round % 4 {
                0 => booked.clone(),
                1 => schedule.clone(),
                _ => percent(&one(&mut runner, &any_text())),
            };
            let mut path = operation.path.clone();
            while let (Some(from), Some(to)) = (path.find('{'), path.find('}')) {
                path.replace_range(from..=to, if id.is_empty() { "-" } else { &id });
            }
            if path.ends_with("/cancel") && path.contains(&schedule) {
                continue;
            }
            let query: Vec<String> = operation
                .queries
                .iter()
                .map(|name| format!("{name}={}", percent(&one(&mut runner, &any_text()))))
                .filter(|_| round % 2 == 0)
                .collect();
            let url = if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) };
            let mut request = stack.request(operation.method.clone(), &url);
            request = request.bearer_auth(if round % 3 == 0 { &customer } else { &operator });
            request = request.header("Idempotency-Key", format!("k{asked}")).header("User-Agent", "a\u{80}b");
            let mut body = Map::new();
            for member in &operation.members {
                if one(&mut runner, &any::<bool>()) {
                    body.insert(member.clone(), one(&mut runner, &any_json()));
                }
            }
            if operation.members.contains(&"schedule_id".to_owned()) && round % 2 == 1 {
                body.insert("schedule_id".into(), json!(schedule));
            }
            if operation.method != Method::GET {
                request = request.json(&Value::Object(body.clone()));
            }
            // Streams have no end: the status is enough.
            let status = request.send().await.expect("an answer").status();
            asked += 1;
            assert!(
                status != StatusCode::INTERNAL_SERVER_ERROR && status != StatusCode::BAD_GATEWAY,
                "{} {url} {}: {status}",
                operation.method,
                Value::Object(body)
            );
        }
    }
    assert!(asked > 200, "{asked}");
    stack.check_invariants().await;
}

/// E1, E3: any new session is refused by both doors or taken by both, and what was taken can be listed, shown, sold, paid,
/// messaged and removed.
#[tokio::test]
async fn e_any_session_that_is_taken_can_be_lived_with() {
    // One person may give back any price, and `reconcile` carries cancelled sessions on.
    let settings =
        [deadlines(600, 1200), vec![("HOLDFAST_OVERRIDE__SECOND_PERSON_FEN", "100000000".to_owned())]].concat();
    let mut stack = Stack::start_with("values-sessions", Choice { settings, ..Choice::default() }).await;
    stack.spawn("reconcile");
    let operator = stack.token_of_role("olga", Role::Operator);
    let mut runner = runner();
    let times = prop::sample::select(vec![
        "2000-01-01T00:00:00Z",
        "2199-12-31T23:59:59.999999Z",
        "2199-12-31T23:59:59+08:00",
        "2200-01-01T00:00:00Z",
        "0000-01-01T00:00:00+08:00",
        "9999-12-31T23:59:59-23:59",
        "2099-12-01T19:30:00+08:00",
        "2150-02-28T23:59:60Z",
    ]);
    let mut taken = Vec::new();
    for number in 0..SESSIONS {
        let mut wish =
            json!({ "capacity": 2, "course_id": format!("c{number}"), "starts_at": one(&mut runner, &times) });
        if one(&mut runner, &any::<bool>()) {
            wish["title"] = json!(one(&mut runner, &any_text()));
        }
        if one(&mut runner, &any::<bool>()) {
            wish["price_fen"] = json!(one(&mut runner, &prop_oneof![1i64..=100_000_000, any::<i64>()]));
        }
        let answer =
            Answer::of(stack.request(Method::POST, "/v1/ops/schedules").bearer_auth(&operator).json(&wish)).await;
        match answer.status {
            StatusCode::CREATED => taken.push(answer.body),
            StatusCode::UNPROCESSABLE_ENTITY => {}
            other => panic!("{wish}: {other} {}", answer.body),
        }
        if number < COMMANDS {
            let mut command = vec!["schedule".to_owned(), "add".into(), "--capacity=2".into(), "--json".into()];
            for (member, option) in [
                ("course_id", "--course"),
                ("title", "--title"),
                ("starts_at", "--starts-at"),
                ("price_fen", "--price-fen"),
            ] {
                if let Some(value) = wish.get(member) {
                    command
                        .push(format!("{option}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
                }
            }
            // No command line can hold a NUL.
            if command.iter().all(|argument| !argument.contains('\0')) {
                let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
                let (code, _, stderr) = stack.holdfast(&arguments).await;
                let expected = if answer.status == StatusCode::CREATED { 0 } else { 2 };
                assert_eq!(code, expected, "{command:?}: {stderr}");
            }
        }
    }
    assert!(taken.len() > 5, "{}", taken.len());
    let bookable = taken.iter().filter(|session| session["starts_at"].as_str().unwrap() > "2090").take(3);
    for (number, session) in bookable.enumerate() {
        let (schedule, price) = (session["schedule_id"].as_str().expect("an id"), &session["price_fen"]);
        let user = format!("ann{number}");
        let token = stack.quick_token(&user);
        let body = json!({ "schedule_id": schedule, "amount_fen": price });
        let order = Answer::of(stack.submit_request(&token, "k", &body)).await;
        assert_eq!(order.status, StatusCode::ACCEPTED, "{session}: {}", order.body);
        let order = order.body["order_id"].as_str().expect("an id").to_owned();
        stack.until_status(&token, &order, "awaiting_payment").await;
        assert_eq!(stack.pay(&order).await.status, 200);
        stack.until_status(&token, &order, "confirmed").await;
        crate::stack::until("the message is sent", async || (!stack.messages_to(&user).await.is_empty()).then_some(()))
            .await;
        stack.holdfast_ok(&["order", "explain", &order]).await;
    }
    for session in &taken {
        let id = session["schedule_id"].as_str().expect("an id");
        let shown = Answer::of(stack.request(Method::GET, &format!("/v1/schedules/{id}")).bearer_auth(&operator)).await;
        assert_eq!(shown.status, StatusCode::OK, "{session}");
    }
    for path in ["/v1/schedules", "/v1/ops/schedules"] {
        assert_eq!(Answer::of(stack.request(Method::GET, path).bearer_auth(&operator)).await.status, StatusCode::OK);
    }
    stack.holdfast_ok(&["schedule", "list"]).await;
    for session in taken.iter().take(3) {
        stack.holdfast_ok(&["schedule", "cancel", session["schedule_id"].as_str().expect("an id")]).await;
    }
    stack.check_invariants().await;
}
