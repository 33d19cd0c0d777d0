//! Cases and decisions in the console: what needs a person, and the second person's word.

use holdfast::api::Role;

use crate::{
    browser::console::{Morning, arrive, go, morning},
    chromium::{Chromium, DESKTOP, PHONE},
    stack::until,
};

#[tokio::test]
async fn p4_a_case_is_explained_and_closed_and_an_order_decided_by_hand() {
    let Morning { stack, confirmed, mismatched, .. } = morning("browser-console-desk").await;
    let chromium = Chromium::start(&stack).await;
    let viewer = chromium.open(PHONE).await;
    arrive(&viewer, &stack, Role::Viewer, "/cases").await;
    viewer.until_says("[data-testid=case][data-kind=amount_mismatch]", "¥200.01").await;
    viewer.picture("console-cases").await;
    assert_eq!(viewer.count("[data-testid=close-case]").await, 0);
    viewer.close(&[]).await;

    let browser = chromium.open(DESKTOP).await;
    arrive(&browser, &stack, Role::Operator, "/cases").await;
    browser.until_says("[data-testid=case]", "Compare with the merchant platform").await;
    browser.picture("console-cases").await;
    browser.click("[data-testid=case] dd a").await;
    browser.until_says("[data-testid=timeline]", "amount_mismatch").await;
    browser.picture("console-order-mismatched").await;
    let address = browser.client.current_url().await.expect("an address");
    assert_eq!(address.fragment(), Some(format!("/orders/{mismatched}").as_str()));

    go(&browser, &stack, "/cases").await;
    browser.click("[data-testid=close-case]").await;
    browser
        .see("[data-testid=field-resolution]")
        .await
        .send_keys("given back at the desk, receipt 7")
        .await
        .expect("typing");
    browser.click("[data-testid=confirm]").await;
    browser.until_says(".empty", "Nothing needs a person").await;
    go(&browser, &stack, "/cases?status=closed").await;
    browser.until_says("[data-testid=case]", "receipt 7").await;

    // A refund by hand; the order's page tells when it is done.
    go(&browser, &stack, &format!("/orders/{confirmed}")).await;
    browser.click("[data-testid=decide]").await;
    browser.click("[data-testid=field-action] option[value=refund]").await;
    browser.see("[data-testid=field-reason]").await.send_keys("the teacher was ill").await.expect("typing");
    browser.picture("console-decide").await;
    browser.click("[data-testid=confirm]").await;
    browser.see("[data-testid=override][data-status=done]").await;
    until("the money is back", async || {
        let status: String = sqlx::query_scalar("SELECT status::text FROM payment_orders WHERE order_id = $1")
            .bind(&confirmed)
            .fetch_one(&stack.db)
            .await
            .expect("a look");
        (status == "refunded").then_some(())
    })
    .await;
    browser.until_says("[data-testid=answer]", "back").await;
    browser.close(&[]).await;
}
