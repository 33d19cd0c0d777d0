//! `holdfast verify`: clean after honest work, and able to see each promise broken.

use std::collections::BTreeSet;

use holdfast::store::{Database, Plans, promise::Item, verify};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use time::Duration;

use crate::stack::{
    PRICE_FEN, Stack, WORKERS,
    server_resources::{database_url, drop_database, server},
    until,
};

/// A promise, and statements that break it and as little else as can be: these checks, and no other, must see it.
struct Break {
    how: &'static str,
    seen_by: &'static [&'static str],
    statements: &'static str,
}

const BREAKS: &[Break] = &[
    Break {
        how: "a seat is booked twice",
        seen_by: &["seats_not_lost", "seat_once"],
        statements: "DROP INDEX seat_reservations_one_live_per_seat;
            UPDATE seat_reservations SET seat_no = 1 WHERE status = 'confirmed';
            UPDATE bookings SET seat_no = 1",
    },
    Break {
        how: "a free seat vanishes",
        seen_by: &["seats_not_lost", "seats_add_up"],
        statements: "DELETE FROM free_seats WHERE seat_no = 9",
    },
    Break {
        how: "a free seat is in no room",
        seen_by: &["seats_not_lost", "seats_known"],
        statements: "UPDATE free_seats SET seat_no = 99 WHERE seat_no = 9",
    },
    Break {
        how: "a taken seat is free too, another one vanishes",
        seen_by: &["seats_not_lost", "seats_known"],
        statements: "UPDATE free_seats SET seat_no = 1 WHERE seat_no = 9",
    },
    Break {
        how: "more is sold than there is",
        // One order cannot have several bookings without being seen for that, too.
        seen_by: &["sold_within_capacity", "confirmed_once"],
        statements: "ALTER TABLE bookings DROP CONSTRAINT bookings_one_per_order;
            INSERT INTO bookings (order_id, reservation_id, user_id, schedule_id, seat_no)
            SELECT order_id, reservation_id, user_id, schedule_id, seat_no FROM bookings, generate_series(1, 10)",
    },
    Break {
        how: "a hold is lost",
        seen_by: &["seats_have_owners"],
        statements: "WITH lost AS (UPDATE seat_reservations SET status = 'cancelled' WHERE status = 'temporary'
                                RETURNING schedule_id, seat_no)
            INSERT INTO free_seats SELECT * FROM lost",
    },
    Break {
        how: "a waiver takes a second seat for an order that has one",
        seen_by: &["seats_add_up", "seats_not_lost"],
        statements: "DELETE FROM free_seats WHERE seat_no = (SELECT min(seat_no) FROM free_seats)",
    },
    Break {
        how: "an order ends and keeps its seat",
        seen_by: &["seats_have_owners", "seats_not_lost", "history_replays"],
        statements: "UPDATE payment_orders SET status = 'expired' WHERE status = 'awaiting_payment';
            INSERT INTO notifications (order_id, kind) SELECT order_id, 'order_expired' FROM payment_orders WHERE status = 'expired'",
    },
    Break {
        how: "an accepted request lies in a dead-letter queue",
        seen_by: &["accepted_is_decided"],
        statements:
            "INSERT INTO dead_letters (letter_id, queue, kind, message_id, order_id, error_class, error, cause, attempt,
                                       failed_at, headers, shown, sealed)
            VALUES ('l', 'orders.dead', 'order.submitted', 'hfnobody/submitted', 'hfnobody', 'bug', '', '', 1, now(), '{}', '', '')",
    },
    Break {
        how: "an offer fails",
        seen_by: &["no_offer_failed"],
        statements: "UPDATE waitlist SET offer_failed_at = now(), offer_error = 'a row stood in its way'",
    },
    Break {
        how: "a session is cancelled and nobody is to carry it on",
        seen_by: &["cancellations_end"],
        statements: "UPDATE waitlist SET left_at = now();
            UPDATE course_schedules SET status = 'cancelled' WHERE capacity = 1",
    },
    Break {
        how: "a cancellation stands still",
        seen_by: &["cancellations_end"],
        statements: "UPDATE waitlist SET left_at = now();
            UPDATE course_schedules SET status = 'cancelled' WHERE capacity = 1;
            INSERT INTO schedule_cancellations (schedule_id, requested_by, reason, rate, requested_at)
            SELECT schedule_id, 'operator:olga', '', 5, now() - interval '1 hour' FROM course_schedules WHERE capacity = 1",
    },
    Break {
        how: "a cancellation ends with a booking left, and somebody waits",
        seen_by: &["cancellations_end"],
        statements: "UPDATE course_schedules SET status = 'cancelled' WHERE capacity = 1;
            INSERT INTO schedule_cancellations (schedule_id, requested_by, reason, rate, finished_at)
            SELECT schedule_id, 'operator:olga', '', 5, now() FROM course_schedules WHERE capacity = 1",
    },
    Break {
        how: "a booking is cancelled by itself",
        seen_by: &["confirmed_once"],
        statements: "UPDATE bookings SET cancelled_at = now() WHERE seat_no = 1",
    },
    Break {
        how: "a booking names another seat",
        seen_by: &["confirmed_once"],
        statements: "UPDATE bookings SET seat_no = 7 WHERE seat_no = 1",
    },
    Break { how: "wrong money without its case", seen_by: &["every_fen"], statements: "DELETE FROM cases" },
    Break {
        how: "a case that is closed without a word",
        seen_by: &["every_fen"],
        statements: "UPDATE cases SET status = 'closed', closed_at = now()",
    },
    Break {
        how: "money for an order that has nothing",
        seen_by: &["every_fen"],
        statements:
            "INSERT INTO payment_transactions (transaction_id, order_id, status, total_fen, currency, trade_type,
                                                       mchid, appid, success_time, learned_by)
            SELECT 'silent', order_id, 'settled', 20000, 'CNY', 'NATIVE', '', '', now(), 'bill'
              FROM payment_orders WHERE status = 'rejected'",
    },
    Break {
        how: "a refund is counted that never was",
        seen_by: &["refunds_add_up"],
        statements:
            "UPDATE payment_orders SET refunded_fen = refunded_fen + 1, refund_promised_fen = refund_promised_fen + 1
              WHERE status = 'confirmed'",
    },
    Break {
        how: "more goes back than came",
        seen_by: &["refunds_add_up"],
        statements: "ALTER TABLE payment_orders DROP CONSTRAINT payment_orders_promised_within_paid;
            UPDATE refunds SET amount_fen = 30000, status = 'abnormal';
            UPDATE payment_orders SET refunded_fen = 0, refund_promised_fen = 30000 WHERE refund_promised_fen > 0",
    },
    Break {
        how: "a hold outlives its time",
        seen_by: &["holds_end"],
        statements: "UPDATE payment_orders SET hold_expires_at = now() - interval '1 hour' WHERE status = 'awaiting_payment'",
    },
    Break {
        how: "an order is payable beyond its deadline",
        seen_by: &["deadlines_end"],
        statements: "UPDATE payment_orders SET pay_before = now() - interval '1 hour' WHERE status = 'awaiting_payment'",
    },
    Break {
        how: "a refund is forgotten",
        seen_by: &["refunds_move"],
        statements: "UPDATE refunds SET status = 'processing', next_check_at = now() - interval '1 hour';
            UPDATE payment_orders SET refunded_fen = 0",
    },
    Break {
        how: "a refund is sent while a person decides about it",
        seen_by: &["refunds_wait"],
        statements: "UPDATE refunds SET sent_at = now();
            INSERT INTO cases (kind, subject, order_id, money_fen, opened_at)
            SELECT 'refund_refused', refund_id, order_id, amount_fen, now() - interval '1 hour' FROM refunds",
    },
    Break {
        how: "money went back at WeChat, and no refund knows of it",
        seen_by: &["refunds_known"],
        statements: "INSERT INTO wechat_refunds (out_refund_no, order_id, transaction_id, refund_fen, standing, facts, updated_at)
            SELECT 'STAFF1', order_id, transaction_id, 1, 'success', '{}', now() - interval '1 hour'
              FROM payment_orders WHERE status = 'confirmed' LIMIT 1",
    },
    Break {
        how: "a refund has a number that WeChat does not take",
        seen_by: &["refunds_readable"],
        statements: "UPDATE refunds SET refund_id = refund_id || repeat('0', 64)",
    },
    Break {
        how: "nobody means to tell a customer",
        seen_by: &["messages_due"],
        statements: "DELETE FROM notifications WHERE kind = 'booking_confirmed'",
    },
    Break {
        how: "a message is never sent",
        seen_by: &["messages_sent_or_explained"],
        statements: "UPDATE notifications SET status = 'pending', updated_at = now() - interval '1 hour'",
    },
    Break {
        how: "a version is skipped",
        seen_by: &["history_replays"],
        statements: "UPDATE payment_orders SET version = version + 1",
    },
    Break {
        how: "a row of the audit log is lost",
        seen_by: &["history_replays", "history_unbroken"],
        statements: "ALTER TABLE payment_audit_log DISABLE TRIGGER USER;
            DELETE FROM payment_audit_log WHERE event = 'code_issued'",
    },
    Break {
        how: "a row of the audit log is rewritten",
        seen_by: &["history_unbroken"],
        statements: "ALTER TABLE payment_audit_log DISABLE TRIGGER USER;
            UPDATE payment_audit_log SET actor = 'nobody' WHERE event = 'code_issued'",
    },
    Break {
        how: "a row of the audit log lies outside the months",
        seen_by: &["audit_in_months"],
        statements:
            "INSERT INTO payment_audit_log (order_id, version, at, event, to_status, actor, after, prev_hash, hash)
            VALUES ('hfnobody', 1, '2001-01-01', 'paid', 'held', 'nobody', '{}', '', '')",
    },
];

#[tokio::test]
async fn s3_3_honest_books_are_clean_and_each_broken_promise_is_seen() {
    let mut stack = Stack::start("verify").await;
    honest_books(&stack).await;

    let report = stack.holdfast_ok(&["verify", "--json"]).await;
    let report: Value = serde_json::from_str(&report).expect("one JSON document");
    assert_eq!((&report["ok"], &report["next"]), (&json!(true), &json!(null)));
    let items = report["items"].as_array().expect("items");
    for item in items {
        assert_eq!(item["broken"], 0, "{item}");
        let looked_at = item["checked"].as_i64() > Some(0);
        assert!(looked_at || item["name"] == "open_cancellations", "nothing was looked at: {item}");
    }
    let cases = items.iter().find(|item| item["name"] == "open_cases").expect("open cases");
    assert_eq!(cases["rows"][0]["kind"], "amount_mismatch");

    // Copies are made of books that nobody writes.
    for role in WORKERS.into_iter().chain(["api"]) {
        stack.kill(role);
    }
    stack.db.close().await;
    let mut seen = BTreeSet::new();
    for (number, broken) in BREAKS.iter().enumerate() {
        let items = verify_copy(&stack, number, broken.statements).await;
        let names: BTreeSet<&str> = items.iter().filter(|item| item.broken > 0).map(|item| item.name).collect();
        let expected: BTreeSet<&str> = broken.seen_by.iter().copied().collect();
        assert_eq!(names, expected, "{}: {items:#?}", broken.how);
        assert!(items.iter().all(|item| (item.broken > 0) != item.rows.is_empty() || item.name.starts_with("open_")));
        seen.extend(expected);
    }
    let not_seen: Vec<&Value> = items
        .iter()
        .map(|item| &item["name"])
        .filter(|name| !seen.contains(name.as_str().expect("a name")))
        // They break nothing.
        .filter(|name| **name != "open_cases" && **name != "open_cancellations")
        // Judged by the keys that are configured, not by the books: tests/it/keys.rs.
        .filter(|name| **name != "sealed_opens")
        .collect();
    assert_eq!(not_seen, vec!["history_exists"], "each promise must be seen broken");

    let (code, stdout, stderr) = verify_broken(&stack).await;
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("broken: history_exists"), "{stderr}");
    assert!(stdout.contains("\"status\":\"confirmed\""), "the offending rows are shown: {stdout}");
}

/// Two bookings, one of them refunded in part, an unpaid order, a rejected one, and money of a wrong amount.
async fn honest_books(stack: &Stack) {
    let schedule = stack.add_schedule(9).await;
    let small = stack.add_schedule(1).await;
    let mut orders = Vec::new();
    for (user, session) in
        [("ann", &schedule), ("bob", &schedule), ("cyd", &schedule), ("dan", &schedule), ("eve", &small)]
    {
        let token = stack.quick_token(user);
        let order = stack.submit(&token, session).await;
        stack.until_status(&token, &order, "awaiting_payment").await;
        orders.push((token, order));
    }
    let token = stack.quick_token("fay");
    let rejected = stack.submit(&token, &small).await;
    stack.until_status(&token, &rejected, "rejected").await;
    stack.wait_in_line(&["fay"], &small).await;

    for (token, order) in &orders[..2] {
        stack.pay(order).await;
        stack.until_status(token, order, "confirmed").await;
    }
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "wrong_amount" }] })).await;
    stack.pay(&orders[2].1).await;
    until("the case is open", async || (stack.count("SELECT count(*) FROM cases").await > 0).then_some(())).await;
    let told = "SELECT count(*) FROM notifications WHERE status <> 'sent'";
    until("everybody is told", async || (stack.count(told).await == 0).then_some(())).await;

    // A part refund, written as the refunds worker leaves it.
    let refund = "INSERT INTO refunds (refund_id, order_id, status, amount_fen, reason, requested_by, succeeded_at)
         VALUES ($1 || '-part', $1, 'succeeded', $2, '', 'user:bob', now())";
    let sums = "UPDATE payment_orders SET refund_promised_fen = $2, refunded_fen = $2 WHERE order_id = $1";
    for statement in [refund, sums] {
        let written = sqlx::query(statement).bind(&orders[1].1).bind(PRICE_FEN / 4).execute(&stack.db).await;
        written.expect("a part refund");
    }
}

/// What `verify` finds in a copy of the books after these statements.
async fn verify_copy(stack: &Stack, number: usize, statements: &'static str) -> Vec<Item> {
    let name = format!("{}_{number}", stack.name);
    let mut admin = PgConnection::connect(&server("DATABASE_URL")).await.expect("PostgreSQL");
    let copy = format!("CREATE DATABASE {name} TEMPLATE {}", stack.name);
    admin.execute(AssertSqlSafe(copy)).await.expect("a copy");
    let mut books = PgConnection::connect(&database_url(&name)).await.expect("the copy");
    books.execute(statements).await.expect("the statements run");
    let database = Database::open(&database_url(&name).into(), 1, Plans::Chosen).expect("a database");
    let items = verify::run(&database, Duration::seconds(120)).await;
    database.pool().close().await;
    drop_database(&name).await;
    items.expect("an answer")
}

/// The command itself on broken books: the last thing that is done to them.
async fn verify_broken(stack: &Stack) -> (i32, String, String) {
    let mut books = PgConnection::connect(&database_url(&stack.name)).await.expect("the books");
    let lose = "ALTER TABLE payment_audit_log DISABLE TRIGGER USER;
        DELETE FROM payment_audit_log WHERE order_id IN (SELECT order_id FROM payment_orders WHERE status = 'confirmed')";
    books.execute(lose).await.expect("the statements run");
    stack.holdfast(&["verify"]).await
}
