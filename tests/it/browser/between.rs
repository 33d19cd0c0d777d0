//! What can come between a customer and their seat: another customer, or an API that is away.

use crate::{
    browser::{BOOK, QR, add_session, arrive, endings::CANCEL, order_seat, order_shown, until_status},
    chromium::{Chromium, DESKTOP, PHONE, SCREENS},
    stack::Stack,
};

#[tokio::test]
async fn s5_3_a_seat_lost_to_another_customer_is_answered_with_free_ones_a_click_away() {
    let mut stack = Stack::start("browser-taken").await;
    let chromium = Chromium::start(&stack).await;
    let schedule = stack.add_schedule(12).await;
    for (screen, seat, instead) in [(PHONE, 2, 5), (DESKTOP, 3, 6)] {
        let browser = chromium.open(screen).await;
        arrive(&browser, &stack, &stack.quick_token(screen.name), &format!("/schedules/{schedule}")).await;
        browser.click(&format!("[data-seat-no='{seat}'][data-state=free]")).await;
        browser.see(&format!("[data-seat-no='{seat}'][data-state=chosen]")).await;
        browser.until_says(".book-bar", &format!("{seat} 号座")).await;
        browser.picture("1-chosen").await;

        // The line stands still until both orders are in it.
        stack.terminate("seats").await;
        order_seat(&stack, "other", &schedule, Some(seat)).await;
        browser.click(BOOK).await;
        until_status(&browser, "placing").await;
        stack.spawn("seats");

        browser.see("[data-testid=alternatives]").await;
        assert_eq!(browser.count(&format!("[data-alternative-seat='{seat}']")).await, 0);
        browser.picture("2-taken").await;
        browser.click(&format!("[data-alternative-seat='{instead}']")).await;
        until_status(&browser, "awaiting_payment").await;
        browser.until_says(".facts", &format!("{instead} 号座")).await;
        browser.close(&["status of 409"]).await;
    }
    stack.check_invariants().await;
}

#[tokio::test]
async fn s5_3_a_session_sold_out_meanwhile_is_answered_with_another_one() {
    let mut stack = Stack::start("browser-sold-out").await;
    let chromium = Chromium::start(&stack).await;
    for screen in SCREENS {
        let schedule = add_session(&stack, screen.name, "茶席布置", 1, 10, 1).await;
        let another = add_session(&stack, screen.name, "茶席布置", 3, 16, 8).await;
        let browser = chromium.open(screen).await;
        arrive(&browser, &stack, &stack.quick_token(screen.name), &format!("/schedules/{schedule}")).await;
        browser.see("[data-seat-no='1'][data-state=free]").await;

        stack.terminate("seats").await;
        order_seat(&stack, &format!("other-{}", screen.name), &schedule, None).await;
        browser.click(BOOK).await;
        // The answer is 202 when the line takes longer than the page asked the API to wait.
        until_status(&browser, "submitted").await;
        browser.picture("1-in-line").await;
        stack.spawn("seats");

        until_status(&browser, "rejected").await;
        browser.until_says("[data-testid=alternatives]", "16:00").await;
        browser.picture("2-sold-out").await;
        browser.click(&format!("[data-alternative-schedule='{another}']")).await;
        until_status(&browser, "awaiting_payment").await;
        browser.until_says(".facts", "16:00").await;

        // Who comes later sees it before clicking.
        browser.client.goto(&format!("{}/#/schedules/{schedule}", stack.api)).await.expect("the view");
        browser.until_says("[data-testid=waitlist]", "已满员").await;
        browser.picture("3-full").await;
        // Only Redis knows an order that no worker has taken; where it answers late, the API does not know it.
        browser.close(&["status of 404"]).await;
    }
    stack.check_invariants().await;
}

#[tokio::test]
async fn s5_2_a_booking_outlives_an_api_that_goes_away_and_comes_back() {
    let mut stack = Stack::start("browser-api-away").await;
    let chromium = Chromium::start(&stack).await;
    let schedule = stack.add_schedule(4).await;
    let browser = chromium.open(PHONE).await;
    arrive(&browser, &stack, &stack.quick_token("ann"), &format!("/schedules/{schedule}")).await;
    browser.see("[data-testid=seat]").await;

    stack.kill("api");
    browser.click(BOOK).await;
    browser.until_says("[data-testid=status]", "还没有收到答复").await;
    browser.picture("1-no-answer").await;
    stack.spawn("api");
    // It tries again by itself; whoever does not want to wait clicks.
    browser.see(QR).await;

    // The words about it move nothing away from under a finger.
    let way_out = format!("document.querySelector('{CANCEL}').getBoundingClientRect().top");
    browser.see(CANCEL).await;
    let before = browser.value(&way_out).await;
    stack.kill("api");
    browser.until_says(".trouble-line", "正在自动重试").await;
    assert_eq!(browser.value(&way_out).await, before);
    browser.picture("2-unsteady").await;
    stack.spawn("api");
    let order = order_shown(&browser).await;
    assert_eq!(stack.pay(&order).await.status, 200);
    browser.see("[data-testid=ticket]").await;
    assert_eq!(browser.count(".trouble-line:not([hidden])").await, 0, "the news end the trouble");
    browser.close(&["net::ERR_"]).await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 1);
}
