//! Stories of operators: what they decide about orders, always two of them; days compared with WeChat's bill; cases
//! closed; the audit log's old months; a new key for personal data.

use holdfast::domain::notification::Kind;
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    crew::document,
    hands::{case_about, close_case},
    lane::PERSONAL_KEYS,
    stack::{Answer, Stack},
    tale::Tale,
};

/// Olga proposes something about an order.
pub(crate) async fn propose(tale: &Tale<'_>, order: &str, action: &str, more: &[&str]) {
    let key = format!("{action}-of-{order}");
    let wish = ["order", "override", order, action, "--reason", "a customer called", "--as", "olga", "--key", &key];
    tale.crew.operate(&[&wish, more].concat()).await;
}

/// Olga proposes, Otto agrees, and it is carried out.
pub(crate) async fn decide(tale: &Tale<'_>, order: &str, action: &str, more: &[&str]) {
    propose(tale, order, action, more).await;
    // Agreed before the command died, it says that nothing is proposed.
    tale.crew.try_to_operate(&["order", "override", order, "approve", "--as", "otto", "--no-wait"]).await;
    tale.until(&format!("{action} is carried out"), async || {
        let (status, outcome): (String, Option<String>) = sqlx::query_as(
            "SELECT status::text, outcome FROM order_overrides WHERE order_id = $1 ORDER BY proposed_at DESC LIMIT 1",
        )
        .bind(order)
        .fetch_one(&tale.stack.db)
        .await
        .expect("a look");
        assert_ne!(status, "refused", "{action}: {outcome:?}");
        (status == "done").then_some(())
    })
    .await;
}

/// WeChat's callback never comes; a person has it asked.
pub(crate) async fn override_confirm(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    tale.at_wechat(json!([{ "on": "callback_payment", "callback": "never" }])).await;
    let order = ann.payable(&session).await;
    tale.pay(&order).await;
    decide(tale, &order, "confirm", &[]).await;
    ann.until_status(&order, "confirmed").await;
    ann.is_told(&[Kind::BookingConfirmed]);
}

/// A seat for nothing, and taken back.
pub(crate) async fn override_waive(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    decide(tale, &order, "waive", &[]).await;
    ann.until_status(&order, "confirmed").await;
    ann.is_told(&[Kind::BookingConfirmed]);
    assert_eq!(tale.stack.pay(&order).await.status, 409, "closed at WeChat");
    decide(tale, &order, "release", &[]).await;
    ann.until_status(&order, "cancelled").await;
    tale.guest("bob").booked(&session).await;
}

/// One order is given up after a proposal that nobody wanted; the hold of another one ends before its time.
pub(crate) async fn override_close(tale: &Tale<'_>) {
    let (session, ann, bob) = (tale.session(2).await, tale.guest("ann"), tale.guest("bob"));
    let (closed, released) = (ann.payable(&session).await, bob.payable(&session).await);
    let doubtful = ["order", "override", &closed, "release", "--reason", "or not", "--as", "olga", "--key", &closed];
    tale.crew.operate(&doubtful).await;
    tale.crew.try_to_operate(&["order", "override", &closed, "withdraw", "--as", "olga"]).await;
    decide(tale, &closed, "close", &[]).await;
    ann.until_status(&closed, "cancelled").await;
    assert_eq!(tale.stack.pay(&closed).await.status, 409, "closed at WeChat");
    decide(tale, &released, "release", &[]).await;
    bob.until_status(&released, "lapsed").await;
    tale.pay(&released).await;
    bob.until_status(&released, "confirmed").await;
    bob.is_told(&[Kind::HoldLapsed, Kind::BookingConfirmed]);
}

pub(crate) async fn override_refund(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    decide(tale, &order, "refund", &[]).await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
}

pub(crate) async fn override_payment(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    let receipt = format!("override-{}", tale.number);
    decide(tale, &order, "record-payment", &["--receipt", &receipt]).await;
    ann.until_status(&order, "confirmed").await;
    ann.is_told(&[Kind::BookingConfirmed]);
    assert_eq!(tale.stack.pay(&order).await.status, 409, "closed at WeChat");
}

/// What was paid is not what the books say: set aside in a case, and given back by a decision.
pub(crate) async fn override_set_aside(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    tale.pays_another_price(&order).await;
    decide(tale, &order, "refund", &[]).await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::PaymentReceived, Kind::Refunded]);
}

/// A payment and a refund of which WeChat never called are found in its bill, and healed; at the first try WeChat's
/// answer cannot be read.
pub(crate) async fn bill_compared(tale: &Tale<'_>) {
    let (session, ann, bob) = (tale.session(2).await, tale.guest("ann"), tale.guest("bob"));
    let given_back = ann.booked(&session).await;
    tale.at_wechat(json!([
        { "on": "callback_payment", "callback": "never" },
        { "on": "callback_refund", "callback": "never" },
        { "on": "bill", "status": 502, "html": true, "count": 1 },
    ]))
    .await;
    let unseen = bob.payable(&session).await;
    tale.pay(&unseen).await;
    ann.refund(&given_back, None).await;
    tale.until("WeChat has given it back", async || {
        let ledger = tale.stack.ledger().await;
        let done =
            |refund: &serde_json::Value| refund["out_trade_no"] == given_back.as_str() && refund["status"] == "SUCCESS";
        ledger["refunds"].as_array().expect("refunds").iter().any(done).then_some(())
    })
    .await;
    let day = close_day(tale.stack).await;
    let compare = async || {
        tale.until("the day is compared", async || {
            let (code, report, _) = tale.crew.try_to_operate(&["reconcile", "--date", &day, "--json"]).await;
            (code == Some(0)).then(|| document(&report))
        })
        .await
    };
    compare().await;
    bob.until_status(&unseen, "confirmed").await;
    bob.is_told(&[Kind::BookingConfirmed]);
    ann.until_status(&given_back, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
    let report = compare().await;
    assert_eq!(report["standing"], 0, "{report}");
}

async fn close_day(stack: &Stack) -> String {
    let answer = Answer::of(stack.http.post(format!("{}/_sim/bill", stack.simulator.url)).json(&json!({}))).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body["bill_date"].as_str().expect("a date").to_owned()
}

/// The payer's account cannot take its money back; a person hands it over.
pub(crate) async fn case_closed(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    tale.at_wechat(json!([{ "on": "refund", "refund": "ABNORMAL" }])).await;
    let refund = ann.refund(&order, None).await;
    tale.until_refund(&refund, "abnormal").await;
    tale.expect_case("refund_abnormal");
    let case = case_about(tale, &refund).await;
    close_case(tale, &case, &["--paid-by-hand", "transfer-4711"]).await;
    tale.until_refund(&refund, "paid_by_hand").await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
}

/// One old month goes by command, another one when `reconcile` starts.
pub(crate) async fn old_months_go(tale: &Tale<'_>) {
    let (session, ann, bob) = (tale.session(2).await, tale.guest("ann"), tale.guest("bob"));
    let order = ann.booked(&session).await;
    let other = bob.booked(&session).await;
    let old_months = "SELECT count(*) FROM pg_inherits WHERE inhrelid::regclass::text = 'payment_audit_log_2020_01'";
    let is_gone = async || (tale.stack.count(old_months).await == 0).then_some(());
    tale.stack.long_ago(&order, 99).await;
    tale.crew.operate(&["audit", "prune"]).await;
    tale.until("the month is gone", is_gone).await;
    tale.crew.stop("reconcile");
    tale.stack.long_ago(&other, 99).await;
    tale.crew.spawn("reconcile");
    tale.until("the month is gone again", is_gone).await;
}

/// What the key of personal data has sealed is sealed anew with its successor.
pub(crate) async fn personal_key_replaced(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(2).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    let (former, fresh) = PERSONAL_KEYS.split_once('\n').expect("two keys");
    let successor_first = format!("{fresh}\n{former}");
    let settings = [("HOLDFAST_PERSONAL__KEY", &*successor_first)];
    let (code, _, stderr) = tale.crew.try_to_operate_with(&settings, &["keys", "reseal"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    let sealed_before = "SELECT count(*) FROM users WHERE sealed_by(openid) <> 'fresh'";
    assert_eq!(tale.stack.count(sealed_before).await, 0);
    ann.refund(&order, None).await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
}
