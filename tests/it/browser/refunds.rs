//! Money back, asked for on the page: all of it, a part, and once however often the customer has to ask.

use serde_json::json;

use crate::{
    browser::{
        add_session, arrive,
        endings::{CANCEL, YES, come_to_pay, dark_picture, hasty},
        until_status,
    },
    chromium::{Browser, Chromium, PHONE, SCREENS},
    stack::{PRICE_FEN, Stack, until},
};

/// Somebody pays and looks at the ticket.
async fn come_to_ticket(browser: &Browser, stack: &Stack, user: &str, schedule: &str) -> String {
    let order = come_to_pay(browser, stack, user, schedule).await;
    assert_eq!(stack.pay(&order).await.status, 200);
    browser.see("[data-testid=ticket]").await;
    order
}

#[tokio::test]
async fn s5_4_an_order_paid_before_it_is_cancelled_leads_to_money_back() {
    let mut stack = Stack::start("browser-cancel-paid").await;
    let chromium = Chromium::start(&stack).await;
    let schedule = stack.add_schedule(1).await;
    let browser = chromium.open(PHONE).await;
    let order = come_to_pay(&browser, &stack, "ann", &schedule).await;

    // The page is the last to hear of the payment: all news are cut.
    browser
        .value(
            "(window.whole = window.fetch, window.fetch = (path, ...rest) =>
                path.endsWith('/cancel') ? whole(path, ...rest) : Promise.reject(new TypeError('cut')))",
        )
        .await;
    stack.kill("api");
    stack.spawn("api");
    stack.until_ready().await;
    assert_eq!(stack.pay(&order).await.status, 200);
    stack.until_status(&stack.quick_token("ann"), &order, "confirmed").await;

    browser.click(CANCEL).await;
    browser.click(YES).await;
    until("the API has said no", async || {
        let answers = "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/cancel'))";
        (browser.value(&format!("{answers}.length")).await == 1).then_some(())
    })
    .await;
    browser.value("window.fetch = window.whole").await;
    browser.see("[data-testid=ticket]").await;
    browser.see("[data-testid=refund-form]").await;
    browser.until_says(".status", "可以申请退款").await;
    assert_eq!(browser.count(CANCEL).await, 0);
    browser.picture("1-paid").await;
    browser.close(&["status of 409", "net::ERR_"]).await;
    stack.check_invariants().await;
}

#[tokio::test]
async fn s5_4_a_ticket_is_given_back_for_all_the_money() {
    let stack = hasty("browser-refund", 900).await;
    let chromium = Chromium::start(&stack).await;
    for screen in SCREENS {
        let schedule = add_session(&stack, screen.name, "武夷岩茶品鉴", 2, 10, 1).await;
        let browser = chromium.open(screen).await;
        come_to_ticket(&browser, &stack, screen.name, &schedule).await;
        browser.click("[data-testid=refund-open]").await;
        browser.until_says("[data-testid=refund-form]", "座位马上让给别人").await;
        browser.picture("1-form").await;
        dark_picture(&browser, "1-form").await;

        browser.click("[data-testid=refund-send]").await;
        until_status(&browser, "refunded").await;
        browser.until_says(".status", "¥200.00").await;
        browser.see("[data-testid=refund][data-status=succeeded]").await;
        browser.picture("2-refunded").await;
        browser.click(".room .button").await;
        browser.see("[data-seat-no='1'][data-state=free]").await;
        browser.close(&[]).await;
    }
    stack.check_invariants().await;
}

/// B8: the page tells what the session's rules give back, and offers no amount of the customer's choice.
#[tokio::test]
async fn b8_the_page_tells_what_the_rules_give_back() {
    let stack = hasty("browser-part-refund", 900).await;
    let chromium = Chromium::start(&stack).await;
    for screen in SCREENS {
        let schedule = add_session(&stack, screen.name, "水墨写意", 3, 19, 4).await;
        let rules = r#"[{"until_hours_before":1,"percent":50}]"#;
        sqlx::query("UPDATE course_schedules SET refund_rules = $2::jsonb WHERE schedule_id = $1::uuid")
            .bind(&schedule)
            .bind(rules)
            .execute(&stack.db)
            .await
            .expect("changed");
        let browser = chromium.open(screen).await;
        let order = come_to_ticket(&browser, &stack, screen.name, &schedule).await;
        arrive(&browser, &stack, &stack.quick_token(screen.name), "/orders").await;
        browser.until_says("[data-testid=orders_upcoming]", "水墨写意").await;
        browser.picture("1-upcoming").await;
        browser.click("[data-testid=orders_upcoming] .order-deed a").await;
        browser.until_says("[data-testid=refund-form]", "¥100.00，即已付金额的 50%").await;
        browser.picture("2-share").await;
        browser.click("[data-testid=refund-send]").await;
        browser.see("[data-testid=refund][data-status=succeeded]").await;
        until_status(&browser, "refunded").await;
        browser.picture("3-part").await;

        let refunds = stack.ledger().await["refunds"].as_array().cloned().unwrap_or_default();
        let ours: Vec<_> = refunds.iter().filter(|refund| refund["out_trade_no"] == order.as_str()).collect();
        assert_eq!(ours.len(), 1);
        assert_eq!(ours[0]["refund"], 10_000);
        browser.close(&[]).await;
    }
    stack.check_invariants().await;
}

#[tokio::test]
async fn s5_4_a_refund_without_an_answer_is_asked_for_again_and_made_once() {
    let mut stack = hasty("browser-refund-doubt", 900).await;
    let chromium = Chromium::start(&stack).await;
    let schedule = stack.add_schedule(2).await;
    let browser = chromium.open(PHONE).await;
    let order = come_to_ticket(&browser, &stack, "ann", &schedule).await;
    browser.click("[data-testid=refund-open]").await;
    browser.see("[data-testid=refund-send]").await;
    stack.kill("api");
    browser.click("[data-testid=refund-send]").await;
    browser.until_says("[data-testid=refund-form]", "重试不会重复退款").await;
    browser.picture("1-no-answer").await;
    stack.spawn("api");
    stack.until_ready().await;

    // The wish outlives a reload.
    browser.client.refresh().await.expect("a reload");
    browser.until_says("[data-testid=refund-form]", "重试不会重复退款").await;
    browser.click("[data-testid=refund-form] [data-testid=retry]").await;
    until_status(&browser, "refunded").await;
    browser.close(&["net::ERR_"]).await;
    let refunds = stack.ledger().await["refunds"].as_array().cloned().unwrap_or_default();
    assert_eq!(refunds.len(), 1);
    assert_eq!((&refunds[0]["out_trade_no"], &refunds[0]["refund"]), (&json!(order), &json!(PRICE_FEN)));
    stack.check_invariants().await;
}
