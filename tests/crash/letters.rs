//! Stories of dead letters: parked, replayed, come back, put away and restored, mended. What a command that died has
//! done before is done: run again it says so, and the story goes on from what the books say.

use holdfast::{
    api::Role,
    domain::{message::Alarm, notification::Kind},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{crew::document, queues::Queues, tale::Tale};

/// WeChat refuses to make an order of anything.
pub(crate) fn refusal() -> Value {
    json!([{ "on": "order", "status": 400, "code": "PARAM_ERROR" }])
}

/// An order that WeChat refused, its message parked once or, since a worker died over it, twice.
pub(crate) async fn refused(tale: &Tale<'_>, session: &str, guest: &str) -> String {
    let ann = tale.guest(guest);
    let order = ann.order(session).await;
    ann.until_status(&order, "held").await;
    tale.until("its message is parked", async || (!letters(tale, &order, "parked").await.is_empty()).then_some(()))
        .await;
    order
}

/// The dead letters of an order in this state, by name.
pub(crate) async fn letters(tale: &Tale<'_>, order: &str, state: &str) -> Vec<String> {
    let listed = tale.crew.operate(&["dead", "list", "--order", order, "--state", state, "--json"]).await;
    let name = |letter: &Value| letter["letter_id"].as_str().expect("an id").to_owned();
    document(&listed)["items"].as_array().expect("letters").iter().map(name).collect()
}

/// Freezes a set, looks at it and starts it; answers what came of it.
async fn replay(tale: &Tale<'_>, letters: &[String], more: &[&str]) -> Value {
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    let plan = [&["dead", "replay", "--dry-run", "--json", "--reason", "mended"], more, &letters].concat();
    let plan = document(&tale.crew.operate(&plan).await);
    let id = plan["replay_id"].as_str().expect("an id");
    let (_, replayed, _) = tale.crew.try_to_operate(&["dead", "replay", "--manifest", id, "--json"]).await;
    document(&replayed)
}

/// Replays what is parked of an order until nothing is.
async fn replay_all(tale: &Tale<'_>, order: &str) {
    loop {
        let parked = letters(tale, order, "parked").await;
        if parked.is_empty() {
            break;
        }
        let replayed = replay(tale, &parked, &[]).await;
        assert_eq!(replayed["state"], "finished", "{replayed}");
    }
}

pub(crate) async fn letter_replayed(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    tale.at_wechat(refusal()).await;
    let order = refused(tale, &session, "ann").await;
    tale.at_wechat(json!([])).await;
    replay_all(tale, &order).await;
    ann.until_payable(&order).await;
    tale.pay(&order).await;
    ann.until_status(&order, "confirmed").await;
    ann.is_told(&[Kind::BookingConfirmed]);
}

/// The first letter comes back, which stops the others; later they go on.
pub(crate) async fn canary_comes_back(tale: &Tale<'_>) {
    let (session, ann, bob) = (tale.session(2).await, tale.guest("ann"), tale.guest("bob"));
    tale.at_wechat(refusal()).await;
    let orders = [refused(tale, &session, "ann").await, refused(tale, &session, "bob").await];
    let mut parked = letters(tale, &orders[0], "parked").await;
    parked.extend(letters(tale, &orders[1], "parked").await);
    let paused = replay(tale, &parked, &["--canary", "1"]).await;
    tale.at_wechat(json!([])).await;
    let id = paused["replay_id"].as_str().expect("an id");
    tale.crew.try_to_operate(&["dead", "resume", id, "--json"]).await;
    for (guest, order) in [&ann, &bob].into_iter().zip(&orders) {
        replay_all(tale, order).await;
        guest.until_payable(order).await;
        tale.pay(order).await;
        guest.until_status(order, "confirmed").await;
        guest.is_told(&[Kind::BookingConfirmed]);
    }
}

/// The order is over, so its message is rubbish; or evidence, which is put back for a while.
pub(crate) async fn letter_put_away(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    tale.at_wechat(refusal()).await;
    let order = refused(tale, &session, "ann").await;
    tale.let_pass(&order, "pay_before").await;
    tale.ring(&order, Alarm::Payment).await;
    ann.until_status(&order, "expired").await;
    ann.is_told(&[Kind::OrderExpired]);

    let parked = letters(tale, &order, "parked").await;
    let names: Vec<&str> = parked.iter().map(String::as_str).collect();
    let act = async |command: &[&str]| tale.crew.try_to_operate(&[command, &names].concat()).await;
    act(&["dead", "discard", "--reason", "rubbish"]).await;
    assert_eq!(sorted(letters(tale, &order, "discarded").await), sorted(parked.clone()));
    act(&["dead", "restore", "--reason", "evidence"]).await;
    assert_eq!(sorted(letters(tale, &order, "parked").await), sorted(parked.clone()));
    let shown = document(&tale.crew.operate(&["dead", "show", names[0], "--json"]).await);
    tale.crew.operate(&["dead", "note", shown["cause"].as_str().expect("a cause"), "WeChat changed a rule"]).await;
    act(&["dead", "discard", "--reason", "rubbish after all"]).await;
    assert_eq!(sorted(letters(tale, &order, "discarded").await), sorted(parked));
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}

/// A frontend lost a name; an operator writes it in.
pub(crate) async fn letter_mended(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    let order = ann.payable(&session).await;
    let cancel = json!({ "order_id": order, "user_id": "", "request_id": "r" });
    let key = format!("{order}/cancel");
    Queues::of(tale.stack).await.put_named("expiry", "order.cancel", &key, cancel.to_string().as_bytes()).await;
    tale.until("it is parked", async || (!letters(tale, &order, "parked").await.is_empty()).then_some(())).await;
    let parked = letters(tale, &order, "parked").await;
    let patch = json!({ "user_id": ann.user() }).to_string();
    replay(tale, &parked, &["--patch", &patch]).await;
    ann.until_status(&order, "cancelled").await;
    assert_eq!(tale.stack.pay(&order).await.status, 409, "closed at WeChat");
}

/// Asked for over HTTP, and carried out by `reconcile`.
pub(crate) async fn letter_replayed_by_the_console(tale: &Tale<'_>) {
    let (session, ann) = (tale.session(1).await, tale.guest("ann"));
    tale.at_wechat(refusal()).await;
    let order = refused(tale, &session, "ann").await;
    tale.at_wechat(json!([])).await;
    let token = tale.stack.token_of_role("olga", Role::Operator);
    let wish = json!({ "filter": { "order_id": order }, "reason": "WeChat is well again" });
    let ask = || tale.stack.request(Method::POST, "/v1/ops/dead-letters/replays").bearer_auth(&token).json(&wish);
    let asked = tale.asked("the replay is asked for", ask).await;
    // Asked again after the API died, everything may be replayed already.
    let is_taken = asked.status == StatusCode::ACCEPTED || asked.problem() == "nothing-fits";
    assert!(is_taken, "{}", asked.body);
    ann.until_payable(&order).await;
    tale.pay(&order).await;
    ann.until_status(&order, "confirmed").await;
    ann.is_told(&[Kind::BookingConfirmed]);
    let running = "SELECT count(*) FROM dead_letter_replays WHERE state = 'running'";
    tale.until("no replay runs", async || (tale.stack.count(running).await == 0).then_some(())).await;
}
