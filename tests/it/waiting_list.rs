//! Who waits for a seat gets the next free one, in the order in which they came.

use holdfast::domain::message::WaitlistWish;
use serde_json::json;

use crate::{
    stack::until,
    story::{hasty, hasty_with},
};

#[tokio::test]
async fn s5_3_a_freed_seat_goes_to_the_first_who_waits() {
    let stack = hasty("waiting_list", 600, 1200).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.wait_in_line(&["bob", "cid"], &schedule).await;
    stack.lay_cancel("ann", &order).await;
    stack.until_status(&ann, &order, "cancelled").await;
    let offered = stack.offered_to("bob").await;
    stack.pay(&offered).await;
    stack.until_status(&stack.quick_token("bob"), &offered, "confirmed").await;
    until("bob was told of the offer and of the booking", async || {
        (stack.messages_to("bob").await.len() == 2).then_some(())
    })
    .await;
    assert!(stack.messages_to("cid").await.is_empty());
    stack.check_money().await;
}

#[tokio::test]
async fn s5_3_two_freed_seats_go_to_the_two_who_waited_longest() {
    let stack = hasty("waiting_two", 600, 1200).await;
    let schedule = stack.add_schedule(2).await;
    let (ann, first) = stack.payable("ann", &schedule).await;
    let (bob, second) = stack.payable("bob", &schedule).await;
    stack.wait_in_line(&["cid", "dan", "eve"], &schedule).await;
    // Joining again keeps the place, leaving gives it up.
    stack.lay_waitlist("dan", &schedule, WaitlistWish::Join).await;
    stack.lay_waitlist("cid", &schedule, WaitlistWish::Leave).await;
    stack.until_count("cid has left", "SELECT count(*) FROM waitlist WHERE left_at IS NOT NULL", 1).await;
    assert_eq!(stack.count("SELECT count(*) FROM waitlist").await, 3);
    stack.lay_cancel("ann", &first).await;
    stack.lay_cancel("bob", &second).await;
    stack.until_status(&ann, &first, "cancelled").await;
    stack.until_status(&bob, &second, "cancelled").await;
    for user in ["dan", "eve"] {
        let order = stack.offered_to(user).await;
        stack.pay(&order).await;
        stack.until_status(&stack.quick_token(user), &order, "confirmed").await;
    }
    assert_eq!(stack.count("SELECT count(*) FROM payment_orders WHERE user_id = 'cid'").await, 0);
    until("both were told twice", async || {
        (stack.messages_to("dan").await.len() + stack.messages_to("eve").await.len() == 4).then_some(())
    })
    .await;
    stack.check_money().await;
}

#[tokio::test]
async fn s5_3_an_offer_that_lapses_goes_to_the_next() {
    let stack = hasty("waiting_lapses", 600, 1200).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.booked("ann", &schedule).await;
    stack.wait_in_line(&["bob", "cid"], &schedule).await;
    stack.lay_refund(&order, "all", None).await;
    let lapsing = stack.offered_to("bob").await;
    stack.end_hold(&lapsing).await;
    let offered = stack.offered_to("cid").await;
    assert_eq!(stack.pay(&offered).await.status, 200);
    stack.until_status(&stack.quick_token("cid"), &offered, "confirmed").await;
    stack.until_status(&ann, &order, "refunded").await;
    stack.until_status(&stack.quick_token("bob"), &lapsing, "expired").await;
    stack.check_money().await;
}

/// A lapsed order's seat went straight to somebody who waited: the session was sold out before and is now.
#[tokio::test]
async fn s5_3_whose_seat_is_offered_on_can_pay_no_more() {
    let stack = hasty("waiting_closes", 600, 1200).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.wait_in_line(&["bob"], &schedule).await;
    stack.end_hold(&order).await;
    let offered = stack.offered_to("bob").await;
    stack.until_status(&ann, &order, "expired").await;
    assert_eq!(stack.pay(&order).await.body["reason"], "closed");
    stack.pay(&offered).await;
    stack.until_status(&stack.quick_token("bob"), &offered, "confirmed").await;
    stack.check_money().await;
}

/// Both messages are in one batch: who joined first has the seat that was free.
#[tokio::test]
async fn s5_3_joining_and_ordering_keep_their_turns() {
    let mut stack =
        hasty_with("waiting_turns", 600, 1200, &["api", "prepay", "payments", "expiry", "notifications"]).await;
    let schedule = stack.add_schedule(1).await;
    stack.lay_waitlist("ann", &schedule, WaitlistWish::Join).await;
    let bob = stack.quick_token("bob");
    let order = stack.submit(&bob, &schedule).await;
    stack.spawn("seats");
    let offered = stack.offered_to("ann").await;
    let refused = stack.until_status(&bob, &order, "rejected").await;
    assert_eq!((&refused["reason"], &refused["alternatives"]["seats"]), (&json!("sold-out"), &json!([])));
    stack.pay(&offered).await;
    stack.until_status(&stack.quick_token("ann"), &offered, "confirmed").await;
    stack.check_money().await;
}
