//! Sessions in the console: one added, one cancelled, by operators only.

use holdfast::api::Role;

use crate::{
    browser::{
        add_session,
        console::{arrive, go},
    },
    chromium::{Browser, Chromium, DESKTOP, PHONE},
    stack::until,
    story::hasty,
};

async fn type_into(browser: &Browser, field: &str, text: &str) {
    let field = browser.see(&format!("[data-testid=field-{field}]")).await;
    field.clear().await.expect("an empty field");
    field.send_keys(text).await.expect("typing");
}

#[tokio::test]
async fn p4_a_session_is_added_and_one_is_cancelled_with_its_cost_before_ones_eyes() {
    let mut stack = hasty("browser-console-sessions", 600, 1200).await;
    stack.spawn("reconcile");
    let pottery = add_session(&stack, "pottery", "陶艺入门：拉坯", 1, 14, 6).await;
    let (ann, booked) = stack.booked("ann", &pottery).await;
    let (_, cleos) = stack.booked("cleo", &pottery).await;
    let (bob, held) = stack.payable("bob", &pottery).await;
    // WeChat takes its time for one of the refunds.
    let slow = serde_json::json!({ "on": "refund", "order": cleos, "refund": { "slow_ms": 86_400_000 } });
    stack.script(&serde_json::json!({ "rules": [slow] })).await;
    let chromium = Chromium::start(&stack).await;

    let viewer = chromium.open(PHONE).await;
    arrive(&viewer, &stack, Role::Viewer, "/sessions").await;
    viewer.see(&format!("tr[data-key='{pottery}']")).await;
    assert_eq!(viewer.count("[data-testid=add-session]").await, 0);
    go(&viewer, &stack, &format!("/sessions/{pottery}")).await;
    viewer.see("[data-seat-no='1'][data-state=confirmed]").await;
    assert_eq!(viewer.count("[data-testid=cancel-session]").await, 0);

    let browser = chromium.open(DESKTOP).await;
    arrive(&browser, &stack, Role::Operator, "/sessions").await;
    browser.click("[data-testid=add-session]").await;
    type_into(&browser, "course_id", "tea").await;
    type_into(&browser, "title", "武夷岩茶品鉴").await;
    // As the browser's own picker writes it, whatever order of parts its language has.
    browser.value("document.querySelector('[data-testid=field-starts_at]').value = '2099-12-01T19:30'").await;
    type_into(&browser, "capacity", "8").await;
    type_into(&browser, "price_fen", "dear").await;
    browser.click("[data-testid=confirm]").await;
    browser.until_says(".deed .trouble-line", "no sum of money").await;
    type_into(&browser, "price_fen", "128.50").await;
    browser.picture("console-session-add").await;
    browser.click("[data-testid=confirm]").await;
    browser.until_says("h1", "武夷岩茶品鉴").await;
    browser.until_says(".card", "¥128.50").await;
    browser.until_says(".card", "19:30").await;
    assert_eq!(browser.count("[data-seat-no]").await, 8);

    // First what it would come to, which changes nothing; then the word for good.
    go(&browser, &stack, &format!("/sessions/{pottery}")).await;
    browser.click("[data-testid=cancel-session]").await;
    type_into(&browser, "rate", "50").await;
    browser.click("[data-testid=confirm]").await;
    browser.until_says("[data-testid=would]", "¥400.00").await;
    let cancelled = "SELECT count(*) FROM course_schedules WHERE status = 'cancelled'";
    assert_eq!(stack.count(cancelled).await, 0);
    type_into(&browser, "n", "3").await;
    browser.click("[data-testid=confirm]").await;
    browser.until_says(".deed .trouble-line", "Nothing was done").await;
    assert_eq!(stack.count(cancelled).await, 0);
    type_into(&browser, "n", "2").await;
    browser.picture("console-session-cancel").await;
    browser.click("[data-testid=confirm]").await;

    stack.until_status(&ann, &booked, "refunded").await;
    stack.until_status(&bob, &held, "cancelled").await;
    browser.see("[data-testid=cancellation][data-state=refunding]").await;
    browser.until_says("[data-testid=cancellation]", "¥200.00 given back").await;
    browser.picture("console-session-cancelled").await;
    // Whoever only looks sees how far it is, too.
    viewer.until_says("[data-testid=cancellation]", "¥200.00 given back").await;
    viewer.picture("console-session-cancelled").await;

    stack.script(&serde_json::json!({ "rules": [] })).await;
    until("the operator stands in the books", async || {
        let by = "SELECT count(*) FROM payment_audit_log
                   WHERE actor = 'operator:dora' AND event IN ('cancelled', 'refund_requested')";
        (stack.count(by).await == 3).then_some(())
    })
    .await;
    browser.close(&[]).await;
    viewer.close(&[]).await;
}
