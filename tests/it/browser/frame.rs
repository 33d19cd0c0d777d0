//! What is around the bookings: languages, who the customer is, and the documentation.

use reqwest::Method;
use serde_json::json;

use crate::{
    browser::{BOOK, QR, add_session, arrive},
    chromium::{Chromium, PHONE, SCREENS},
    stack::{Answer, Choice, Stack},
};

#[tokio::test]
async fn p4_the_page_speaks_english_too() {
    let stack = Stack::start("browser-english").await;
    let chromium = Chromium::start(&stack).await;
    add_session(&stack, "pottery", "Wheel throwing for beginners", 1, 14, 20).await;
    for screen in SCREENS {
        let browser = chromium.open(screen).await;
        browser.devtools("Emulation.setTimezoneOverride", json!({ "timezoneId": "Europe/Berlin" })).await;
        arrive(&browser, &stack, &stack.quick_token(screen.name), "/").await;
        browser.until_says("h1", "选一场课").await;
        browser.until_says(".day", "北京时间").await;
        browser.click("[data-testid=language]").await;
        browser.see("html[lang=en-GB]").await;
        browser.until_says("h1", "Choose a session").await;
        browser.until_says(".day", "China time").await;
        browser.picture("1-sessions").await;

        browser.client.refresh().await.expect("a reload");
        browser.click("[data-testid=session-card]").await;
        browser.until_says("[data-testid=any-seat]", "Any seat").await;
        browser.see("[data-testid=seat]").await;
        browser.picture("2-choose").await;
        browser.click(BOOK).await;
        browser.see(QR).await;
        browser.until_says("h1", "Scan with WeChat to pay").await;
        browser.picture("3-pay").await;

        let nowhere = format!("{}/#/orders/hf00000000000000000000000000", stack.api);
        browser.client.goto(&nowhere).await.expect("the view");
        browser.until_says(".notice", "This order cannot be found").await;
        let words = browser.text(".notice").await;
        assert!(words.is_ascii(), "the server's words are in the customer's language, too: {words}");
        browser.picture("4-no-such-order").await;
        browser.close(&["status of 404"]).await;
    }
}

#[tokio::test]
async fn s6_4_nobody_books_without_a_token() {
    let stack = Stack::start("browser-sign-in").await;
    let chromium = Chromium::start(&stack).await;
    stack.add_schedule(4).await;
    for screen in SCREENS {
        let browser = chromium.open(screen).await;
        browser.client.goto(&stack.api).await.expect("the page");
        browser.see("[data-testid=sign-in]").await;
        browser.picture("1-sign-in").await;
        browser.see("[data-testid=sign-in-user]").await.send_keys("ann").await.expect("typing");
        browser.click("[data-testid=sign-in]").await;
        browser.see("[data-testid=session-card]").await;
        browser.until_says("#foot", "ann").await;

        arrive(&browser, &stack, "not.a.token", "/orders").await;
        browser.until_says("[role=alert]", "登录已失效").await;
        browser.see("[data-testid=sign-in]").await;
        let address = browser.client.current_url().await.expect("an address");
        assert_eq!(address.fragment(), Some("/orders"), "a token does not stay in the address");
        browser.picture("2-refused").await;
        browser.close(&["status of 401"]).await;
    }

    let settings = vec![("HOLDFAST_API__DEVELOPMENT", "false".to_owned())];
    let choice = Choice { settings, roles: vec!["api"], ..Choice::default() };
    let stack = Stack::start_with("browser-sign-in-elsewhere", choice).await;
    let browser = chromium.open(PHONE).await;
    browser.client.goto(&stack.api).await.expect("the page");
    browser.see("[data-testid=sign-in-elsewhere]").await;
    assert_eq!(browser.count("input").await, 0, "nobody signs in by a name");
    browser.picture("3-elsewhere").await;
    browser.close(&[]).await;
}

#[tokio::test]
async fn s6_2_the_documentation_shows_every_operation() {
    let stack = Stack::start_with("browser-docs", Choice { roles: vec!["api"], ..Choice::default() }).await;
    let chromium = Chromium::start(&stack).await;
    let openapi = Answer::of(stack.request(Method::GET, "/openapi.json")).await.body;
    for screen in SCREENS {
        let browser = chromium.open(screen).await;
        browser.client.goto(&format!("{}/docs", stack.api)).await.expect("the page");
        browser.see("#operations article").await;
        for (path, operations) in openapi["paths"].as_object().expect("paths") {
            for method in operations.as_object().expect("operations").keys() {
                let title = format!("{} {path}", method.to_uppercase());
                browser.until_says(&format!("[id='{title}']"), path).await;
                assert_eq!(browser.count(&format!("#contents a[data-operation='{title}']")).await, 1, "{title}");
            }
        }
        browser.picture("docs").await;
        browser.client.goto(&format!("{}/problems", stack.api)).await.expect("the page");
        browser.until_says("main", "sold-out").await;
        browser.picture("problems").await;
        browser.close(&[]).await;
    }
}
