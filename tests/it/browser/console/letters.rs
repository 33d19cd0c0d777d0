//! Dead letters in the console: what strangers wrote is shown as text, viewers only look, and an operator replays,
//! discards and restores.

use holdfast::api::Role;
use serde_json::json;

use crate::{
    browser::console::{Morning, arrive, go, morning},
    chromium::{Browser, Chromium, DESKTOP, SCREENS},
    queues::Queues,
    stack::{Stack, until},
};

async fn type_into(browser: &Browser, field: &str, text: &str) {
    browser.see(&format!("[data-testid=field-{field}]")).await.send_keys(text).await.expect("typing");
}

#[tokio::test]
async fn p4_what_a_message_says_is_shown_and_never_obeyed() {
    let stack = Stack::start("browser-console-hostile").await;
    let queues = Queues::of(&stack).await;
    let sneaky = json!({ "out_trade_no": "\u{202e}drowssap\u{202c}", "note": "a\u{200b}b" }).to_string();
    let huge = json!({ "out_trade_no": "x".repeat(300_000) }).to_string();
    for body in
        ["<script>window.hostile=1</script>", "{\"a\":\"<img src=x onerror=window.hostile=2>\"}", &sneaky, &huge]
    {
        queues.put("payments", "payment.seen", body.as_bytes()).await;
    }
    queues.put("prepay", "<svg onload=window.hostile=3>", b"{}").await;
    until("all are set aside", async || {
        (stack.ready_in("payments.dead").await == 4 && stack.ready_in("prepay.dead").await == 1).then_some(())
    })
    .await;

    let chromium = Chromium::start(&stack).await;
    let browser = chromium.open(DESKTOP).await;
    arrive(&browser, &stack, Role::Viewer, "/letters").await;
    browser.until_says("[data-testid=letters]", "<svg onload=window.hostile=3>").await;
    browser.picture("console-hostile").await;
    let links = "[...document.querySelectorAll('[data-testid=letters] tbody th a')].map((a) => a.getAttribute('href').slice(1))";
    let letters = browser.value(links).await;
    let letters = letters.as_array().expect("addresses");
    assert_eq!(letters.len(), 5);
    let mut bodies = Vec::new();
    for address in letters {
        go(&browser, &stack, address.as_str().expect("an address")).await;
        bodies.push(browser.text("[data-testid=body]").await);
        assert_eq!(browser.count("main script, main img, main [onload]").await, 0);
        browser.picture("console-hostile-letter").await;
    }
    let bodies = bodies.join("\n");
    for told in ["<script>window.hostile=1</script>", "onerror=window.hostile=2", "\\u202edrowssap\\u202c", "a\\u200bb"]
    {
        assert!(bodies.contains(told), "{told} is not to be read in {bodies:.2000}");
    }
    assert!(bodies.len() < 60_000, "a huge body fills the page");
    assert_eq!(browser.value("window.hostile === undefined").await, true);
    browser.close(&[]).await;
}

#[tokio::test]
async fn p4_a_viewer_looks_at_dead_letters_and_an_operator_acts() {
    let Morning { stack, .. } = morning("browser-console-letters").await;
    let chromium = Chromium::start(&stack).await;
    for screen in SCREENS {
        let browser = chromium.open(screen).await;
        arrive(&browser, &stack, Role::Viewer, "/letters?by=cause").await;
        browser.until_says("[data-testid=letter-groups]", "wechat_refused").await;
        browser.picture("console-letter-groups").await;
        go(&browser, &stack, "/letters?queue=prepay.dead").await;
        browser.until_says("[data-testid=letters]", "wechat_refused").await;
        assert_eq!(browser.count("[data-testid=letters] tbody tr").await, 2, "the address holds the filter");
        assert_eq!(browser.count("[data-testid=replay], [data-testid=discard], input[type=checkbox]").await, 0);
        let refused = "fetch('/v1/ops/dead-letters/discard', { method: 'POST',
            headers: { Authorization: `Bearer ${sessionStorage.getItem('holdfast.token/console')}`,
                       'Content-Type': 'application/json' },
            body: '{\"filter\":{},\"reason\":\"x\"}' }).then((answer) => answer.status)";
        assert_eq!(browser.value(refused).await, 403);
        browser.close(&["status of 403"]).await;
    }

    let browser = chromium.open(DESKTOP).await;
    arrive(&browser, &stack, Role::Operator, "/letters").await;
    browser.see("[data-testid=letters] tbody tr").await;
    browser.picture("console-letters").await;

    // Everything of one queue: frozen and judged first, started after a look.
    go(&browser, &stack, "/letters?queue=prepay.dead").await;
    browser.until_says(".deeds", "All that fit").await;
    browser.click("[data-testid=replay]").await;
    type_into(&browser, "reason", "the appid is right now").await;
    browser.picture("console-replay-plan").await;
    browser.click("[data-testid=confirm]").await;
    browser.see("[data-testid=replay][data-state=planned]").await;
    browser.until_says("[data-testid=forecast]", "give a code").await;
    browser.click("[data-testid=turn-start]").await;
    browser.click("[data-testid=confirm]").await;
    browser.see("[data-testid=replay][data-state=finished]").await;
    browser.until_says("[data-testid=replay-items]", "done").await;
    browser.picture("console-replay").await;
    stack
        .until_count(
            "both have their code",
            "SELECT count(*) FROM payment_orders WHERE user_id IN ('pia', 'quin') AND status = 'awaiting_payment'",
            2,
        )
        .await;

    // The stranger's message goes, and comes back.
    go(&browser, &stack, "/letters").await;
    browser.click("[data-testid=letters] tbody input").await;
    browser.until_says(".deeds", "1 letter chosen").await;
    browser.click("[data-testid=discard]").await;
    type_into(&browser, "reason", "not ours").await;
    browser.click("[data-testid=confirm]").await;
    browser.until_says(".empty", "Nothing is parked").await;
    go(&browser, &stack, "/letters?state=discarded").await;
    browser.click("[data-testid=letters] tbody input").await;
    browser.click("[data-testid=restore]").await;
    type_into(&browser, "reason", "somebody asked").await;
    browser.click("[data-testid=confirm]").await;
    browser.until_says(".empty", "No letter has been discarded").await;
    go(&browser, &stack, "/letters").await;
    browser.click("[data-testid=letters] tbody th a, [data-testid=letters] tbody td a").await;
    browser.until_says("main", "somebody asked").await;
    browser.picture("console-letter").await;
    browser.close(&[]).await;
    stack.check_invariants().await;
}
