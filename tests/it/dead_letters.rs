//! Stories of messages that nobody could handle, told with the operator's commands.

use std::{
    cell::RefCell,
    process::{Command, Stdio},
};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    queues::Queues,
    stack::{Choice, Stack, until},
};

/// A stack whose alarms do not ring among what a test looks at.
pub(crate) async fn calm(test: &str, roles: &[&'static str]) -> Stack {
    let settings = vec![("HOLDFAST_ORDER__CHECK_SECONDS", "600".into())];
    Stack::start_with(test, Choice { settings, roles: roles.to_vec(), ..Choice::default() }).await
}

pub(crate) const ALL: [&str; 7] = ["api", "seats", "prepay", "payments", "expiry", "refunds", "notifications"];

impl Stack {
    /// A command's one document, and its exit code.
    pub(crate) async fn dead(&self, arguments: &[&str]) -> (i32, Value) {
        let arguments = [&["dead"], arguments, &["--json"]].concat();
        let (code, stdout, stderr) = self.holdfast(&arguments).await;
        let document = serde_json::from_str(&stdout).unwrap_or_else(|_| json!({ "stderr": stderr }));
        (code, document)
    }

    pub(crate) async fn dead_ok(&self, arguments: &[&str]) -> Value {
        let (code, document) = self.dead(arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {document}");
        document
    }

    /// Orders of these users, each parked because WeChat refuses to make a code for it.
    pub(crate) async fn park_orders(&self, schedule: &str, users: &[&str]) -> Vec<String> {
        let refusal = json!({ "on": "order", "status": 400, "code": "PARAM_ERROR" });
        self.script(&json!({ "rules": [refusal] })).await;
        let mut orders = Vec::new();
        for user in users {
            orders.push(self.submit(&self.quick_token(user), schedule).await);
        }
        let all = u32::try_from(users.len()).expect("few");
        until("all are parked", async || (self.ready_in("prepay.dead").await == all).then_some(())).await;
        self.script(&json!({})).await;
        orders
    }
}

pub(crate) fn ids(page: &Value) -> Vec<String> {
    let items = page["items"].as_array().expect("items");
    items.iter().map(|letter| letter["letter_id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn p4_looking_takes_nothing_and_a_killed_viewer_loses_nothing() {
    let stack = calm("dead-look", &["api", "seats", "prepay"]).await;
    let schedule = stack.add_schedule(5).await;
    let orders = stack.park_orders(&schedule, &["ann", "bob", "cid"]).await;
    let first = stack.dead_ok(&["list"]).await;
    assert_eq!(first["items"].as_array().map(Vec::len), Some(3), "{first}");
    for letter in first["items"].as_array().expect("items") {
        assert_eq!((&letter["queue"], &letter["work_queue"]), (&json!("prepay.dead"), &json!("prepay")), "{letter}");
        assert_eq!((&letter["kind"], &letter["error_class"]), (&json!("order.held"), &json!("wechat_refused")));
        assert_eq!((&letter["worker"], &letter["attempt"]), (&json!("prepay"), &json!(1)));
        assert_eq!((&letter["effect"], &letter["money_fen"]), (&json!("would_give_code"), &json!(20_000)));
        assert!(letter["next_deadline"].is_string() && letter["error"].is_string(), "{letter}");
        assert!(orders.iter().any(|order| letter["order_id"] == order.as_str()), "{letter}");
    }
    assert_eq!(stack.ready_in("prepay.dead").await, 3, "they lie where they lay");
    // More often than RabbitMQ 4 gives a message back before it drops it, with viewers that die over it.
    for round in 0..12 {
        let mut viewer = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        viewer.args(["dead", "list"]).env_clear().envs(&stack.environment).stdout(Stdio::null()).stderr(Stdio::null());
        let viewer = RefCell::new(viewer.spawn().expect("it starts"));
        // The catalogue is too old to be believed: each look reads the queue.
        sqlx::query("UPDATE dead_letter_readings SET read_at = now() - interval '1 day'")
            .execute(&stack.db)
            .await
            .expect("aged");
        if round % 2 == 0 {
            until("somebody reads", async || {
                (stack.ready_in("prepay.dead").await < 3 || viewer.borrow_mut().try_wait().expect("known").is_some())
                    .then_some(())
            })
            .await;
            let _ = viewer.borrow_mut().kill();
        }
        viewer.borrow_mut().wait().expect("it ended");
    }
    until("all are back", async || (stack.ready_in("prepay.dead").await == 3).then_some(())).await;
    sqlx::query("UPDATE dead_letter_readings SET read_at = now() - interval '1 day'")
        .execute(&stack.db)
        .await
        .expect("aged");
    assert_eq!(ids(&stack.dead_ok(&["list"]).await), ids(&first), "the same letters by the same names");
    let queues = Queues::of(&stack).await;
    let lying = queues.look("prepay.dead").await;
    assert_eq!(lying.header("x-error-class"), "wechat_refused");
    assert!(!lying.header("x-first-failed-at").is_empty() && lying.header("x-worker") == "prepay", "{lying:?}");

    // Taken away by other means, they are remembered but not listed; put there again, they are themselves.
    queues.purge("prepay.dead").await;
    until("none is listed", async || ids(&stack.dead_ok(&["list"]).await).is_empty().then_some(())).await;
    assert_eq!(ids(&stack.dead_ok(&["list", "--state", "gone"]).await), ids(&first));
    queues.shovel(&lying, "prepay.dead").await;
    assert_eq!(ids(&stack.dead_ok(&["list"]).await).len(), 1);
}

#[tokio::test]
async fn p4_letters_are_filtered_and_grouped_by_cause_and_by_effect() {
    let stack = calm("dead-groups", &["api", "seats", "prepay", "payments", "notifications"]).await;
    let schedule = stack.add_schedule(5).await;
    let orders = stack.park_orders(&schedule, &["ann", "bob"]).await;
    let queues = Queues::of(&stack).await;
    queues.put("notifications", "notification.due", br#"{"order_id":"hf00000001","kind":"nonsense"}"#).await;
    until("it is parked", async || (stack.ready_in("notifications.dead").await == 1).then_some(())).await;

    for (filter, count) in [
        (&["--queue", "prepay"][..], 2),
        (&["--queue", "prepay.dead"], 2),
        (&["--class", "unreadable"], 1),
        (&["--kind", "order.held"], 2),
        (&["--order", &orders[0]], 1),
        (&["--text", "NONSENSE"], 1),
        (&["--effect", "would_give_code"], 2),
        (&["--older-than", "1h"], 0),
        (&["--newer-than", "1h"], 3),
        (&["--state", "discarded"], 0),
    ] {
        let page = stack.dead_ok(&[&["list"], filter].concat()).await;
        assert_eq!(ids(&page).len(), count, "{filter:?}: {page}");
    }
    let page = stack.dead_ok(&["list", "--limit", "2"]).await;
    let rest = stack.dead_ok(&["list", "--limit", "2", "--cursor", page["next"].as_str().expect("more")]).await;
    assert_eq!((ids(&page).len(), ids(&rest).len(), &rest["next"]), (2, 1, &Value::Null));

    let causes = stack.dead_ok(&["list", "--group", "cause"]).await;
    let of = |queue: &str| {
        let groups = causes["items"].as_array().expect("groups");
        groups.iter().find(|group| group["queue"] == queue).unwrap_or_else(|| panic!("{queue}: {causes}")).clone()
    };
    let refused = of("prepay.dead");
    assert_eq!((&refused["letters"], &refused["orders"]), (&json!(2), &json!(2)), "{refused}");
    assert_eq!((&refused["money_fen"], &refused["effects"]), (&json!(40_000), &json!({ "would_give_code": 2 })));
    assert!(refused["next_deadline"].is_string(), "{refused}");
    let mut named: Vec<&str> = refused["order_ids"].as_array().expect("ids").iter().filter_map(Value::as_str).collect();
    named.sort_unstable();
    let mut expected: Vec<&str> = orders.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(named, expected);

    let cause = refused["group"].as_str().expect("a name");
    stack.dead_ok(&["note", cause, "WeChat changed a rule", "--operator", "ann"]).await;
    let effects = stack.dead_ok(&["list", "--group", "effect"]).await;
    let would = effects["items"].as_array().expect("groups").iter().find(|group| group["group"] == "would_give_code");
    assert_eq!(would.expect("a group")["notes"][0]["note"], "WeChat changed a rule", "{effects}");
    assert_eq!(stack.dead(&["note", "000000000000", "?"]).await.0, 1);
    let words = stack.holdfast_ok(&["dead", "list", "--group", "cause"]).await;
    assert!(words.contains("¥400.00") && words.contains("WeChat changed a rule"), "{words}");
}

#[tokio::test]
async fn p4_a_letter_replayed_twice_changes_nothing_the_second_time() {
    let stack = calm("dead-twice", &ALL).await;
    let schedule = stack.add_schedule(5).await;
    let orders = stack.park_orders(&schedule, &["ann", "bob"]).await;
    let queues = Queues::of(&stack).await;
    let before = queues.look("prepay.dead").await;

    let plan = stack.dead_ok(&["replay", "--queue", "prepay", "--dry-run", "--reason", "a look"]).await;
    assert_eq!((&plan["state"], &plan["letters"]), (&json!("planned"), &json!(2)), "{plan}");
    assert_eq!(plan["effects"]["would_give_code"], json!({ "letters": 2, "orders": 2, "money_fen": 40_000 }));
    assert_eq!(stack.ready_in("prepay.dead").await, 2, "nothing was published");
    let (id, hash) = (plan["replay_id"].as_str().expect("an id"), plan["hash"].as_str().expect("a hash"));
    assert_eq!(stack.dead(&["replay", "--manifest", id, "--hash", "another"]).await.0, 1);

    let replayed = stack.dead_ok(&["replay", "--manifest", id, "--hash", hash, "--operator", "ann"]).await;
    assert_eq!((&replayed["state"], &replayed["done"]), (&json!("finished"), &json!(2)), "{replayed}");
    for (user, order) in ["ann", "bob"].iter().zip(&orders) {
        stack.until_status(&stack.quick_token(user), order, "awaiting_payment").await;
    }
    assert_eq!(stack.ready_in("prepay.dead").await, 0, "what was replayed is taken away");
    let story = stack.timeline(&orders[0]).await;
    let told = story["entries"].as_array().expect("entries").iter().find(|entry| entry["outcome"] == "replayed");
    let told = told.unwrap_or_else(|| panic!("its order's story tells of it: {story}"));
    assert_eq!((&told["what"], &told["details"]["reason"]), (&json!("order.held"), &json!("a look")));
    assert!(!story["waits_for"].to_string().contains("set aside"), "{story}");
    let (books, ledger) = (stack.books().await, stack.ledger().await);

    // The same set once more, its letters once more, and the message itself once more.
    assert_eq!(stack.dead_ok(&["replay", "--manifest", id]).await, replayed);
    assert_eq!(stack.dead(&["replay", "--all"]).await.0, 1, "nothing fits");
    queues.shovel(&before, "prepay.dead").await;
    let again = stack.dead_ok(&["replay", "--all"]).await;
    assert_eq!((&again["letters"], &again["done"]), (&json!(1), &json!(1)), "{again}");
    assert_eq!(again["effects"]["done_already"]["letters"], 1, "{again}");
    assert_eq!((stack.books().await, stack.ledger().await), (books, ledger));

    let acts = stack.dead_ok(&["acts"]).await;
    let told: Vec<(&str, &str)> = acts["items"]
        .as_array()
        .expect("acts")
        .iter()
        .map(|act| (act["act"].as_str().expect("an act"), act["actor"].as_str().expect("an actor")))
        .collect();
    assert_eq!(told.iter().map(|(act, _)| *act).collect::<Vec<_>>(), ["start", "start", "plan"]);
    assert_eq!(told[1].1, "operator:ann");
    stack.check_invariants().await;
}

impl Stack {
    /// Everything in the books that money or a customer would notice.
    pub(crate) async fn books(&self) -> Value {
        sqlx::query_scalar(
            "SELECT jsonb_build_object(
                'orders', (SELECT jsonb_agg(to_jsonb(o) - 'swept_at' ORDER BY order_id) FROM payment_orders o),
                'audit', (SELECT jsonb_agg(encode(hash, 'hex') ORDER BY order_id, version) FROM payment_audit_log),
                'money', (SELECT jsonb_agg(to_jsonb(t) ORDER BY transaction_id) FROM payment_transactions t),
                'refunds', (SELECT jsonb_agg(to_jsonb(r) - 'swept_at' - 'next_check_at' - 'updated_at' ORDER BY refund_id) FROM refunds r),
                'cases', (SELECT jsonb_agg(to_jsonb(c) ORDER BY case_id) FROM cases c),
                'told', (SELECT jsonb_agg(to_jsonb(n) - 'swept_at' ORDER BY order_id, kind) FROM notifications n))",
        )
        .fetch_one(&self.db)
        .await
        .expect("the books")
    }
}

#[tokio::test]
async fn p4_a_canary_that_comes_back_pauses_the_replay() {
    let stack = calm("dead-canary", &["api", "seats", "prepay"]).await;
    let schedule = stack.add_schedule(10).await;
    let users = ["ann", "bob", "cid", "dan", "eve"];
    stack.park_orders(&schedule, &users).await;
    // Whichever goes first, WeChat still refuses it.
    let refusal = json!({ "on": "order", "count": 1, "status": 400, "code": "PARAM_ERROR" });
    stack.script(&json!({ "rules": [refusal] })).await;
    let (code, paused) = stack.dead(&["replay", "--all", "--canary", "1"]).await;
    assert_eq!((code, &paused["state"]), (1, &json!("paused")), "{paused}");
    assert_eq!((&paused["parked_again"], &paused["pending"]), (&json!(1), &json!(4)), "{paused}");
    assert_eq!(paused["paused_why"], "1 of 1 published letters were parked again");

    let id = paused["replay_id"].as_str().expect("an id");
    let items = stack.dead_ok(&["status", id, "--items"]).await;
    assert_eq!(items["items"][0]["result"], "parked_again");
    assert!(items["items"][0]["detail"].as_str().is_some_and(|why| why.starts_with("wechat_refused: ")), "{items}");

    // The one that came back is a letter of its own, and knows where it comes from.
    let parked = stack.dead_ok(&["list"]).await;
    let came_back = parked["items"].as_array().expect("letters").iter().filter(|letter| letter["replay_id"] == id);
    assert_eq!(came_back.count(), 1, "{parked}");

    stack.script(&json!({})).await;
    let (code, gone_on) = stack.dead(&["resume", id]).await;
    assert_eq!((code, &gone_on["state"], &gone_on["done"]), (1, &json!("finished"), &json!(4)), "{gone_on}");
    let anew = stack.dead_ok(&["replay", "--all"]).await;
    assert_eq!((&anew["letters"], &anew["done"]), (&json!(1), &json!(1)), "{anew}");
    stack.check_invariants().await;
}

#[tokio::test]
async fn p4_a_letter_is_mended_by_a_patch_that_keeps_its_key() {
    let stack = calm("dead-patch", &ALL).await;
    let schedule = stack.add_schedule(1).await;
    let token = stack.quick_token("ann");
    let order = stack.submit(&token, &schedule).await;
    stack.until_status(&token, &order, "awaiting_payment").await;
    let cancel = json!({ "order_id": order, "user_id": "", "request_id": "r", "openid": "openid-ann" });
    let body = cancel.to_string();
    Queues::of(&stack).await.put_named("expiry", "order.cancel", &format!("{order}/cancel"), body.as_bytes()).await;
    until("it is parked", async || (stack.ready_in("expiry.dead").await == 1).then_some(())).await;

    let letter = ids(&stack.dead_ok(&["list"]).await).remove(0);
    let shown = stack.dead_ok(&["show", &letter]).await;
    assert!(shown["unreadable"].is_string() && shown["order"]["status"] == "awaiting_payment", "{shown}");
    assert!(!shown.to_string().contains("openid-ann"), "{shown}");
    assert_eq!((&shown["effect"], &shown["open_fen"]), (&json!("would_park_again"), &json!(20_000)));
    for patch in
        [r#"{"user_id":"ann","order_id":"hf00000001"}"#, r#"{"user_id":7}"#, r#"{"openid":"x","user_id":"ann"}"#]
    {
        let (code, refused) = stack.dead(&["replay", &letter, "--patch", patch, "--reason", "try"]).await;
        assert_eq!(code, 2, "{patch}: {refused}");
    }
    assert_eq!(stack.dead(&["replay", &letter, "--patch", r#"{"user_id":"ann"}"#]).await.0, 2, "without a reason");
    let (patch, why) = (r#"{"user_id":"ann"}"#, "the frontend lost the name");
    let plan = stack.dead_ok(&["replay", &letter, "--patch", patch, "--reason", why, "--dry-run"]).await;
    assert_eq!(plan["differences"], json!([{ "path": "/user_id", "before": "", "after": "ann" }]), "{plan}");
    let replayed = stack.dead_ok(&["replay", "--manifest", plan["replay_id"].as_str().expect("an id")]).await;
    assert_eq!(
        (&replayed["state"], &replayed["done"]),
        (&json!("finished"), &json!(1)),
        "judged as mended: {replayed}"
    );
    stack.until_status(&token, &order, "cancelled").await;
}

#[tokio::test]
async fn p4_nothing_with_open_money_is_discarded_and_the_rest_can_be_restored() {
    let stack = calm("dead-discard", &["api", "seats", "prepay"]).await;
    let schedule = stack.add_schedule(3).await;
    let (_, paid) = stack.payable("ann", &schedule).await;
    assert_eq!(stack.pay(&paid).await.status, StatusCode::OK);
    let queues = Queues::of(&stack).await;
    // WeChat's word about the payment, parked: what a broken release would do.
    let word = queues.take("payments").await;
    queues.shovel(&word, "payments.dead").await;
    queues.put("notifications.dead", "order.eaten", b"{\"a\":1}").await;
    until("both lie there", async || {
        (stack.ready_in("payments.dead").await + stack.ready_in("notifications.dead").await == 2).then_some(())
    })
    .await;
    let page = stack.dead_ok(&["list"]).await;
    let letter = |queue: &str| {
        let letters = page["items"].as_array().expect("items");
        letters.iter().find(|letter| letter["queue"] == queue).unwrap_or_else(|| panic!("{page}")).clone()
    };
    let money = letter("payments.dead");
    assert_eq!((&money["effect"], &money["open_fen"]), (&json!("would_confirm"), &json!(20_000)), "{money}");
    assert_eq!(money["error_class"], "unlabelled");

    let (code, outcome) = stack.dead(&["discard", "--all", "--reason", "rubbish", "--operator", "ann"]).await;
    assert_eq!((code, &outcome["refused"][0]["letter_id"]), (1, &money["letter_id"]), "{outcome}");
    let rubbish = letter("notifications.dead")["letter_id"].as_str().expect("an id").to_owned();
    assert_eq!(outcome["letters"], json!([rubbish]));
    assert_eq!((stack.ready_in("payments.dead").await, stack.ready_in("notifications.dead").await), (1, 0));
    assert_eq!(ids(&stack.dead_ok(&["list", "--state", "discarded"]).await), std::slice::from_ref(&rubbish));

    stack.dead_ok(&["restore", &rubbish, "--reason", "evidence"]).await;
    assert_eq!(stack.ready_in("notifications.dead").await, 1);
    let lying = queues.look("notifications.dead").await;
    assert_eq!(lying.body, b"{\"a\":1}");
    assert_eq!(stack.dead(&["restore", &rubbish]).await.0, 1, "it is not discarded any more");
    let shown = stack.dead_ok(&["show", &rubbish]).await;
    let acts: Vec<&Value> = shown["acts"].as_array().expect("acts").iter().map(|act| &act["act"]).collect();
    assert_eq!(acts, ["restore", "discard"], "{shown}");
    assert_eq!(shown["acts"][1]["reason"], "rubbish");
}
