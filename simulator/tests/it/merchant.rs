//! A merchant in few lines: signs requests, verifies answers, takes callbacks.

use std::{
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    rand::SystemRandom,
    signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey},
};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{net::TcpListener, sync::mpsc};
use wechat_sim::{Keys, Running, Settings};

/// One set of keys for all tests: RSA keys are slow to make.
pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::generate().unwrap());
pub(crate) const MCHID: &str = "1900000109";
pub(crate) const APPID: &str = "wx8888888888888888";

/// A merchant and the WeChat it talks to.
pub(crate) struct Merchant {
    pub(crate) wechat: Running,
    pub(crate) http: reqwest::Client,
    pub(crate) notify_url: String,
    callbacks: mpsc::UnboundedReceiver<Callback>,
    /// Statuses to answer the next callbacks with; 204 when it is empty.
    pub(crate) answers: Arc<Mutex<Vec<StatusCode>>>,
    /// Sent as `Wechatpay-Serial` when set.
    pub(crate) asks_for: Option<String>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A callback as it came.
#[derive(Debug)]
pub(crate) struct Callback {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) at: tokio::time::Instant,
}

impl Merchant {
    pub(crate) async fn new() -> Self {
        Self::with(Settings { callback_speed: 300.0, ..Settings::default() }).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let wechat = start(settings).await;
        let inbox = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let notify_url = format!("http://{}/notify", inbox.local_addr().unwrap());
        let (sender, callbacks) = mpsc::unbounded_channel();
        let answers = Arc::new(Mutex::new(Vec::<StatusCode>::new()));
        let to_give = Arc::clone(&answers);
        let take = async move |headers: HeaderMap, body: Bytes| {
            sender.send(Callback { headers, body, at: tokio::time::Instant::now() }).unwrap();
            let mut answers = to_give.lock().unwrap();
            if answers.is_empty() { StatusCode::NO_CONTENT } else { answers.remove(0) }
        };
        let app = Router::new().fallback(take);
        tokio::spawn(async move { axum::serve(inbox, app).await });
        let http = reqwest::Client::builder().user_agent("tiny-merchant").no_proxy().build().unwrap();
        Self { wechat, http, notify_url, callbacks, answers, asks_for: None }
    }

    /// Another WeChat in the place of the one there was.
    pub(crate) async fn restart(&mut self, settings: Settings) {
        self.wechat = start(settings).await;
    }

    pub(crate) fn native(&self, out_trade_no: &str) -> Value {
        json!({
            "appid": APPID, "mchid": MCHID, "description": "陶艺课 10月1日", "out_trade_no": out_trade_no,
            "notify_url": self.notify_url, "amount": {"total": 20000, "currency": "CNY"},
        })
    }

    /// Orders and answers the code_url.
    pub(crate) async fn ordered(&self, out_trade_no: &str) -> String {
        let answer = self.post("/v3/pay/transactions/native", &self.native(out_trade_no)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["code_url"].as_str().unwrap().to_owned()
    }

    /// Orders, pays, and answers the transaction id.
    pub(crate) async fn paid(&self, out_trade_no: &str) -> String {
        self.ordered(out_trade_no).await;
        let (status, receipt) = self.sim("/_sim/pay", &json!({"out_trade_no": out_trade_no})).await;
        assert_eq!(status, 200, "{receipt}");
        receipt["transaction_id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn query(&self, out_trade_no: &str) -> Answer {
        self.get(&format!("/v3/pay/transactions/out-trade-no/{out_trade_no}?mchid={MCHID}")).await
    }

    pub(crate) async fn close(&self, out_trade_no: &str) -> Answer {
        let path = format!("/v3/pay/transactions/out-trade-no/{out_trade_no}/close");
        self.post(&path, &json!({"mchid": MCHID})).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, String::new()).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, body.to_string()).await.unwrap()
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: String) -> reqwest::Result<Answer> {
        let authorization = authorize(&method, path, &body, OffsetDateTime::now_utc());
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.wechat.url))
            .header("Authorization", authorization)
            .header("Accept", "application/json");
        if let Some(serial) = &self.asks_for {
            request = request.header("Wechatpay-Serial", serial);
        }
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json").body(body);
        }
        Answer::read(request.send().await?).await
    }

    /// One of the simulator's own strings.
    pub(crate) async fn sim(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self.http.post(format!("{}{path}", self.wechat.url)).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub(crate) async fn script(&self, rules: Value) {
        let (status, answer) = self.sim("/_sim/script", &json!({"rules": rules})).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub(crate) async fn ledger(&self) -> Value {
        self.http.get(format!("{}/_sim/ledger", self.wechat.url)).send().await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn callback(&mut self) -> Callback {
        let wait = tokio::time::timeout(Duration::from_secs(10), self.callbacks.recv());
        wait.await.expect("a callback comes in time").unwrap()
    }

    /// Waits until the simulator has no callback left to send.
    pub(crate) async fn callbacks_are_done(&self) {
        let done = async {
            let url = format!("{}/healthz", self.wechat.url);
            loop {
                let health: Value = self.http.get(&url).send().await.unwrap().json().await.unwrap();
                if health["callbacks_under_way"] == 0 {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), done).await.expect("callbacks come to an end");
    }

    pub(crate) fn no_callback_waits(&mut self) -> bool {
        self.callbacks.is_empty()
    }
}

async fn start(settings: Settings) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    wechat_sim::start(settings, KEYS.clone(), listener).unwrap()
}

impl Answer {
    pub(crate) async fn read(response: reqwest::Response) -> reqwest::Result<Self> {
        Ok(Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?,
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and code of an error.
    pub(crate) fn error(&self) -> (u16, String) {
        assert!(!self.headers.contains_key("Wechatpay-Signature"), "errors are not signed");
        assert!(self.headers.contains_key("Request-ID"));
        (self.status, self.json()["code"].as_str().unwrap().to_owned())
    }

    pub(crate) fn is_genuine(&self) -> bool {
        is_genuine(&self.headers, &self.body)
    }
}

impl Callback {
    pub(crate) fn is_genuine(&self) -> bool {
        is_genuine(&self.headers, &self.body)
    }

    pub(crate) fn envelope(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn opened(&self) -> Value {
        open(&self.envelope()["resource"])
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

pub(crate) fn authorize(method: &Method, target: &str, body: &str, now: OffsetDateTime) -> String {
    let (timestamp, nonce) = (now.unix_timestamp(), "593BEC0C930BF1AFEB40B4A08C8FB242");
    let signature = sign(&format!("{method}\n{target}\n{timestamp}\n{nonce}\n{body}\n"));
    let serial_no = &KEYS.merchant_serial_no;
    format!(
        "WECHATPAY2-SHA256-RSA2048 mchid=\"{MCHID}\",nonce_str=\"{nonce}\",timestamp=\"{timestamp}\",\
         serial_no=\"{serial_no}\",signature=\"{signature}\""
    )
}

pub(crate) fn sign(message: &str) -> String {
    let (_, pem) = x509_parser::pem::parse_x509_pem(KEYS.merchant_private_key_pem.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(&pem.contents).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
    BASE64_STANDARD.encode(signature)
}

/// By the key that `Wechatpay-Serial` names, over the raw body, inside five minutes.
pub(crate) fn is_genuine(headers: &HeaderMap, body: &[u8]) -> bool {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let timestamp: i64 = header("Wechatpay-Timestamp").parse().unwrap_or_default();
    let fresh = (OffsetDateTime::now_utc().unix_timestamp() - timestamp).abs() < 300;
    let message =
        [header("Wechatpay-Timestamp").as_bytes(), header("Wechatpay-Nonce").as_bytes(), body, b""].join(&b'\n');
    fresh
        && header("Wechatpay-Signature-Type") == "WECHATPAY2-SHA256-RSA2048"
        && public_key(header("Wechatpay-Serial"))
            .is_some_and(|key| verifies(&key, &message, header("Wechatpay-Signature")))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn verifies(spki: &[u8], message: &[u8], signature: &str) -> bool {
    use x509_parser::prelude::FromDer as _;
    let (_, key) = x509_parser::x509::SubjectPublicKeyInfo::from_der(spki).unwrap();
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &key.subject_public_key.data);
    BASE64_STANDARD.decode(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
}

pub(crate) fn spki(pem: &str) -> Vec<u8> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap().1.contents
}

fn public_key(serial: &str) -> Option<Vec<u8>> {
    if serial == KEYS.public_key_id {
        return Some(spki(&KEYS.public_key_pem));
    }
    let certificate = KEYS.platform_certificates.iter().find(|certificate| certificate.serial_no == serial)?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.pem.as_bytes()).unwrap();
    Some(pem.parse_x509().unwrap().public_key().raw.to_vec())
}

/// Decrypts a `resource`, or an `encrypt_certificate`.
pub(crate) fn open(resource: &Value) -> Value {
    serde_json::from_slice(&open_bytes(resource)).unwrap()
}

pub(crate) fn open_bytes(resource: &Value) -> Vec<u8> {
    let text = |name: &str| resource[name].as_str().unwrap();
    assert_eq!(text("algorithm"), "AEAD_AES_256_GCM");
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, KEYS.apiv3_key.as_bytes()).unwrap());
    let nonce = Nonce::try_assume_unique_for_key(text("nonce").as_bytes()).unwrap();
    let mut sealed = BASE64_STANDARD.decode(text("ciphertext")).unwrap();
    key.open_in_place(nonce, Aad::from(text("associated_data")), &mut sealed).unwrap().to_vec()
}
