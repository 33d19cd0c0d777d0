//! The stories in which processes die. Each says how it must end; what nobody expects is an error.

use futures_util::future::LocalBoxFuture;
use holdfast::domain::{
    message::{Alarm, Message, OrderPaidOffline},
    money::Fen,
    notification::Kind,
};
use reqwest::Method;
use serde_json::json;
use time::OffsetDateTime;

use crate::{
    contests::{
        approved_and_withdrawn, offers_key_taken, replayed_and_discarded, returned_and_case_closed,
        waived_after_the_hold,
    },
    crew::document,
    hands::{cancelled_in_motion, refunded_by_staff, refused_refund_paid_by_hand},
    letters::{canary_comes_back, letter_mended, letter_put_away, letter_replayed, letter_replayed_by_the_console},
    operators::{
        bill_compared, case_closed, old_months_go, override_close, override_confirm, override_payment, override_refund,
        override_set_aside, override_waive, personal_key_replaced,
    },
    queues::Queues,
    stack::{PRICE_FEN, WORKERS},
    story::order_id,
    tale::Tale,
};

/// What customers, WeChat and operators do.
pub(crate) struct Story {
    pub name: &'static str,
    pub world: World,
    pub tell: for<'a> fn(&'a Tale<'a>) -> LocalBoxFuture<'a, ()>,
}

/// The stack that a story needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum World {
    /// Nobody looks a second time: what is not derived again from the message in hand stays undone.
    Plain,
    /// Operators decide, always two of them, and overdue rows are swept: a decision is a row, its message may be lost.
    Operated,
    /// WeChat is asked every second for payments whose callback is lost, and overdue rows are swept.
    Swept,
    /// A canary flies through every queue each second.
    Watched,
}

macro_rules! stories {
    ($($world:ident: $($name:ident)+;)+) => {
        pub(crate) const STORIES: &[Story] = &[$($(
            Story { name: stringify!($name), world: World::$world, tell: |tale| Box::pin($name(tale)) },
        )+)+];
    };
}

stories! {
    Plain: booking_paid callback_twice callback_late_by_a_cancel hold_lapses_then_paid paid_as_the_hold_ends cancelled
        expired sold_out_with_alternatives partial_refund refund_unheard whole_refund
        refund_abnormal refund_not_enough refund_closed refunded_by_staff
        money_too_late_for_a_seat waiting_list_offer offers_key_taken notifications answers_lost paid_offline
        refused_by_wechat queue_gone bill_compared personal_key_replaced
        letter_replayed canary_comes_back letter_put_away letter_mended;
    Operated: override_confirm override_waive override_close override_refund override_payment override_set_aside
        case_closed old_months_go letter_replayed_by_the_console
        approved_and_withdrawn returned_and_case_closed replayed_and_discarded waived_after_the_hold
        refused_refund_paid_by_hand;
    Swept: callback_lost queues_lost alarms_lost session_cancelled cancelled_in_motion;
    Watched: canaries;
}

/// Told once on every fresh stack: what only its first booking passes (a token is fetched) belongs to no story.
pub(crate) const FIRST: Story = Story { name: "first", world: World::Plain, tell: |tale| Box::pin(booking_paid(tale)) };

impl Story {
    pub(crate) fn named(name: &str) -> &'static Self {
        STORIES.iter().find(|story| story.name == name).unwrap_or_else(|| panic!("no story is called {name}"))
    }
}

async fn booking_paid(tale: &Tale<'_>) {
    let session = tale.session(2).await;
    tale.guest("ann").booked(&session).await;
}

async fn callback_twice(tale: &Tale<'_>) {
    let session = tale.session(1).await;
    tale.at_wechat(json!([{ "on": "callback_payment", "callback": "twice" }])).await;
    tale.guest("ann").booked(&session).await;
}

/// The customer has paid, and changes their mind before we know.
async fn callback_late_by_a_cancel(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    tale.at_wechat(json!([{ "on": "callback_payment", "callback": { "late_ms": 60_000 } }])).await;
    let order = ann.payable(&session).await;
    tale.pay(&order).await;
    ann.cancel(&order).await;
    ann.until_status(&order, "confirmed").await;
    tale.stack.advance_simulator(61).await;
    ann.is_told(&[Kind::BookingConfirmed]);
}

async fn hold_lapses_then_paid(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(2).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    tale.stack.end_hold(&order).await;
    ann.until_status(&order, "lapsed").await;
    tale.pay(&order).await;
    ann.until_status(&order, "confirmed").await;
    ann.is_told(&[Kind::HoldLapsed, Kind::BookingConfirmed]);
}

/// The payment was made in time, but its callback does not come before the hold is over.
async fn paid_as_the_hold_ends(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    tale.at_wechat(json!([{ "on": "callback_payment", "callback": { "late_ms": 60_000 } }])).await;
    let order = ann.payable(&session).await;
    tale.pay(&order).await;
    tale.stack.end_hold(&order).await;
    ann.until_status(&order, "confirmed").await;
    tale.stack.advance_simulator(61).await;
    ann.is_told(&[Kind::BookingConfirmed]);
}

async fn cancelled(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    ann.cancel(&order).await;
    ann.until_status(&order, "cancelled").await;
    assert_eq!(tale.stack.pay(&order).await.status, 409, "closed at WeChat");
    // Its seat is free for others.
    tale.guest("bob").booked(&session).await;
}

async fn expired(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    tale.let_pass(&order, "pay_before").await;
    tale.ring(&order, Alarm::Payment).await;
    ann.until_status(&order, "expired").await;
    ann.is_told(&[Kind::OrderExpired]);
    assert_eq!(tale.stack.pay(&order).await.status, 409, "closed at WeChat");
}

async fn sold_out_with_alternatives(tale: &Tale<'_>) {
    let (session, other) = (tale.session(1).await, tale.session(1).await);
    tale.guest("ann").booked(&session).await;
    let bob = tale.guest("bob");
    let order = bob.order(&session).await;
    let refused = bob.until_status(&order, "rejected").await;
    assert_eq!(refused["alternatives"]["schedules"][0]["schedule_id"], json!(other));
    bob.is_told(&[Kind::BookingFailed]);
}

async fn partial_refund(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    ann.refund(&order, Some(7_000)).await;
    let after = ann.seen(&order, "is refunded in part", |order| order["refunded_fen"] == 7_000).await;
    assert_eq!(after["status"], "confirmed");
    ann.is_told(&[Kind::Refunded]);
}

/// WeChat gives it back and never calls; a minute later it would take another refund of the order.
async fn refund_unheard(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    tale.at_wechat(json!([{ "on": "callback_refund", "callback": "never" }])).await;
    let refund = ann.refund(&order, Some(7_000)).await;
    let given_back = async || {
        let ledger = tale.stack.ledger().await;
        let refunds = ledger["refunds"].as_array().expect("refunds");
        refunds.iter().filter(|refund| refund["out_trade_no"] == order.as_str()).count()
    };
    tale.until("WeChat has given it back", async || (given_back().await > 0).then_some(())).await;
    tale.stack.advance_simulator(61).await;
    tale.until("the query tells us", async || {
        tale.stack.lay_refund_due(&refund).await;
        assert_eq!(given_back().await, 1, "WeChat gives it back once");
        let now: i64 = sqlx::query_scalar("SELECT refunded_fen FROM payment_orders WHERE order_id = $1")
            .bind(&order)
            .fetch_one(&tale.stack.db)
            .await
            .expect("a look");
        (now == 7_000).then_some(())
    })
    .await;
    ann.is_told(&[Kind::Refunded]);
}

async fn whole_refund(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    ann.refund(&order, None).await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
    tale.guest("bob").booked(&session).await;
}

async fn refund_abnormal(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    tale.at_wechat(json!([{ "on": "refund", "refund": "ABNORMAL" }])).await;
    let refund = ann.refund(&order, None).await;
    tale.until_refund(&refund, "abnormal").await;
    tale.expect_case("refund_abnormal");
    ann.until_status(&order, "refunding").await;
}

/// There is not enough on the merchant's account until somebody fills it up.
async fn refund_not_enough(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    tale.at_wechat(json!([{ "on": "refund", "refund": "NOT_ENOUGH" }])).await;
    let refund = ann.refund(&order, None).await;
    tale.until("a person is told", async || {
        let cases = tale.stack.open_cases().await;
        cases.iter().any(|(_, subject)| *subject == refund).then_some(())
    })
    .await;
    tale.expect_case("merchant_balance");
    tale.at_wechat(json!([])).await;
    tale.stack.lay_refund_due(&refund).await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
}

async fn refund_closed(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    tale.at_wechat(json!([{ "on": "refund", "refund": "CLOSED", "count": 1 }])).await;
    let refund = ann.refund(&order, None).await;
    tale.until_refund(&refund, "closed").await;
    tale.stack.advance_simulator(61).await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
}

/// Paid after the hold, by the time that is known somebody else has the last seat.
async fn money_too_late_for_a_seat(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    tale.stack.end_hold(&order).await;
    ann.until_status(&order, "lapsed").await;
    tale.at_wechat(json!([{ "on": "callback_payment", "callback": "never", "order": order }])).await;
    tale.pay(&order).await;
    tale.guest("bob").booked(&session).await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::HoldLapsed, Kind::PaymentReceived, Kind::Refunded]);
}

async fn waiting_list_offer(tale: &Tale<'_>) {
    let (session, ann, bob) = (tale.session(1).await, tale.guest("ann"), tale.guest("bob"));
    let order = ann.payable(&session).await;
    bob.wait_in_line(&session).await;
    ann.cancel(&order).await;
    ann.until_status(&order, "cancelled").await;
    let offered = bob.offered().await;
    tale.pay(&offered).await;
    bob.until_status(&offered, "confirmed").await;
    bob.is_told(&[Kind::WaitlistOffer, Kind::BookingConfirmed]);
}

async fn session_cancelled(tale: &Tale<'_>) {
    let (ann, bob) = (tale.guest("ann"), tale.guest("bob"));
    let added = tale.crew.operate(&["schedule", "add", "--capacity", "3", "--json"]).await;
    let session = document(&added)["schedule_id"].as_str().expect("an id").to_owned();
    let paid = ann.booked(&session).await;
    let unpaid = bob.payable(&session).await;
    tale.crew.operate(&["schedule", "cancel", &session]).await;
    bob.until_status(&unpaid, "cancelled").await;
    ann.until_status(&paid, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
}

/// The Official Account forgets its token, and does what it is asked without saying so.
async fn notifications(tale: &Tale<'_>) {
    let session = tale.session(1).await;
    tale.at_wechat(json!([
        { "on": "template_send", "expire_token": true, "count": 1 },
        { "on": "template_send", "answer_lost": true, "count": 1 },
    ]))
    .await;
    tale.guest("ann").booked(&session).await;
}

/// WeChat does what it is asked, once each, without saying so.
async fn answers_lost(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(2).await, tale.guest("ann"));
    tale.at_wechat(json!([
        { "on": "order", "answer_lost": true, "count": 1 },
        { "on": "close", "answer_lost": "error", "count": 1 },
        { "on": "refund", "answer_lost": true, "count": 1 },
        { "on": "callback_refund", "callback": { "late_ms": 1500 } },
    ]))
    .await;
    let bob = tale.guest("bob");
    let given_up = bob.payable(&session).await;
    bob.cancel(&given_up).await;
    bob.until_status(&given_up, "cancelled").await;
    let order = ann.booked(&session).await;
    ann.refund(&order, None).await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
}

/// As an earlier release asked for it: by its message alone, which a crash still has said again.
async fn paid_offline(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    let paid = OrderPaidOffline {
        order_id: order_id(&order),
        receipt: format!("receipt-{}", tale.number),
        operator: "eve".into(),
        reason: None,
        amount_fen: Fen(PRICE_FEN),
        paid_at: OffsetDateTime::now_utc(),
        request_id: "earlier".into(),
    };
    tale.stack.lay(&Message::OrderPaidOffline(paid)).await;
    ann.until_status(&order, "confirmed").await;
    ann.is_told(&[Kind::BookingConfirmed]);
    assert_eq!(tale.stack.pay(&order).await.status, 409, "closed at WeChat");
}

/// WeChat will not make an order of it: the message is set aside for a person, and the seat is not lost.
async fn refused_by_wechat(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    tale.at_wechat(json!([{ "on": "order", "status": 400, "code": "PARAM_ERROR", "count": 3 }])).await;
    let dead = Queues::of(tale.stack).await;
    dead.purge("prepay.dead").await;
    let order = ann.order(&session).await;
    ann.until_status(&order, "held").await;
    tale.until("it is set aside", async || (tale.stack.ready_in("prepay.dead").await > 0).then_some(())).await;
    tale.at_wechat(json!([])).await;
    tale.let_pass(&order, "pay_before").await;
    tale.ring(&order, Alarm::Payment).await;
    ann.until_status(&order, "expired").await;
    ann.is_told(&[Kind::OrderExpired]);
}

/// A queue is gone for a moment: the customer is told so, and asks again.
async fn queue_gone(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.booked(&session).await;
    tale.crew.stop("refunds");
    tale.crew.a_queue_is_gone();
    Queues::of(tale.stack).await.delete("refunds").await;
    let before = tale.crew.recorded();
    let mended = async {
        tale.until("somebody has asked", async || {
            let passed = tale.crew.passed_since(&before);
            let asked = passed.iter().any(|point| point.name == "publish.sent:refund.requested>refunds");
            // Who answers has sent what it published before. Who begins now finds the broker without its queue.
            let answers = tale.stack.request(Method::GET, "/docs").send();
            (tale.crew.refused_to_run() || asked && answers.await.is_ok()).then_some(())
        })
        .await;
        tale.crew.operate(&["topology", "apply"]).await;
        tale.crew.spawn("refunds");
    };
    tokio::join!(ann.refund(&order, None), mended);
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
}

async fn callback_lost(tale: &Tale<'_>) {
    let session = tale.session(1).await;
    tale.at_wechat(json!([{ "on": "callback_payment", "callback": "never" }])).await;
    tale.guest("ann").booked(&session).await;
}

/// Queues lose what lies in them, one after the other.
async fn queues_lost(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    tale.crew.stop("prepay");
    let order = ann.order(&session).await;
    tale.lose("prepay").await;
    tale.crew.spawn("prepay");
    ann.until_payable(&order).await;
    tale.crew.stop("notifications");
    tale.pay(&order).await;
    ann.until_status(&order, "confirmed").await;
    tale.lose("notifications").await;
    tale.crew.spawn("notifications");
    ann.is_told(&[Kind::BookingConfirmed]);
    tale.at_wechat(json!([{ "on": "callback_refund", "callback": "never" }])).await;
    let refund = ann.refund(&order, None).await;
    // Its next look would be minutes away. Said again and again, since whoever looks meanwhile puts it off again.
    tale.until("the sweep has it looked at", async || {
        let now: Option<String> = sqlx::query_scalar(
            "UPDATE refunds SET next_check_at = CASE status WHEN 'processing' THEN now() - interval '1 minute' END,
                    swept_at = NULL
              WHERE refund_id = $1 AND status IN ('processing', 'succeeded') RETURNING status::text",
        )
        .bind(&refund)
        .fetch_optional(&tale.stack.db)
        .await
        .expect("changed");
        (now.as_deref() == Some("succeeded")).then_some(())
    })
    .await;
    ann.until_status(&order, "refunded").await;
    ann.is_told(&[Kind::Refunded]);
}

/// No alarm rings when the hold and the deadline are over.
async fn alarms_lost(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    tale.let_pass(&order, "hold_expires_at").await;
    ann.until_status(&order, "lapsed").await;
    tale.let_pass(&order, "pay_before").await;
    ann.until_status(&order, "expired").await;
    ann.is_told(&[Kind::HoldLapsed, Kind::OrderExpired]);
}

/// Canaries fly while a seat is booked, and are nobody's message.
async fn canaries(tale: &Tale<'_>) {
    let session = tale.session(1).await;
    tale.guest("ann").booked(&session).await;
    let before = tale.crew.recorded();
    tale.until("every worker has seen one", async || {
        let passed = tale.crew.passed_since(&before);
        let saw = |role: &str| passed.iter().any(|point| point.role == role && point.name == "ack.after:canary");
        WORKERS.into_iter().all(saw).then_some(())
    })
    .await;
}
