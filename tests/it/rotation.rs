//! Keys of every kind are replaced one after the other while customers book, and nobody is answered with an error.
//!
//! `./dev test rotation` runs it with 1 000 bookings.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use futures_util::{StreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use wechat_sim::Keys;

use crate::{
    metrics::Counts,
    stack::{Answer, Choice, PRICE_FEN, Stack, WORKERS, until},
};

const SESSIONS: usize = 8;
/// How often the rotation waits for customers to pass.
const PASSES: usize = 9;
/// What is as random as it has to be for a test.
const OLD_TOKENS: &str = "tokens-of-april-tokens-of-april-tokens-of-april";
const NEW_TOKENS: &str = "tokens-of-may-tokens-of-may-tokens-of-may-tokens";
const OLD_PERSONAL: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const NEW_PERSONAL: &str = "bm90IHNvIHJhbmRvbSwgYnV0IDMyIGJ5dGVzIGxvbmc=";
const NEW_APIV3: &str = "anotherAPIv3keyofthirty2letters!";

/// The directory in which operators keep the keys of this stack.
struct KeyFiles(PathBuf);

impl KeyFiles {
    fn of(stack: &Stack) -> Self {
        let directory = stack.artifact("keys");
        fs::create_dir_all(&directory).expect("a directory");
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a key file")
    }

    /// Whole or not at all, as an operator's `mv` does it.
    fn put(&self, name: &str, content: impl AsRef<str>) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, content.as_ref()).expect("written");
        fs::rename(new, self.path(name)).expect("moved");
    }

    /// From the simulator's files, as the merchant got them.
    fn begin(&self, given: &Path, stack: &mut Stack) {
        let given = |name: &str| fs::read_to_string(given.join(name)).expect("a key file");
        let id = given("public_key_id");
        let settings = [
            ("AUTH__SECRET", "tokens", OLD_TOKENS.to_owned()),
            ("PERSONAL__KEY", "personal", OLD_PERSONAL.to_owned()),
            ("WECHAT_PAY__MERCHANT_PRIVATE_KEY", "merchant.key", given("merchant_private_key.pem")),
            ("WECHAT_PAY__MERCHANT_CERTIFICATE", "merchant.pem", given("merchant_certificate.pem")),
            ("WECHAT_PAY__APIV3_KEY", "apiv3", given("apiv3_key")),
            ("WECHAT_PAY__PUBLIC_KEY", "wechat.pem", format!("{}\n{}", id.trim(), given("public_key.pem"))),
        ];
        for given_otherwise in ["MERCHANT_SERIAL_NO", "PUBLIC_KEY_ID"] {
            stack.environment.remove(&format!("HOLDFAST_WECHAT_PAY__{given_otherwise}"));
        }
        for (setting, file, content) in settings {
            self.put(file, content);
            stack.environment.remove(&format!("HOLDFAST_{setting}"));
            let path = self.path(file).to_str().expect("UTF-8").to_owned();
            stack.environment.insert(format!("HOLDFAST_{setting}_FILE"), path);
        }
        let switch = "HOLDFAST_WECHAT_PAY__PLATFORM_CERTIFICATES".to_owned();
        stack.environment.insert(switch, "true".to_owned());
    }
}

/// Who is on their way, and whether more shall come.
#[derive(Default)]
struct Street {
    came: Cell<usize>,
    booked: Cell<usize>,
    on_their_way: RefCell<BTreeSet<usize>>,
    closed: Cell<bool>,
}

impl Street {
    fn enter(&self) -> usize {
        let number = self.came.get();
        self.came.set(number + 1);
        self.on_their_way.borrow_mut().insert(number);
        number
    }

    fn arrive(&self, number: usize) {
        self.on_their_way.borrow_mut().remove(&number);
        self.booked.set(self.booked.get() + 1);
    }

    /// Waits until all who are on their way now have arrived, and so many more customers.
    async fn let_pass(&self, more: usize) {
        let (last, goal) = (self.came.get(), self.booked.get() + more);
        until("customers have passed", async || {
            let have = self.on_their_way.borrow().first().is_none_or(|number| *number >= last);
            (have && self.booked.get() >= goal).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s6_4_keys_of_every_kind_are_replaced_while_customers_book() {
    let bookings: usize = std::env::var("ROTATION_BOOKINGS").map_or(50, |number| number.parse().expect("a number"));
    let mut stack = Stack::start_with("rotation", Choice { roles: Vec::new(), ..Choice::default() }).await;
    let given = stack.keys();
    let files = KeyFiles::of(&stack);
    files.begin(&given, &mut stack);
    stack.script(&in_force(json!({}))).await;
    for role in ["api"].into_iter().chain(WORKERS) {
        stack.spawn(role);
    }
    stack.until_ready().await;
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(stack.add_schedule(1_000).await);
    }

    let street = Street::default();
    let crowd = stream::iter(std::iter::from_fn(|| {
        let is_enough = street.closed.get() && street.came.get() >= bookings;
        (!is_enough).then(|| street.enter())
    }));
    let customers = crowd.for_each_concurrent((bookings / 10).clamp(5, 20), |number| {
        let (stack, street, session) = (&stack, &street, &sessions[number % SESSIONS]);
        async move {
            book(stack, &format!("guest-{number}"), session).await;
            street.arrive(number);
        }
    });
    let keeper = async {
        Rotation { stack: &stack, files: &files, street: &street, share: bookings / PASSES }.all().await;
        street.closed.set(true);
    };
    tokio::join!(customers, keeper);
    println!("{} bookings", street.booked.get());

    stack.until_told().await;
    let counts = Counts::of_api(&stack).await;
    let refused = counts.sum("wechat_callbacks_total", &[("outcome", "refused")]);
    assert_eq!(refused, 1, "a callback was refused beside the forged one");
    for queue in crate::books::DEAD {
        assert_eq!(stack.ready_in(queue).await, 0, "{queue}");
    }
    stack.check_money().await;
}

/// A script under which WeChat signs with its public key as well as with a certificate.
fn in_force(mut script: Value) -> Value {
    if script["key_mode"].is_null() {
        script["key_mode"] = json!("both");
    }
    script
}

/// From the click to the booking; any answer that is an error ends the test.
async fn book(stack: &Stack, user: &str, session: &str) {
    let token = stack.quick_token(user);
    let wish = json!({ "schedule_id": session, "amount_fen": PRICE_FEN });
    let click = stack.submit_request(&token, &format!("click-of-{user}"), &wish).header("Prefer", "wait=10");
    let answer = Answer::of(click).await;
    assert!(answer.status.is_success(), "{user} orders: {} {}", answer.status, answer.body);
    let order = answer.body["order_id"].as_str().expect("an order_id").to_owned();
    let until_status = async |status: &str| {
        until(&format!("{user}'s order {order} is {status}"), async || {
            let look = stack.request(Method::GET, &format!("/v1/orders/{order}")).bearer_auth(&token);
            let answer = Answer::of(look.header("Prefer", "wait=1")).await;
            assert!(answer.status.is_success(), "{user} looks: {} {}", answer.status, answer.body);
            (answer.body["status"] == status).then_some(())
        })
        .await;
    };
    until_status("awaiting_payment").await;
    let paid = stack.pay(&order).await;
    assert_eq!(paid.status, StatusCode::OK, "{user} pays: {}", paid.body);
    until_status("confirmed").await;
}

/// The operator, who replaces one key after the other by editing files.
struct Rotation<'a> {
    stack: &'a Stack,
    files: &'a KeyFiles,
    street: &'a Street,
    /// Customers who book between two steps.
    share: usize,
}

impl Rotation<'_> {
    async fn all(&self) {
        self.tokens().await;
        self.merchant_certificate().await;
        self.apiv3_key().await;
        self.wechat_public_key().await;
        self.platform_certificate().await;
        self.personal_key().await;
    }

    async fn tokens(&self) {
        self.edit("tokens", format!("{OLD_TOKENS}\nmay {NEW_TOKENS}"), "tokens", &["api"]).await;
        self.edit("tokens", format!("may {NEW_TOKENS}\n{OLD_TOKENS}"), "tokens", &["api"]).await;
        // Those who came with a token of the old key go on with it.
        self.street.let_pass(self.share).await;
        self.edit("tokens", format!("may {NEW_TOKENS}"), "tokens", &["api"]).await;
    }

    /// Both certificates are WeChat's while the roles take up the new one.
    async fn merchant_certificate(&self) {
        let new = fresh_keys().await;
        let serial_no = self.listed("merchant").await.remove(0);
        let added = self.merchant_platform(json!({ "add_certificate": new.merchant_certificate_pem })).await;
        assert_eq!(added["serial_no"], new.merchant_serial_no);
        // Between the two files they do not belong together: that is refused, and what was in force stays.
        let refused = self.logged("cannot be taken", "wechat_pay", &["prepay"]);
        self.files.put("merchant.pem", &new.merchant_certificate_pem);
        self.until_logged("cannot be taken", "wechat_pay", refused).await;
        self.edit("merchant.key", &new.merchant_private_key_pem, "wechat_pay", &PAY).await;
        assert_eq!(self.listed("merchant").await, [new.merchant_serial_no]);
        self.merchant_platform(json!({ "revoke_certificate": serial_no })).await;
        self.street.let_pass(self.share).await;
    }

    /// What was on its way when the key was set stays sealed with the old one.
    async fn apiv3_key(&self) {
        let old = self.files.read("apiv3");
        self.script(json!({"rules": [{"on": "callback_payment", "callback": {"late_ms": 4_000}, "count": 5}]})).await;
        self.edit("apiv3", format!("{NEW_APIV3}\n{old}"), "wechat_pay", &PAY).await;
        self.merchant_platform(json!({ "apiv3_key": NEW_APIV3 })).await;
        self.street.let_pass(self.share).await;
        self.script(json!({})).await;
        self.stack.until_called_back().await;
        self.edit("apiv3", NEW_APIV3, "wechat_pay", &PAY).await;
    }

    async fn wechat_public_key(&self) {
        let old = self.files.read("wechat.pem");
        let (old_id, _) = old.split_once('\n').expect("an id");
        self.script(json!({"key_mode": "public_key"})).await;
        let new = self.merchant_platform(json!({ "new_public_key": {} })).await;
        let text = |name: &str| new[name].as_str().expect("a text").to_owned();
        let new = format!("{}\n{}", text("public_key_id"), text("public_key"));
        self.edit("wechat.pem", format!("{old}\n{new}"), "wechat_pay", &PAY).await;
        self.edit("wechat.pem", format!("{new}\n{old}"), "wechat_pay", &PAY).await;
        self.street.let_pass(self.share).await;
        self.merchant_platform(json!({ "retire_public_key": old_id })).await;
        self.stack.until_called_back().await;
        self.edit("wechat.pem", new, "wechat_pay", &PAY).await;
        self.script(json!({})).await;
    }

    /// WeChat's own doing: nothing is edited. It lists a certificate a day before using it, and that we ask for the list
    /// twice a day is hurried by a stranger who invents a serial.
    async fn platform_certificate(&self) {
        let lists = || fs::read_to_string(self.stack.log("api")).expect("a log").matches("\"certificates\"").count();
        self.script(json!({"rotation": "listed"})).await;
        let before = lists();
        let now = time::OffsetDateTime::now_utc().unix_timestamp().to_string();
        let forged = self.stack.request(Method::POST, "/v1/wechat/notify/payments").body("{}");
        let headers = [("Timestamp", now.as_str()), ("Nonce", "n"), ("Serial", "5F5F"), ("Signature", "AAAA")];
        let forged =
            headers.into_iter().fold(forged, |forged, (name, value)| forged.header(format!("Wechatpay-{name}"), value));
        let answer = Answer::of(forged.header("Content-Type", "application/json")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.body);
        until("the ingress has asked for the list", async || (lists() > before).then_some(())).await;
        for rotation in ["overlap", "signing", "finished"] {
            self.script(json!({ "rotation": rotation })).await;
            self.street.let_pass(self.share).await;
        }
    }

    async fn script(&self, script: Value) {
        self.stack.script(&in_force(script)).await;
    }

    async fn personal_key(&self) {
        let with = ["api", "seats", "prepay", "notifications"];
        self.edit("personal", format!("{OLD_PERSONAL}\nmay {NEW_PERSONAL}"), "personal", &with).await;
        self.edit("personal", format!("may {NEW_PERSONAL}\n{OLD_PERSONAL}"), "personal", &with).await;
        self.street.let_pass(self.share).await;

        // The old one is needed still: to take it out is refused.
        let refused = self.logged("cannot be taken", "personal", &with);
        self.files.put("personal", format!("may {NEW_PERSONAL}"));
        self.until_logged("cannot be taken", "personal", refused).await;
        let (code, _, told) = self.stack.holdfast(&["keys", "list"]).await;
        assert_eq!(code, 1, "{told}");
        let again = self.logged("again what is in force", "personal", &with);
        self.files.put("personal", format!("may {NEW_PERSONAL}\n{OLD_PERSONAL}"));
        self.until_logged("again what is in force", "personal", again).await;

        let dry = self.stack.holdfast_ok(&["keys", "reseal", "--dry-run", "--json"]).await;
        let dry: Value = serde_json::from_str(&dry).expect("one document");
        assert!(dry["items"][0]["openids"].as_i64().is_some_and(|openids| openids > 0), "{dry}");
        let done = self.stack.holdfast_ok(&["keys", "reseal", "--json"]).await;
        let done: Value = serde_json::from_str(&done).expect("one document");
        assert_eq!((&done["key"], &done["items"]), (&json!("may"), &json!([])), "{done}");
        assert_eq!(done["resealed"], dry["items"][0]["openids"]);
        self.edit("personal", format!("may {NEW_PERSONAL}"), "personal", &with).await;
        assert_eq!(self.listed("personal").await, ["may"]);
        self.street.let_pass(self.share).await;
    }

    /// Replaces a file and waits until these roles have taken it up.
    async fn edit(&self, file: &str, content: impl AsRef<str>, keys: &str, roles: &[&'static str]) {
        let before = self.logged("read again", keys, roles);
        self.files.put(file, content);
        self.until_logged("read again", keys, before).await;
    }

    fn logged(&self, words: &str, keys: &str, roles: &[&'static str]) -> Vec<(&'static str, usize)> {
        let count = |role: &&'static str| (*role, self.times(words, keys, role));
        roles.iter().map(count).collect()
    }

    async fn until_logged(&self, words: &str, keys: &str, before: Vec<(&'static str, usize)>) {
        for (role, before) in before {
            until(&format!("{role} tells of {keys}: {words}"), async || {
                (self.times(words, keys, role) > before).then_some(())
            })
            .await;
        }
    }

    fn times(&self, words: &str, keys: &str, role: &str) -> usize {
        let log = fs::read_to_string(self.stack.log(role)).expect("a log");
        let keys = format!("\"keys\":\"{keys}\"");
        log.lines().filter(|line| line.contains(words) && line.contains(&keys)).count()
    }

    async fn merchant_platform(&self, act: Value) -> Value {
        let url = format!("{}/_sim/merchant", self.stack.simulator.url);
        let answer = Answer::of(self.stack.http.post(url).json(&act)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body
    }

    /// The names of all keys of one kind.
    async fn listed(&self, keys: &str) -> Vec<String> {
        let list = self.stack.holdfast_ok(&["keys", "list", "--json"]).await;
        let list: Value = serde_json::from_str(&list).expect("one document");
        let items = list["items"].as_array().expect("items").clone();
        let of_kind = items.iter().filter(|item| item["keys"] == keys);
        of_kind.map(|item| item["name"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

/// Roles that call WeChat Pay or are called by it.
const PAY: [&str; 4] = ["api", "prepay", "expiry", "refunds"];

async fn fresh_keys() -> Keys {
    tokio::task::spawn_blocking(|| Keys::generate().expect("keys")).await.expect("made")
}

impl Stack {
    /// The callbacks of all payments that were made until now have arrived.
    async fn until_called_back(&self) {
        let ledger = self.ledger().await;
        let payments = ledger["payments"].as_array().expect("payments").iter();
        let paid: Vec<String> =
            payments.map(|payment| payment["out_trade_no"].as_str().expect("a number").to_owned()).collect();
        until("every payment was called back", async || {
            let came: i64 = sqlx::query_scalar(
                "SELECT count(DISTINCT out_trade_no) FROM wechat_callbacks WHERE out_trade_no = ANY($1)",
            )
            .bind(&paid)
            .fetch_one(&self.db)
            .await
            .expect("a count");
            (usize::try_from(came) == Ok(paid.len())).then_some(())
        })
        .await;
    }

    /// Every callback has arrived, and every customer has heard.
    async fn until_told(&self) {
        until("no callback is under way and no message is due", async || {
            let health = Answer::of(self.http.get(format!("{}/healthz", self.simulator.url))).await;
            let due = self.count("SELECT count(*) FROM notifications WHERE status = 'pending'").await;
            (health.body["callbacks_under_way"] == 0 && due == 0).then_some(())
        })
        .await;
    }
}
