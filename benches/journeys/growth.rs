//! Journeys per second on top of millions of stored orders.
//!
//! History is written by statements over whole tables: orders that were paid and confirmed, each with its reservation,
//! booking, payment, callback and message. Their audit rows are left out, as retention drops them with their months.
//! Keys are spread as the product's are, so that new orders find their places between old ones, on cold pages of the
//! indexes.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor, PgPool};

use crate::{
    crowd, quiet, say,
    stack::{Choice, Stack},
};

/// Connections that write history side by side, and rows in one transaction.
const WRITERS: i64 = 4;
const ROWS: i64 = 50_000;

/// Both stacks in turns, each as often first as second, so that a machine that becomes slower slows down both alike.
const TURNS: [Turn; 8] = {
    use Turn::{Empty, Grown};
    [Empty, Grown, Grown, Empty, Empty, Grown, Grown, Empty]
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Empty,
    Grown,
}

/// Journeys per second with each of these numbers of stored orders, in rising order, and beside each those of a stack
/// that has stored nothing. With no orders in either, their difference is what the machine adds by itself.
pub(crate) async fn growth(sizes: &[i64], slice: Duration, customers: usize) -> Value {
    let stack = async |name| {
        let stack = Stack::start_with(name, Choice { settings: quiet(), ..Choice::default() }).await;
        crowd::at_once(&stack, 50).await;
        stack
    };
    let (empty, grown) = (stack("bench_empty").await, stack("bench_growth").await);
    let mut found = Vec::new();
    let mut stored = 0;
    for (batch, size) in sizes.iter().enumerate() {
        let began = Instant::now();
        if *size > stored {
            fill(&grown.db, batch as i64, size - stored).await.expect("history");
            stored = *size;
            say(&format!("growth: {size} orders stored after {:.0} s", began.elapsed().as_secs_f64()));
        }
        for stack in [&empty, &grown] {
            crowd::busy(stack, customers, slice / 2).await;
        }
        let (mut of_empty, mut of_grown) = (0.0, 0.0);
        for turn in TURNS {
            let (stack, sum) = if turn == Turn::Empty { (&empty, &mut of_empty) } else { (&grown, &mut of_grown) };
            *sum += crowd::busy(stack, customers, slice).await.per_s() / (TURNS.len() / 2) as f64;
        }
        say(&format!("growth: {of_grown:.0} journeys/s with {size} stored orders, {of_empty:.0} with none"));
        found.push(json!({
            "orders": size,
            "journeys_per_s": of_grown.round(),
            "empty_journeys_per_s": of_empty.round(),
        }));
    }
    json!(found)
}

/// What is stored of history, in the order that foreign keys want. `$1`, `$2`: first and last number; `$3`: how many
/// in all; `$4`: which batch.
const HISTORY: [&str; 8] = [
    "INSERT INTO course_schedules (schedule_id, course_id, starts_at, price_fen, capacity)
     SELECT schedule, 'pottery', now() - interval '200 days', 20000, 1000 FROM history WHERE n % 1000 = 0",
    "INSERT INTO users (user_id, openid) SELECT customer, decode(repeat('ab', 57), 'hex') FROM history WHERE n % 10 = 0",
    "INSERT INTO payment_orders (order_id, user_id, schedule_id, status, channel, amount_fen, request_hash, code_url,
            hold_expires_at, pay_before, paid_at, transaction_id, paid_fen, version, audit_head, submitted_at, created_at, updated_at)
     SELECT id, customer, schedule, 'confirmed', 'native', 20000, lpad(n::text, 64, '0'), 'weixin://wxpay/bizpayurl?pr=abcdefg00',
            at + interval '15 minutes', at + interval '30 minutes', at + interval '1 minute', payment, 20000, 3, decode(repeat('cd', 32), 'hex'),
            at, at, at + interval '1 minute' FROM history",
    "INSERT INTO seat_reservations (reservation_id, order_id, schedule_id, seat_no, status, created_at, updated_at)
     SELECT row_id, id, schedule, 1 + n % 1000, 'confirmed', at, at FROM history",
    "INSERT INTO bookings (booking_id, order_id, reservation_id, user_id, schedule_id, seat_no, created_at)
     SELECT row_id, id, row_id, customer, schedule, 1 + n % 1000, at FROM history",
    "INSERT INTO payment_transactions (transaction_id, order_id, status, total_fen, payer_total_fen, currency, trade_type,
            bank_type, mchid, appid, success_time, learned_by, created_at)
     SELECT payment, id, 'settled', 20000, 20000, 'CNY', 'NATIVE', 'OTHERS', '1900000109', 'wx8888888888888888', at, 'callback', at
       FROM history",
    "INSERT INTO wechat_callbacks (notification_id, event_type, out_trade_no, outcome, request_id, received_at)
     SELECT row_id::text, 'TRANSACTION.SUCCESS', id, 'settled', 'history', at FROM history",
    "INSERT INTO notifications (order_id, kind, status, attempts, sent_at, msgid, created_at, updated_at)
     SELECT id, 'booking_confirmed', 'sent', 1, at, n, at, at FROM history",
];

/// The order's number in every key: spread over the whole range and in rising order, so that indexes grow at their
/// end while history is written. Two hexadecimal digits' distance leaves room for what comes between.
const KEYS: &str = "CREATE TEMPORARY TABLE history AS
    SELECT n, 'hf' || translate(lpad(to_hex(spread), 13, '0'), '0123456789abcdef', '02468acegjmprtwy') || 'batch' || $4 || '00000' AS id,
           (lpad(to_hex(spread), 13, '0') || '7000800000000000000' )::uuid AS row_id,
           ('00000000-0000-7000-900' || $4 || '-' || lpad((n / 1000)::text, 12, '0'))::uuid AS schedule,
           'history-' || $4 || '-' || lpad((n / 10)::text, 9, '0') AS customer,
           '4200' || $4 || lpad(n::text, 23, '0') AS payment,
           now() - interval '400 days' + n * interval '1 second' AS at
      FROM (SELECT n, n * (4503599627370496 / $3) + $4 AS spread FROM generate_series($1::bigint, $2::bigint) n) numbers";

async fn fill(db: &PgPool, batch: i64, count: i64) -> Result<(), sqlx::Error> {
    // Asking for each of fifty million references whether it is there would take longer than writing them.
    let references: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint
          WHERE contype = 'f' AND connamespace = 'public'::regnamespace",
    )
    .fetch_all(db)
    .await?;
    for (table, name, _) in &references {
        db.execute(AssertSqlSafe(format!("ALTER TABLE {table} DROP CONSTRAINT {name}"))).await?;
    }
    let share = count / WRITERS;
    try_join_all((0..WRITERS).map(|writer| write(db, batch, count, writer * share, (writer + 1) * share))).await?;
    for (table, name, definition) in &references {
        let add = format!(
            "ALTER TABLE {table} ADD CONSTRAINT {name} {} NOT VALID",
            definition.trim_end_matches(" NOT VALID")
        );
        db.execute(AssertSqlSafe(add)).await?;
    }
    // What autovacuum has done long before a table has millions of rows.
    let tables = [
        "payment_orders",
        "seat_reservations",
        "bookings",
        "payment_transactions",
        "wechat_callbacks",
        "notifications",
        "users",
        "course_schedules",
    ];
    try_join_all(tables.map(|table| db.execute(AssertSqlSafe(format!("VACUUM (ANALYZE) {table}"))))).await?;
    // Months of history are on disk; here their pages would be written while journeys are counted.
    db.execute("CHECKPOINT").await?;
    Ok(())
}

async fn write(db: &PgPool, batch: i64, count: i64, from: i64, to: i64) -> Result<(), sqlx::Error> {
    let mut connection = db.acquire().await?;
    connection.execute("SET synchronous_commit = off").await?;
    let mut next = from;
    while next < to {
        let last = (next + ROWS).min(to) - 1;
        let keys = KEYS.replace("$1", &next.to_string()).replace("$2", &last.to_string());
        let keys = keys
            .replace("$3", &count.to_string())
            .replace("|| $4", &format!("|| '{batch}'"))
            .replace("$4", &batch.to_string());
        connection.execute(AssertSqlSafe(format!("BEGIN; {keys}"))).await?;
        for statement in HISTORY {
            connection.execute(statement).await?;
        }
        connection.execute("DROP TABLE history; COMMIT").await?;
        next = last + 1;
    }
    connection.close().await
}
