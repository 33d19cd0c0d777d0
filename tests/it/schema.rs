//! The schema keeps its promises by itself: what the code must never do, PostgreSQL refuses, by the constraint's name.

use std::collections::BTreeMap;

use sqlx::{Row, migrate::Migrator};

use crate::stack::{Choice, Stack, checkout};

/// A stack with one confirmed booking in its books.
async fn booked(test: &str) -> (Stack, String) {
    let stack = Stack::start(test).await;
    let schedule = stack.add_schedule(2).await;
    let token = stack.token("ann").await;
    let order = stack.submit(&token, &schedule).await;
    stack.until_status(&token, &order, "awaiting_payment").await;
    stack.pay(&order).await;
    stack.until_status(&token, &order, "confirmed").await;
    (stack, order)
}

/// Runs a statement that must be refused; answers the constraint's name, or the words where there is none.
async fn refused(stack: &Stack, statement: &'static str, order: &str) -> String {
    let error = sqlx::query(statement).bind(order).execute(&stack.db).await.expect_err(statement);
    let refusal = error.as_database_error().unwrap_or_else(|| panic!("{statement}: {error}"));
    refusal.constraint().map_or_else(|| refusal.message().to_owned(), str::to_owned)
}

/// Each statement is refused by the constraint named beside it. `$1` is the booked order's id.
async fn all_refused(stack: &Stack, order: &str, cases: &[(&'static str, &str)]) {
    for (statement, constraint) in cases {
        assert_eq!(refused(stack, statement, order).await, *constraint, "{statement}");
    }
}

#[tokio::test]
async fn s1_1_migrations_lead_to_the_same_schema_from_empty_and_from_each_earlier_head() {
    let stack = Stack::start_with("schema-heads", Choice { roles: Vec::new(), ..Choice::default() }).await;
    let from_empty = description(&stack).await;
    stack.holdfast_ok(&["migrate"]).await;
    assert_eq!(description(&stack).await, from_empty, "a second run changes nothing");
    let all = Migrator::new(checkout("migrations")).await.expect("readable migrations");
    for earlier in 1..all.migrations.len() {
        for statement in ["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"] {
            sqlx::query(statement).execute(&stack.db).await.expect(statement);
        }
        let head = Migrator::with_migrations(all.migrations[..earlier].to_vec());
        head.run(&stack.db).await.expect("an earlier release migrated");
        stack.holdfast_ok(&["migrate"]).await;
        assert_eq!(description(&stack).await, from_empty, "from head {earlier}");
    }
}

/// Columns, constraints, indexes, values, triggers and functions by name.
async fn description(stack: &Stack) -> BTreeMap<String, String> {
    let rows = sqlx::query(
        "SELECT 'column ' || table_name || '.' || column_name, concat_ws(' ', udt_name, is_nullable, column_default)
           FROM information_schema.columns WHERE table_schema = 'public'
         UNION ALL SELECT 'constraint ' || conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
           FROM pg_constraint WHERE connamespace = 'public'::regnamespace
         UNION ALL SELECT 'index ' || indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
         UNION ALL SELECT 'value ' || t.typname || '.' || e.enumlabel, e.enumsortorder::text
           FROM pg_enum e JOIN pg_type t ON t.oid = e.enumtypid
         UNION ALL SELECT 'trigger ' || tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid)
           FROM pg_trigger WHERE NOT tgisinternal
         UNION ALL SELECT 'function ' || proname, md5(prosrc) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    )
    .fetch_all(&stack.db)
    .await
    .expect("the catalogue");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn s1_1_orders_have_their_keys_limits_and_indexes() {
    let (stack, order) = booked("schema-orders").await;
    let again = "INSERT INTO payment_orders (order_id, user_id, schedule_id, status, channel, amount_fen, request_hash, audit_head, submitted_at)
                 SELECT order_id, user_id, schedule_id, 'held', channel, amount_fen, request_hash, audit_head, submitted_at
                   FROM payment_orders WHERE order_id = $1";
    all_refused(
        &stack,
        &order,
        &[
            (again, "payment_orders_pk"),
            ("UPDATE payment_orders SET user_id = 'nobody' WHERE order_id = $1", "payment_orders_user_fk"),
            (
                "UPDATE payment_orders SET schedule_id = gen_random_uuid() WHERE order_id = $1",
                "payment_orders_schedule_fk",
            ),
            ("UPDATE payment_orders SET amount_fen = 0 WHERE order_id = $1", "payment_orders_amount_positive"),
            ("UPDATE payment_orders SET currency = 'USD' WHERE order_id = $1", "payment_orders_currency_cny"),
            (
                "UPDATE payment_orders SET refund_promised_fen = paid_fen + 1 WHERE order_id = $1",
                "payment_orders_promised_within_paid",
            ),
            (
                "UPDATE payment_orders SET refunded_fen = refund_promised_fen + 1 WHERE order_id = $1",
                "payment_orders_refunded_was_promised",
            ),
            ("UPDATE payment_orders SET paid_at = NULL WHERE order_id = $1", "payment_orders_confirmed_is_paid"),
        ],
    )
    .await;
    let schema = description(&stack).await;
    assert!(schema["index payment_orders_by_user"].contains("(user_id, submitted_at DESC"));
    assert!(schema["index payment_orders_by_schedule"].contains("(schedule_id, arrival)"));
}

#[tokio::test]
async fn s1_2_a_transaction_is_recorded_once_for_an_order_that_exists() {
    let (stack, order) = booked("schema-transactions").await;
    let copy = |id: &str, order: &str| {
        format!(
            "INSERT INTO payment_transactions (transaction_id, order_id, status, total_fen, currency, trade_type, mchid, appid, success_time, learned_by)
             SELECT {id}, {order}, status, total_fen, currency, trade_type, mchid, appid, success_time, learned_by
               FROM payment_transactions WHERE order_id = $1"
        )
    };
    for (statement, constraint) in [
        (copy("transaction_id", "order_id"), "payment_transactions_pk"),
        (copy("'another'", "order_id"), "payment_transactions_one_settled_per_order"),
        (copy("'another'", "'hf00000000'"), "payment_transactions_order_fk"),
    ] {
        let refused = refused(&stack, statement.leak(), &order).await;
        assert_eq!(refused, constraint);
    }
    let recently =
        stack.count("SELECT count(*) FROM payment_transactions WHERE created_at > now() - interval '1 hour'");
    assert_eq!(recently.await, 1, "created_at has its default");
    let states = stack.count("SELECT count(*) FROM pg_enum WHERE enumtypid = 'transaction_status'::regtype").await;
    assert_eq!(states, 2);
}

#[tokio::test]
async fn s1_3_no_seat_has_two_live_reservations_whatever_the_code_does() {
    let (stack, first) = booked("schema-reservations").await;
    let token = stack.token("bob").await;
    let session: String = sqlx::query_scalar("SELECT schedule_id::text FROM payment_orders LIMIT 1")
        .fetch_one(&stack.db)
        .await
        .expect("a session");
    let second = stack.submit(&token, &session).await;
    stack.until_status(&token, &second, "awaiting_payment").await;

    all_refused(
        &stack,
        &first,
        &[
            (
                "UPDATE seat_reservations SET seat_no = (SELECT seat_no FROM seat_reservations WHERE order_id = $1)
                  WHERE order_id <> $1",
                "seat_reservations_one_live_per_seat",
            ),
            (
                "INSERT INTO seat_reservations (order_id, schedule_id, seat_no, status)
                 SELECT order_id, schedule_id, 999, 'cancelled' FROM payment_orders WHERE order_id = $1",
                "seat_reservations_one_per_order",
            ),
            (
                "UPDATE seat_reservations SET status = 'temporary', expires_at = NULL WHERE order_id = $1",
                "seat_reservations_temporary_expires",
            ),
            (
                "INSERT INTO seat_reservations (order_id, schedule_id, seat_no, status)
                 SELECT $1 || '0', schedule_id, 999, 'cancelled' FROM payment_orders LIMIT 1",
                "seat_reservations_order_fk",
            ),
        ],
    )
    .await;
    assert!(description(&stack).await.contains_key("index seat_reservations_availability"));
    stack.check_invariants().await;
}

#[tokio::test]
async fn s1_4_the_audit_log_tells_every_step_and_takes_nothing_back() {
    let (stack, order) = booked("schema-audit").await;
    let told: Vec<(i32, String, String)> = sqlx::query_as(
        "SELECT version, to_status::text, actor FROM payment_audit_log WHERE order_id = $1 ORDER BY version",
    )
    .bind(&order)
    .fetch_all(&stack.db)
    .await
    .expect("the log");
    let told: Vec<(i32, &str, &str)> =
        told.iter().map(|(version, to, actor)| (*version, to.as_str(), actor.as_str())).collect();
    assert_eq!(
        told,
        [(1, "held", "worker:seats"), (2, "awaiting_payment", "worker:prepay"), (3, "confirmed", "worker:payments")]
    );

    let append_only = "payment_audit_log is append-only";
    all_refused(
        &stack,
        &order,
        &[
            ("UPDATE payment_audit_log SET actor = 'nobody' WHERE order_id = $1", append_only),
            ("DELETE FROM payment_audit_log WHERE order_id = $1", append_only),
        ],
    )
    .await;
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT 'payment_audit_log' UNION ALL
         SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'payment_audit_log'::regclass",
    )
    .fetch_all(&stack.db)
    .await
    .expect("the partitions");
    for table in tables {
        let emptied = sqlx::query(sqlx::AssertSqlSafe(format!("TRUNCATE {table}"))).execute(&stack.db).await;
        let emptied = emptied.expect_err("append-only");
        assert!(emptied.to_string().contains(append_only), "{table}: {emptied}");
    }

    let broken = stack
        .count(
            "SELECT count(*) FROM (SELECT prev_hash, lag(hash) OVER (PARTITION BY order_id ORDER BY version) AS before
               FROM payment_audit_log) chained WHERE before IS NOT NULL AND prev_hash <> before",
        )
        .await;
    assert_eq!(broken, 0, "each row is chained to the one before");
    let months = stack.count("SELECT count(*) FROM pg_inherits WHERE inhparent = 'payment_audit_log'::regclass").await;
    assert!(months >= 4, "this month and those ahead have their partitions: {months}");
    assert_eq!(stack.count("SELECT count(*) FROM payment_audit_log_rest").await, 0);
}
