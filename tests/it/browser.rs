//! The booking page in Chromium, on a phone and on a desk, through the whole stack: what customers see and do.
//! Each story leaves pictures beside its logs; `docs/images` are two of them.

mod between;
mod console;
mod endings;
mod frame;
mod links;
mod proxied;
mod refunds;

use fantoccini::wd::WindowHandle;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, Time, UtcOffset, format_description::well_known::Rfc3339};

use crate::{
    chromium::{Browser, Chromium, DESKTOP, PHONE, SCREENS},
    stack::{Answer, PRICE_FEN, Stack, until},
};

const BOOK: &str = "[data-testid=book]";
const QR: &str = "img[data-testid=qr]";

/// Lands on a view of the page as somebody who comes from the merchant's own app.
async fn arrive(browser: &Browser, stack: &Stack, token: &str, view: &str) {
    browser.client.goto(&format!("{}/#token={token}&to={view}", stack.api)).await.expect("the page");
}

async fn until_status(browser: &Browser, status: &str) {
    browser.see(&format!("[data-testid=status][data-status={status}]")).await;
}

/// The order whose view the browser shows.
async fn order_shown(browser: &Browser) -> String {
    let address = browser.client.current_url().await.expect("an address");
    address.fragment().and_then(|view| view.strip_prefix("/orders/")).expect("an order's view").to_owned()
}

/// Adds a session that begins so many days from now, at `hour` in Shanghai.
async fn add_session(stack: &Stack, course: &str, title: &str, days: i64, hour: u8, capacity: u32) -> String {
    let shanghai = UtcOffset::from_hms(8, 0, 0).expect("an offset");
    let day = OffsetDateTime::now_utc().to_offset(shanghai) + Duration::days(days);
    let starts_at = day.replace_time(Time::from_hms(hour, 0, 0).expect("an hour")).format(&Rfc3339).expect("a time");
    let capacity = capacity.to_string();
    let arguments = ["schedule", "add", "--course", course, "--title", title, "--starts-at", &starts_at, "--json"];
    let added = stack.holdfast_ok(&[&arguments[..], &["--capacity", &capacity]].concat()).await;
    let added: Value = serde_json::from_str(&added).expect("one JSON document");
    added["schedule_id"].as_str().expect("a schedule_id").to_owned()
}

/// Somebody else orders this seat.
async fn order_seat(stack: &Stack, user: &str, schedule: &str, seat: Option<u32>) {
    let mut body = json!({ "schedule_id": schedule, "amount_fen": PRICE_FEN });
    if let Some(seat) = seat {
        body["seat_no"] = json!(seat);
    }
    let answer = Answer::of(stack.submit_request(
        &stack.quick_token(user),
        &format!("{schedule}-{}", seat.unwrap_or_default()),
        &body,
    ))
    .await;
    assert_eq!(answer.status, 202, "{}", answer.body);
}

#[tokio::test]
async fn s7_5_a_customer_books_any_seat_and_pays_on_the_phone() {
    let stack = Stack::start("browser-journey").await;
    let chromium = Chromium::start(&stack).await;
    let schedule = add_session(&stack, "pottery", "陶艺入门：拉坯", 1, 14, 20).await;
    add_session(&stack, "pottery", "陶艺入门：拉坯", 1, 19, 12).await;
    add_session(&stack, "tea", "武夷岩茶品鉴", 2, 10, 8).await;
    add_session(&stack, "ink", "水墨写意：从一片叶子开始", 5, 19, 240).await;
    for seat in [3, 4, 8, 9, 10, 17] {
        order_seat(&stack, &format!("other-{seat}"), &schedule, Some(seat)).await;
    }
    until("the others have their seats", async || {
        (stack.count("SELECT count(*) FROM seat_reservations").await == 6).then_some(())
    })
    .await;

    for screen in SCREENS {
        let token = stack.quick_token(screen.name);
        let browser = chromium.open(screen).await;
        arrive(&browser, &stack, &token, "/").await;
        browser.until_says(&format!("[data-schedule-id='{schedule}']"), "余").await;
        browser.picture("1-sessions").await;

        browser.click(&format!("[data-schedule-id='{schedule}']")).await;
        browser.see("[data-testid=any-seat][aria-pressed=true]").await;
        browser.see("[data-seat-no='17'][data-state=taken]").await;
        browser.click("[data-seat-no='12']").await;
        browser.until_says(".book-bar", "12 号座").await;
        browser.picture("2-choose").await;
        browser.click("[data-testid=any-seat]").await;
        browser.until_says(".book-bar", "任意座位").await;
        browser.click(BOOK).await;

        until_status(&browser, "awaiting_payment").await;
        browser.see(QR).await;
        let time_left = browser.text("[data-testid=countdown]").await;
        assert!(("14:00"..="15:00").contains(&time_left.as_str()), "{time_left}");
        until("the countdown counts", async || {
            (browser.text("[data-testid=countdown]").await != time_left).then_some(())
        })
        .await;
        browser.picture("3-pay").await;
        browser.glance("3-pay-glance").await;

        let order = order_shown(&browser).await;
        browser.value("window.neverReloaded = true").await;
        let shop = browser.client.window().await.expect("a window");
        let phone = open_phone(&browser, &shop).await;
        browser.click("#pay").await;
        browser.until_says("#result", "支付成功").await;
        put_away(&browser, phone, &shop).await;

        until_status(&browser, "confirmed").await;
        assert_eq!(browser.value("window.neverReloaded").await, true);
        let seat = stack.order(&token, &order).await.body["seat_no"].clone();
        assert_eq!(browser.text("[data-testid=ticket-seat]").await, seat.to_string());
        assert_eq!(browser.count(QR).await, 0, "a paid code is not shown any more");
        browser.until_says("[data-testid=ticket] h2", "陶艺入门").await;
        browser.picture("4-ticket").await;

        browser.click("nav a").await;
        browser.until_says(".order", "陶艺入门").await;
        browser.until_says(".order .chip", "已确认").await;
        browser.picture("5-orders").await;
        browser.close(&[]).await;
    }
    stack.check_invariants().await;
}

/// Follows the link to the simulator's phone into its tab.
async fn open_phone(browser: &Browser, shop: &WindowHandle) -> WindowHandle {
    browser.click("[data-testid=open-phone]").await;
    let phone = until("the phone opens", async || {
        browser.client.windows().await.ok()?.into_iter().find(|window| window != shop)
    })
    .await;
    browser.client.switch_to_window(phone.clone()).await.expect("the phone");
    browser.see("#pay").await;
    phone
}

async fn put_away(browser: &Browser, phone: WindowHandle, shop: &WindowHandle) {
    assert_eq!(browser.client.window().await.expect("a window"), phone);
    browser.client.close_window().await.expect("the phone is put away");
    browser.client.switch_to_window(shop.clone()).await.expect("the shop");
}

#[tokio::test]
async fn s4_2_the_ticket_comes_by_the_event_stream_alone() {
    let stack = Stack::start("browser-stream").await;
    let chromium = Chromium::start(&stack).await;
    let token = stack.quick_token("ann");
    let order = stack.submit(&token, &stack.add_schedule(2).await).await;
    stack.until_status(&token, &order, "awaiting_payment").await;
    let browser = chromium.open(DESKTOP).await;
    arrive(&browser, &stack, &token, &format!("/orders/{order}")).await;
    browser.see(QR).await;

    // Asking, the page's other way to the news, is cut.
    let asking = format!("{}/v1/orders/{order}", stack.api);
    browser.devtools("Network.enable", json!({})).await;
    browser.devtools("Network.setBlockedURLs", json!({ "urls": [asking] })).await;
    assert_eq!(browser.value(&format!("fetch('{asking}').then(() => 'answered', () => 'cut')")).await, "cut");
    assert_eq!(stack.pay(&order).await.status, 200);
    until_status(&browser, "confirmed").await;
    browser.see("[data-testid=ticket]").await;
    browser.close(&["net::ERR_BLOCKED"]).await;
}

#[tokio::test]
async fn s2_3_a_reload_while_paying_comes_back_to_the_same_code() {
    let stack = Stack::start("browser-reload").await;
    let chromium = Chromium::start(&stack).await;
    let token = stack.quick_token("ann");
    let schedule = stack.add_schedule(4).await;
    let browser = chromium.open(PHONE).await;
    arrive(&browser, &stack, &token, &format!("/schedules/{schedule}")).await;
    browser.click(BOOK).await;
    browser.see(QR).await;
    let code = browser.attribute("[data-code-url]", "data-code-url").await;
    assert!(code.starts_with("weixin://"), "{code}");

    // Scanners want dark on light, whatever the customer's device prefers.
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.devtools("Emulation.setEmulatedMedia", dark).await;
    browser.client.refresh().await.expect("a reload");
    browser.see(QR).await;
    assert_eq!(browser.attribute("[data-code-url]", "data-code-url").await, code);
    let around = browser.see(".qr-frame").await.css_value("background-color").await.expect("a colour");
    assert!(around.replace(' ', "").contains("255,255,255"), "{around}");
    browser.picture("0-dark").await;

    browser.click(".brand").await;
    browser.until_says(".reminder", "等你付款").await;
    browser.picture("1-reminder").await;
    browser.click(".reminder").await;
    browser.see(QR).await;
    browser.close(&[]).await;

    // Another device knows nothing but who the customer is.
    let browser = chromium.open(DESKTOP).await;
    arrive(&browser, &stack, &token, "/orders").await;
    browser.until_says(".order .chip", "待付款").await;
    browser.click(".order").await;
    browser.see(QR).await;
    assert_eq!(browser.attribute("[data-code-url]", "data-code-url").await, code);
    browser.close(&[]).await;
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 1);
}

#[tokio::test]
async fn double_click_on_book_makes_one_order() {
    let stack = Stack::start("browser-double-click").await;
    let chromium = Chromium::start(&stack).await;
    let schedule = stack.add_schedule(4).await;
    for screen in SCREENS {
        let browser = chromium.open(screen).await;
        arrive(&browser, &stack, &stack.quick_token(screen.name), &format!("/schedules/{schedule}")).await;
        browser.see("[data-testid=seat]").await;
        browser.double_click(BOOK).await;
        browser.see(QR).await;
        let sent = "performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/v1/orders')).length";
        assert_eq!(browser.value(sent).await, 1, "one order was sent");
        browser.close(&[]).await;
    }
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders").await, 2, "one of the phone, one of the desk");
}
