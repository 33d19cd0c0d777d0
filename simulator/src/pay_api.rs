//! The Pay v3 endpoints: from a verified request to a deed in the world, and its signed answer.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::Response,
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    app::App,
    call::Call,
    fields::{self, Field},
    random,
    refusal::Refusal,
    seal,
    settings::KeyMode,
    world::{
        Outcome, Reply, china,
        order::TradeType,
        script::{Operation, Rotation},
    },
};

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
        .route("/v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund", post(refund_abnormal))
        .route("/v3/bill/tradebill", get(trade_bill))
        .route("/v3/billdownload/file", get(bill_file))
        .route("/v3/certificates", get(certificates))
        .route("/v3/security/echo", post(echo))
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

/// Another way out for the money of an ABNORMAL refund.
async fn refund_abnormal(Path(refund_id): Path<String>, call: Call) -> Answer {
    let parameters = call.read(fields::REFUND_ABNORMAL)?;
    let encrypted = ["bank_account", "real_name"].iter().any(|name| parameters.get(name).is_some());
    if encrypted && call.asked_serial().is_none() {
        return Err(Refusal::field("header", "Wechatpay-Serial", &Value::Null, "加密敏感信息时为必填参数"));
    }
    let number = parameters["out_refund_no"].as_str().unwrap_or_default().to_owned();
    let answer = call.perform(
        Operation::RefundAbnormal,
        |world| world.order_of_refund(&number).to_owned(),
        |world, now, _| world.refund_abnormal(&refund_id, &parameters, now),
    );
    Ok(answer.await)
}

async fn trade_bill(call: Call) -> Response<Body> {
    let asked = ["bill_date", "bill_type", "tar_type"].map(|name| call.query(name).unwrap_or_default());
    let base = format!("http://{}", call.host());
    call.perform(
        Operation::Bill,
        |_| asked[0].clone(),
        |world, now, _| {
            let [date, kind, packing] = &asked;
            world.trade_bill(date, kind, packing, &base, now)
        },
    )
    .await
}

async fn bill_file(call: Call) -> Response<Body> {
    let token = call.query("token").unwrap_or_default();
    call.perform(
        Operation::BillDownload,
        |world| world.day_of_link(&token),
        |world, now, fault| world.bill_file(&token, fault.damaged, now),
    )
    .await
}

async fn certificates(call: Call) -> Response<Body> {
    let keys = call.app.change(|world| world.play.keys());
    let listed = list_certificates(&call.app, keys.mode.unwrap_or(call.app.settings.key_mode), keys.rotation);
    call.perform(Operation::Certificates, |_| String::new(), |_, _, _| listed).await
}

/// A test of keys, clock and address. The encrypted message is not opened, and nothing encrypted is answered.
async fn echo(call: Call) -> Answer {
    let parameters = call.read(fields::ECHO)?;
    if call.asked_serial().is_none() {
        return Err(Refusal::field("header", "Wechatpay-Serial", &Value::Null, "为必填参数"));
    }
    let subject = parameters["echo_message"].as_str().unwrap_or_default().to_owned();
    let answer = call.perform(
        Operation::Echo,
        |_| subject,
        |world, now, _| {
            world.echo(&parameters, now);
            Ok(Reply::Document(json!({"echo_message": parameters["echo_message"]})))
        },
    );
    Ok(answer.await)
}

/// The certificates in force, each encrypted under the APIv3 key. A merchant of today has none.
fn list_certificates(app: &App, mode: KeyMode, rotation: Option<Rotation>) -> Outcome {
    if mode == KeyMode::PublicKey {
        return Err(Refusal::no_resource("无可用的平台证书，请在商户平台-API安全申请使用微信支付公钥"));
    }
    let listed = match rotation {
        None => 0..1,
        Some(Rotation::Listed | Rotation::Overlap | Rotation::Signing) => 0..2,
        Some(Rotation::Finished) => 1..2,
    };
    let apiv3_key = app.platform.apiv3(usize::MAX);
    let data: Vec<Value> = app.keys.platform_certificates[listed]
        .iter()
        .map(|certificate| {
            let nonce = random::text(12);
            let ciphertext = seal::encrypt(&apiv3_key, &nonce, "certificate", certificate.pem.as_bytes());
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
