//! Links that hand a token over: whose session they may begin, and what stays in the address.

use holdfast::api::Role;

use crate::{
    browser::arrive,
    chromium::{Browser, Chromium, DESKTOP, PHONE},
    stack::{Choice, Stack, until},
};

const QUESTION: &str = "[data-testid=handover]";
const BROKEN: &str = "[data-testid=handover-broken]";

async fn api_alone(test: &str) -> Stack {
    Stack::start_with(test, Choice { roles: vec!["api"], ..Choice::default() }).await
}

/// The view that the address names; no token may stand in it.
async fn view(browser: &Browser) -> String {
    let address = browser.client.current_url().await.expect("an address");
    assert!(!address.as_str().contains("token"), "{address}");
    address.fragment().unwrap_or_default().to_owned()
}

/// F8: A link swaps the customer's session: it signs the victim in as somebody else without a question. The token of
/// another user is taken after a question that names both, in this tab and in a new one; one of the same user at once.
#[tokio::test]
async fn f8_a_link_for_another_user_is_a_question() {
    let stack = api_alone("browser-links").await;
    let chromium = Chromium::start(&stack).await;
    let (ann, mallory) = (stack.quick_token("ann"), stack.quick_token("mallory"));
    let kept = "sessionStorage.getItem('holdfast.token')";
    let browser = chromium.open(PHONE).await;
    arrive(&browser, &stack, &ann, "/").await;
    browser.until_says(".foot", "ann").await;
    arrive(&browser, &stack, &stack.quick_token("ann"), "/orders").await;
    browser.until_says("h1", "我的预订").await;
    assert_eq!((browser.count(QUESTION).await, view(&browser).await.as_str()), (0, "/orders"));

    let ours = browser.value(kept).await;
    arrive(&browser, &stack, &mallory, "/orders").await;
    for words in ["ann", "mallory", "支付"] {
        browser.until_says(QUESTION, words).await;
    }
    assert_eq!((view(&browser).await.as_str(), browser.value(kept).await), ("/", ours.clone()));
    browser.picture("1-question").await;
    browser.click("[data-testid=language]").await;
    browser.until_says(QUESTION, "You are signed in as ann").await;
    browser.click("[data-testid=handover-stay]").await;
    browser.until_says(".foot", "ann").await;
    browser.client.refresh().await.expect("a reload");
    browser.until_says(".foot", "ann").await;
    assert_eq!((browser.count(QUESTION).await, browser.value(kept).await), (0, ours.clone()));

    // A forged token of ann's does not end her session.
    let forged = format!("{}{}", &ann[..ann.len() - 8], "AAAAAAAA");
    arrive(&browser, &stack, &forged, "/orders").await;
    let kept_on = async || (browser.value(kept).await == ours).then_some(());
    until("the session before the forgery is back", kept_on).await;
    browser.until_says("h1", "My bookings").await;
    browser.until_says(".foot", "ann").await;

    // A question that is left open is forgotten with the page.
    arrive(&browser, &stack, &mallory, "/orders").await;
    browser.see(QUESTION).await;
    browser.client.refresh().await.expect("a reload");
    browser.until_says(".foot", "ann").await;
    assert_eq!(browser.count(QUESTION).await, 0);

    arrive(&browser, &stack, &mallory, "/orders").await;
    browser.click("[data-testid=handover-switch]").await;
    browser.until_says(".foot", "mallory").await;
    assert_eq!(view(&browser).await, "/orders");

    // Another tab has no session of its own; the browser's newest one counts.
    let tab = browser.client.new_window(true).await.expect("a tab");
    browser.client.switch_to_window(tab.handle).await.expect("the tab");
    arrive(&browser, &stack, &ann, "/orders").await;
    browser.until_says(QUESTION, "mallory").await;
    browser.click("[data-testid=handover-switch]").await;
    browser.until_says(".foot", "ann").await;

    // Signed out, there is nobody to ask about.
    browser.click(".foot button").await;
    arrive(&browser, &stack, &mallory, "/").await;
    browser.until_says(".foot", "mallory").await;
    browser.close(&["status of 401"]).await;
}

/// F8: A malformed token leaves a blank page. It leaves a page that says so, with a way on; and a link leads nowhere but to a
/// view of our own.
#[tokio::test]
async fn f8_a_malformed_link_is_explained_and_leads_only_to_our_own_views() {
    let stack = api_alone("browser-broken-links").await;
    let chromium = Chromium::start(&stack).await;
    let browser = chromium.open(DESKTOP).await;
    let ann = stack.quick_token("ann");
    let (head, rest) = ann.split_once('.').expect("a token");
    let unreadable = format!("{head}.e30.x");
    let broken = ["%", "%ff", "not.a.token", "a.b", "", "é", &unreadable, rest, &"x".repeat(5_000)];
    for token in broken {
        arrive(&browser, &stack, token, "/orders").await;
        browser.until_says(BROKEN, "这个链接用不了").await;
        view(&browser).await;
        browser.click("[data-testid=handover-on]").await;
        browser.see("[data-testid=sign-in-user]").await;
    }
    arrive(&browser, &stack, &ann, "/").await;
    browser.until_says(".foot", "ann").await;
    for token in broken {
        arrive(&browser, &stack, token, "/orders").await;
        browser.see(BROKEN).await;
        assert_eq!(view(&browser).await, "/orders");
        browser.click("[data-testid=handover-on]").await;
        browser.until_says("h1", "我的预订").await;
        browser.until_says(".foot", "ann").await;
        assert_eq!(browser.count(BROKEN).await, 0);
    }
    browser.picture("1-stays").await;

    for (to, expected) in [
        ("/orders", "/orders"),
        ("%2Forders", "/orders"),
        ("//evil.example/orders", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/nowhere", "/"),
        ("javascript:alert(1)", "/"),
        ("%", "/"),
    ] {
        arrive(&browser, &stack, &ann, to).await;
        browser.until_says(".foot", "ann").await;
        assert_eq!(view(&browser).await, expected, "{to}");
        assert!(browser.client.current_url().await.expect("an address").as_str().starts_with(&stack.api));
    }
    browser.close(&[]).await;
}

/// F8: The console takes the same care, with links and with what is pasted.
#[tokio::test]
async fn f8_the_console_asks_before_an_operator_becomes_another() {
    let stack = api_alone("browser-console-links").await;
    let chromium = Chromium::start(&stack).await;
    let browser = chromium.open(DESKTOP).await;
    let link = async |token: &str, to: &str| {
        let address = format!("{}/console?lang=en#token={token}&to={to}", stack.api);
        browser.client.goto(&address).await.expect("the console");
    };
    let (dora, eve) = (stack.token_of_role("dora", Role::Operator), stack.token_of_role("eve", Role::Operator));
    link("%", "/").await;
    browser.until_says(BROKEN, "This link does not work").await;
    browser.click("[data-testid=handover-on]").await;
    browser.see("[data-testid=sign-in-token]").await.send_keys("no token").await.expect("typing");
    browser.click("[data-testid=sign-in]").await;
    browser.until_says("[role=alert]", "This is no token").await;

    link(&dora, "/cases").await;
    browser.until_says(".who", "dora").await;
    assert_eq!(view(&browser).await, "/cases");
    link(&eve, "/orders?text=x").await;
    browser.until_says(QUESTION, "recorded as done by eve").await;
    assert_eq!(view(&browser).await, "/");
    browser.click("[data-testid=handover-stay]").await;
    browser.until_says("h1", "What stands open").await;
    browser.until_says(".who", "dora").await;
    link(&eve, "/orders?text=x").await;
    browser.click("[data-testid=handover-switch]").await;
    browser.until_says(".who", "eve").await;
    assert_eq!(view(&browser).await, "/orders?text=x");
    link(&eve, "//evil.example").await;
    browser.until_says("h1", "What stands open").await;
    browser.close(&[]).await;
}
