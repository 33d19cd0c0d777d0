//! The Pay v3 endpoints: from a verified request to a deed in the world, and its signed answer.

use std::sync::Arc;

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{ConnectInfo, FromRequest, FromRequestParts as _, Path, Request},
    http::{Response, request::Parts, uri::PathAndQuery},
    response::IntoResponse,
    routing::{get, post},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    answer::{self, No},
    app::App,
    authorization,
    fields::{self, Field},
    random,
    refusal::Refusal,
    seal,
    settings::KeyMode,
    wire::Wire,
    world::{
        Outcome, Reply, World, china,
        order::TradeType,
        script::{Fault, Operation, Rotation},
    },
};

/// No request of these endpoints comes near it.
const LARGEST_BODY: usize = 64 * 1024;

/// Every endpoint of Pay v3 that is played here.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v3/pay/transactions/native", post(native))
        .route("/v3/pay/transactions/jsapi", post(jsapi))
        .route("/v3/pay/transactions/out-trade-no/{out_trade_no}", get(query))
        .route("/v3/pay/transactions/id/{transaction_id}", get(query_transaction))
        .route("/v3/pay/transactions/out-trade-no/{out_trade_no}/close", post(close))
        .route("/v3/refund/domestic/refunds", post(refund))
        .route("/v3/refund/domestic/refunds/{out_refund_no}", get(query_refund))
        .route("/v3/certificates", get(certificates))
}

/// Both arms are answers; the second is a refusal before any deed.
type Answer = Result<Response<Body>, Refusal>;

async fn native(call: Call) -> Answer {
    order(call, TradeType::Native, fields::NATIVE).await
}

async fn jsapi(call: Call) -> Answer {
    order(call, TradeType::Jsapi, fields::JSAPI).await
}

async fn order(call: Call, trade_type: TradeType, table: &'static [Field]) -> Answer {
    let parameters = call.read(table)?;
    let subject = parameters["out_trade_no"].as_str().unwrap_or_default().to_owned();
    Ok(call.perform(Operation::Order, |_| subject, |world, now, _| world.order(trade_type, parameters, now)).await)
}

async fn query(Path(out_trade_no): Path<String>, call: Call) -> Response<Body> {
    let mchid = call.query("mchid");
    let subject = out_trade_no.clone();
    call.perform(Operation::Query, |_| subject, |world, now, _| world.query(&out_trade_no, mchid.as_deref(), now)).await
}

async fn query_transaction(Path(transaction_id): Path<String>, call: Call) -> Response<Body> {
    let mchid = call.query("mchid");
    call.perform(
        Operation::Query,
        |world| world.order_of_transaction(&transaction_id).to_owned(),
        |world, now, _| world.query_transaction(&transaction_id, mchid.as_deref(), now),
    )
    .await
}

async fn close(Path(out_trade_no): Path<String>, call: Call) -> Answer {
    let parameters = call.read(fields::CLOSE)?;
    let mchid = parameters["mchid"].as_str().unwrap_or_default();
    let subject = out_trade_no.clone();
    Ok(call.perform(Operation::Close, |_| subject, |world, now, _| world.close(&out_trade_no, mchid, now)).await)
}

async fn refund(call: Call) -> Answer {
    let parameters = call.read(fields::REFUND)?;
    let about = parameters.clone();
    let answer = call.perform(
        Operation::Refund,
        |world| world.refund_subject(&about),
        |world, now, fault| world.refund(parameters, fault.refund, now),
    );
    Ok(answer.await)
}

async fn query_refund(Path(out_refund_no): Path<String>, call: Call) -> Response<Body> {
    call.perform(
        Operation::RefundQuery,
        |world| world.order_of_refund(&out_refund_no).to_owned(),
        |world, _, _| world.query_refund(&out_refund_no),
    )
    .await
}

async fn certificates(call: Call) -> Response<Body> {
    let (mode, rotation) = call.app.change(|world| world.play.keys());
    let listed = list_certificates(&call.app, mode.unwrap_or(call.app.settings.key_mode), rotation);
    call.perform(Operation::Certificates, |_| String::new(), |_, _, _| listed).await
}

/// The certificates in force, each encrypted under the APIv3 key. A merchant of today has none.
fn list_certificates(app: &App, mode: KeyMode, rotation: Option<Rotation>) -> Outcome {
    if mode == KeyMode::PublicKey {
        return Err(Refusal::no_resource("无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥"));
    }
    let count = if rotation.is_some() { 2 } else { 1 };
    let data: Vec<Value> = app.keys.platform_certificates[..count]
        .iter()
        .map(|certificate| {
            let nonce = random::text(12);
            let ciphertext = seal::encrypt(&app.keys, &nonce, "certificate", certificate.pem.as_bytes());
            json!({
                "serial_no": certificate.serial_no,
                "effective_time": china(certificate.not_before),
                "expire_time": china(certificate.not_after),
                "encrypt_certificate": {
                    "algorithm": "AEAD_AES_256_GCM",
                    "nonce": nonce,
                    "associated_data": "certificate",
                    "ciphertext": ciphertext,
                },
            })
        })
        .collect();
    Ok(Reply::Document(json!({"data": data})))
}

/// A request that has proved who sent it.
struct Call {
    app: Arc<App>,
    wire: Wire,
    parts: Parts,
    body: Bytes,
}

impl FromRequest<Arc<App>> for Call {
    type Rejection = Response<Body>;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Self::Rejection> {
        let (mut parts, body) = request.into_parts();
        let ConnectInfo(wire) =
            ConnectInfo::from_request_parts(&mut parts, app).await.map_err(IntoResponse::into_response)?;
        let body =
            to_bytes(body, LARGEST_BODY).await.map_err(|_| answer::refused(&Refusal::body("请求体过大或不完整")))?;
        let call = Self { app: Arc::clone(app), wire, parts, body };
        call.verify().map_err(|refusal| {
            tracing::info!(
                method = %call.parts.method, path = call.parts.uri.path(), code = refusal.code,
                reason = refusal.message, "refused a request"
            );
            answer::refused(&refusal)
        })?;
        Ok(call)
    }
}

impl Call {
    fn verify(&self) -> Result<(), Refusal> {
        let request = authorization::Request {
            method: &self.parts.method,
            target: self.parts.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            headers: &self.parts.headers,
            body: &self.body,
        };
        authorization::verify(&request, &self.app.keys, &self.app.settings.mchid, App::clock())?;
        match self.asked_serial() {
            Some(serial) if !self.app.knows_serial(serial) => {
                let issue = "平台证书序列号或微信支付公钥ID错误";
                Err(Refusal::field("header", "Wechatpay-Serial", &json!(serial), issue))
            }
            _ => Ok(()),
        }
    }

    fn read(&self, table: &[Field]) -> Result<Value, Refusal> {
        fields::read(table, &self.body).inspect_err(|refusal| {
            tracing::info!(path = self.parts.uri.path(), reason = refusal.message, "refused a body");
        })
    }

    fn asked_serial(&self) -> Option<&str> {
        self.parts.headers.get("Wechatpay-Serial").and_then(|serial| serial.to_str().ok())
    }

    /// One parameter of the query, as it stands there: none of ours needs decoding.
    fn query(&self, name: &str) -> Option<String> {
        let pairs = self.parts.uri.query().unwrap_or_default().split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    }

    /// Does the deed under the lock, then answers without it.
    async fn perform(
        self,
        operation: Operation,
        subject: impl FnOnce(&World) -> String,
        deed: impl FnOnce(&mut World, OffsetDateTime, &Fault) -> Outcome,
    ) -> Response<Body> {
        let now = self.app.now();
        let (outcome, fault, (mode, rotation)) = self.app.change(|world| {
            let subject = subject(world);
            let fault = world.play.draw(operation, &subject);
            let outcome = match &fault.instead {
                Some(error) => Err(No::Script(error.clone())),
                None => deed(world, now, &fault).map_err(No::Rule),
            };
            (outcome, fault, world.play.keys())
        });
        if let Err(No::Rule(refusal)) = &outcome {
            tracing::debug!(?operation, code = refusal.code, reason = refusal.message, "said no");
        }
        if operation == Operation::Refund {
            self.app.agenda_changed.notify_one();
        }
        let signer = self.app.answering_key(mode, rotation, self.asked_serial());
        answer::answer(outcome, signer, &fault, &self.wire).await
    }
}
