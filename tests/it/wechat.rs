//! Our WeChat client against the simulator, which shares no code with it: each side checks the other.

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use holdfast::wechat::Ambient;
use holdfast::wechat::answers::{Claim, Class, Inconclusive};
use holdfast::wechat::exchange::{Certificates, PayClient};
use holdfast::wechat::notification::{
    NotificationFault, PaymentNotification, read_payment_notification, read_refund_notification,
};
use holdfast::wechat::official_account::{OfficialAccountClient, Sending, TemplateMessage};
use holdfast::wechat::pay::{NewOrder, NewRefund, OrderClosed};
use holdfast::wechat::reaction::Reaction;
use holdfast::wechat::refund::RefundStatus;
use holdfast::wechat::settings::{OfficialAccountSettings, PaySettings, Templates};
use holdfast::wechat::template::{amount_value, time_value};
use holdfast::wechat::transaction::{Standing, TradeState};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use time::{Duration, OffsetDateTime};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use wechat_sim::{KeyMode, Keys, Running, Settings};

/// One set of keys for all tests: making RSA keys is slow.
static KEYS: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wechat-keys");
    Keys::load_or_generate(&directory).expect("keys");
    directory
});

/// A simulator, our client for it, and the callbacks it delivers to us as we read them.
struct World {
    simulator: Running,
    client: PayClient,
    payments: mpsc::UnboundedReceiver<Result<PaymentNotification, NotificationFault>>,
    refunds: mpsc::UnboundedReceiver<RefundStatus>,
}

impl World {
    async fn start(key_mode: KeyMode) -> Self {
        let callbacks = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = callbacks.local_addr().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let settings = Settings { callback_speed: 1_000.0, key_mode, ..Settings::default() };
        let keys = Keys::load(&KEYS).expect("keys");
        let simulator = wechat_sim::start(settings, keys, listener).expect("a simulator");

        let file = |name: &str| Some(KEYS.join(name));
        let line = |name: &str| {
            let text = std::fs::read_to_string(KEYS.join(name)).expect("a file");
            Some(text.trim().to_owned())
        };
        let with_public_key = key_mode != KeyMode::Certificate;
        let settings = PaySettings {
            base_url: Some(simulator.url.clone()),
            appid: Some("wx8888888888888888".to_owned()),
            mchid: Some("1900000109".to_owned()),
            merchant_serial_no: line("merchant_serial_no"),
            merchant_private_key_file: file("merchant_private_key.pem"),
            merchant_certificate_file: file("merchant_certificate.pem"),
            apiv3_key_file: file("apiv3_key"),
            public_key_id: line("public_key_id").filter(|_| with_public_key),
            public_key_file: file("public_key.pem").filter(|_| with_public_key),
            platform_certificates: true,
            notify_url: Some(format!("http://{address}/v1/wechat/notify/payments")),
            refund_notify_url: Some(format!("http://{address}/v1/wechat/notify/refunds")),
            timeout_ms: Some(5_000),
            ..PaySettings::default()
        };
        let account = settings.load().unwrap_or_else(|problems| panic!("{problems:?}"));
        let client = PayClient::new(Arc::new(account), Ambient::system()).expect("a client");
        let (payments, refunds) = receive(callbacks, &client);
        Self { simulator, client, payments, refunds }
    }

    async fn script(&self, script: Value) {
        self.sim("script", script).await;
    }

    async fn pay(&self, out_trade_no: &str) {
        self.sim("pay", json!({"out_trade_no": out_trade_no})).await;
    }

    async fn sim(&self, path: &str, body: Value) {
        let answer = reqwest::Client::new()
            .post(format!("{}/_sim/{path}", self.simulator.url))
            .json(&body)
            .send()
            .await
            .expect("the simulator answers");
        let status = answer.status();
        assert!(status.is_success(), "{status} {:?}", answer.text().await);
    }

    async fn create(&self, out_trade_no: &str) -> Result<String, Inconclusive> {
        let code = self.client.create_native_order(&order(out_trade_no)).await?;
        Ok(code.0)
    }
}

/// Reads callbacks as the ingress does and answers by what it found.
fn receive(
    listener: TcpListener,
    client: &PayClient,
) -> (mpsc::UnboundedReceiver<Result<PaymentNotification, NotificationFault>>, mpsc::UnboundedReceiver<RefundStatus>) {
    let (payments, paid) = mpsc::unbounded_channel();
    let (refunds, refunded) = mpsc::unbounded_channel();
    let account = Arc::clone(client.account());
    let of_payments = {
        let account = Arc::clone(&account);
        async move |headers: HeaderMap, body: Bytes| {
            let now = OffsetDateTime::now_utc();
            let read = read_payment_notification(&headers, &body, now, &account.keys);
            let status = match &read {
                Ok(_) => StatusCode::NO_CONTENT,
                Err(NotificationFault::Signature(_)) => StatusCode::UNAUTHORIZED,
                Err(NotificationFault::Unreadable(_)) => StatusCode::BAD_REQUEST,
            };
            payments.send(read).expect("the test listens");
            status
        }
    };
    let of_refunds = async move |headers: HeaderMap, body: Bytes| {
        let now = OffsetDateTime::now_utc();
        let read = read_refund_notification(&headers, &body, now, &account.keys);
        refunds.send(read.expect("a refund").content.status).expect("the test listens");
        StatusCode::NO_CONTENT
    };
    let router = axum::Router::new()
        .route("/v1/wechat/notify/payments", axum::routing::post(of_payments))
        .route("/v1/wechat/notify/refunds", axum::routing::post(of_refunds));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (paid, refunded)
}

/// The same at every call, as a stored order is.
fn order(out_trade_no: &str) -> NewOrder<'_> {
    static DEADLINE: LazyLock<OffsetDateTime> = LazyLock::new(|| OffsetDateTime::now_utc() + Duration::minutes(30));
    NewOrder { out_trade_no, description: "晨间瑜伽 · 座位 7 😀", total_fen: 20_000, time_expire: *DEADLINE }
}

#[tokio::test]
async fn s7_5_an_order_is_paid_told_queried_and_refunded() {
    let mut world = World::start(KeyMode::PublicKey).await;
    let code = world.create("hf-paid-0001").await.expect("a code");
    assert!(code.starts_with("weixin://wxpay/bizpayurl"), "{code}");
    let unpaid = world.client.query_order("hf-paid-0001").await.expect("known");
    assert_eq!(unpaid.standing(), Standing::Unpaid);

    world.pay("hf-paid-0001").await;
    let told = world.payments.recv().await.expect("a callback").expect("a good one");
    assert_eq!(told.event_type, "TRANSACTION.SUCCESS");
    let Standing::Paid(payment) = told.content.standing() else {
        panic!("paid: {told:?}");
    };
    assert_eq!((payment.total_fen.0, payment.currency.as_str()), (20_000, "CNY"));
    let queried = world.client.query_order("hf-paid-0001").await.expect("known");
    assert_eq!(queried.standing(), Standing::Paid(payment.clone()));
    let by_id = world.client.query_transaction(&payment.transaction_id).await.expect("known");
    assert_eq!(by_id, queried);

    let close = world.client.close_order("hf-paid-0001").await.expect_err("paid");
    assert_eq!(close.class, Class::Claimed(Claim::Paid), "{close}");
    let again = world.create("hf-paid-0001").await.expect_err("paid");
    assert!(matches!(again.class, Class::Claimed(_)), "{again}");

    let refund = NewRefund {
        transaction_id: &payment.transaction_id,
        out_refund_no: "hf-paid-0001-r1",
        reason: "课程取消",
        refund_fen: 5_000,
        total_fen: 20_000,
    };
    let accepted = world.client.create_refund(&refund).await.expect("accepted");
    assert_eq!(accepted.amount.refund, 5_000);
    assert_eq!(world.refunds.recv().await, Some(RefundStatus::Success));
    let done = world.client.query_refund("hf-paid-0001-r1").await.expect("known");
    assert_eq!(done.status, RefundStatus::Success);
    let partly = world.client.query_order("hf-paid-0001").await.expect("known");
    assert_eq!(partly.trade_state, TradeState::Refund);
    assert!(matches!(partly.standing(), Standing::Paid(_)));
    let too_much = NewRefund { out_refund_no: "hf-paid-0001-r2", refund_fen: 15_001, ..refund };
    let refused = world.client.create_refund(&too_much).await.expect_err("too much");
    assert_eq!(refused.class, Class::Claimed(Claim::Conflict), "{refused}");
    let absent = world.client.query_refund("hf-paid-0001-r9").await.expect_err("absent");
    assert_eq!(absent.class, Class::Claimed(Claim::Absent), "{absent}");
}

#[tokio::test]
async fn a_closed_number_stays_closed_and_an_unknown_one_closes_too() {
    let world = World::start(KeyMode::PublicKey).await;
    let absent = world.client.query_order("hf-close-001").await.expect_err("absent");
    assert_eq!(absent.class, Class::Claimed(Claim::Absent), "{absent}");
    assert_eq!(world.client.close_order("hf-close-000").await, Ok(OrderClosed));

    world.create("hf-close-001").await.expect("a code");
    for _ in 0..2 {
        assert_eq!(world.client.close_order("hf-close-001").await, Ok(OrderClosed));
    }
    let closed = world.client.query_order("hf-close-001").await.expect("known");
    assert_eq!(closed.standing(), Standing::Closed);
    let again = world.create("hf-close-001").await.expect_err("closed");
    assert_eq!(again.class, Class::Claimed(Claim::Closed), "{again}");
}

#[tokio::test]
async fn the_same_number_with_the_same_content_is_the_same_order() {
    let world = World::start(KeyMode::PublicKey).await;
    world.create("hf-same-0001").await.expect("a code");
    world.create("hf-same-0001").await.expect("a fresh code");
    let dearer = NewOrder { total_fen: 30_000, ..order("hf-same-0001") };
    let refused = world.client.create_native_order(&dearer).await.expect_err("another price");
    assert_eq!(refused.class, Class::Claimed(Claim::Conflict), "{refused}");
}

#[tokio::test]
async fn numbers_that_need_encoding_are_understood() {
    let world = World::start(KeyMode::PublicKey).await;
    world.create("hf|*odd_-1").await.expect("a code");
    let known = world.client.query_order("hf|*odd_-1").await.expect("known");
    assert_eq!(known.standing(), Standing::Unpaid);
    assert_eq!(world.client.close_order("hf|*odd_-1").await, Ok(OrderClosed));
}

#[tokio::test]
async fn a_payment_sheet_order_names_its_payer() {
    let world = World::start(KeyMode::PublicKey).await;
    let order = order("hf-jsapi-001");
    let id = world.client.create_jsapi_order(&order, "openid-u").await.expect("an id");
    assert!(world.client.jsapi_invocation(&id).package.starts_with("prepay_id="));
}

#[tokio::test]
async fn s5_2_every_fault_of_an_order_is_classed_and_mended_by_repeating() {
    let world = World::start(KeyMode::PublicKey).await;
    let rows = [
        (json!({"answer_lost": "dropped"}), Class::Unknown),
        (json!({"answer_lost": "error"}), Class::Unknown),
        (json!({"status": 500, "code": "SYSTEM_ERROR"}), Class::Unknown),
        (json!({"status": 502, "html": true}), Class::Unknown),
        (json!({"status": 404, "html": true}), Class::Unknown),
        (json!({"signtest": true}), Class::Unknown),
        (json!({"wrong_signature": true}), Class::Unknown),
        (json!({"wrong_key": true}), Class::Unknown),
        (json!({"replayed": true}), Class::Unknown),
        (json!({"status": 429, "code": "FREQUENCY_LIMITED"}), Class::Busy),
        (json!({"status": 401, "code": "SIGN_ERROR"}), Class::Misconfigured),
        (json!({"status": 403, "code": "NO_AUTH"}), Class::Misconfigured),
        (json!({"status": 400, "code": "PARAM_ERROR"}), Class::Refused),
    ];
    for (index, (mut rule, expected)) in rows.into_iter().enumerate() {
        let number = format!("hf-fault-{index:04}");
        rule["on"] = json!("order");
        rule["count"] = json!(1);
        world.script(json!({"rules": [rule]})).await;
        let doubt = world.create(&number).await.expect_err("a fault");
        assert_eq!(doubt.class, expected, "{rule}: {doubt}");
        world.create(&number).await.unwrap_or_else(|doubt| panic!("{rule}: {doubt}"));
    }
}

#[tokio::test]
async fn a_probe_is_refused_and_its_notification_comes_again() {
    let mut world = World::start(KeyMode::PublicKey).await;
    for (index, fault) in ["signtest", "wrong_signature", "wrong_key", "replayed"].into_iter().enumerate() {
        let number = format!("hf-probe-{index:04}");
        world.script(json!({"rules": [{"on": "callback_payment", "callback": fault}]})).await;
        world.create(&number).await.expect("a code");
        world.pay(&number).await;
        let refused = world.payments.recv().await.expect("a callback");
        assert!(matches!(refused, Err(NotificationFault::Signature(_))), "{fault}: {refused:?}");
        let told = world.payments.recv().await.expect("again").expect("a good one");
        assert_eq!(told.content.out_trade_no, Some(number));
    }
}

#[tokio::test]
async fn a_merchant_of_old_learns_certificates_and_follows_their_change() {
    let world = World::start(KeyMode::Certificate).await;
    // Nothing is known yet: the first answer makes the client fetch the list.
    world.create("hf-cert-0001").await.expect("a code");
    world.script(json!({"rotation": "listed"})).await;
    let Ok(Certificates::Held(both)) = world.client.refresh_certificates().await else {
        panic!("a list");
    };
    assert_eq!(both.len(), 2);
    world.script(json!({"rotation": "signing"})).await;
    world.create("hf-cert-0002").await.expect("a code");
}

#[tokio::test]
async fn both_kinds_of_key_are_believed_side_by_side() {
    let mut world = World::start(KeyMode::Both).await;
    let Ok(Certificates::Held(serials)) = world.client.refresh_certificates().await else {
        panic!("a list");
    };
    assert!(serials.len() > 1, "{serials:?}");
    for index in 0..10 {
        let number = format!("hf-both-{index:04}");
        world.create(&number).await.expect("a code");
        world.pay(&number).await;
        world.payments.recv().await.expect("a callback").expect("a good one");
    }
}

#[tokio::test]
async fn a_merchant_of_today_has_no_certificates() {
    let world = World::start(KeyMode::PublicKey).await;
    assert_eq!(world.client.refresh_certificates().await, Ok(Certificates::None));
}

#[tokio::test]
async fn s4_3_messages_are_sent_once_and_a_dead_token_is_told() {
    let world = World::start(KeyMode::PublicKey).await;
    let settings = OfficialAccountSettings {
        base_url: Some(world.simulator.url.clone()),
        appid: Some("wx8888888888888888".to_owned()),
        secret: Some(SecretString::from("wechat-sim-official-account-secret")),
        templates: Templates { booking_confirmed: Some("T1".to_owned()), ..Templates::default() },
        ..OfficialAccountSettings::default()
    };
    let client = OfficialAccountClient::new(settings.load().expect("good")).expect("a client");
    let token = client.stable_token(false).await.expect("a token").token;
    let message = TemplateMessage {
        touser: "openid-u",
        template_id: "T1",
        url: Some("https://example.com/orders/1"),
        data: BTreeMap::from([
            ("thing1", "一门名字长得超过二十个字的晨间瑜伽与冥想课程".to_owned()),
            ("time2", time_value(OffsetDateTime::now_utc())),
            ("amount3", amount_value(20_000)),
            ("character_string4", "hf0001".to_owned()),
            ("phrase5", "已确认".to_owned()),
        ]),
        client_msg_id: "hf0001-booking_confirmed",
    };
    let sent = client.send_template(&token, &message).await;
    assert!(matches!(sent, Sending::Sent { msgid: Some(_) }), "{sent:?}");

    world.script(json!({"rules": [{"on": "template_send", "expire_token": true, "count": 1}]})).await;
    let dead = client.send_template(&token, &message).await;
    let Sending::Refused { reaction, .. } = dead else {
        panic!("refused: {dead:?}");
    };
    assert_eq!(reaction, Reaction::RefreshToken);
    let token = client.stable_token(true).await.expect("another").token;
    for errcode in [43_004, 45_009, 47_003] {
        world.script(json!({"rules": [{"on": "template_send", "errcode": errcode, "count": 1}]})).await;
        let refused = client.send_template(&token, &message).await;
        assert!(matches!(refused, Sending::Refused { errcode: told, .. } if told == errcode), "{refused:?}");
    }
}
