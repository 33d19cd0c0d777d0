//! Stories in which two acts meet: two operators decide at the same moment, a customer prepares a name that the system
//! may want to use. Either act may win, and the story ends as the books say which one did.

use holdfast::{
    api::Role,
    domain::{message::Alarm, notification::Kind},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::{
    letters::{letters, refusal, refused},
    operators::{decide, propose},
    stack::Answer,
    tale::Tale,
};

/// An operator's act over HTTP, repeated until it is answered.
async fn act(tale: &Tale<'_>, operator: &str, path: &str, wish: &Value) -> Answer {
    let token = tale.stack.token_of_role(operator, Role::Operator);
    let request = || tale.stack.request(Method::POST, path).bearer_auth(&token).json(wish);
    tale.asked(&format!("{path} is answered"), request).await
}

/// The column of a row that is about this order, as text.
async fn column(tale: &Tale<'_>, query: &'static str, order: &str) -> String {
    let row = sqlx::query(query).bind(order).fetch_one(&tale.stack.db).await.expect("a look");
    row.get::<Option<String>, _>(0).unwrap_or_default()
}

const OVERRIDE: &str = "SELECT override_id::text FROM order_overrides WHERE order_id = $1";
const OVERRIDE_STATUS: &str = "SELECT status::text FROM order_overrides WHERE order_id = $1";
const CASE: &str = "SELECT case_id::text FROM cases WHERE order_id = $1";
const CASE_CLOSED_BY: &str = "SELECT closed_by FROM cases WHERE order_id = $1";

/// Waits until the decision about the order is carried out, refused or withdrawn; answers which.
async fn settled(tale: &Tale<'_>, order: &str) -> String {
    tale.until("the decision is settled", async || {
        let status = column(tale, OVERRIDE_STATUS, order).await;
        ["done", "refused", "withdrawn"].contains(&&*status).then_some(status)
    })
    .await
}

/// Otto approves what Olga withdraws: the money goes back, or it does not, and both are answered the same.
pub(crate) async fn approved_and_withdrawn(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    propose(tale, &order, "refund", &[]).await;
    let withdrawal = format!("/v1/ops/overrides/{}/withdraw", column(tale, OVERRIDE, &order).await);
    let approve = ["order", "override", &*order, "approve", "--as", "otto", "--no-wait"];
    let nothing = json!({});
    let (_, answer) = tokio::join!(tale.crew.try_to_operate(&approve), act(tale, "olga", &withdrawal, &nothing));
    let won = settled(tale, &order).await;
    if answer.status == StatusCode::OK {
        assert_eq!(won, "withdrawn", "Olga's withdrawal was accepted");
    }
    if won == "done" {
        ann.until_status(&order, "refunded").await;
        ann.is_told(&[Kind::Refunded]);
    } else {
        ann.until_status(&order, "confirmed").await;
    }
}

/// Money that was set aside is given back by a decision of two operators, while a third one closes its case by hand.
pub(crate) async fn returned_and_case_closed(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    tale.pays_another_price(&order).await;
    propose(tale, &order, "refund", &[]).await;
    let closing = format!("/v1/ops/cases/{}/close", column(tale, CASE, &order).await);
    let approve = ["order", "override", &*order, "approve", "--as", "otto", "--no-wait"];
    let resolution = json!({ "resolution": "the customer has paid the difference in cash" });
    tokio::join!(tale.crew.try_to_operate(&approve), act(tale, "oscar", &closing, &resolution));
    let won = settled(tale, &order).await;
    let by_hand = column(tale, CASE_CLOSED_BY, &order).await == "operator:oscar";
    assert_eq!(by_hand, won == "refused", "the money is given back, or the case is closed by hand");
    if won == "done" {
        ann.until_status(&order, "refunded").await;
        ann.is_told(&[Kind::PaymentReceived, Kind::Refunded]);
    }
}

/// A letter is replayed from the console while another operator puts it away from a terminal.
pub(crate) async fn replayed_and_discarded(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    tale.at_wechat(refusal()).await;
    let order = refused(tale, &session, "ann").await;
    tale.at_wechat(json!([])).await;
    let parked = letters(tale, &order, "parked").await;
    let names: Vec<&str> = parked.iter().map(String::as_str).collect();
    let discard = [&["dead", "discard", "--reason", "rubbish"], &*names].concat();
    let wish = json!({ "filter": { "order_id": order }, "reason": "WeChat is well again" });
    let replay = act(tale, "olga", "/v1/ops/dead-letters/replays", &wish);
    tokio::join!(tale.crew.try_to_operate(&discard), replay);
    tale.until("no letter of the order lies there and no replay runs", async || {
        let open = "SELECT (SELECT count(*) FROM dead_letter_replays WHERE state = 'running')
                         + (SELECT count(*) FROM dead_letters WHERE order_id = $1 AND state = 'parked')";
        let open: i64 = sqlx::query_scalar(open).bind(&order).fetch_one(&tale.stack.db).await.expect("a look");
        (open == 0).then_some(())
    })
    .await;
    if letters(tale, &order, "replayed").await.is_empty() {
        tale.let_pass(&order, "pay_before").await;
        tale.ring(&order, Alarm::Payment).await;
        ann.until_status(&order, "expired").await;
        ann.is_told(&[Kind::OrderExpired]);
    } else {
        ann.until_payable(&order).await;
        tale.pay(&order).await;
        ann.until_status(&order, "confirmed").await;
        ann.is_told(&[Kind::BookingConfirmed]);
    }
}

/// A seat for nothing after the hold has ended, in a session with more seats than one: it takes one of them.
pub(crate) async fn waived_after_the_hold(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(3).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    tale.stack.end_hold(&order).await;
    ann.until_status(&order, "lapsed").await;
    decide(tale, &order, "waive", &[]).await;
    ann.until_status(&order, "confirmed").await;
    ann.is_told(&[Kind::HoldLapsed, Kind::BookingConfirmed]);
    // The other two are free, and in the end all three.
    tale.guest("bob").booked(&session).await;
    tale.guest("cat").booked(&session).await;
    decide(tale, &order, "release", &[]).await;
    ann.until_status(&order, "cancelled").await;
    tale.guest("dan").booked(&session).await;
}

/// Someone who waits has prepared orders under every key that an offer to them could be named by.
pub(crate) async fn offers_key_taken(tale: &Tale<'_>) {
    let (session, other) = (tale.session(1).await, tale.session(9).await);
    let (ann, bob, eve) = (tale.guest("ann"), tale.guest("bob"), tale.guest("eve"));
    let held = ann.payable(&session).await;
    eve.wait_in_line(&session).await;
    bob.wait_in_line(&session).await;
    let ticket: i64 = sqlx::query_scalar("SELECT ticket FROM waitlist WHERE user_id = $1")
        .bind(eve.user())
        .fetch_one(&tale.stack.db)
        .await
        .expect("a place");
    // Release 0.1 named the offer of ticket N by this key of the customer who waits.
    let prepared = eve.order_as(&format!("waitlist/{ticket}"), &other).await;
    eve.until_payable(&prepared).await;
    ann.cancel(&held).await;
    ann.until_status(&held, "cancelled").await;
    let offered = eve.offered_beside(&prepared).await;
    tale.pay(&offered).await;
    eve.until_status(&offered, "confirmed").await;
    eve.is_told(&[Kind::WaitlistOffer, Kind::BookingConfirmed]);
    // It is an order like any other; bob waits on.
    tale.pay(&prepared).await;
    eve.until_status(&prepared, "confirmed").await;
    eve.is_told(&[Kind::BookingConfirmed]);
}
