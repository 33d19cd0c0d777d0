//! Customers, viewers and operators on the stack that `./dev up` itself has started: every address of the ingress, and
//! every act of an operator with a body that does something.
//!
//! `./dev test up` starts that stack and lends its settings, as `eval "$(./dev env)"` gives them to anybody.

use std::collections::{BTreeMap, BTreeSet};

use holdfast::api::{
    AuthKeys, Role,
    access::{Rule, surface},
};
use lapin::{BasicProperties, Connection, ConnectionProperties, options::BasicPublishOptions};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::stack::{Answer, server_resources::server, until};

/// Above what one operator may decide alone (`override.second_person_fen`).
const DEAR_FEN: i64 = 60_000;
const NOTHING: &str = "00000000-0000-7000-8000-000000000000";

/// The running stack, as a person with its settings reaches it.
struct Running {
    http: Client,
    api: String,
    simulator: String,
    keys: AuthKeys,
    db: PgPool,
    /// Method and path, with its `{…}`, of every act that was done.
    done: BTreeSet<(String, String)>,
}

impl Running {
    fn of_environment() -> Self {
        let settings = holdfast::config::load(std::env::vars()).settings.expect("the settings of ./dev env");
        Self {
            http: Client::builder().no_proxy().build().expect("a client"),
            api: server("HOLDFAST_API"),
            simulator: server("HOLDFAST_SIMULATOR"),
            keys: AuthKeys::from_settings(&settings.auth).expect("a key"),
            db: PgPool::connect_lazy(&server("DATABASE_URL")).expect("a pool"),
            done: BTreeSet::new(),
        }
    }

    fn token(&self, user: &str, role: Role) -> String {
        let expires = OffsetDateTime::now_utc() + time::Duration::hours(1);
        self.keys.mint(user, role, Some(&format!("openid-{user}")), expires).expect("a token")
    }

    async fn send(&self, who: (&str, Role), method: Method, path: &str, body: &Value) -> Answer {
        let request = self.http.request(method, format!("{}{path}", self.api)).bearer_auth(self.token(who.0, who.1));
        Answer::of(request.header("Idempotency-Key", Uuid::now_v7().to_string()).json(body)).await
    }

    /// An operator's act at an address whose `{…}` is `id`; it must be answered as documented.
    async fn act(&mut self, operator: &str, address: &str, id: &str, body: Value, expected: StatusCode) -> Value {
        let path: Vec<&str> = address.split('/').map(|part| if part.starts_with('{') { id } else { part }).collect();
        let answer = self.send((operator, Role::Operator), Method::POST, &path.join("/"), &body).await;
        assert_eq!(answer.status, expected, "POST {address}: {}", answer.body);
        self.done.insert(("POST".into(), address.into()));
        answer.body
    }

    async fn look(&self, path: &str) -> Value {
        let answer = self.send(("vera", Role::Viewer), Method::GET, path, &json!({})).await;
        assert_eq!(answer.status, StatusCode::OK, "GET {path}: {}", answer.body);
        answer.body
    }

    async fn order(&self, user: &str, order: &str) -> Answer {
        self.send((user, Role::Customer), Method::GET, &format!("/v1/orders/{order}"), &json!({})).await
    }

    async fn until_status(&self, user: &str, order: &str, status: &str) {
        until(&format!("order {order} is {status}"), async || {
            (self.order(user, order).await.body["status"] == status).then_some(())
        })
        .await;
    }

    /// A paid and confirmed order.
    async fn booked(&self, user: &str, schedule: &str, price_fen: i64) -> String {
        let wish = json!({ "schedule_id": schedule, "amount_fen": price_fen });
        let answer = self.send((user, Role::Customer), Method::POST, "/v1/orders", &wish).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        let order = answer.body["order_id"].as_str().expect("an order_id").to_owned();
        self.until_status(user, &order, "awaiting_payment").await;
        let paid = self.http.post(format!("{}/_sim/pay", self.simulator)).json(&json!({ "out_trade_no": order }));
        assert_eq!(Answer::of(paid).await.status, StatusCode::OK);
        self.until_status(user, &order, "confirmed").await;
        order
    }

    /// Puts so many letters into a dead-letter queue; answers the names of those that are listed.
    async fn letters(&self, count: usize) -> Vec<String> {
        let connection = Connection::connect(&server("AMQP_URL"), ConnectionProperties::default()).await;
        let connection = connection.expect("the broker");
        let channel = connection.create_channel().await.expect("a channel");
        for _ in 0..count {
            let properties = BasicProperties::default()
                .with_type("order.held".into())
                .with_message_id(Uuid::now_v7().to_string().into())
                .with_delivery_mode(2);
            let body = format!(r#"{{"order_id":"hf{}"}}"#, &Uuid::now_v7().simple().to_string()[..24]);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let sent = channel.basic_publish("".into(), "prepay.dead".into(), options, body.as_bytes(), properties);
            sent.await.expect("published").await.expect("taken");
        }
        let _ = connection.close(200, "done".into()).await;
        until("the letters are listed", async || {
            let listed = self.look("/v1/ops/dead-letters").await;
            let ids =
                listed["items"].as_array()?.iter().filter_map(|item| Some(item["letter_id"].as_str()?.to_owned()));
            let ids: Vec<String> = ids.collect();
            (ids.len() >= count).then_some(ids)
        })
        .await
    }

    async fn case(&self) -> String {
        let id: Uuid =
            sqlx::query_scalar("INSERT INTO cases (kind, subject) VALUES ('unknown_order', $1) RETURNING case_id")
                .bind(Uuid::now_v7().to_string())
                .fetch_one(&self.db)
                .await
                .expect("a case");
        id.to_string()
    }
}

/// A1: on what `./dev up` has started every address answers its callers, and every act of an operator does what is documented.
#[tokio::test]
async fn people_act_on_the_stack_that_dev_up_has_started() {
    let mut stack = Running::of_environment();
    sessions_and_overrides(&mut stack).await;
    dead_letters(&mut stack).await;
    let case = stack.case().await;
    let closed = stack
        .act("olga", "/v1/ops/cases/{id}/close", &case, json!({ "resolution": "settled by hand" }), StatusCode::OK)
        .await;
    assert_eq!(closed["status"], "closed");
    every_address(&stack).await;

    // None is forgotten: what only operators may do was done above.
    let acts = surface().into_iter().filter(|address| {
        let operators = matches!(&address.rule, Some(Rule::Token { roles, .. }) if roles.contains(&Role::Operator));
        operators && address.method != "GET" && address.path.starts_with("/v1/ops/")
    });
    let acts: BTreeSet<(String, String)> = acts.map(|address| (address.method, address.path)).collect();
    let missing: Vec<&(String, String)> = acts.difference(&stack.done).collect();
    assert!(missing.is_empty(), "give these acts of operators a body in tests/delivery/dev_up.rs: {missing:?}");
}

async fn sessions_and_overrides(stack: &mut Running) {
    use StatusCode as S;
    let wish = json!({ "capacity": 4, "course_id": "pottery", "price_fen": DEAR_FEN });
    let added = stack.act("olga", "/v1/ops/schedules", "", wish, S::CREATED).await;
    let schedule = added["schedule_id"].as_str().expect("an id").to_owned();
    let (ann, bob) = (stack.booked("ann", &schedule, DEAR_FEN).await, stack.booked("bob", &schedule, DEAR_FEN).await);

    let refund = |order: &str| json!({ "order_id": order, "action": "refund", "reason": "a customer called" });
    let id = |document: &Value| document["override_id"].as_str().expect("an id").to_owned();
    let proposed = stack.act("olga", "/v1/ops/overrides", "", refund(&ann), S::ACCEPTED).await;
    assert_eq!(proposed["status"], "proposed");
    let withdrawn = stack.act("olga", "/v1/ops/overrides/{id}/withdraw", &id(&proposed), json!({}), S::OK).await;
    assert_eq!(withdrawn["status"], "withdrawn");
    let proposed = stack.act("olga", "/v1/ops/overrides", "", refund(&ann), S::ACCEPTED).await;
    stack.act("oleg", "/v1/ops/overrides/{id}/approve", &id(&proposed), json!({}), S::ACCEPTED).await;
    stack.until_status("ann", &ann, "refunded").await;

    // Staff give cid's money back in the merchant platform, and an operator takes that into the books.
    let cid = stack.booked("cid", &schedule, DEAR_FEN).await;
    let wish = json!({ "out_trade_no": cid, "refund": DEAR_FEN });
    let refunded = Answer::of(stack.http.post(format!("{}/_sim/refund", stack.simulator)).json(&wish)).await;
    let taken = json!({ "out_refund_no": refunded.body["out_refund_no"], "reason": "staff gave it back" });
    stack.act("olga", "/v1/ops/orders/{id}/wechat-refunds", &cid, taken, S::ACCEPTED).await;
    stack.until_status("cid", &cid, "refunded").await;

    stack.act("olga", "/v1/ops/schedules/{id}/cancel", &schedule, json!({}), S::ACCEPTED).await;
    // So much money needs a second operator through this door as well.
    let waiting = until("the refund is proposed", async || {
        let listed = stack.look(&format!("/v1/ops/overrides?status=proposed&order_id={bob}")).await;
        listed["items"].get(0).cloned()
    })
    .await;
    stack.act("oleg", "/v1/ops/overrides/{id}/approve", &id(&waiting), json!({}), S::ACCEPTED).await;
    stack.until_status("bob", &bob, "refunded").await;
}

async fn dead_letters(stack: &mut Running) {
    use StatusCode as S;
    let letters = stack.letters(4).await;
    let of = |letter: &String| json!({ "letters": [letter], "reason": "a test of ours" });
    let address = "/v1/ops/dead-letters";
    stack.act("olga", &format!("{address}/discard"), "", of(&letters[0]), S::OK).await;
    stack.act("olga", &format!("{address}/restore"), "", of(&letters[0]), S::OK).await;
    let listed = stack.look(address).await;
    let cause = listed["items"][0]["cause"].as_str().expect("a cause").to_owned();
    stack.act("olga", &format!("{address}/notes"), "", json!({ "cause": cause, "note": "known" }), S::NO_CONTENT).await;
    let mut plan = of(&letters[1]);
    plan["dry_run"] = json!(true);
    let planned = stack.act("olga", &format!("{address}/replays"), "", plan, S::CREATED).await;
    let replay = planned["replay_id"].as_str().expect("an id").to_owned();
    let hash = json!({ "hash": planned["hash"] });
    let one = format!("{address}/replays/{{id}}");
    stack.act("olga", &format!("{one}/start"), &replay, hash, S::ACCEPTED).await;
    stack.act("olga", &format!("{one}/pause"), &replay, json!({ "reason": "lunch" }), S::ACCEPTED).await;
    stack.act("olga", &format!("{one}/cancel"), &replay, json!({ "reason": "enough" }), S::ACCEPTED).await;
    // They are out of the way of whoever looks at this stack next.
    let rest = json!({ "filter": {}, "reason": "a test of ours" });
    until("nothing is parked", async || {
        let discard = stack.send(("olga", Role::Operator), Method::POST, &format!("{address}/discard"), &rest).await;
        (discard.problem() == "nothing-fits").then_some(())
    })
    .await;
}

/// As each of the four: whatever is answered, it is no failure of ours. Event streams are opened and left.
async fn every_address(stack: &Running) {
    let everybody = [("ann", Role::Customer), ("vera", Role::Viewer), ("olga", Role::Operator)];
    let mut failed: BTreeMap<String, Value> = BTreeMap::new();
    for address in surface() {
        let path: Vec<&str> =
            address.path.split('/').map(|part| if part.starts_with('{') { NOTHING } else { part }).collect();
        let method = Method::from_bytes(address.method.as_bytes()).expect("a method");
        for (user, role) in everybody {
            let request = stack.http.request(method.clone(), format!("{}{}", stack.api, path.join("/")));
            let request = request.bearer_auth(stack.token(user, role)).header("Idempotency-Key", "every-address");
            let answer = request.json(&json!({})).send().await.expect("an answer");
            if answer.status().is_server_error() {
                failed.insert(format!("{method} {} as {role:?}", address.path), answer.status().as_u16().into());
            }
            // To its end, where it has one: of some there is only one at a time.
            if !address.path.ends_with("/events") {
                answer.bytes().await.expect("a whole answer");
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    for list in ["dead-letters", "queues", "cases", "overrides", "schedules", "reconciliations", "invariants"] {
        stack.look(&format!("/v1/ops/{list}")).await;
    }
}
