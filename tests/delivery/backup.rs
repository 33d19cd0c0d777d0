//! pg_dump holds its locks for a minute over the turn of a month, and bookings go on.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    months::TURN_OF_THE_MONTH,
    stack::{Choice, Stack, WORKERS, until},
};

const LASTS: Duration = Duration::from_secs(60);
/// More bookings in that time than would fit if each waited for more than two seconds.
const BOOKINGS: u64 = LASTS.as_secs() / 2;

/// D3: the partitions of the month are missing and rows lie in the default partition while a backup runs. The housekeeping and
/// a migration want locks that the backup does not give.
#[tokio::test]
async fn no_booking_waits_for_a_backup_over_the_turn_of_a_month() {
    let roles = ["api"].into_iter().chain(WORKERS).collect();
    let mut stack = Stack::start_with("backup", Choice { roles, ..Choice::default() }).await;
    let schedule = stack.add_schedule(1_000).await;
    sqlx::raw_sql(TURN_OF_THE_MONTH).execute(&stack.db).await.expect("the turn of the month");
    stack.booked("early", &schedule).await;

    // What it writes is not read, so that it stays open once the pipe is full.
    let mut dump = Command::new("pg_dump");
    dump.arg(&stack.environment["DATABASE_URL"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut dump = dump.spawn().expect("pg_dump starts");
    until("the dump has its locks", async || {
        let locks = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                      WHERE a.application_name = 'pg_dump' AND l.mode = 'AccessShareLock' AND l.relation IN
                            ('payment_audit_log'::regclass, 'payment_orders'::regclass)
                        AND a.datname = current_database()";
        (stack.count(locks).await >= 2).then_some(())
    })
    .await;
    stack.environment.insert("HOLDFAST_RECONCILE__EVERY_SECONDS".into(), "1".into());
    stack.spawn("reconcile");
    let mut migration = stack.command(&["migrate"]);
    let mut migration = migration.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");

    let began = Instant::now();
    let (mut booked, mut longest) = (0, Duration::ZERO);
    while began.elapsed() < LASTS {
        let clicked = Instant::now();
        stack.booked(&format!("booker-{booked}"), &schedule).await;
        longest = longest.max(clicked.elapsed());
        booked += 1;
    }
    assert!(dump.try_wait().expect("a state").is_none(), "the backup ended before its time");
    println!("{booked} bookings beside a backup of {} s, the longest took {longest:?}", LASTS.as_secs());
    assert!(booked >= BOOKINGS, "{booked} bookings in {} s", LASTS.as_secs());

    dump.kill().expect("it ends");
    dump.wait().expect("it has ended");
    tokio::task::spawn_blocking(move || migration.wait().expect("it ended")).await.expect("waited");
    until("the rows are in their months", async || {
        stack.holdfast_ok(&["migrate"]).await;
        (stack.count("SELECT count(*) FROM payment_audit_log_rest").await == 0).then_some(())
    })
    .await;
    let (code, report, _) = stack.holdfast(&["verify", "--json"]).await;
    assert_eq!(code, 0, "{report}");
    stack.check_invariants().await;
}
