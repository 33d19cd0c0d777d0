//! Months of the audit log and of the trace are made, healed and dropped beside a reader that takes as long as pg_dump, and
//! bookings do not wait for it.

use sqlx::{Connection as _, PgConnection};

use crate::{
    months::TURN_OF_THE_MONTH,
    stack::{Choice, Stack, WORKERS, server_resources::database_url, until},
};

/// Bookings that are made and paid while the reader has its locks.
const BOOKINGS: i64 = 6;

/// What pg_dump holds for as long as it runs: ACCESS SHARE on every table, and a snapshot.
async fn dump_begins(stack: &Stack) -> PgConnection {
    let mut reader = PgConnection::connect(&database_url(&stack.name)).await.expect("PostgreSQL");
    sqlx::raw_sql(
        "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;
         DO $$ DECLARE name text; BEGIN
             FOR name IN SELECT oid::regclass FROM pg_class
                          WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') LOOP
                 EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE', name);
             END LOOP;
         END $$",
    )
    .execute(&mut reader)
    .await
    .expect("the locks of a dump");
    reader
}

async fn run(stack: &Stack, statements: &'static str) {
    sqlx::raw_sql(statements).execute(&stack.db).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

const ATTACHED: &str = "
    SELECT count(*) FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
     WHERE inhparent IN ('payment_audit_log'::regclass, 'order_trace'::regclass)
       AND right(relname, 7) IN (to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM'),
                                 to_char(now() AT TIME ZONE 'UTC' + interval '1 month', 'YYYY_MM'))";
const OLD: &str = "SELECT count(*) FROM pg_class WHERE relname IN ('payment_audit_log_2020_01', 'order_trace_2020_01')";

/// D3: the turn of a month under a dump. The months are missing, the default partitions fill, and the housekeeping, a
/// migration and the retention want their locks all the time: each booking is done before the dump ends.
#[tokio::test]
async fn d3_no_booking_waits_for_a_dump_over_the_turn_of_a_month() {
    let mut stack = Stack::start_with(
        "partitions-dump",
        Choice { roles: ["api"].into_iter().chain(WORKERS).collect(), ..Choice::default() },
    )
    .await;
    let schedule = stack.add_schedule(50).await;
    run(&stack, TURN_OF_THE_MONTH).await;
    // Rows that nobody's month takes.
    stack.booked("early", &schedule).await;
    assert!(stack.count("SELECT count(*) FROM payment_audit_log_rest").await > 0);

    let reader = dump_begins(&stack).await;
    stack.environment.insert("HOLDFAST_RECONCILE__EVERY_SECONDS".into(), "1".into());
    stack.spawn("reconcile");
    let asked = |arguments: &'static [&'static str]| {
        let mut command = stack.command(arguments);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.spawn().expect("it starts")
    };
    // Each wants a lock that the dump does not give, again and again.
    let mut done = 0;
    let mut held = Vec::new();
    for number in 0..BOOKINGS {
        held.push(asked(&["migrate"]));
        held.push(asked(&["audit", "prune"]));
        stack.booked(&format!("booker-{number}"), &schedule).await;
        done += 1;
    }
    let confirmed = "SELECT count(*) FROM payment_orders WHERE status = 'confirmed'";
    assert_eq!((done, stack.count(confirmed).await), (BOOKINGS, BOOKINGS + 1), "done while the dump had its locks");
    assert!(stack.count(OLD).await > 0, "the dump has what is to go");
    drop(reader.close().await);
    for mut child in held {
        tokio::task::spawn_blocking(move || child.wait().expect("it ended")).await.expect("waited");
    }

    // With the dump gone everything is made, healed and dropped, and nothing of the log is lost.
    let rows = "SELECT count(*) FROM payment_audit_log";
    let before = stack.count(rows).await;
    until("the months are made", async || {
        stack.holdfast_ok(&["migrate"]).await;
        (stack.count(ATTACHED).await == 4).then_some(())
    })
    .await;
    stack.holdfast_ok(&["audit", "prune"]).await;
    until("the old months are gone", async || (stack.count(OLD).await <= 1).then_some(())).await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_audit_log_rest").await, 0);
    assert_eq!(stack.count(rows).await, before);
    stack.booked("late", &schedule).await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_audit_log_rest").await, 0, "its month takes it");
    let (code, report, _) = stack.holdfast(&["verify", "--json"]).await;
    assert_eq!(code, 0, "{report}");
    let error = sqlx::query("TRUNCATE payment_audit_log_rest").execute(&stack.db).await.expect_err("append-only");
    assert!(error.to_string().contains("append-only"), "{error}");
    stack.check_invariants().await;
}

/// D3: rows of several months in the default partition keep no month from being made, and find theirs, in sets.
#[tokio::test]
async fn d3_a_default_partition_with_rows_is_healed() {
    let stack = Stack::start_with("partitions-heal", Choice { roles: Vec::new(), ..Choice::default() }).await;
    run(&stack, TURN_OF_THE_MONTH).await;
    run(
        &stack,
        "INSERT INTO payment_audit_log (order_id, version, at, event, to_status, actor, after, prev_hash, hash)
         SELECT 'hf' || i, 1, now() - i * interval '9 minutes', 'held', 'held', 'test', '{}', 'a', 'b'
           FROM generate_series(1, 12000) i;
         INSERT INTO order_trace (order_id, at, kind, what, outcome)
         SELECT 'hf' || i, now() - i * interval '9 minutes', 'message', 'x', 'done' FROM generate_series(1, 12000) i",
    )
    .await;
    assert!(stack.count("SELECT count(*) FROM payment_audit_log_rest").await >= 12_000);
    stack.holdfast_ok(&["migrate"]).await;
    for table in ["SELECT count(*) FROM payment_audit_log_rest", "SELECT count(*) FROM order_trace_rest"] {
        assert_eq!(stack.count(table).await, 0, "{table}");
    }
    assert_eq!(stack.count(ATTACHED).await, 4);
    assert_eq!(stack.count("SELECT count(*) FROM payment_audit_log").await, 12_000);
    assert_eq!(stack.count("SELECT count(*) FROM order_trace").await, 12_000);
    assert_eq!(stack.count("SELECT count(*) FROM pg_class WHERE relname ~ '_copied'").await, 0);
    let unguarded =
        "SELECT count(*) FROM pg_inherits i WHERE inhparent = 'payment_audit_log'::regclass AND NOT EXISTS (
        SELECT FROM pg_trigger t WHERE t.tgrelid = i.inhrelid AND t.tgname = 'payment_audit_log_no_truncate')
        AND inhrelid::regclass::text <> 'payment_audit_log_2020_01'";
    assert_eq!(stack.count(unguarded).await, 0, "each can be emptied by nobody");
}
