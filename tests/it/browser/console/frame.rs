//! What is around the console's pages: signing in, languages, the keyboard, who may not enter.

use fantoccini::key::Key;
use holdfast::api::Role;
use serde_json::json;

use crate::{
    browser::console::{arrive, go},
    chromium::{Browser, Chromium, DESKTOP, PHONE},
    stack::{Choice, Stack},
};

async fn press(browser: &Browser, keys: &str) {
    browser.client.active_element().await.expect("a focus").send_keys(keys).await.expect("keys");
}

async fn focused(browser: &Browser) -> String {
    browser
        .value("document.activeElement.textContent || document.activeElement.id")
        .await
        .as_str()
        .unwrap_or("")
        .to_owned()
}

#[tokio::test]
async fn p4_the_console_is_entered_with_a_token_and_speaks_both_languages() {
    let stack = Stack::start("browser-console-sign-in").await;
    let chromium = Chromium::start(&stack).await;
    let browser = chromium.open(PHONE).await;
    browser.client.goto(&format!("{}/console", stack.api)).await.expect("the console");
    browser.until_says("h1", "运营控制台").await;
    browser.picture("console-sign-in").await;
    let token = stack.token_of_role("dora", Role::Viewer);
    browser.see("[data-testid=sign-in-token]").await.send_keys(&token).await.expect("typing");
    browser.click("[data-testid=sign-in]").await;
    browser.until_says("h1", "当前状况").await;
    browser.until_says("tr[data-key=payments]", "闭合").await;
    browser.picture("console-chinese").await;
    browser.click("[data-testid=language]").await;
    browser.until_says("h1", "What stands open").await;

    // Shared addresses work for whoever is signed in, and the token never stays in one.
    arrive(&browser, &stack, Role::Operator, "/orders?text=nobody").await;
    browser.until_says(".empty", "Nothing in the books is called nobody").await;
    let address = browser.client.current_url().await.expect("an address");
    assert_eq!(address.fragment(), Some("/orders?text=nobody"));

    // A customer's token opens nothing; one that is none leads back to the door.
    arrive(&browser, &stack, Role::Customer, "/money").await;
    browser.until_says(".notice", "Only operators and viewers see this").await;
    arrive(&browser, &stack, Role::Viewer, "/money").await;
    browser.until_says(".empty", "No money is in doubt").await;
    browser.client.goto(&format!("{}/console#token=not.a.token&to=/money", stack.api)).await.expect("the console");
    browser.until_says("[role=alert]", "no longer valid").await;
    browser.close(&["status of 401", "status of 403"]).await;

    // A developer's machine makes its own.
    let browser = chromium.open(DESKTOP).await;
    browser.client.goto(&format!("{}/console?lang=en", stack.api)).await.expect("the console");
    browser.click("[data-testid=sign-in-operator]").await;
    browser.until_says("[data-testid=role]", "Operator").await;
    browser.close(&[]).await;
    let settings = vec![("HOLDFAST_API__DEVELOPMENT", "false".to_owned())];
    let stack =
        Stack::start_with("browser-console-production", Choice { settings, roles: vec!["api"], ..Choice::default() })
            .await;
    let browser = chromium.open(DESKTOP).await;
    browser.client.goto(&format!("{}/console?lang=en", stack.api)).await.expect("the console");
    browser.see("[data-testid=sign-in-token]").await;
    assert_eq!(browser.count("[data-testid=sign-in-operator]").await, 0);
    browser.close(&[]).await;
}

#[tokio::test]
async fn p4_the_console_is_used_by_keyboard_alone() {
    let stack = Stack::start("browser-console-keyboard").await;
    let schedule = stack.add_schedule(4).await;
    let (_, order) = stack.booked("ann", &schedule).await;
    let chromium = Chromium::start(&stack).await;
    let browser = chromium.open(DESKTOP).await;
    arrive(&browser, &stack, Role::Viewer, "/").await;
    browser.see("tr[data-key=payments]").await;

    // Past the menu in one step, or to the search from anywhere.
    browser.value("document.body.focus()").await;
    press(&browser, &Key::Tab).await;
    assert_eq!(focused(&browser).await, "Skip to content");
    press(&browser, &Key::Enter).await;
    assert_eq!(browser.value("document.activeElement.id").await, "main");
    press(&browser, "/").await;
    browser.until_says("h1", "Orders").await;
    assert_eq!(browser.value("document.activeElement.id").await, "order-text");
    press(&browser, &format!("ann{}", Key::Enter)).await;
    browser.see(&format!("tr[data-key='{order}']")).await;

    // Along the page to the order; a live list does not take the focus away.
    for _ in 0..40 {
        if focused(&browser).await == order {
            break;
        }
        press(&browser, &Key::Tab).await;
    }
    assert_eq!(focused(&browser).await, order);
    press(&browser, &Key::Enter).await;
    browser.until_says("[data-testid=order]", "confirmed").await;
    assert_eq!(browser.value("document.activeElement.tagName").await, "H1", "the focus goes along");
    browser.close(&[]).await;
}

#[tokio::test]
async fn p4_the_console_can_be_read_in_the_dark() {
    let stack = Stack::start("browser-console-dark").await;
    let chromium = Chromium::start(&stack).await;
    let browser = chromium.open(DESKTOP).await;
    let dark = json!({ "features": [{ "name": "prefers-color-scheme", "value": "dark" }] });
    browser.devtools("Emulation.setEmulatedMedia", dark).await;
    arrive(&browser, &stack, Role::Viewer, "/").await;
    browser.until_says("tr[data-key=payments]", "closed").await;
    browser.picture("console-dark").await;
    go(&browser, &stack, "/invariants").await;
    browser.click("[data-testid=verify]").await;
    browser.until_says("[data-testid=verdict]", "Every promise holds").await;
    browser.picture("console-dark-invariants").await;
    browser.close(&[]).await;
}
