//! The same over HTTP: viewers look, operators act, and `reconcile` carries out what was asked for.

use holdfast::api::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    dead_letters::{ALL, calm, ids},
    queues::Queues,
    stack::{Answer, Stack, until},
};

const LETTERS: &str = "/v1/ops/dead-letters";

impl Stack {
    async fn look(&self, path: &str) -> Answer {
        let token = self.token_of_role("vic", Role::Viewer);
        Answer::of(self.request(Method::GET, &format!("{LETTERS}{path}")).bearer_auth(token)).await
    }

    async fn act(&self, path: &str, body: &Value) -> Answer {
        let token = self.token_of_role("olga", Role::Operator);
        Answer::of(self.request(Method::POST, &format!("{LETTERS}{path}")).bearer_auth(token).json(body)).await
    }

    async fn until_replay(&self, id: &str, state: &str) -> Value {
        until(&format!("the replay is {state}"), async || {
            let replay = self.look(&format!("/replays/{id}")).await.body;
            (replay["state"] == state).then_some(replay)
        })
        .await
    }
}

#[tokio::test]
async fn p4_viewers_look_operators_act_and_customers_do_neither() {
    let stack = calm("dead-roles", &["api"]).await;
    Queues::of(&stack).await.put("prepay.dead", "order.held", br#"{"order_id":"hf00000001"}"#).await;
    let page = until("it is listed", async || {
        let page = stack.look("").await;
        (page.body["items"].as_array().is_some_and(|items| !items.is_empty())).then_some(page)
    })
    .await;
    let letter = ids(&page.body).remove(0);
    let customer = stack.quick_token("ann");
    let viewer = stack.token_of_role("vic", Role::Viewer);
    let looks = ["".to_owned(), "/groups?by=effect".into(), format!("/{letter}"), "/replays".into(), "/acts".into()];
    for path in &looks {
        assert_eq!(stack.look(path).await.status, StatusCode::OK, "{path}");
        let refused = Answer::of(stack.request(Method::GET, &format!("{LETTERS}{path}")).bearer_auth(&customer)).await;
        assert_eq!((refused.status, refused.problem()), (StatusCode::FORBIDDEN, "forbidden"), "{path}");
    }
    for path in ["/replays", "/discard", "/restore", "/notes"] {
        let asked = stack.request(Method::POST, &format!("{LETTERS}{path}")).bearer_auth(&viewer).json(&json!({}));
        assert_eq!(Answer::of(asked).await.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(stack.act(path, &json!({})).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
    }
    for wrong in [
        "?state=odd",
        "?effect=odd",
        "?since=yesterday",
        "?queue=",
        "?cursor=%00",
        "?odd=1",
        "?text=%00",
        "/groups?by=age",
    ] {
        assert_eq!(stack.look(wrong).await.problem(), "invalid-request", "{wrong}");
    }
    for (path, body, problem) in [
        ("/replays", json!({ "filter": {}, "letters": [letter] }), "invalid-request"),
        ("/replays", json!({ "filter": { "odd": 1 } }), "invalid-request"),
        ("/replays", json!({ "filter": {}, "canary": -1, "per_second": 0, "stop_percent": 101 }), "invalid-request"),
        ("/replays", json!({ "filter": {}, "patch": { "order_id": "hf00000002" } }), "invalid-request"),
        ("/replays", json!({ "filter": { "queue": "refunds" } }), "nothing-fits"),
        ("/discard", json!({ "letters": ["00"], "reason": "x" }), "nothing-fits"),
        ("/notes", json!({ "cause": "000000000000", "note": "x" }), "no-such-letter"),
    ] {
        assert_eq!(stack.act(path, &body).await.problem(), problem, "{path} {body}");
    }
    for unknown in ["/00", "/%00", "/replays/00", "/replays/01a2b3c4-0000-7000-8000-000000000000", "/00/wechat"] {
        assert_eq!(stack.look(unknown).await.problem(), "no-such-letter", "{unknown}");
    }
}

#[tokio::test]
async fn p4_a_replay_asked_for_over_http_is_carried_out_paused_and_cancelled() {
    let mut stack = calm("dead-http", &ALL).await;
    let schedule = stack.add_schedule(10).await;
    let users = ["ann", "bob", "cid", "dan"];
    stack.park_orders(&schedule, &users).await;
    let slowly =
        json!({ "filter": { "queue": "prepay" }, "reason": "WeChat is well again", "per_second": 1, "canary": 0 });
    let asked = stack.act("/replays", &slowly).await;
    assert_eq!((asked.status, &asked.body["state"]), (StatusCode::ACCEPTED, &json!("running")), "{}", asked.body);
    let id = asked.body["replay_id"].as_str().expect("an id").to_owned();
    assert_eq!(asked.headers["location"], format!("{LETTERS}/replays/{id}"));
    assert_eq!(stack.ready_in("prepay.dead").await, 4, "a request only asks");

    stack.spawn("reconcile");
    until("it has begun", async || {
        let replay = stack.look(&format!("/replays/{id}")).await.body;
        (replay["pending"].as_i64()? < 4).then_some(())
    })
    .await;
    let paused = stack.act(&format!("/replays/{id}/pause"), &json!({ "reason": "lunch" })).await;
    assert_eq!((paused.status, &paused.body["state"]), (StatusCode::ACCEPTED, &json!("paused")), "{}", paused.body);
    let path = format!("/replays/{id}/start");
    assert_eq!(stack.act(&path, &json!({ "hash": "odd" })).await.problem(), "wrong-state");
    // Whoever carried it out dies; the next one goes on.
    stack.kill("reconcile");
    assert_eq!(stack.act(&path, &json!({ "hash": paused.body["hash"] })).await.body["state"], "running");
    stack.spawn("reconcile");
    let finished = stack.until_replay(&id, "finished").await;
    assert_eq!((&finished["done"], &finished["letters"]), (&json!(4), &json!(4)), "{finished}");
    until("they are out of their queue", async || (stack.ready_in("prepay.dead").await == 0).then_some(())).await;
    let items = stack.look(&format!("/replays/{id}/items")).await.body;
    assert_eq!(items["items"].as_array().map(Vec::len), Some(4), "{items}");
    assert_eq!(stack.act(&format!("/replays/{id}/cancel"), &json!({})).await.body["state"], "finished", "too late");

    // Of two operators who want the same at once one set has the letters, and nobody gets anything twice.
    stack.park_orders(&schedule, &["eve", "fay"]).await;
    let all = json!({ "filter": {} });
    let (one, other) = tokio::join!(stack.act("/replays", &all), stack.act("/replays", &all));
    for asked in [one, other] {
        if asked.status == StatusCode::ACCEPTED {
            stack.until_replay(asked.body["replay_id"].as_str().expect("an id"), "finished").await;
        }
    }
    until("nothing is parked", async || (stack.ready_in("prepay.dead").await == 0).then_some(())).await;
    let planned = stack.act("/replays", &json!({ "filter": {}, "dry_run": true })).await;
    assert_eq!(planned.problem(), "nothing-fits");
    stack.check_invariants().await;
}

#[tokio::test]
async fn p4_wechats_word_about_a_letter_is_told_on_request() {
    let stack = calm("dead-wechat", &["api", "seats", "prepay"]).await;
    let schedule = stack.add_schedule(3).await;
    let (_, order) = stack.payable("ann", &schedule).await;
    stack.pay(&order).await;
    let alarm = json!({ "order_id": order, "alarm": "payment", "after_ms": 0 }).to_string();
    Queues::of(&stack).await.put("expiry.dead", "order.alarm", alarm.as_bytes()).await;
    let letter = until("it is listed", async || ids(&stack.look("?queue=expiry").await.body).pop()).await;
    let shown = stack.look(&format!("/{letter}")).await.body;
    assert_eq!((&shown["effect"], &shown["order"]["status"]), (&json!("would_wait"), &json!("awaiting_payment")));
    let word = stack.look(&format!("/{letter}/wechat")).await.body;
    assert_eq!((&word["state"], &word["total_fen"]), (&json!("SUCCESS"), &json!(20_000)), "{word}");
    assert_eq!(stack.dead_ok(&["show", &letter, "--wechat"]).await["wechat"]["state"], "SUCCESS");
    stack.script(&json!({ "rules": [{ "on": "query", "status": 502, "html": true }] })).await;
    let doubt = stack.look(&format!("/{letter}/wechat")).await.body;
    assert!(doubt["state"].is_null() && doubt["doubt"].is_string(), "{doubt}");
}

#[tokio::test]
async fn what_is_parked_is_not_swept_into_ever_more_dead_letters() {
    let settings = vec![
        ("HOLDFAST_RECONCILE__EVERY_SECONDS", "1".to_owned()),
        ("HOLDFAST_RECONCILE__GRACE_SECONDS", "0".to_owned()),
    ];
    let roles = vec!["api", "seats", "prepay", "notifications"];
    let choice = crate::stack::Choice { settings, roles, ..Default::default() };
    let mut stack = Stack::start_with("dead-sweep", choice).await;
    let full = stack.add_schedule(1).await;
    let refusal = json!({ "on": "template_send", "order": "openid-eve", "errcode": 47003 });
    stack.script(&json!({ "rules": [refusal] })).await;
    stack.payable("zoe", &full).await;
    let order = stack.submit(&stack.quick_token("eve"), &full).await;
    until("it is parked", async || (stack.ready_in("notifications.dead").await == 1).then_some(())).await;
    stack.dead_ok(&["list"]).await;
    // However long it rested.
    sqlx::query("UPDATE notifications SET created_at = created_at - interval '9 hours', updated_at = now() - interval '8 hours'")
        .execute(&stack.db)
        .await
        .expect("hours pass");
    stack.spawn("reconcile");
    until("several passes", async || {
        let counts = crate::metrics::Counts::of_worker(&stack, "reconcile").await;
        (counts.sum("reconcile_pass_seconds_count", &[]) >= 3).then_some(())
    })
    .await;
    assert_eq!(stack.ready_in("notifications.dead").await, 1);
    assert_eq!(stack.ready_in("notifications").await, 0);
    // Mended and replayed, the customer is told.
    stack.script(&json!({})).await;
    let replayed = stack.dead_ok(&["replay", "--order", &order]).await;
    assert_eq!(replayed["done"], 1, "{replayed}");
    assert_eq!(stack.messages_to("eve").await.len(), 1);
}
