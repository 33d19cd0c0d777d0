//! `holdfast order explain`: kinds of story, each answered from one page. The pages are kept in `tests/it/stories`,
//! without what differs from run to run; `UPDATE_STORIES=1` writes them anew.

use std::{sync::Mutex, time::Duration};

use holdfast::domain::message::{Alarm, Message, OrderAlarm};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    stack::{Answer, Choice, Stack, checkout, until, until_within},
    story::{deadlines, order_id},
};

/// A stack in which WeChat is asked only when a story wants it.
async fn stage(story: &str) -> Stack {
    let mut settings = deadlines(600, 1200);
    settings.push(("HOLDFAST_ORDER__CHECK_SECONDS", "600".to_owned()));
    Stack::start_with(&format!("explain_{story}"), Choice { settings, ..Choice::default() }).await
}

impl Stack {
    pub(crate) async fn timeline(&self, order: &str) -> Value {
        let text = self.holdfast_ok(&["order", "explain", order, "--json"]).await;
        serde_json::from_str(&text).expect("one JSON document")
    }

    /// Waits until the page of this order is the kept one.
    async fn tells(&self, story: &str, order: &str) {
        let file = checkout(&format!("tests/it/stories/{story}.txt"));
        if std::env::var_os("UPDATE_STORIES").is_some() {
            // Whoever writes pages anew reads them: that everything has been noted is theirs to see.
            tokio::time::sleep(Duration::from_secs(3)).await;
            std::fs::write(&file, page(&self.timeline(order).await)).expect("written");
            return;
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let last = Mutex::new(String::new());
        let same = tokio::time::timeout(Duration::from_secs(30), async {
            until("the page is the kept one", async || {
                let told = page(&self.timeline(order).await);
                last.lock().expect("not poisoned").clone_from(&told);
                (told == kept).then_some(())
            })
            .await;
        })
        .await;
        let last = last.into_inner().expect("not poisoned");
        assert!(same.is_ok(), "{}\n--- kept\n{kept}\n--- told\n{last}", file.display());
    }

    /// Waits until the worker is through with the alarm, follow-ups included.
    async fn until_alarm_is_done(&self, order: &str) {
        until("the alarm is done", async || {
            let story = self.timeline(order).await;
            let is_it = |entry: &Value| entry["what"] == "order.alarm" && entry["outcome"] == "done";
            story["entries"].as_array()?.iter().any(is_it).then_some(())
        })
        .await;
    }

    async fn never_called_back(&self, order: &str) {
        self.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "never", "order": order }] })).await;
    }
}

/// A timeline without times, durations and numbers that differ from run to run. What the books say stands in its order;
/// what happens side by side is sorted, and said once.
fn page(story: &Value) -> String {
    let ids = Ids::of(story);
    let entries = story["entries"].as_array().expect("entries");
    let in_books = |entry: &&Value| {
        ["payment", "state", "refund", "case", "override"].contains(&entry["kind"].as_str().expect("a kind"))
    };
    let line = |entry: &Value| ids.hide(&told(entry));
    let mut page = format!("{}\n\nin the books\n", ids.hide(story["answer"].as_str().expect("an answer")));
    for entry in entries.iter().filter(in_books) {
        page.push_str(&format!("  {}\n", line(entry)));
    }
    let mut around: Vec<String> = entries.iter().filter(|entry| !in_books(entry)).map(line).collect();
    around.sort_unstable();
    around.dedup();
    page.push_str("\naround it\n");
    page.extend(around.iter().map(|line| format!("  {line}\n")));
    for (title, list) in [("waits for", "waits_for"), ("by itself", "next"), ("could still end", "endings")] {
        page.push_str(&format!("\n{title}\n"));
        for item in story[list].as_array().expect("a list") {
            let mut item = item.clone();
            item.as_object_mut().expect("an object").remove("at");
            page.push_str(&format!("  {}\n", ids.hide(&item.to_string())));
        }
    }
    page
}

/// One entry in the words that do not differ from run to run.
fn told(entry: &Value) -> String {
    let text = |member: &str| entry[member].as_str().unwrap_or_default().to_owned();
    let mut words = vec![text("kind"), text("what"), text("outcome")];
    if let (Some(from), Some(to)) = (entry["from"].as_str(), entry["to"].as_str()) {
        words.push(format!("{from}→{to}"));
    }
    words.extend(["who", "reason"].into_iter().filter_map(|member| entry[member].as_str()).map(str::to_owned));
    const TOLD: [&str; 16] = [
        "attempt",
        "queue",
        "class",
        "error",
        "status",
        "code",
        "about",
        "total_fen",
        "learned_by",
        "trade_type",
        "amount_fen",
        "money_fen",
        "subject",
        "errcode",
        "trouble",
        "after",
    ];
    for name in TOLD {
        let value = &entry["details"][name];
        if !value.is_null() {
            let mut value = value.clone();
            if let Some(after) = value.as_object_mut() {
                after.remove("hold_expires_at");
                after.remove("pay_before");
            }
            words.push(format!("{name}={value}"));
        }
    }
    words.join(" ")
}

/// Numbers that differ from run to run, and what stands for them.
struct Ids(Vec<(String, &'static str)>);

impl Ids {
    fn of(story: &Value) -> Self {
        let mut ids = Vec::new();
        ids.push((story["order"]["order_id"].as_str().expect("an id").to_owned(), "ORDER"));
        for entry in story["entries"].as_array().expect("entries") {
            let details = &entry["details"];
            for (member, name) in [
                (&details["transaction_id"], "TRANSACTION"),
                (&details["after"]["transaction_id"], "TRANSACTION"),
                (&details["override_id"], "OVERRIDE"),
            ] {
                ids.extend(member.as_str().map(|id| (id.to_owned(), name)));
            }
        }
        // Lanes go by the session's id.
        ids.extend((0..8).map(|lane| (format!("orders.{lane}"), "orders.N")));
        Self(ids)
    }

    fn hide(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id, name))
    }
}

#[tokio::test]
async fn s4_2_story_of_a_booking() {
    let stack = stage("booking").await;
    let schedule = stack.add_schedule(2).await;
    let (_, order) = stack.booked("ann", &schedule).await;
    stack.tells("booking", &order).await;
    let page = stack.holdfast_ok(&["order", "explain", &order]).await;
    assert!(page.contains("Paid ¥200.00 and has seat 1.") && page.contains("create_order"), "{page}");
    assert!(!page.contains("openid"), "personal data is not told: {page}");
}

#[tokio::test]
async fn s4_2_story_of_a_sold_out_session() {
    let stack = stage("sold_out").await;
    let schedule = stack.add_schedule(1).await;
    stack.payable("bob", &schedule).await;
    let ann = stack.quick_token("ann");
    let order = stack.submit(&ann, &schedule).await;
    stack.until_status(&ann, &order, "rejected").await;
    stack.tells("sold_out", &order).await;
}

#[tokio::test]
async fn s4_2_story_of_a_payment_after_the_hold() {
    let stack = stage("paid_after_the_hold").await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.lapse_now(&ann, &order).await;
    stack.tells("lapsed", &order).await;
    stack.pay(&order).await;
    stack.until_status(&ann, &order, "confirmed").await;
    stack.tells("paid_after_the_hold", &order).await;
}

#[tokio::test]
async fn s4_2_story_of_a_charge_without_a_seat() {
    let stack = stage("charged_without_a_seat").await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.lapse_now(&ann, &order).await;
    // Else it might notice by itself that bob has the seat, and WeChat would be asked twice.
    stack.until_alarm_is_done(&order).await;
    // The refund takes a moment, so that its callback is what ends it.
    let never = json!({ "on": "callback_payment", "callback": "never", "order": order });
    stack.script(&json!({ "rules": [never, { "on": "refund", "refund": { "slow_ms": 500 } }] })).await;
    stack.pay(&order).await;
    // Whoever gets the seat makes WeChat be asked about those who lapsed.
    stack.booked("bob", &schedule).await;
    stack.until_status(&ann, &order, "refunded").await;
    stack.tells("charged_without_a_seat", &order).await;
    stack.check_money().await;
}

#[tokio::test]
async fn s4_2_story_of_an_order_that_was_never_paid() {
    let stack = stage("expired").await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.end_deadline(&order).await;
    stack.until_status(&ann, &order, "expired").await;
    stack.tells("expired", &order).await;
}

#[tokio::test]
async fn s4_2_story_of_a_cancellation() {
    let stack = stage("cancelled").await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.cancel(&ann, &order).await;
    stack.until_status(&ann, &order, "cancelled").await;
    stack.tells("cancelled", &order).await;
}

#[tokio::test]
async fn s4_2_story_of_a_cancellation_while_paying() {
    let stack = stage("cancelled_while_paying").await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.never_called_back(&order).await;
    stack.pay(&order).await;
    stack.cancel(&ann, &order).await;
    stack.until_status(&ann, &order, "confirmed").await;
    stack.tells("cancelled_while_paying", &order).await;
}

#[tokio::test]
async fn s4_2_story_of_a_refund_that_the_payer_cannot_take() {
    let stack = stage("abnormal_refund").await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.booked("ann", &schedule).await;
    stack.script(&json!({ "rules": [{ "on": "refund", "refund": "ABNORMAL" }] })).await;
    let asked = stack.request(Method::POST, &format!("/v1/orders/{order}/refunds")).bearer_auth(&ann);
    let asked = Answer::of(asked.header("Idempotency-Key", "r").json(&json!({ "reason": "ill" }))).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.body);
    until("a case asks a person", async || (!stack.open_cases().await.is_empty()).then_some(())).await;
    // Callback and query come side by side; which one is heard first is told by the traces alone.
    let story = until("both are noted", async || {
        let story = stack.timeline(&order).await;
        (story["waits_for"].to_string().contains("refund_abnormal")).then_some(story)
    })
    .await;
    assert_eq!(
        story["answer"],
        "Paid ¥200.00; the seat was given up. ¥0.00 of it went back so far; the rest is on its way. The payer's \
         account could not take ¥200.00: it is still owed, and a person must act."
    );
    assert!(story["cases"][0]["suggestion"].as_str().is_some_and(|words| words.contains("abnormal")), "{story}");
}

#[tokio::test]
async fn s4_2_story_of_a_lost_callback() {
    let stack = stage("lost_callback").await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.payable("ann", &schedule).await;
    stack.never_called_back(&order).await;
    stack.pay(&order).await;
    let look = OrderAlarm { order_id: order_id(&order), alarm: Alarm::Check, after_ms: 0 };
    stack.lay(&Message::OrderAlarm(look)).await;
    stack.until_status(&ann, &order, "confirmed").await;
    stack.tells("lost_callback", &order).await;
}

#[tokio::test]
async fn s4_2_story_of_a_wrong_amount() {
    let stack = stage("wrong_amount").await;
    let schedule = stack.add_schedule(1).await;
    let (_, order) = stack.payable("ann", &schedule).await;
    stack.script(&json!({ "rules": [{ "on": "callback_payment", "callback": "wrong_amount" }] })).await;
    stack.pay(&order).await;
    until("a case is open", async || (!stack.open_cases().await.is_empty()).then_some(())).await;
    stack.tells("wrong_amount", &order).await;
}

#[tokio::test]
async fn s4_2_story_of_a_message_that_was_set_aside() {
    let stack = stage("set_aside").await;
    let schedule = stack.add_schedule(1).await;
    let (_, order) = stack.payable("ann", &schedule).await;
    stack.lay_cancel("mallory", &order).await;
    until("it is parked", async || (stack.ready_in("expiry.dead").await == 1).then_some(())).await;
    stack.tells("set_aside", &order).await;
}

#[tokio::test]
async fn p4_the_api_tells_the_same_story_to_viewers_and_to_nobody_else() {
    let stack = stage("api").await;
    let schedule = stack.add_schedule(1).await;
    let (ann, order) = stack.booked("ann", &schedule).await;
    let path = format!("/v1/ops/orders/{order}/timeline");
    let viewer = stack.token_of_role("vera", holdfast::api::Role::Viewer);
    let mut told = until_within(Duration::from_secs(20), "the last message is noted", async || {
        let told = Answer::of(stack.request(Method::GET, &path).bearer_auth(&viewer)).await;
        assert_eq!(told.status, StatusCode::OK, "{}", told.body);
        told.body["entries"].to_string().contains("notification.due").then_some(told.body)
    })
    .await;
    let mut by_command = stack.timeline(&order).await;
    for story in [&mut told, &mut by_command] {
        story.as_object_mut().expect("a document").remove("as_of");
    }
    assert_eq!(told, by_command, "one implementation");
    let refused = Answer::of(stack.request(Method::GET, &path).bearer_auth(&ann)).await;
    assert_eq!((refused.status, refused.problem()), (StatusCode::FORBIDDEN, "forbidden"));
    let unknown = "/v1/ops/orders/hf00000000/timeline";
    let unknown = Answer::of(stack.request(Method::GET, unknown).bearer_auth(&viewer)).await;
    assert_eq!(unknown.problem(), "no-such-order");
    assert_eq!(stack.holdfast(&["order", "explain", "hf00000000"]).await.0, 1);
}
