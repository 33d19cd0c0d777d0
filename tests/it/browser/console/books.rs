//! WeChat's bill in the console: the calendar, and what differs in one day.

use holdfast::api::Role;

use crate::{
    browser::console::arrive,
    chromium::{Chromium, SCREENS},
    stack::{Choice, Stack},
};

/// Three weeks, of which one day differs, one had no trade, and the last could not be finished.
const DAYS: [&str; 3] = [
    "INSERT INTO book_days (bill_date, started_at, finished_at, error, bill_payments, bill_paid_fen, books_payments, books_paid_fen)
     SELECT day, now(), CASE WHEN day < '2026-10-21' THEN now() END,
            CASE WHEN day = '2026-10-21' THEN 'the bill is not ready yet' END, trade, trade * 20000, trade, trade * 20000
       FROM (SELECT day::date, CASE WHEN day = '2026-10-11' THEN 0 ELSE 40 END AS trade
               FROM generate_series('2026-10-01', '2026-10-21', interval '1 day') day) days",
    "INSERT INTO book_differences (bill_date, kind, number, remedy, order_id, bill_fen, books_fen, bill_state, found_at, seen_at)
     VALUES ('2026-10-14', 'payment_amount', '4200002026101400000000000001', 'case', 'hf2m6qk0c9v1x8y4zt3w7p5rab', 20001, 20000,
             'SUCCESS', now(), now())",
    "INSERT INTO book_differences (bill_date, kind, number, remedy, order_id, bill_fen, bill_state, found_at, seen_at, settled_at)
     VALUES ('2026-10-14', 'payment_unseen', '<b>4200</b>', 'heal', 'hf3m6qk0c9v1x8y4zt3w7p5rab', 20000, 'SUCCESS', now(),
             now(), now())",
];

#[tokio::test]
async fn p4_wechats_bill_is_seen_day_by_day() {
    let stack = Stack::start_with("browser-console-books", Choice { roles: vec!["api"], ..Choice::default() }).await;
    for statement in DAYS {
        sqlx::query(statement).execute(&stack.db).await.expect("days");
    }
    let chromium = Chromium::start(&stack).await;
    for screen in SCREENS {
        let browser = chromium.open(screen).await;
        arrive(&browser, &stack, Role::Viewer, "/books").await;
        browser.until_says("[data-testid=calendar]", "21").await;
        let days = async |status| browser.count(&format!("[data-testid=calendar] [data-status={status}]")).await;
        assert_eq!([days("balanced").await, days("differs").await], [18, 1]);
        assert_eq!([days("no_trade").await, days("unfinished").await], [1, 1]);
        browser.picture("console-books").await;
        browser.click("[data-testid=calendar] [data-status=differs]").await;
        browser.until_says("[data-testid=differences]", "payment_amount").await;
        browser.until_says("[data-testid=differences]", "¥200.01 / ¥200.00").await;
        // What WeChat's file says is text.
        browser.until_says("[data-testid=differences]", "<b>4200</b>").await;
        browser.picture("console-book-day").await;
        browser.close(&[]).await;
    }
}
