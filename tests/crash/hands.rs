//! Stories in which people move money, or end what others have begun: a refund that WeChat refuses is paid by hand, the
//! studio's staff gives money back in the merchant platform, a session is cancelled while its orders move.

use holdfast::domain::notification::Kind;
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    stack::{Answer, Stack},
    tale::Tale,
};

/// The open case about this subject, once there is one.
pub(crate) async fn case_about(tale: &Tale<'_>, subject: &str) -> String {
    tale.until("a case is open", async || {
        sqlx::query_scalar("SELECT case_id::text FROM cases WHERE subject = $1 AND status = 'open'")
            .bind(subject)
            .fetch_optional(&tale.stack.db)
            .await
            .expect("a look")
    })
    .await
}

/// Closes a case from a terminal. Closed before the command died, it says so.
pub(crate) async fn close_case(tale: &Tale<'_>, case: &str, how: &[&str]) {
    let close = ["case", "close", case, "--resolution", "given back over the counter", "--as", "olga"];
    tale.crew.try_to_operate(&[&close, how].concat()).await;
    let open: i64 = sqlx::query_scalar("SELECT count(*) FROM cases WHERE case_id = $1::uuid AND status = 'open'")
        .bind(case)
        .fetch_one(&tale.stack.db)
        .await
        .expect("a look");
    assert_eq!(open, 0, "it is closed");
}

/// WeChat refuses a refund for good, and would accept it later. A person has given the money back by then.
pub(crate) async fn refused_refund_paid_by_hand(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    tale.at_wechat(json!([{ "on": "refund", "status": 400, "code": "INVALID_REQUEST" }])).await;
    let refund = ann.refund(&order, None).await;
    let case = case_about(tale, &refund).await;
    tale.expect_case("refund_refused");
    tale.at_wechat(json!([])).await;
    // An old message of the refund meets its end.
    tale.stack.lay_refund_due(&refund).await;
    close_case(tale, &case, &["--paid-by-hand", "cash-17"]).await;
    tale.until_refund(&refund, "paid_by_hand").await;
    tale.stack.lay_refund_due(&refund).await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
}

/// The studio's staff give a part back in the merchant platform; the customer gives the booking back afterwards.
pub(crate) async fn refunded_by_staff(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    let notify_url = format!("{}/v1/wechat/notify/refunds", tale.stack.api);
    let wish = json!({ "out_trade_no": order, "refund": 5_000, "notify_url": notify_url });
    let request = tale.stack.http.post(format!("{}/_sim/refund", tale.stack.simulator.url)).json(&wish);
    let answer = Answer::of(request).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    tale.expect_case("unknown_refund");
    ann.seen(&order, "is refunded in part", |order| order["refunded_fen"] == 5_000).await;
    // WeChat accepts one refund of an order in a minute.
    tale.stack.advance_simulator(61).await;
    ann.refund(&order, None).await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
    tale.guest("bob").booked(&session).await;
}

/// A session is cancelled by a command that is not run again, while an order is paid, one is not, one has lapsed, one is
/// given back and someone waits.
pub(crate) async fn cancelled_in_motion(tale: &Tale<'_>) {
    let session = tale.session(4).await;
    let [ann, bob, cat, dan, eve] = ["ann", "bob", "cat", "dan", "eve"].map(|name| tale.guest(name));
    let paid = ann.booked(&session).await;
    let returned = bob.booked(&session).await;
    let unpaid = cat.payable(&session).await;
    let lapsed = dan.payable(&session).await;
    eve.wait_in_line(&session).await;
    let cancel = ["schedule", "cancel", &*session, "--as", "olga"];
    tokio::join!(bob.refund(&returned, None), tale.stack.end_hold(&lapsed), cancel_once(tale, &session, &cancel));
    for (guest, order) in [(&ann, &paid), (&bob, &returned)] {
        guest.until_status(order, "refunded").await;
        guest.is_told(&[Kind::Refunded]);
    }
    cat.until_status(&unpaid, "cancelled").await;
    // Whether the hold ended before the session was closed, and whose seat was offered, is chance. An offer that takes the
    // last seat ends the orders that have lapsed.
    dan.may_be_told(&[Kind::HoldLapsed, Kind::OrderExpired]);
    eve.may_be_told(&[Kind::WaitlistOffer]);
    until_ended(tale.stack, tale, &session).await;
}

/// Runs the command, and again only when it died before the session was closed.
async fn cancel_once(tale: &Tale<'_>, session: &str, command: &[&str]) {
    loop {
        tale.crew.operate_once(command).await;
        let status: String =
            sqlx::query_scalar("SELECT status::text FROM course_schedules WHERE schedule_id = $1::uuid")
                .bind(session)
                .fetch_one(&tale.stack.db)
                .await
                .expect("a look");
        if status == "cancelled" {
            break;
        }
    }
}

/// Waits until nothing of the session can be paid or waited for, and its cancellation is finished.
async fn until_ended(stack: &Stack, tale: &Tale<'_>, session: &str) {
    tale.until("the cancellation is finished", async || {
        let left: i64 = sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM payment_orders WHERE schedule_id = $1::uuid
                        AND status IN ('confirmed', 'held', 'awaiting_payment', 'lapsed'))
                  + (SELECT count(*) FROM waitlist WHERE schedule_id = $1::uuid
                        AND left_at IS NULL AND offered_order_id IS NULL)
                  + (SELECT count(*) FROM schedule_cancellations WHERE schedule_id = $1::uuid AND finished_at IS NULL)",
        )
        .bind(session)
        .fetch_one(&stack.db)
        .await
        .expect("a look");
        (left == 0).then_some(())
    })
    .await;
}
