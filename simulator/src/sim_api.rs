//! Strings to pull: pay as the customer, order misfortunes, turn the clock, read the book.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    app::App,
    world::{World, payment::Bill, script::Script},
};

/// Everything under `/_sim`, and whether it lives.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/_sim/pay", post(pay))
        .route("/_sim/script", post(play).get(playing))
        .route("/_sim/clock", post(advance))
        .route("/_sim/ledger", get(ledger))
        .route("/healthz", get(healthz))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Payment {
    code_url: Option<String>,
    out_trade_no: Option<String>,
    openid: Option<String>,
}

async fn pay(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let bill = read::<Payment>(&body).and_then(|payment| match (payment.code_url, payment.out_trade_no) {
        (Some(code_url), None) => Ok((Bill::CodeUrl(code_url), payment.openid)),
        (None, Some(out_trade_no)) => Ok((Bill::OutTradeNo(out_trade_no), payment.openid)),
        _ => Err("give either `code_url` or `out_trade_no`".to_owned()),
    });
    let (bill, openid) = match bill {
        Ok(bill) => bill,
        Err(reason) => return problem(StatusCode::BAD_REQUEST, "unreadable", &reason),
    };
    let paid = app.change(|world| world.pay(&bill, openid.as_deref(), app.now()));
    app.agenda_changed.notify_one();
    match paid {
        Ok(transaction_id) => Json(World::receipt(&transaction_id)).into_response(),
        Err(unpayable) => problem(StatusCode::CONFLICT, unpayable.reason(), unpayable.shown()),
    }
}

async fn play(State(app): State<Arc<App>>, body: Bytes) -> Response {
    match Script::parse(&body) {
        Ok(script) => {
            let document = json!(script);
            app.change(|world| world.play.start(script));
            Json(document).into_response()
        }
        Err(reason) => problem(StatusCode::BAD_REQUEST, "script", &reason),
    }
}

/// The script in force and how often each rule has struck.
async fn playing(State(app): State<Arc<App>>) -> Json<Value> {
    Json(app.change(|world| json!({"script": world.play.script(), "struck": world.play.struck()})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_seconds: u32,
}

async fn advance(State(app): State<Arc<App>>, body: Bytes) -> Response {
    match read::<Advance>(&body) {
        Ok(Advance { advance_seconds }) => {
            app.advance(advance_seconds);
            Json(json!({"now": crate::world::china(app.now())})).into_response()
        }
        Err(reason) => problem(StatusCode::BAD_REQUEST, "unreadable", &reason),
    }
}

async fn ledger(State(app): State<Arc<App>>) -> Json<Value> {
    Json(app.change(|world| world.ledger(app.now())))
}

async fn healthz(State(app): State<Arc<App>>) -> Json<Value> {
    let under_way = app.change(|world| world.callbacks_under_way());
    Json(json!({"status": "ok", "url": app.public_url, "callbacks_under_way": under_way}))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|reason| reason.to_string())
}

fn problem(status: StatusCode, reason: &str, detail: &str) -> Response {
    let document = json!({
        "type": format!("/problems/{reason}"),
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "reason": reason,
        "detail": detail,
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], document.to_string()).into_response()
}
