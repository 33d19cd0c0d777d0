//! A failure that every message would meet parks none: the worker waits, probes with one message, says why, and does all
//! of it once the cause is mended.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::stack::{Choice, Stack, free_port, until};

/// Orders that come while something is broken.
const ORDERS: i64 = 3;
/// Of a worker's pool: `database.max_connections`.
const CONNECTIONS: usize = 16;
/// Sweeps that pass meanwhile, where a sweep could make it worse.
const SWEEPS: usize = 3;

async fn run(stack: &Stack, statements: &'static str) {
    sqlx::raw_sql(statements).execute(&stack.db).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

/// What a role says of itself: the status of `/readyz` and its body.
async fn readiness(health: &str) -> Option<(u16, Value)> {
    let answer = reqwest::get(format!("{health}/readyz")).await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.json().await.ok()?))
}

async fn until_waits(health: &str, cause: &str) {
    until(&format!("/readyz says {cause}"), async || {
        let (status, body) = readiness(health).await?;
        let reasons = body["waits"].as_object()?.values().filter_map(Value::as_str);
        (status == 503 && reasons.into_iter().any(|reason| reason.contains(cause))).then_some(())
    })
    .await;
}

async fn until_works(health: &str, cause: &str) {
    until(&format!("it works again after {cause}"), async || {
        let (status, body) = readiness(health).await?;
        (status == 200 && body["waits"] == json!({})).then_some(())
    })
    .await;
}

fn log_of(stack: &Stack, role: &str) -> String {
    std::fs::read_to_string(stack.log(role)).expect("a log")
}

fn outages_logged(stack: &Stack, role: &str) -> usize {
    log_of(stack, role).matches("stopped taking messages").count()
}

/// The limits of one customer are beside the point here: one orders for many.
fn without_limits() -> Vec<(&'static str, String)> {
    vec![
        ("HOLDFAST_ORDER__SEATS_PER_CUSTOMER", "1000".to_owned()),
        ("HOLDFAST_ORDER__UNPAID_PER_CUSTOMER", "1000".to_owned()),
    ]
}

/// A stack whose `role` has a health port that the test knows.
async fn with_health(test: &str, role: &'static str, mut choice: Choice) -> (Stack, String) {
    let listen = format!("127.0.0.1:{}", free_port().await);
    choice.roles.retain(|other| *other != role);
    choice.settings.extend(without_limits());
    let mut stack = Stack::start_with(test, choice).await;
    stack.environment.insert("HOLDFAST_HEALTH__LISTEN".into(), listen.clone());
    stack.spawn(role);
    stack.environment.remove("HOLDFAST_HEALTH__LISTEN");
    (stack, format!("http://{listen}"))
}

/// What is broken, how, what the reason must name, and how it is mended; nothing where the worker must help itself.
struct Trouble {
    cause: &'static str,
    broken: &'static str,
    mended: &'static str,
}

/// D1: each class of PostgreSQL's failures that is everybody's. Of the orders that come meanwhile none is parked, and all
/// are in the books once it is mended.
#[tokio::test]
async fn d1_what_postgresql_refuses_to_everybody_parks_nobody() {
    let choice = Choice { roles: vec!["api", "seats"], ..Choice::default() };
    let (mut stack, health) = with_health("everybody-postgresql", "seats", choice).await;
    let schedule = stack.add_schedule(200).await;
    let token = stack.quick_token("ann");
    stack.submit(&token, &schedule).await;
    stack.until_count("the first is held", "SELECT count(*) FROM payment_orders WHERE status = 'held'", 1).await;

    let troubles = [
        Trouble {
            cause: "permission denied for table payment_orders",
            broken: "REVOKE INSERT ON payment_orders FROM holdfast_seats",
            mended: "GRANT INSERT ON payment_orders TO holdfast_seats",
        },
        Trouble {
            cause: "relation \"course_schedules\" does not exist",
            broken: "REVOKE USAGE ON SCHEMA public FROM holdfast_seats; REVOKE USAGE ON SCHEMA public FROM PUBLIC",
            mended: "GRANT USAGE ON SCHEMA public TO holdfast_seats; GRANT USAGE ON SCHEMA public TO PUBLIC",
        },
        Trouble {
            cause: "request_hash",
            broken: "ALTER TABLE payment_orders RENAME COLUMN request_hash TO hash_of_request",
            mended: "ALTER TABLE payment_orders RENAME COLUMN hash_of_request TO request_hash",
        },
        Trouble {
            cause: "free_seats",
            broken: "ALTER TABLE free_seats RENAME TO seats_free",
            mended: "ALTER TABLE seats_free RENAME TO free_seats",
        },
        Trouble {
            cause: "order_status",
            broken: "ALTER TYPE order_status RENAME TO status_of_order",
            mended: "ALTER TYPE status_of_order RENAME TO order_status",
        },
        Trouble {
            cause: "read-only",
            broken: "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$",
            mended: "SET default_transaction_read_only = off;
                 DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET default_transaction_read_only', current_database()); END $$",
        },
        Trouble {
            cause: "lock timeout",
            broken: "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET lock_timeout = ''20ms''', current_database()); END $$",
            mended: "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET lock_timeout', current_database()); END $$",
        },
        Trouble {
            cause: "statement timeout",
            broken: "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = ''20ms''', current_database()); END $$",
            mended: "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET statement_timeout', current_database()); END $$",
        },
        Trouble {
            cause: "no connection within",
            broken: "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 0', current_database()); END $$",
            mended: "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT -1', current_database()); END $$",
        },
    ];
    let mut expected = 1;
    for Trouble { cause, broken, mended } in troubles {
        run(&stack, broken).await;
        // A limit or a setting of the database, and the name of a type, matter to connections that are made from now on.
        let is_setting = broken.contains("ALTER DATABASE") || broken.contains("ALTER TYPE");
        // A lock that somebody holds, so that a time limit is met.
        let mut holder = None;
        if cause.ends_with("timeout") {
            let mut tx = stack.db.begin().await.expect("a transaction");
            sqlx::raw_sql("LOCK TABLE payment_orders IN ACCESS EXCLUSIVE MODE")
                .execute(&mut *tx)
                .await
                .expect("the lock");
            holder = Some(tx);
        }
        if is_setting {
            assert!(stack.terminate("seats").await.success(), "{cause}");
            stack.environment.insert("HOLDFAST_HEALTH__LISTEN".into(), health.trim_start_matches("http://").to_owned());
            stack.spawn("seats");
            stack.environment.remove("HOLDFAST_HEALTH__LISTEN");
        }
        let logged = outages_logged(&stack, "seats");
        for _ in 0..ORDERS {
            stack.submit(&token, &schedule).await;
        }
        until_waits(&health, cause).await;
        assert_eq!(stack.ready_in("orders.dead").await, 0, "{cause}");
        drop(holder);
        run(&stack, mended).await;
        expected += ORDERS;
        stack.until_count(cause, "SELECT count(*) FROM payment_orders WHERE status = 'held'", expected).await;
        until_works(&health, cause).await;
        assert_eq!(stack.ready_in("orders.dead").await, 0, "{cause}");
        // A setting stays with each connection that was made under it: as many of the pool meet it, one after the other.
        let most = if is_setting { CONNECTIONS } else { 1 };
        let errors = outages_logged(&stack, "seats") - logged;
        assert!((1..=most).contains(&errors), "{cause} is an error in the log once, not {errors} times");
    }
    stack.check_invariants().await;
}

/// D1: a refused login, as the first thing that a worker meets.
#[tokio::test]
async fn d1_a_refused_login_parks_nobody() {
    let mut stack = Stack::start_with(
        "everybody-login",
        Choice { roles: vec!["api"], settings: without_limits(), ..Choice::default() },
    )
    .await;
    let schedule = stack.add_schedule(10).await;
    let token = stack.quick_token("ann");
    for _ in 0..ORDERS {
        stack.submit(&token, &schedule).await;
    }
    let mut command = stack.command(&["worker", "seats"]);
    let (before, rest) = stack.environment["DATABASE_URL"].split_once('@').expect("a login");
    let (scheme, _) = before.rsplit_once("://").expect("a scheme");
    command.env("DATABASE_URL", format!("{scheme}://holdfast_seats:wrong@{rest}"));
    let log = std::fs::File::create(stack.log("seats")).expect("a log");
    let mut refused = command.stdout(std::process::Stdio::null()).stderr(log).spawn().expect("it starts");
    until("it waits", async || (outages_logged(&stack, "seats") == 1).then_some(())).await;
    assert!(log_of(&stack, "seats").contains("password authentication failed"));
    refused.kill().expect("it runs");
    refused.wait().expect("it ended");
    assert_eq!(stack.ready_in("orders.dead").await, 0);
    stack.spawn("seats");
    stack.until_count("all are held", "SELECT count(*) FROM payment_orders WHERE status = 'held'", ORDERS).await;
    stack.check_invariants().await;
}

/// D1, D2: a column's type changes under the statements that connections keep: they are prepared anew, and nobody mends.
#[tokio::test]
async fn d2_a_changed_plan_is_prepared_anew() {
    let stack = Stack::start_with("everybody-plan", Choice { settings: without_limits(), ..Choice::default() }).await;
    let schedule = stack.add_schedule(100).await;
    let token = stack.quick_token("ann");
    let first = stack.submit(&token, &schedule).await;
    stack.until_status(&token, &first, "awaiting_payment").await;
    run(
        &stack,
        "ALTER TABLE payment_orders ALTER COLUMN reason TYPE varchar(200), ALTER COLUMN transaction_id TYPE varchar(64),
             ALTER COLUMN code_url TYPE varchar(512)",
    )
    .await;
    let orders = join_all((0..ORDERS).map(|_| stack.submit(&token, &schedule))).await;
    for order in &orders {
        stack.until_status(&token, order, "awaiting_payment").await;
        stack.pay(order).await;
        stack.until_status(&token, order, "confirmed").await;
    }
    for queue in crate::books::DEAD {
        assert_eq!(stack.ready_in(queue).await, 0, "{queue}");
    }
    stack.check_invariants().await;
}

/// D1: each of WeChat Pay's answers that no order would pass. One message probes; sweeps add nothing to it.
#[tokio::test]
async fn d1_what_wechat_refuses_to_everybody_parks_nobody() {
    let roles = vec!["api", "seats", "prepay", "reconcile"];
    let settings = vec![
        ("HOLDFAST_RECONCILE__EVERY_SECONDS", "1".to_owned()),
        ("HOLDFAST_RECONCILE__GRACE_SECONDS", "0".to_owned()),
    ];
    let choice = Choice { roles, settings, ..Choice::default() };
    let (stack, health) = with_health("everybody-wechat", "prepay", choice).await;
    let schedule = stack.add_schedule(100).await;
    let token = stack.quick_token("ann");
    for (number, (status, code)) in [
        (403, "NO_AUTH"),
        (401, "SIGN_ERROR"),
        (400, "APPID_MCHID_NOT_MATCH"),
        (403, "RULE_LIMIT"),
        (403, "ACCOUNT_ERROR"),
    ]
    .into_iter()
    .enumerate()
    {
        stack.script(&json!({ "rules": [{ "on": "order", "status": status, "code": code }] })).await;
        let orders = join_all((0..ORDERS).map(|_| stack.submit(&token, &schedule))).await;
        until_waits(&health, code).await;
        if number == 0 {
            // However many sweeps pass.
            let passes = || log_of(&stack, "reconcile").matches("put back onto the queue").count();
            until("sweeps have passed", async || (passes() >= SWEEPS).then_some(())).await;
        }
        assert_eq!(stack.ready_in("prepay.dead").await, 0, "{code}");
        stack.script(&json!({})).await;
        for order in &orders {
            stack.until_status(&token, order, "awaiting_payment").await;
        }
        until_works(&health, code).await;
        assert_eq!(stack.ready_in("prepay.dead").await, 0, "{code}");
        assert_eq!(outages_logged(&stack, "prepay"), number + 1, "{code} is an error in the log once");
    }
    stack.check_invariants().await;
}

/// D1: WeChat refuses one order as it would refuse all, and takes the others: it is that order's, and theirs go through.
#[tokio::test]
async fn d1_one_that_is_refused_while_others_pass_is_its_own_fault() {
    let mut stack = Stack::start_with(
        "everybody-but-one",
        Choice { roles: vec!["api", "seats"], settings: without_limits(), ..Choice::default() },
    )
    .await;
    let schedule = stack.add_schedule(100).await;
    let token = stack.quick_token("ann");
    let poison = stack.submit(&token, &schedule).await;
    stack.script(&json!({ "rules": [{ "on": "order", "order": poison, "status": 401, "code": "SIGN_ERROR" }] })).await;
    stack.spawn("prepay");
    let mut ordered = 0;
    let parked = async || stack.ready_in("prepay.dead").await == 1;
    while !parked().await {
        let order = stack.submit(&token, &schedule).await;
        stack.until_status(&token, &order, "awaiting_payment").await;
        ordered += 1;
        assert!(ordered < 90, "the others pass, and it is never set aside");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let class: String =
        crate::queues::Queues::of(&stack).await.take("prepay.dead").await.header("x-error-class").to_owned();
    assert_eq!(class, "singled_out");
    assert_eq!(stack.order(&token, &poison).await.body["status"], "held");
    stack.check_invariants().await;
}

/// D1: the same for the Official Account's codes, at the token and at the message.
#[tokio::test]
async fn d1_what_the_official_account_refuses_to_everybody_parks_nobody() {
    let roles = vec!["api", "seats", "notifications"];
    let (stack, health) =
        with_health("everybody-account", "notifications", Choice { roles, ..Choice::default() }).await;
    let full = stack.add_schedule(1).await;
    let token = stack.quick_token("zoe");
    let first = stack.submit(&token, &full).await;
    stack.until_status(&token, &first, "held").await;
    let mut sent = 0;
    for (on, errcode) in [
        ("token", 40001),
        ("token", 40013),
        ("token", 40125),
        ("token", 40164),
        ("template_send", 48001),
        ("template_send", 45009),
        ("template_send", 40001),
    ] {
        // A token that stands is refused first, so that another is asked for.
        let sending = if on == "token" { 40001 } else { errcode };
        let rules =
            [json!({ "on": "token", "errcode": errcode }), json!({ "on": "template_send", "errcode": sending })];
        stack.script(&json!({ "rules": rules[usize::from(on != "token")..] })).await;
        for number in 0..2 {
            let token = stack.quick_token(&format!("{on}-{errcode}-{number}"));
            stack.submit(&token, &full).await;
        }
        until_waits(&health, &errcode.to_string()).await;
        assert_eq!(stack.ready_in("notifications.dead").await, 0, "{on} {errcode}");
        stack.script(&json!({})).await;
        sent += 2;
        stack.until_count("all are told", "SELECT count(*) FROM notifications WHERE status = 'sent'", sent).await;
        until_works(&health, &errcode.to_string()).await;
        assert_eq!(stack.ready_in("notifications.dead").await, 0, "{on} {errcode}");
    }
    stack.check_invariants().await;
}
