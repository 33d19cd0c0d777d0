//! The database is lost and restored from a backup that was taken under load; the broker and Redis come back empty.
//! Whatever WeChat took is found again: of orders that the backup knows by asking, of others by the bill.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
    time::Duration,
};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    customer::Customer,
    habits::every_ending,
    load::{Load, SEATS},
    stack::{
        Answer, Stack,
        server_resources::{Management, drop_database, drop_keys, make_database},
        until,
    },
};

const AT_ONCE: usize = 12;
const ORDERS: i64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_what_a_backup_does_not_know_is_found_again() {
    let mut stack = Stack::start_with("restore", every_ending()).await;
    let mut sessions = Vec::new();
    for _ in 0..30 {
        sessions.push(stack.add_schedule(SEATS).await);
    }
    let own = stack.add_schedule(10).await;
    let (_, booked) = stack.booked("booked", &own).await;
    let load = Load::on(&stack, std::slice::from_ref(&stack.api), sessions, AT_ONCE);
    until_orders(&stack, ORDERS).await;
    let (payer, pays_afterwards) = stack.payable("payer", &own).await;

    let backup = stack.artifact("holdfast.dump");
    run(Command::new("pg_dump")
        .args(["--format=custom", "--file"])
        .arg(&backup)
        .arg(&stack.environment["DATABASE_URL"]));

    // All of this is lost with the database: a payment, a whole order, a refund.
    stack.pay(&pays_afterwards).await;
    stack.until_status(&payer, &pays_afterwards, "confirmed").await;
    let lost = Customer::of(&stack, "lost");
    let (answer, _) = lost.order(&own, None).await;
    let lost_order = answer.body["order_id"].as_str().expect("an id").to_owned();
    lost.pay(&lost_order).await;
    lost.until_status(&lost_order, "confirmed").await;
    stack.lay_refund(&booked, "all", None).await;
    stack.until_refund(&format!("{booked}-all"), "succeeded").await;
    until_orders(&stack, 2 * ORDERS).await;
    let (orders, let_down) = load.ends().await;
    assert_eq!(let_down, Vec::<String>::new());

    for role in every_ending().roles {
        stack.kill(role);
    }
    restore(&mut stack, &backup).await;
    let known: BTreeSet<String> = column(&stack, "SELECT order_id FROM payment_orders").await;
    for role in every_ending().roles {
        stack.spawn(role);
    }
    stack.until_ready().await;
    stack.come_to_an_end(Duration::from_secs(120)).await;
    stack.until_status(&payer, &pays_afterwards, "confirmed").await;

    // One of the lost customers asks again, as a frontend does: the same wish is the same order, paid already.
    let again = lost.click(&own, None).await.expect("an answer");
    assert_eq!(again.status, StatusCode::ACCEPTED, "{}", again.body);
    lost.until_status(&lost_order, "confirmed").await;

    let closed = stack.http.post(format!("{}/_sim/bill", stack.simulator.url)).send();
    let closed: Value = closed.await.expect("an answer").json().await.expect("a day");
    let date = closed["bill_date"].as_str().expect("a date");
    let (code, day, words) = stack.holdfast(&["reconcile", "--date", date, "--json"]).await;
    assert_eq!(code, 1, "some of it is for a person: {day} {words}");
    // What WeChat's word can heal is healed by the queues.
    stack.come_to_an_end(Duration::from_secs(60)).await;
    stack.holdfast(&["reconcile", "--date", date]).await;

    let found = judge(&stack, &known).await;
    println!("{orders} orders; of what WeChat did: {found:?}");
    for kind in ["payment settled", "payment of a lost order: case", "refund of a lost request: taken in"] {
        assert!(found.contains_key(kind), "no {kind} in {found:?}");
    }
    // A seat that was offered once and is offered again is another order for WeChat under the number of the first: no
    // code, and in the end no order.
    let letters: Value = serde_json::from_str(&stack.holdfast_ok(&["dead", "list", "--json"]).await).expect("JSON");
    for letter in letters["items"].as_array().expect("letters") {
        assert_eq!(
            (&letter["queue"], &letter["error_class"]),
            (&json!("prepay.dead"), &json!("wechat_refused")),
            "{letter}"
        );
        assert_eq!(letter["open_fen"], 0, "{letter}");
    }
    stack.check_invariants().await;
    let (code, report, _) = stack.holdfast(&["verify", "--json"]).await;
    assert_eq!(code, 0, "a promise is broken: {report}");
}

async fn until_orders(stack: &Stack, count: i64) {
    until(&format!("there are {count} orders"), async || {
        (stack.count("SELECT count(*) FROM payment_orders").await >= count).then_some(())
    })
    .await;
}

/// Another database from the backup, an empty virtual host, an empty Redis; they take the places of the lost ones.
async fn restore(stack: &mut Stack, backup: &Path) {
    stack.db.close().await;
    drop_database(&stack.name).await;
    stack.db = make_database(&stack.name).await;
    let jobs = ["--exit-on-error", "--no-owner", "--no-privileges", "--jobs=2", "--dbname"];
    run(Command::new("pg_restore").args(jobs).arg(&stack.environment["DATABASE_URL"]).arg(backup));
    let management = Management::from_environment();
    management.drop_vhost(&stack.name).await;
    management.make_vhost(&stack.name).await;
    drop_keys(&format!("{}:", stack.name)).await;
    stack.holdfast_ok(&["migrate"]).await;
    stack.holdfast_ok(&["topology", "apply"]).await;
}

fn run(command: &mut Command) {
    let output = command.output().expect("PostgreSQL's tools are on the PATH");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

async fn column(stack: &Stack, query: &'static str) -> BTreeSet<String> {
    sqlx::query_scalar(query).fetch_all(&stack.db).await.expect("rows").into_iter().collect()
}

/// What became of each payment and refund in WeChat's ledger: in our books, or an open case. Nothing else may be.
async fn judge(stack: &Stack, known: &BTreeSet<String>) -> BTreeMap<&'static str, usize> {
    let ledger = Answer::of(stack.http.get(format!("{}/_sim/ledger", stack.simulator.url))).await.body;
    let settled = column(stack, "SELECT transaction_id FROM payment_transactions WHERE status = 'settled'").await;
    let refunded = column(stack, "SELECT refund_id FROM refunds WHERE status = 'succeeded'").await;
    // The case of one that was taken in is closed by the next comparison with the bill.
    let taken_in =
        column(stack, "SELECT out_refund_no FROM refunds WHERE status = 'succeeded' AND out_refund_no <> refund_id")
            .await;
    let given_back = column(stack, "SELECT resolution FROM cases WHERE status = 'closed'").await;
    let cases: BTreeSet<String> = stack.open_cases().await.into_iter().map(|(_, subject)| subject).collect();
    let mut found: BTreeMap<&'static str, usize> = BTreeMap::new();
    let list = |name: &str| ledger[name].as_array().cloned().unwrap_or_default();
    for payment in list("payments") {
        let (number, order) = (text(&payment, "transaction_id"), text(&payment, "out_trade_no"));
        let kind = match (settled.contains(&number), cases.contains(&number), known.contains(&order)) {
            (true, ..) => "payment settled",
            (false, true, true) => "payment of a known order: case",
            (false, true, false) => "payment of a lost order: case",
            (false, false, _) => panic!("nobody knows of {payment}"),
        };
        *found.entry(kind).or_default() += 1;
    }
    for refund in list("refunds").iter().filter(|refund| refund["status"] == json!("SUCCESS")) {
        let number = text(refund, "out_refund_no");
        let kind = if refunded.contains(&number) {
            "refund in the books"
        } else if taken_in.contains(&number) {
            "refund of a lost request: taken in"
        } else if cases.contains(&number) {
            "refund of a lost order: case"
        } else if given_back.contains(&format!("given back at WeChat: refund {number}")) {
            "refund of a lost request: ends the case of its payment"
        } else {
            panic!("nobody knows of {refund}");
        };
        *found.entry(kind).or_default() += 1;
    }
    found
}

fn text(entry: &Value, member: &str) -> String {
    entry[member].as_str().unwrap_or_else(|| panic!("{member} of {entry}")).to_owned()
}
