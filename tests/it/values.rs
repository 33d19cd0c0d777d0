//! Values that are inside their type and outside the world: refused at every door, healed where an earlier release took
//! them, and never a panic or a message that is parked as our bug.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::migrate::Migrator;
use time::OffsetDateTime;

use holdfast::api::Role;

use crate::{
    forgery::{Forger, paid},
    stack::{Answer, Choice, Stack, checkout, until},
    story::hasty,
};

/// What no session may have: the field of the API, the option of the command line, and the value for each.
fn outside() -> Vec<(&'static str, &'static str, Value, String)> {
    let text = |field, option, text: &str| (field, option, json!(text), text.to_owned());
    let number = |field, option, number: i64| (field, option, json!(number), number.to_string());
    let mut values = Vec::new();
    for at in [
        "0000-01-01T00:00:00Z",
        "0000-01-01T00:00:00+08:00",
        "1999-12-31T23:59:59Z",
        "2200-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-23:59",
        "2026-02-30T10:00:00Z",
        "tomorrow",
        "",
    ] {
        values.push(text("starts_at", "--starts-at", at));
    }
    for title in [
        "",
        "  ",
        "\u{200B}",
        "tea\nparty",
        "tea\tparty",
        "tea\u{1b}[31m",
        "\u{202E}aet",
        "a\u{2028}b",
        &"课".repeat(101),
    ] {
        values.push(text("title", "--title", title));
    }
    for price in [i64::MIN, -1, 0, 100_000_001, i64::MAX] {
        values.push(number("price_fen", "--price-fen", price));
    }
    for capacity in [0, -1, 100_001, 1 << 40] {
        values.push(number("capacity", "--capacity", capacity));
    }
    for course in ["", "tea party", "tea\n", "茶", &"x".repeat(65)] {
        values.push(text("course_id", "--course", course));
    }
    values
}

/// E1, E3: the API and the command line refuse the same sessions, each by the field's name, and write nothing.
#[tokio::test]
async fn e3_both_doors_refuse_the_same_sessions() {
    let stack = Stack::start_with("values-doors", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let operator = stack.token_of_role("olga", Role::Operator);
    for (field, option, value, argument) in outside() {
        let mut wish = json!({ "capacity": 3, "course_id": "tea" });
        wish[field] = value.clone();
        let request = stack.request(Method::POST, "/v1/ops/schedules").bearer_auth(&operator).json(&wish);
        let answer = Answer::of(request).await;
        assert_eq!((answer.status, answer.problem()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid-request"), "{wish}");
        assert_eq!(answer.body["errors"][0]["field"], field, "{wish}: {}", answer.body);

        let assigned = format!("{option}={argument}");
        let mut command = vec!["schedule", "add", "--json", &assigned];
        if field != "capacity" {
            command.push("--capacity=3");
        }
        let (code, stdout, stderr) = stack.holdfast(&command).await;
        assert_eq!((code, stdout.as_str()), (2, ""), "{command:?}: {stderr}");
        assert!(stderr.contains(option), "{command:?}: {stderr}");
    }
    assert_eq!(stack.count("SELECT count(*) FROM course_schedules").await, 0);

    // What fits is the same session at both doors, titles trimmed and counted in characters.
    let title = "课".repeat(100);
    for at in ["2000-01-01T00:00:00Z", "2199-12-31T23:59:59.999999999Z", "2026-12-01T19:30:00+08:00"] {
        let padded = format!("  {title} ");
        let wish =
            json!({ "capacity": 1, "course_id": "tea", "title": padded, "starts_at": at, "price_fen": 100_000_000 });
        let request =
            stack.request(Method::POST, "/v1/ops/schedules").bearer_auth(&operator).header("Idempotency-Key", at);
        let (first, again) =
            (Answer::of(request.try_clone().unwrap().json(&wish)).await, Answer::of(request.json(&wish)).await);
        assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::OK), "{at}: {}", again.body);
        let command = [
            "schedule",
            "add",
            "--capacity",
            "1",
            "--course",
            "tea",
            "--title",
            &padded,
            "--starts-at",
            at,
            "--price-fen",
            "100000000",
            "--json",
        ];
        let added: Value = serde_json::from_str(&stack.holdfast_ok(&command).await).expect("one document");
        for member in ["course", "starts_at", "price_fen", "capacity"] {
            assert_eq!(added[member], first.body[member], "{at}");
        }
        assert_eq!(added["course"], title);
    }
    let listed = Answer::of(stack.request(Method::GET, "/v1/schedules").bearer_auth(&operator)).await;
    assert_eq!(listed.body["items"].as_array().map(Vec::len), Some(6), "{}", listed.body);
    stack.check_invariants().await;
}

/// E1: no query leads out of the calendar, or a NUL into PostgreSQL: 422 by the parameter's name, in every list.
#[tokio::test]
async fn e1_a_query_outside_the_calendar_is_refused() {
    let stack = Stack::start_with("values-queries", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let operator = stack.token_of_role("olga", Role::Operator);
    let times = [
        "9999-12-31T23:30:00-08:00",
        "0000-01-01T00:00:00+08:00",
        "9999-12-31T23:59:60Z",
        "0000-01-01T00:00:00%2B23:59",
    ];
    let mut queries: Vec<(String, &str)> = Vec::new();
    for at in times {
        for name in ["from", "to"] {
            queries.push((format!("/v1/schedules?{name}={at}"), name));
            queries.push((format!("/v1/ops/schedules?{name}={at}"), name));
        }
        queries.push((format!("/v1/ops/dead-letters?since={at}"), "since"));
    }
    for (path, name) in [
        ("/v1/schedules?course_id=a%00b", "course_id"),
        ("/v1/ops/orders?text=a%00b", "text"),
        ("/v1/ops/cases?kind=a%00b", "kind"),
        ("/v1/ops/dead-letters?text=a%00b", "text"),
        ("/v1/ops/cases?cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTkgMQ", "cursor"),
        ("/v1/schedules?cursor=LTk5OTk5OTk5OTk5OTk5OTk5OTk5OSAx", "cursor"),
    ] {
        queries.push((path.to_owned(), name));
    }
    for (path, name) in queries {
        let answer = Answer::of(stack.request(Method::GET, &path).bearer_auth(&operator)).await;
        assert_eq!((answer.status, answer.problem()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid-request"), "{path}");
        assert_eq!(answer.body["errors"][0]["field"], name, "{path}: {}", answer.body);
    }
    for path in [
        "/v1/ops/reconciliations/9999-12-31",
        "/v1/ops/reconciliations/-9999-01-01",
        "/v1/orders/%00",
        "/v1/schedules/%00",
        "/v1/ops/dead-letters/%00",
        "/v1/ops/cases/%00",
    ] {
        let answer = Answer::of(stack.request(Method::GET, path).bearer_auth(&operator)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {}", answer.body);
    }
    for date in ["-9999-01-01", "0000-01-01", "9999-12-31"] {
        let (code, _, stderr) = stack.holdfast(&["reconcile", &format!("--date={date}")]).await;
        assert_eq!(code, 2, "{date}: {stderr}");
    }
    stack.check_invariants().await;
}

/// E1: rows that release 0.1 took are healed by the migration: they can be listed, shown, cancelled.
#[tokio::test]
async fn e1_rows_of_an_earlier_release_are_healed() {
    let mut stack = Stack::start_with("values-healed", Choice { roles: Vec::new(), ..Choice::default() }).await;
    for statement in ["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"] {
        sqlx::query(statement).execute(&stack.db).await.expect(statement);
    }
    let all = Migrator::new(checkout("migrations")).await.expect("readable migrations");
    let earlier = all.migrations.iter().filter(|migration| migration.version <= 15).cloned().collect::<Vec<_>>();
    Migrator::with_migrations(earlier).run(&stack.db).await.expect("release 0.1");
    for (course, title) in [("tea", "tea\nparty\u{202E}"), ("ink", "\u{1b}\u{7}"), ("clay", "陶艺")] {
        sqlx::query("INSERT INTO courses (course_id, title) VALUES ($1, $2)")
            .bind(course)
            .bind(title)
            .execute(&stack.db)
            .await
            .unwrap();
    }
    for statement in [
        "INSERT INTO course_schedules (schedule_id, course_id, starts_at, price_fen, capacity) VALUES
            (gen_random_uuid(), 'tea', '0001-12-31 16:00:00+00 BC', 20000, 2),
            (gen_random_uuid(), 'ink', '9999-12-31 23:59:59+00', 20000, 2),
            (gen_random_uuid(), 'clay', '2030-01-01 00:00:00+00', 9223372036854775807, 2)",
        "INSERT INTO free_seats SELECT schedule_id, n FROM course_schedules, generate_series(1, 2) n",
    ] {
        sqlx::query(statement).execute(&stack.db).await.expect(statement);
    }
    stack.holdfast_ok(&["migrate"]).await;
    stack.spawn("api");
    stack.until_ready().await;
    let operator = stack.token_of_role("olga", Role::Operator);
    for path in ["/v1/schedules", "/v1/ops/schedules"] {
        let listed = Answer::of(stack.request(Method::GET, path).bearer_auth(&operator)).await;
        assert_eq!(listed.status, StatusCode::OK, "{path}: {}", listed.body);
        let items = listed.body["items"].as_array().expect("items").clone();
        let shown: Vec<(&str, &str)> =
            items.iter().map(|item| (item["course"].as_str().unwrap(), item["starts_at"].as_str().unwrap())).collect();
        let healed = [
            ("tea party", "2000-01-01T00:00:00Z"),
            ("陶艺", "2030-01-01T00:00:00Z"),
            ("ink", "2199-12-31T23:59:59.999999Z"),
        ];
        assert_eq!(shown, healed, "{path}");
        for item in &items {
            let id = item["schedule_id"].as_str().expect("an id");
            stack.holdfast_ok(&["schedule", "cancel", id]).await;
        }
    }
    assert_eq!(stack.count("SELECT count(*) FROM course_schedules WHERE status = 'cancelled'").await, 3);
    for statement in [
        "UPDATE course_schedules SET starts_at = '9999-01-01'",
        "INSERT INTO course_schedules (schedule_id, course_id, starts_at, price_fen, capacity) VALUES (gen_random_uuid(), 'tea', now(), 100000001, 1)",
        "INSERT INTO courses (course_id, title) VALUES ('new', E'a\\nb')",
    ] {
        assert!(sqlx::query(statement).execute(&stack.db).await.is_err(), "{statement}");
    }
    stack.check_invariants().await;
}

/// E1, E2: a payment whose signed time or texts nothing can store is a seat all the same. A time that is none is the
/// database's, and the order's story says so.
#[tokio::test]
async fn e2_strange_signed_values_cost_no_payment() {
    let stack = hasty("values-signed", 600, 1200).await;
    let forger = Forger::of(&stack);
    let schedule = stack.add_schedule(10).await;
    let times = ["9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+08:00", "9999-12-31T23:59:59Z", "yesterday", ""];
    for (number, time) in times.into_iter().enumerate() {
        let (token, order) = stack.payable(&format!("ann{number}"), &schedule).await;
        let mut content = paid(&stack, &order, &format!("42000000000000000{number}"));
        content["success_time"] = json!(time);
        content["bank_type"] = json!("OTH\u{0}ERS\u{202E}");
        content["attach"] = json!("\u{0}".repeat(3_000));
        content["trade_state_desc"] = json!("\u{0}");
        content["payer"]["openid"] = json!("o\u{0}");
        content["trade_type"] = json!("N".repeat(5_000));
        content["promotion_detail"] = json!([{ "name\u{0}": "\u{0}" }]);
        let answer = forger.callback(&content).to(&stack, "payments").send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::NO_CONTENT, "{time}");
        let order = stack.until_status(&token, &order, "confirmed").await;
        let at = order["paid_at"].as_str().expect("a time");
        let now = OffsetDateTime::now_utc().year().to_string();
        assert!(
            at.starts_with(&now) || at.starts_with(&format!("{}", OffsetDateTime::now_utc().year() - 1)),
            "{time}: {at}"
        );
    }
    let undated = "SELECT count(*) FROM payment_audit_log WHERE event = 'paid' AND reason LIKE '%database''s time%'";
    assert_eq!(stack.count(undated).await, 5);

    // A number with a NUL is no number: WeChat sends again, a person can read why, nothing is parked.
    let mut content = paid(&stack, "hf000\u{0}", "4200\u{0}");
    content["mchid"] = json!("\u{0}");
    let answer = forger.callback(&content).to(&stack, "payments").send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);

    let refund = json!({
        "mchid": "\u{0}", "out_trade_no": "of\u{0}somebody".repeat(400), "out_refund_no": "nobodys-refund", "transaction_id": "4\u{0}",
        "refund_id": "5".repeat(5_000), "refund_status": "SUCCESS", "success_time": "9999-12-31T23:59:59-23:59",
        "user_received_account": "\u{0}", "amount": { "total": 500, "refund": 500, "payer_total": 500, "payer_refund": 500 },
    });
    let body = forger.envelope("REFUND.SUCCESS", &refund.to_string(), &forger.apiv3_key);
    let mut envelope: Value = serde_json::from_str(&body).expect("JSON");
    envelope["id"] = json!(format!("\u{0}{}", "9".repeat(8_000)));
    envelope["create_time"] = json!("9999-12-31T23:59:59-23:59");
    let answer = forger
        .sign(envelope.to_string(), OffsetDateTime::now_utc())
        .to(&stack, "refunds")
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    until("the refund of nobody is a case", async || {
        (stack.count("SELECT count(*) FROM cases WHERE kind = 'unknown_refund'").await == 1).then_some(())
    })
    .await;
    for queue in ["payments.dead", "refunds.dead"] {
        assert_eq!(stack.ready_in(queue).await, 0, "{queue}");
    }
    let (code, report, _) = stack.holdfast(&["verify"]).await;
    assert_eq!(code, 0, "{report}");
    stack.check_invariants().await;
}

/// F14: what strangers wrote does not steer the terminal of those who read it.
#[tokio::test]
async fn f14_the_command_line_escapes_strangers_texts() {
    let stack = Stack::start_with("values-terminal", Choice { roles: Vec::new(), ..Choice::default() }).await;
    let subject = "a\u{1b}[31mb\nc\u{202E}d\u{9b}e\u{7f}";
    sqlx::query("INSERT INTO cases (kind, subject, details) VALUES ('unknown_order', $1, $2)")
        .bind(subject)
        .bind(json!({ "out_trade_no": subject }))
        .execute(&stack.db)
        .await
        .expect("a case");
    let steers = |letter: char| (letter.is_control() && letter != '\n') || letter == '\u{202E}';
    let listed = stack.holdfast_ok(&["case", "list"]).await;
    assert!(listed.contains(r"a\u{1b}[31mb\u{a}c\u{202e}d\u{9b}e\u{7f}") && !listed.contains(steers), "{listed:?}");
    let document = stack.holdfast_ok(&["case", "list", "--json"]).await;
    assert!(!document.contains(steers), "{document:?}");
    let document: Value = serde_json::from_str(&document).expect("one document");
    assert_eq!(document["items"][0]["subject"], subject);
    let id = document["items"][0]["case_id"].as_str().expect("an id");
    let shown = stack.holdfast_ok(&["case", "show", id]).await;
    assert!(!shown.contains(steers), "{shown:?}");
    let (code, _, stderr) = stack.holdfast(&["order", "show", "a\u{1b}[31m\u{202E}"]).await;
    assert!(code == 1 && !stderr.contains(steers), "{stderr:?}");
}
