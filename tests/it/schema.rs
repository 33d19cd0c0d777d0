//! The database's own promises: kept whatever the program does, and reached from every earlier schema.

use sqlx::{Executor as _, PgPool, migrate::Migrator};

use crate::stack::{Choice, Stack, checkout};

async fn books_alone(test: &str) -> Stack {
    Stack::start_with(test, Choice { roles: Vec::new(), ..Choice::default() }).await
}

/// Runs a statement that the database must refuse; answers the constraint, or the refusal's words where there is none.
async fn refusal(db: &PgPool, statement: &'static str) -> String {
    match db.execute(statement).await.expect_err(statement) {
        sqlx::Error::Database(refusal) => refusal.constraint().unwrap_or(refusal.message()).to_owned(),
        error => panic!("{statement}: {error}"),
    }
}

/// Everything a schema consists of, one line each.
async fn shape(db: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT format('column %s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default)
           FROM information_schema.columns WHERE table_schema = 'public'
         UNION ALL
         SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
           FROM pg_constraint WHERE connamespace = 'public'::regnamespace
         UNION ALL SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
         UNION ALL
         SELECT format('trigger %s', pg_get_triggerdef(t.oid)) FROM pg_trigger t WHERE NOT tgisinternal
         UNION ALL
         SELECT format('function %s %s', p.proname, md5(p.prosrc)) FROM pg_proc p WHERE pronamespace = 'public'::regnamespace
         UNION ALL SELECT format('label %s %s', enumtypid::regtype, enumlabel) FROM pg_enum
         ORDER BY 1",
    )
    .fetch_all(db)
    .await
    .expect("the catalogue")
}

#[tokio::test]
async fn s1_1_the_schema_is_reached_from_empty_and_from_every_earlier_head() {
    let stack = books_alone("schema-migrations").await;
    let from_empty = shape(&stack.db).await;
    assert!(from_empty.iter().any(|line| line.starts_with("constraint payment_orders payment_orders_pk")));
    stack.holdfast_ok(&["migrate"]).await;
    assert_eq!(shape(&stack.db).await, from_empty, "a second run changes nothing");

    let all = Migrator::new(checkout("migrations")).await.expect("migrations");
    for head in 0..all.migrations.len() {
        stack.db.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public").await.expect("emptied");
        let earlier = Migrator { migrations: all.migrations[..head].to_vec().into(), ..Migrator::DEFAULT };
        earlier.run(&stack.db).await.expect("an earlier head");
        stack.holdfast_ok(&["migrate"]).await;
        assert_eq!(shape(&stack.db).await, from_empty, "from head {head}");
    }
}

/// Two orders, held and paid, with the least that the schema asks for.
async fn two_orders(db: &PgPool) {
    let rows = "INSERT INTO courses VALUES ('tea', '茶道');
         INSERT INTO course_schedules (schedule_id, course_id, starts_at, price_fen, capacity)
         VALUES ('00000000-0000-7000-8000-000000000001', 'tea', now() + interval '1 day', 20000, 9);
         INSERT INTO users (user_id) VALUES ('ann');
         INSERT INTO payment_orders (order_id, user_id, schedule_id, status, channel, amount_fen, request_hash, audit_head,
                                     submitted_at, paid_at, transaction_id, paid_fen)
         SELECT 'hforder' || n, 'ann', '00000000-0000-7000-8000-000000000001', 'confirmed', 'native', 20000, 'h', '', now(),
                now(), 't' || n, 20000 FROM generate_series(1, 2) n;
         INSERT INTO seat_reservations (order_id, schedule_id, seat_no, status)
         VALUES ('hforder1', '00000000-0000-7000-8000-000000000001', 7, 'confirmed');
         INSERT INTO payment_transactions (transaction_id, order_id, status, total_fen, currency, trade_type, mchid, appid,
                                           success_time, learned_by)
         VALUES ('t1', 'hforder1', 'settled', 20000, 'CNY', 'NATIVE', 'm', 'a', now(), 'query');
         INSERT INTO payment_audit_log (order_id, version, at, event, to_status, actor, after, prev_hash, hash)
         VALUES ('hforder1', 1, now(), 'paid', 'confirmed', 'worker:payments', '{}', '', '')";
    db.execute(rows).await.expect("rows");
}

#[tokio::test]
async fn s1_3_the_database_itself_refuses_what_must_never_be() {
    let stack = books_alone("schema-constraints").await;
    two_orders(&stack.db).await;
    for (statement, constraint) in [
        (
            "INSERT INTO seat_reservations (order_id, schedule_id, seat_no, status, expires_at)
             VALUES ('hforder2', '00000000-0000-7000-8000-000000000001', 7, 'temporary', now())",
            "seat_reservations_one_live_per_seat",
        ),
        (
            "INSERT INTO seat_reservations (order_id, schedule_id, seat_no, status)
             VALUES ('hforder1', '00000000-0000-7000-8000-000000000001', 8, 'confirmed')",
            "seat_reservations_one_per_order",
        ),
        (
            "INSERT INTO seat_reservations (order_id, schedule_id, seat_no, status)
             VALUES ('hforder2', '00000000-0000-7000-8000-000000000001', 8, 'temporary')",
            "seat_reservations_temporary_expires",
        ),
        ("UPDATE payment_orders SET refund_promised_fen = 20001", "payment_orders_promised_within_paid"),
        ("UPDATE payment_orders SET refunded_fen = 1", "payment_orders_refunded_was_promised"),
        ("UPDATE payment_orders SET refunded_fen = -1", "payment_orders_refunds_within_paid"),
        ("UPDATE payment_orders SET amount_fen = 0", "payment_orders_amount_positive"),
        ("UPDATE payment_orders SET paid_at = NULL", "payment_orders_confirmed_is_paid"),
        ("UPDATE payment_orders SET status = 'awaiting_payment'", "payment_orders_payable_has_code"),
        ("UPDATE payment_orders SET transaction_id = 't1'", "payment_orders_transaction_unique"),
        ("UPDATE payment_orders SET order_id = 'HF-ORDER'", "payment_orders_id_form"),
        (
            "INSERT INTO payment_transactions SELECT 't9', order_id, status, total_fen, payer_total_fen, currency, trade_type,
                    bank_type, mchid, appid, success_time, learned_by, wechat_request_id, created_at
               FROM payment_transactions",
            "payment_transactions_one_settled_per_order",
        ),
        ("INSERT INTO payment_transactions SELECT * FROM payment_transactions", "payment_transactions_pk"),
        ("DELETE FROM payment_orders WHERE order_id = 'hforder1'", "seat_reservations_order_fk"),
        ("DELETE FROM course_schedules", "payment_orders_schedule_fk"),
        ("DELETE FROM users", "payment_orders_user_fk"),
    ] {
        assert_eq!(refusal(&stack.db, statement).await, constraint, "{statement}");
    }
    // A seat that was given back can be had again.
    let freed = "UPDATE seat_reservations SET status = 'cancelled';
                 INSERT INTO seat_reservations (order_id, schedule_id, seat_no, status)
                 VALUES ('hforder2', '00000000-0000-7000-8000-000000000001', 7, 'confirmed');
                 UPDATE payment_orders SET refund_promised_fen = 20000, refunded_fen = 20000";
    stack.db.execute(freed).await.expect("allowed");
}

#[tokio::test]
async fn s1_4_the_audit_log_can_only_grow() {
    let stack = books_alone("schema-audit").await;
    two_orders(&stack.db).await;
    let of_month: String = sqlx::query_scalar("SELECT tableoid::regclass::text FROM payment_audit_log")
        .fetch_one(&stack.db)
        .await
        .expect("one row");
    assert!(of_month.starts_with("payment_audit_log_2"), "{of_month}: each month has its partition");
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT 'payment_audit_log' UNION ALL
         SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'payment_audit_log'::regclass",
    )
    .fetch_all(&stack.db)
    .await
    .expect("the partitions");
    assert_eq!(tables.len(), 6, "the log, four months and the rest: {tables:?}");
    for table in &tables {
        for statement in
            [format!("UPDATE {table} SET reason = 'x'"), format!("DELETE FROM {table}"), format!("TRUNCATE {table}")]
        {
            // An UPDATE or DELETE that meets no row has nothing to refuse.
            let refused = stack.db.execute(sqlx::AssertSqlSafe(statement.clone())).await;
            let has_rows = *table == of_month || table == "payment_audit_log" || statement.starts_with("TRUNCATE");
            assert_eq!(refused.is_err(), has_rows, "{statement}");
        }
    }
    assert_eq!(stack.count("SELECT count(*) FROM payment_audit_log").await, 1);
}
