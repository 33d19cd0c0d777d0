//! One exchange with WeChat Pay: sign the bytes, send those bytes, take the answer as bytes, check its signature,
//! and only then read it. Every exchange is logged and measured once.

use crate::crash;
use crate::wechat::account::PayAccount;
use crate::wechat::answers::{Call, Class, Inconclusive};
use crate::wechat::certificates::{self, CertificateFault, LearnGate};
use crate::wechat::connection::{Answer, http_client, measure, read, receive, spanned};
use crate::wechat::verify::SignatureFault;
use crate::wechat::{Ambient, aead::OpenFault};
use crate::{
    domain::timeline::{EntryKind, Trace},
    evidence::{Evidence, Mark},
    spans::{self, Kind, Span},
    trace,
};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, RequestBuilder, Url};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Calls WeChat Pay for one merchant. Cheap to share by reference; connections are kept and reused.
#[derive(Debug)]
pub struct PayClient {
    pub(super) account: Arc<PayAccount>,
    pub(super) ambient: Ambient,
    http: reqwest::Client,
    learn: Mutex<LearnGate>,
    /// Answers by which WeChat did what was asked, or spoke about the number; in the order of [`Call::ALL`].
    answered: [Evidence; Call::ALL.len()],
}

/// What was asked, byte for byte.
pub(super) struct Request {
    pub call: Call,
    /// Our number of what it is about: `out_trade_no` or `out_refund_no`, which begins with the order's.
    pub about: Option<String>,
    pub method: Method,
    pub url: Url,
    /// Empty for none.
    pub body: Vec<u8>,
}

/// An answer of the 2xx class which WeChat signed. Only [`PayClient::exchange`] makes one.
pub(super) struct Signed {
    pub status: u16,
    pub body: Vec<u8>,
}

/// What WeChat has in the way of platform certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificates {
    /// Serials now trusted.
    Held(Vec<String>),
    /// WeChat has none for this merchant, who works with the WeChat Pay public key alone.
    None,
}

impl PayClient {
    /// Fails only when the TLS library cannot start.
    pub fn new(account: Arc<PayAccount>, ambient: Ambient) -> reqwest::Result<Self> {
        let http = http_client(&account.base_url, account.timeout)?;
        Ok(Self { http, account, ambient, learn: Mutex::default(), answered: Default::default() })
    }

    /// The merchant this client speaks for.
    pub fn account(&self) -> &Arc<PayAccount> {
        &self.account
    }

    /// Makes the call and reads its signed answer with `conclude`, whose error says what was wrong with it.
    pub(super) async fn call<T>(
        &self,
        request: Request,
        conclude: impl FnOnce(&Signed) -> Result<T, String>,
    ) -> Result<T, Inconclusive> {
        let call = request.call;
        let mut record = Record::begin(call, request.about.clone());
        let outcome = match crash::around("wechat", call.label(), self.exchange(request, &mut record)).await {
            Ok(signed) => conclude(&signed)
                .map_err(|detail| Inconclusive::unknown(call, Some(signed.status), record.request_id.clone(), detail)),
            Err(inconclusive) => Err(inconclusive),
        };
        record.end(&outcome);
        match &outcome {
            Ok(_) | Err(Inconclusive { class: Class::Claimed(_), .. }) => self.answered[call as usize].note(),
            Err(Inconclusive {
                class: Class::Unknown | Class::Busy | Class::Refused | Class::Misconfigured, ..
            }) => {}
        }
        outcome
    }

    /// A mark that is passed once WeChat answers a call of this kind as it should.
    pub fn answered(&self, call: Call) -> Mark {
        self.answered[call as usize].mark()
    }

    /// Fetches the platform certificates and trusts them in place of the ones before. To be called at start and
    /// every [`certificates::REFRESH_EVERY`]; does nothing when they are switched off.
    pub async fn refresh_certificates(&self) -> Result<Certificates, Inconclusive> {
        if !self.account.platform_certificates {
            return Ok(Certificates::None);
        }
        self.learn_gate(LearnGate::reset);
        self.fetch_certificates().await
    }

    /// Looks whether a serial we do not hold belongs to a new certificate: one refresh per serial, at most one a
    /// minute in all. True when it is held now and the message deserves a second look.
    pub async fn learn_serial(&self, serial: &str) -> bool {
        let now = (self.ambient.now)();
        if !self.account.platform_certificates || !self.learn_gate(|gate| gate.allows(serial, now)) {
            return false;
        }
        match self.fetch_certificates().await {
            Ok(Certificates::Held(serials)) => serials.iter().any(|held| held == serial),
            Ok(Certificates::None) | Err(_) => false,
        }
    }

    async fn fetch_certificates(&self) -> Result<Certificates, Inconclusive> {
        let mut record = Record::begin(Call::Certificates, None);
        let outcome = match self.list_certificates(&mut record).await {
            Err(doubt) if self.has_no_certificates(&doubt) => Ok(Certificates::None),
            outcome => outcome,
        };
        record.end(&outcome);
        if outcome == Ok(Certificates::None) && self.learn_gate(LearnGate::close) {
            tracing::info!("merchant has no platform certificates; the WeChat Pay public key alone verifies");
        }
        outcome
    }

    /// Whether this answer means that WeChat keeps no certificates for a merchant with a public key: 404, and of some
    /// merchants 403. Without a public key it means that nothing can be verified.
    fn has_no_certificates(&self, doubt: &Inconclusive) -> bool {
        matches!(doubt.status, Some(403 | 404))
            && doubt.class != Class::Busy
            && self.account.keys.platform.preferred().is_some()
    }

    async fn list_certificates(&self, record: &mut Record) -> Result<Certificates, Inconclusive> {
        let request = Request {
            call: Call::Certificates,
            about: None,
            method: Method::GET,
            url: self.url(&["v3", "certificates"], None),
            body: Vec::new(),
        };
        let answer = self.send(request, record).await?;
        let now = (self.ambient.now)();
        let keys = &self.account.keys;
        let list = certificates::open_list(&answer.headers, &answer.body, now, keys);
        let list = list.map_err(|fault| {
            let unknown = record.unknown(answer.status, fault.to_string());
            match fault {
                CertificateFault::Sealed(OpenFault::Authentication) => {
                    Inconclusive { class: Class::Misconfigured, ..unknown }
                }
                _ => unknown,
            }
        })?;
        keys.platform.replace_certificates(list);
        Ok(Certificates::Held(keys.platform.serials()))
    }

    fn learn_gate<T>(&self, with: impl FnOnce(&mut LearnGate) -> T) -> T {
        with(&mut self.learn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn exchange(&self, request: Request, record: &mut Record) -> Result<Signed, Inconclusive> {
        let answer = self.send(request, record).await?;
        let verify = || {
            let now = (self.ambient.now)();
            let keys = &self.account.keys.platform;
            keys.verify(&answer.headers, &answer.body, now)
        };
        let checked = match verify() {
            Err(SignatureFault::UnknownSerial(serial)) if self.learn_serial(&serial).await => verify(),
            checked => checked,
        };
        match checked {
            Ok(()) => Ok(Signed { status: answer.status, body: answer.body }),
            Err(fault) => Err(record.unknown(answer.status, fault.to_string())),
        }
    }

    /// Signs and sends; an answer outside the 2xx class, or a 202, is already an error here.
    async fn send(&self, request: Request, record: &mut Record) -> Result<Answer, Inconclusive> {
        let call = request.call;
        let answer = receive(self.signed_request(request)).await;
        let answer = answer.map_err(|detail| Inconclusive::unknown(call, None, None, detail))?;
        record.note_answer(answer.status, &answer.headers);
        match answer.status {
            200..=299 if answer.status != 202 => Ok(answer),
            status => Err(Inconclusive::from_answer(call, status, record.request_id.clone(), &answer.body)),
        }
    }

    /// As [`PayClient::send`], for a body that is too large to be held, and that nobody signs: to be read piece by
    /// piece, all of it within `whole`.
    pub(super) async fn open(
        &self,
        request: Request,
        whole: Duration,
        record: &mut Record,
    ) -> Result<reqwest::Response, Inconclusive> {
        let call = request.call;
        let unknown = |detail| Inconclusive::unknown(call, None, None, detail);
        let builder = self.signed_request(request).timeout(whole);
        let began = tokio::time::timeout(self.account.timeout, builder.send()).await;
        let response = began.map_err(|_| unknown("no answer in time".to_owned()))?;
        let response = response.map_err(|error| unknown(error.without_url().to_string()))?;
        record.note_answer(response.status().as_u16(), response.headers());
        if response.status().as_u16() == 200 {
            return Ok(response);
        }
        let answer = read(response).await.map_err(unknown)?;
        Err(Inconclusive::from_answer(call, answer.status, record.request_id.clone(), &answer.body))
    }

    fn signed_request(&self, request: Request) -> RequestBuilder {
        let Request { method, url, body, .. } = request;
        // What is signed is what the URL type will send, whatever it normalised.
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let authorization = self.account.merchant_key.get().authorization(
            method.as_str(),
            &target,
            (self.ambient.now)(),
            &(self.ambient.nonce)(),
            &body,
        );
        let mut builder =
            self.http.request(method, url).header(ACCEPT, "application/json").header(AUTHORIZATION, authorization);
        if let Some(id) = self.account.keys.platform.preferred() {
            builder = builder.header("Wechatpay-Serial", id);
        }
        if !body.is_empty() {
            builder = builder.header(CONTENT_TYPE, "application/json").body(body);
        }
        builder
    }

    /// The base URL with these path segments, each percent-encoded, and our mchid as the query where asked.
    pub(super) fn url(&self, segments: &[&str], mchid: Option<&str>) -> Url {
        let mut url = self.account.base_url.clone();
        url.set_path(&segments.iter().map(|s| encode(s)).collect::<Vec<_>>().join("/"));
        url.set_query(mchid.map(|mchid| format!("mchid={}", encode(mchid))).as_deref());
        url
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters; `|` and `*` are legal in an out_trade_no.
fn encode(segment: &str) -> String {
    segment
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The order of an `out_trade_no` or `out_refund_no`.
fn order_of(about: &str) -> &str {
    about.split_once('-').map_or(about, |(order, _)| order)
}

/// One exchange for log, metrics and traces.
pub(super) struct Record {
    call: Call,
    about: Option<String>,
    started: Instant,
    status: Option<u16>,
    request_id: Option<String>,
    span: Span,
}

impl Record {
    pub(super) fn begin(call: Call, about: Option<String>) -> Self {
        let order = about.as_deref().map(order_of);
        let span = Span::begin(Kind::Client, "wechat", call.label(), spans::context_about(order));
        Self { call, about, started: Instant::now(), status: None, request_id: None, span }
    }

    fn note_answer(&mut self, status: u16, headers: &HeaderMap) {
        self.status = Some(status);
        self.request_id = headers.get("request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    }

    fn unknown(&self, status: u16, detail: String) -> Inconclusive {
        Inconclusive::unknown(self.call, Some(status), self.request_id.clone(), detail)
    }

    /// Leaves a trace of the exchange at its order.
    fn note(&self, label: &str, doubt: Option<&Inconclusive>) {
        let Some(about) = self.about.as_ref().filter(|_| trace::is_kept()) else { return };
        let order = order_of(about);
        let details = serde_json::json!({
            "about": about, "status": self.status, "code": doubt.and_then(|doubt| doubt.code.as_ref()),
            "detail": doubt.map(|doubt| &doubt.detail),
        });
        trace::note(Trace {
            who: Some("wechat".into()),
            request_id: self.request_id.clone(),
            details: Some(details),
            ..trace::took(order, EntryKind::Wechat, self.call.label(), label, self.started)
        });
    }

    pub(super) fn end<T>(mut self, outcome: &Result<T, Inconclusive>) {
        let took = self.started.elapsed();
        let (call, request_id) = (self.call.label(), self.request_id.as_deref());
        let label = match outcome {
            Ok(_) => "ok",
            Err(inconclusive) => inconclusive.class.label(),
        };
        let code = outcome.as_ref().err().and_then(|inconclusive| inconclusive.code.as_deref());
        let duration_ms = measure(call, label, code, took);
        self.note(label, outcome.as_ref().err());
        spanned(&mut self.span, self.status, self.request_id.as_deref(), label, code);
        match outcome {
            Ok(_) => tracing::info!(call, outcome = label, request_id, duration_ms, "WeChat answered"),
            Err(Inconclusive { status, code, detail, .. }) => tracing::warn!(
                call,
                outcome = label,
                status,
                code,
                request_id,
                duration_ms,
                detail,
                "WeChat's answer settles nothing"
            ),
        }
    }
}
