//! The operators' console in Chromium: each page over a stack where things have happened, good and bad. Its
//! pictures are the tour in `docs/operations.md`.

mod books;
mod desk;
mod frame;
mod letters;
mod sessions;

use holdfast::api::Role;
use serde_json::json;

use crate::{
    browser::add_session,
    chromium::{Browser, Chromium, DESKTOP, SCREENS},
    queues::Queues,
    stack::{Choice, Stack, WORKERS, until},
};

/// What a page must show as what it is: text.
const HOSTILE: &str = concat!(
    r#"{"out_trade_no":"<script>window.hostile=1</script>","note":"<img src=x onerror=window.hostile=2>","#,
    "\"name\":\"\u{202e}drowssap\u{202c} \u{2066}isolated\u{2069} \u{0}\"}",
);

/// Lands on a page of the console with a token of this role.
async fn arrive(browser: &Browser, stack: &Stack, role: Role, view: &str) {
    let token = stack.token_of_role("dora", role);
    browser.client.goto(&format!("{}/console?lang=en#token={token}&to={view}", stack.api)).await.expect("the console");
}

async fn go(browser: &Browser, stack: &Stack, view: &str) {
    browser.client.goto(&format!("{}/console#{view}", stack.api)).await.expect("the console");
}

/// What an operator finds in the morning.
struct Morning {
    stack: Stack,
    pottery: String,
    confirmed: String,
    refunding: String,
    mismatched: String,
}

async fn morning(test: &str) -> Morning {
    let roles = ["api", "reconcile"].into_iter().chain(WORKERS).collect();
    // What was set aside is not mended by the sweep, however long one looks at it.
    let settings = vec![("HOLDFAST_RECONCILE__GRACE_SECONDS", "3600".to_owned())];
    let stack = Stack::start_with(test, Choice { settings, roles, ..Choice::default() }).await;
    let pottery = add_session(&stack, "pottery", "陶艺入门：拉坯", 1, 14, 48).await;
    let tea = add_session(&stack, "tea", "武夷岩茶品鉴", 2, 10, 3).await;
    add_session(&stack, "ink", "水墨写意：从一片叶子开始", 5, 19, 1_200).await;
    let (_, confirmed) = stack.booked("ann", &pottery).await;
    for user in ["bob", "cleo", "dan", "eva", "finn"] {
        stack.booked(user, &pottery).await;
    }
    for user in ["gil", "hana"] {
        stack.payable(user, &pottery).await;
    }
    for user in ["ida", "jon", "kim"] {
        stack.booked(user, &tea).await;
    }
    stack.wait_in_line(&["lea", "mo"], &tea).await;

    // A refund that WeChat takes its time for, and a payment that is not the order's.
    let (_, refunding) = stack.booked("nina", &pottery).await;
    let slow = json!({ "on": "refund", "order": refunding, "refund": { "slow_ms": 86_400_000 } });
    let (_, mismatched) = stack.payable("otto", &pottery).await;
    let wrong = json!({ "on": "callback_payment", "order": mismatched, "callback": "wrong_amount" });
    stack.script(&json!({ "rules": [slow, wrong] })).await;
    let refund = stack.lay_refund(&refunding, "r1", None).await;
    stack.until_refund(&refund, "processing").await;
    assert_eq!(stack.pay(&mismatched).await.status, 200);
    until("the wrong amount is a case", async || (!stack.open_cases().await.is_empty()).then_some(())).await;

    // Orders whose code WeChat would not give: two that it refuses, one after some trouble.
    let refused = json!({ "on": "order", "count": 2, "status": 400, "code": "PARAM_ERROR" });
    stack.script(&json!({ "rules": [slow, refused] })).await;
    for user in ["pia", "quin"] {
        stack.submit(&stack.quick_token(user), &pottery).await;
    }
    until("both are set aside", async || (stack.ready_in("prepay.dead").await == 2).then_some(())).await;
    stack
        .script(&json!({ "rules": [slow, { "on": "order", "count": 2, "status": 500, "code": "SYSTEM_ERROR" }] }))
        .await;
    stack.payable("rae", &pottery).await;

    // A stranger's message.
    let queues = Queues::of(&stack).await;
    queues.put("payments", "payment.seen", HOSTILE.as_bytes()).await;
    until("it is set aside", async || (stack.ready_in("payments.dead").await == 1).then_some(())).await;
    Morning { stack, pottery, confirmed, refunding, mismatched }
}

#[tokio::test]
async fn p4_the_console_shows_what_stands_open() {
    let Morning { stack, pottery, confirmed, refunding, mismatched } = morning("browser-console").await;
    let chromium = Chromium::start(&stack).await;
    for screen in SCREENS {
        let browser = chromium.open(screen).await;
        arrive(&browser, &stack, Role::Viewer, "/").await;
        browser.until_says("[data-testid=tile-cases]", "1").await;
        browser.until_says("[data-testid=tile-doubt]", "¥200.00").await;
        browser.until_says("[data-testid=tile-dead]", "3").await;
        browser.until_says("[data-testid=pulse]", "Live").await;
        browser.until_says("tr[data-key='orders.0']", "closed").await;
        browser.picture("console-now").await;

        // The address holds the search; a number that names one order leads to it.
        go(&browser, &stack, "/orders").await;
        browser.see(&format!("tr[data-key='{confirmed}']")).await;
        browser.picture("console-orders").await;
        go(&browser, &stack, "/orders?text=nina").await;
        browser.until_says(&format!("tr[data-key='{refunding}']"), "refunding").await;
        go(&browser, &stack, &format!("/orders?text={confirmed}")).await;
        browser.until_says("[data-testid=order]", "confirmed").await;
        browser.until_says("[data-testid=order]", "ann").await;
        browser.until_says("[data-testid=answer]", "seat").await;
        browser.until_says("[data-testid=timeline]", "code_issued").await;
        browser.picture("console-order").await;

        go(&browser, &stack, "/sessions").await;
        browser.until_says(&format!("tr[data-key='{pottery}']"), "48").await;
        browser.picture("console-sessions").await;
        browser.click(&format!("tr[data-key='{pottery}'] a")).await;
        browser.see("[data-seat-no='1'][data-state=confirmed]").await;
        browser.see("[data-state=held]").await;
        browser.picture("console-session").await;

        go(&browser, &stack, "/errors").await;
        browser.see("[data-testid=errors-wechat] [data-name=PARAM_ERROR]").await;
        browser.see("[data-testid=errors-parked] [data-name=unreadable]").await;
        browser.see("[data-testid=errors-retried]").await;
        browser.picture("console-errors").await;

        go(&browser, &stack, "/money").await;
        browser.until_says("[data-testid=doubt-total]", "¥200.00").await;
        browser.until_says(&format!("tr[data-key='{refunding}']"), "processing").await;
        assert_eq!(browser.count(&format!("tr[data-key='{mismatched}']")).await, 0, "a case is no doubt");
        browser.picture("console-money").await;

        go(&browser, &stack, "/invariants").await;
        browser.until_says("[data-testid=verdict]", "Not checked yet").await;
        browser.click("[data-testid=verify]").await;
        browser.until_says("[data-testid=verdict]", "Every promise holds").await;
        browser.see(".promise[data-name=every_fen][data-tone=good]").await;
        browser.picture("console-invariants").await;
        browser.close(&[]).await;
    }
}

#[tokio::test]
async fn p4_the_console_lives_by_its_stream_and_says_what_it_does_not_know() {
    let mut stack = Stack::start("browser-console-live").await;
    let chromium = Chromium::start(&stack).await;
    let browser = chromium.open(DESKTOP).await;
    arrive(&browser, &stack, Role::Operator, "/").await;
    browser.until_says("[data-testid=tile-dead]", "0").await;
    browser.until_says("tr[data-key=payments]", "closed").await;

    // A poison message becomes a dead letter while one looks.
    Queues::of(&stack).await.put("payments", "payment.seen", b"{}").await;
    browser.see("[data-testid=tile-dead][data-tone=bad]").await;
    browser.until_says("[data-testid=tile-dead]", "1").await;
    browser.see("tr[data-key='payments.dead'][data-tone=bad]").await;
    browser.until_says("tr[data-key=payments]", "1").await;

    // A worker that is gone has no consumer, nothing in hand, and a breaker that nobody knows of.
    stack.kill("prepay");
    browser.until_says("tr[data-key=prepay] .alarm", "0").await;
    browser.until_says("tr[data-key=prepay]", "unknown").await;
    browser.picture("console-dead-worker").await;

    // Without the server, what was true is not shown as if it still were.
    stack.kill("api");
    browser.until_says("[data-testid=pulse]", "Not live").await;
    browser.until_says(".trouble-line", "may be old").await;
    browser.until_says("[data-testid=tile-dead]", "…").await;
    stack.spawn("api");
    browser.until_says("[data-testid=pulse]", "Live").await;
    browser.until_says("[data-testid=tile-dead]", "1").await;

    // A list that was read stays, where it was; that it is old is said over it.
    go(&browser, &stack, "/letters").await;
    let row = "[data-testid=letters] tbody tr";
    browser.see(row).await;
    let top = format!("document.querySelector('{row}').getBoundingClientRect().top");
    let before = browser.value(&top).await;
    stack.kill("api");
    browser.until_says(".trouble-line.floating", "what was read last").await;
    assert_eq!(browser.value(&top).await, before);
    browser.picture("console-old").await;
    browser.close(&["net::ERR_", "status of 503"]).await;
}
