//! What customers are told: each kind once, by one token for all, and never a guess about a lost answer.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use holdfast::domain::{
    message::{Message, NotificationDue},
    notification::Kind,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    customer::Customer,
    queues::Queues,
    stack::{Answer, Stack, until},
    story::{hasty, order_id},
};

impl Stack {
    /// What one kind of message to one order's customer has come to: status, attempts, errcode, doubt.
    async fn notification(&self, order: &str, kind: Kind) -> (String, i32, Option<i32>, bool) {
        sqlx::query_as(
            "SELECT status::text, attempts, errcode, in_doubt_since IS NOT NULL FROM notifications
              WHERE order_id = $1 AND kind = $2::notification_kind",
        )
        .bind(order)
        .bind(kind.as_str())
        .fetch_optional(&self.db)
        .await
        .expect("a look")
        .unwrap_or_default()
    }

    async fn until_notification(
        &self,
        order: &str,
        kind: Kind,
        fits: impl Fn(&(String, i32, Option<i32>, bool)) -> bool,
    ) {
        until("the message is there", async || fits(&self.notification(order, kind).await).then_some(())).await;
    }

    async fn lay_notification(&self, order: &str, kind: Kind) {
        self.lay(&Message::NotificationDue(NotificationDue { order_id: order_id(order), kind })).await;
    }

    /// Makes a lost answer older than WeChat's memory of it.
    async fn age_the_doubt(&self, order: &str) {
        sqlx::query(
            "UPDATE notifications SET in_doubt_since = in_doubt_since - interval '11 minutes' WHERE order_id = $1",
        )
        .bind(order)
        .execute(&self.db)
        .await
        .expect("changed");
    }
}

#[tokio::test]
async fn s4_3_each_kind_of_message_once() {
    let stack = hasty("messages_each_kind", 600, 1200).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, first) = stack.booked("ann", &schedule).await;
    Customer::of(&stack, "bob").order(&schedule, None).await;
    stack.wait_in_line(&["cid"], &schedule).await;
    stack.lay_refund(&first, "all", None).await;
    stack.until_status(&ann, &first, "refunded").await;
    let cid = stack.quick_token("cid");
    let offered = stack.offered_to("cid").await;
    stack.lapse_now(&cid, &offered).await;
    // Paid while the seat was free, but nobody tells us before dan has it.
    let lost = json!({ "on": "callback_payment", "callback": "never", "order": offered });
    let unasked = json!({ "on": "query", "status": 503, "order": offered });
    stack.script(&json!({ "rules": [lost, unasked] })).await;
    stack.pay(&offered).await;
    let (dan, second) = stack.payable("dan", &schedule).await;
    stack.script(&json!({})).await;
    stack.until_status(&cid, &offered, "refunded").await;
    stack.lapse_now(&dan, &second).await;
    let (_, last) = stack.payable("eve", &schedule).await;
    stack.until_status(&dan, &second, "expired").await;
    stack.pay(&last).await;

    let told: BTreeMap<&str, Vec<&str>> = [
        ("ann", vec!["booking_confirmed", "refunded"]),
        ("bob", vec!["booking_failed"]),
        ("cid", vec!["hold_lapsed", "payment_received", "refunded", "waitlist_offer"]),
        ("dan", vec!["hold_lapsed", "order_expired"]),
        ("eve", vec!["booking_confirmed"]),
    ]
    .into();
    for (user, kinds) in told {
        let wanted: Vec<String> = kinds.iter().map(|kind| format!("template-of-{kind}")).collect();
        until(&format!("{user} is told of {kinds:?}"), async || {
            let mut templates: Vec<String> = stack
                .messages_to(user)
                .await
                .iter()
                .map(|message| message["template_id"].as_str().expect("a template").to_owned())
                .collect();
            templates.sort_unstable();
            (templates == wanted).then_some(())
        })
        .await;
    }
    stack.check_money().await;
}

#[tokio::test]
async fn token_expired_for_many_workers_at_once() {
    let stack = hasty("messages_token", 600, 1200).await;
    let mut second = stack.command(&["worker", "notifications"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    let schedule = stack.add_schedule(1).await;
    stack.booked("ann", &schedule).await;
    until("ann is told", async || stack.messages_to("ann").await.pop()).await;
    let kill = json!({ "on": "template_send", "expire_token": true, "count": 1 });
    // Slow enough for everybody to come while one is asking.
    let count = json!({ "on": "token", "latency_ms": 300 });
    stack.script(&json!({ "rules": [kill, count] })).await;
    let crowd = Customer::crowd(&stack, "late", 40);
    join_all(crowd.iter().map(|customer| customer.order(&schedule, None))).await;
    stack.until_count("all are told", "SELECT count(*) FROM notifications WHERE status = 'sent'", 41).await;
    let script: Value = Answer::of(stack.http.get(format!("{}/_sim/script", stack.simulator.url))).await.body;
    let asked = script["struck"][1].as_u64().expect("a count");
    assert!((1..=2).contains(&asked), "WeChat was asked for a token {asked} times");
    second.kill().unwrap();
    second.wait().unwrap();
    stack.check_money().await;
}

#[tokio::test]
async fn follower_gone() {
    let stack = hasty("messages_follower_gone", 600, 1200).await;
    let schedule = stack.add_schedule(1).await;
    let (_, order) = stack.booked("unfollowed", &schedule).await;
    let gone = ("failed".to_owned(), 1, Some(43004), false);
    stack.until_notification(&order, Kind::BookingConfirmed, |now| *now == gone).await;
    stack.lay_notification(&order, Kind::BookingConfirmed).await;
    until("it is worked off", async || (stack.ready_in("notifications").await == 0).then_some(())).await;
    assert_eq!(stack.notification(&order, Kind::BookingConfirmed).await, gone, "not tried again");
    assert_eq!(stack.ready_in("notifications.dead").await, 0);
    stack.check_money().await;
}

#[tokio::test]
async fn s4_3_a_message_whose_answer_was_lost_for_good_is_uncertain() {
    let stack = hasty("messages_uncertain", 600, 1200).await;
    stack.script(&json!({ "rules": [{ "on": "template_send", "answer_lost": true }] })).await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.booked("ann", &schedule).await;
    until("it arrived", async || stack.messages_to("ann").await.pop()).await;

    // WeChat's word about a later attempt says nothing of the first.
    stack.script(&json!({ "rules": [{ "on": "template_send", "errcode": 45011 }] })).await;
    stack.lay_notification(&order, Kind::BookingConfirmed).await;
    stack.until_notification(&order, Kind::BookingConfirmed, |(_, _, errcode, _)| *errcode == Some(45011)).await;
    let (status, _, _, doubt) = stack.notification(&order, Kind::BookingConfirmed).await;
    assert_eq!((status.as_str(), doubt), ("pending", true));

    stack.age_the_doubt(&order).await;
    stack.script(&json!({})).await;
    stack.lay_notification(&order, Kind::BookingConfirmed).await;
    stack.until_notification(&order, Kind::BookingConfirmed, |(status, ..)| status == "uncertain").await;
    assert_eq!(stack.messages_to("ann").await.len(), 1, "it had arrived, which we cannot know");
    let path = format!("/v1/orders/{order}/notifications");
    let history = Answer::of(stack.request(Method::GET, &path).bearer_auth(&ann)).await.body;
    assert_eq!(history["items"][0]["status"], "uncertain", "{history}");
    stack.check_money().await;
}

#[tokio::test]
async fn dead_letter_replayed_twice() {
    let stack = hasty("messages_replayed", 600, 1200).await;
    // Our template is unknown to the account, and our product is not enabled: both are for a person to mend.
    let template = json!({ "on": "template_send", "errcode": 40037 });
    let product = json!({ "on": "order", "status": 400, "code": "PARAM_ERROR" });
    stack.script(&json!({ "rules": [template, product] })).await;
    let (schedule, ann) = (stack.add_schedule(1).await, stack.quick_token("ann"));
    let order = stack.submit(&ann, &schedule).await;
    let queues = Queues::of(&stack).await;
    let held = queues.take("prepay.dead").await;
    assert_eq!(held.header("x-error-class"), "wechat_refused");
    stack.script(&json!({ "rules": [template] })).await;
    for _ in 0..2 {
        queues.shovel(&held, held.header("x-queue")).await;
    }
    stack.until_status(&ann, &order, "awaiting_payment").await;
    stack.pay(&order).await;
    stack.until_status(&ann, &order, "confirmed").await;
    let unsent = queues.take("notifications.dead").await;
    assert_eq!(unsent.header("x-error-class"), "account_refused");
    stack.script(&json!({})).await;
    for letter in [&held, &unsent, &held, &unsent] {
        queues.shovel(letter, letter.header("x-queue")).await;
    }
    until("ann is told", async || stack.messages_to("ann").await.pop()).await;
    for queue in ["prepay", "notifications"] {
        until("it is worked off", async || (stack.ready_in(queue).await == 0).then_some(())).await;
    }
    assert_eq!(stack.ledger().await["orders"].as_array().map(Vec::len), Some(1));
    assert_eq!((stack.ready_in("prepay.dead").await, stack.ready_in("notifications.dead").await), (0, 0));
    stack.check_money().await;
}
