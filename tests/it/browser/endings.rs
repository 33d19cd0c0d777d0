//! The ways an order can end other than well, as the customer lives through them, and the way back in.

use serde_json::json;

use crate::{
    browser::{QR, add_session, arrive, order_seat, order_shown, until_status},
    chromium::{Browser, Chromium, DESKTOP, PHONE, SCREENS},
    stack::{Choice, Stack, until},
};

pub(super) const CANCEL: &str = "[data-testid=cancel]";
pub(super) const YES: &str = "[data-testid=yes]";

/// A stack whose holds are this short, and which refunds without WeChat's minute in between.
pub(super) async fn hasty(test: &str, hold_seconds: u32) -> Stack {
    let settings = vec![
        ("HOLDFAST_ORDER__HOLD_SECONDS", hold_seconds.to_string()),
        ("HOLDFAST_ORDER__REFUND_INTERVAL_SECONDS", "1".into()),
    ];
    Stack::start_with(test, Choice { settings, ..Choice::default() }).await
}

/// Somebody books any seat and lands on the order's view, where it can be paid.
pub(super) async fn come_to_pay(browser: &Browser, stack: &Stack, user: &str, schedule: &str) -> String {
    let token = stack.quick_token(user);
    let order = stack.submit(&token, schedule).await;
    stack.until_status(&token, &order, "awaiting_payment").await;
    arrive(browser, stack, &token, &format!("/orders/{order}")).await;
    browser.see(QR).await;
    order
}

/// A picture as the device of somebody who prefers the dark would show it.
pub(super) async fn dark_picture(browser: &Browser, name: &str) {
    let dark = |scheme: &str| json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
    browser.devtools("Emulation.setEmulatedMedia", dark("dark")).await;
    browser.picture(&format!("{name}-dark")).await;
    browser.devtools("Emulation.setEmulatedMedia", dark("light")).await;
}

#[tokio::test]
async fn s5_2_an_unpaid_order_is_cancelled_and_its_seat_is_free_again() {
    let stack = Stack::start("browser-cancel").await;
    let chromium = Chromium::start(&stack).await;
    for screen in SCREENS {
        let schedule = add_session(&stack, screen.name, "茶席布置", 1, 10, 1).await;
        let browser = chromium.open(screen).await;
        let order = come_to_pay(&browser, &stack, screen.name, &schedule).await;
        browser.click(CANCEL).await;
        browser.until_says("[data-testid=question]", "不产生任何费用").await;
        browser.picture("1-question").await;
        browser.click("[data-testid=no]").await;
        browser.see(CANCEL).await;
        assert_eq!(browser.count("[data-testid=question]").await, 0);

        browser.click(CANCEL).await;
        dark_picture(&browser, "1-question").await;
        browser.click(YES).await;
        until_status(&browser, "cancelled").await;
        assert_eq!(browser.count(QR).await, 0, "a closed code is not shown any more");
        assert_eq!(stack.pay(&order).await.status, 409, "WeChat closed it");
        browser.picture("2-cancelled").await;

        browser.click(".room .button").await;
        browser.see("[data-seat-no='1'][data-state=free]").await;
        browser.close(&[]).await;
    }
    stack.check_invariants().await;
}

#[tokio::test]
async fn s3_2_after_the_hold_an_order_is_still_paid_while_a_seat_is_free() {
    let stack = hasty("browser-lapse", 900).await;
    let chromium = Chromium::start(&stack).await;
    for screen in SCREENS {
        let schedule = add_session(&stack, screen.name, "陶艺入门：拉坯", 1, 14, 2).await;
        let browser = chromium.open(screen).await;
        let order = come_to_pay(&browser, &stack, screen.name, &schedule).await;
        let code = browser.attribute("[data-code-url]", "data-code-url").await;
        browser.until_says(".timer", "座位为你保留").await;

        stack.end_hold(&order).await;
        until_status(&browser, "lapsed").await;
        browser.until_says(".status", "座位不再为你保留").await;
        browser.until_says(".timer", "还可以付款").await;
        browser.until_says("[data-testid=still-free]", "2").await;
        browser.see(QR).await;
        assert_eq!(browser.attribute("[data-code-url]", "data-code-url").await, code, "the code is the same");
        let time_left = browser.text("[data-testid=countdown]").await;
        assert!(("20:00"..="30:00").contains(&time_left.as_str()), "{time_left} to the payment deadline");
        browser.picture("1-lapsed").await;
        dark_picture(&browser, "1-lapsed").await;

        assert_eq!(stack.pay(&order).await.status, 200);
        browser.see("[data-testid=ticket]").await;
        browser.click("[data-testid=messages] summary").await;
        browser.until_says("[data-testid=messages]", "座位保留到时").await;
        browser.until_says("[data-testid=messages]", "已发送").await;
        browser.picture("2-ticket-messages").await;
        browser.close(&[]).await;
    }
    stack.check_invariants().await;
}

#[tokio::test]
async fn s5_3_who_waits_is_offered_the_seat_that_somebody_gives_up() {
    let stack = Stack::start("browser-waitlist").await;
    let chromium = Chromium::start(&stack).await;
    for screen in SCREENS {
        let schedule = add_session(&stack, screen.name, "陶艺入门：拉坯", 1, 14, 1).await;
        let holder = stack.quick_token(&format!("holder-{}", screen.name));
        let held = stack.submit(&holder, &schedule).await;
        stack.until_status(&holder, &held, "awaiting_payment").await;

        let browser = chromium.open(screen).await;
        arrive(&browser, &stack, &stack.quick_token(screen.name), &format!("/schedules/{schedule}")).await;
        browser.until_says("[data-testid=waitlist]", "已满员").await;
        browser.see("[data-testid=waitlist-join]").await;
        browser.picture("1-full").await;
        browser.click("[data-testid=waitlist-join]").await;
        browser.until_says("[data-testid=waitlist]", "候补第 1 位").await;
        browser.picture("2-waiting").await;

        // Away and back: the place is remembered; and it can be given up, after a question.
        browser.client.refresh().await.expect("a reload");
        browser.until_says("[data-testid=waitlist]", "候补第 1 位").await;
        browser.click("[data-testid=waitlist-leave]").await;
        browser.until_says("[data-testid=question]", "从最后排起").await;
        browser.picture("3-leave").await;
        browser.click(YES).await;
        browser.click("[data-testid=waitlist-join]").await;
        browser.until_says("[data-testid=waitlist]", "候补第 1 位").await;

        let cancel = stack.request(reqwest::Method::POST, &format!("/v1/orders/{held}/cancel")).bearer_auth(&holder);
        assert_eq!(crate::stack::Answer::of(cancel).await.status, 202);
        browser.until_says("[data-testid=waitlist]", "有一个座位为你留着").await;
        let announced = browser.value("document.getElementById('announcer').textContent").await;
        assert!(announced.as_str().expect("a text").contains("有一个座位为你留着"), "{announced}");
        browser.picture("4-offer").await;
        dark_picture(&browser, "4-offer").await;
        browser.click("[data-testid=offer]").await;
        until_status(&browser, "awaiting_payment").await;
        let offered = order_shown(&browser).await;
        assert_eq!(stack.pay(&offered).await.status, 200);
        browser.see("[data-testid=ticket]").await;
        browser.close(&[]).await;
    }
    stack.check_invariants().await;
}

#[tokio::test]
async fn s5_3_my_bookings_tell_what_is_to_pay_to_come_and_over() {
    let stack = hasty("browser-mine", 900).await;
    let chromium = Chromium::start(&stack).await;
    let token = stack.quick_token("ann");
    let soon = add_session(&stack, "pottery", "陶艺入门：拉坯", 1, 14, 4).await;
    let later = add_session(&stack, "tea", "武夷岩茶品鉴", 9, 10, 4).await;
    let full = add_session(&stack, "ink", "水墨写意", 5, 19, 1).await;
    for status in ["refunded", "expired", "cancelled", "lapsed", "refunding"] {
        stack.stage_order("ann", &full, status).await;
    }
    for schedule in [&later, &soon] {
        let order = stack.submit(&token, schedule).await;
        stack.until_status(&token, &order, "awaiting_payment").await;
        assert_eq!(stack.pay(&order).await.status, 200);
        stack.until_status(&token, &order, "confirmed").await;
    }
    order_seat(&stack, "other", &full, None).await;
    until("the other has the seat", async || {
        (stack.count("SELECT count(*) FROM seat_reservations").await == 3).then_some(())
    })
    .await;
    let sold_out = stack.submit(&token, &full).await;
    stack.until_status(&token, &sold_out, "rejected").await;
    let unpaid = stack.submit(&token, &soon).await;
    stack.until_status(&token, &unpaid, "awaiting_payment").await;
    // More than a page.
    for _ in 0..50 {
        stack.stage_order("ann", &later, "expired").await;
    }

    for screen in [DESKTOP, PHONE] {
        let browser = chromium.open(screen).await;
        arrive(&browser, &stack, &token, "/orders").await;
        browser.see("[data-testid=more]").await;
        browser.click("[data-testid=more]").await;
        browser.until_says("[data-testid=orders_unpaid]", "待付款").await;
        browser.until_says("[data-testid=orders_upcoming] li:first-child", "陶艺入门").await;
        browser.until_says("[data-testid=orders_upcoming] li:last-child", "武夷岩茶").await;
        until("all of them are there", async || (browser.count(".order-row").await == 59).then_some(())).await;
        assert_eq!(browser.count("[data-testid=more]:not([hidden])").await, 0);
        browser.value("window.scrollTo(0, 0)").await;
        browser.glance("1-orders").await;
        browser
            .devtools(
                "Emulation.setEmulatedMedia",
                json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] }),
            )
            .await;
        browser.glance("1-orders-dark").await;
        browser.client.goto(&format!("{}/#/orders/{sold_out}", stack.api)).await.expect("the view");
        until_status(&browser, "rejected").await;
        browser.see("[data-testid=waitlist-join]").await;
        browser.picture("2-sold-out").await;
        browser.close(&[]).await;
    }
}

#[tokio::test]
async fn p4_every_ending_is_told_in_english_on_a_narrow_phone() {
    let stack = Stack::start_with("browser-endings-english", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let chromium = Chromium::start(&stack).await;
    let schedule = add_session(&stack, "tea", "Rock tea tasting", 1, 14, 2).await;
    let token = stack.quick_token("ann");
    let browser = chromium.open(PHONE).await;
    browser.client.goto(&format!("{}/?lang=en", stack.api)).await.expect("the page");
    let narrow = json!({ "width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": true });
    for (status, words) in [
        ("lapsed", "Your seat is no longer held"),
        ("cancelled", "Order cancelled"),
        ("expired", "The time to pay is over"),
        ("rejected", "Not booked"),
        ("refunding", "Your refund is on its way"),
        ("refunded", "Refunded"),
        ("confirmed", "You are booked"),
    ] {
        let order = stack.stage_order("ann", &schedule, status).await;
        sqlx::query("UPDATE payment_orders SET pay_before = updated_at - interval '1 minute' WHERE status = 'expired'")
            .execute(&stack.db)
            .await
            .expect("a deadline that is over");
        sqlx::query("UPDATE payment_orders SET pay_before = now() + interval '20 minutes' WHERE status = 'lapsed'")
            .execute(&stack.db)
            .await
            .expect("a deadline to come");
        // Paid when the last seat was gone.
        sqlx::query("UPDATE payment_orders SET reason = 'sold-out' WHERE status = 'refunding'")
            .execute(&stack.db)
            .await
            .expect("a reason");
        arrive(&browser, &stack, &token, &format!("/orders/{order}/refund")).await;
        browser.until_says("h1", words).await;
        if status == "refunding" {
            browser.until_says(".status", "No seat was left when your payment came. ¥200.00 goes back").await;
            browser.see("[data-testid=waitlist-join]").await;
        }
        browser.until_says("[data-testid=messages] summary", "Messages").await;
        browser.until_says(".view", "Rock tea tasting").await;
        if status == "confirmed" {
            browser.see("[data-testid=refund-send]").await;
        }
        browser.devtools("Emulation.setDeviceMetricsOverride", narrow.clone()).await;
        let chinese = browser.value("/[\u{4e00}-\u{9fff}]/.test(document.querySelector('main').innerText)").await;
        assert_eq!(chinese, false, "{status} is told in English alone");
        let wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.value(wider).await, 0, "{status} fits on a narrow phone");
        browser.glance(status).await;
    }
    arrive(&browser, &stack, &token, "/orders").await;
    browser.until_says("[data-testid=orders_upcoming]", "Rock tea tasting").await;
    browser.devtools("Emulation.setDeviceMetricsOverride", narrow).await;
    browser.glance("orders").await;
    browser.close(&[]).await;
}
