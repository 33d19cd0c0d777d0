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
    world::{World, bill, china, china_date, payment::Bill, refund::StaffRefund, script::Script},
};

/// Everything under `/_sim`, and whether it lives.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/_sim/pay", post(pay))
        .route("/_sim/refund", post(refund_by_staff))
        .route("/_sim/script", post(play).get(playing))
        .route("/_sim/clock", post(turn_clock))
        .route("/_sim/bill", post(close_day))
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

/// Staff refund in the merchant platform.
async fn refund_by_staff(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let wish = match read::<StaffRefund>(&body) {
        Ok(wish) => wish,
        Err(reason) => return problem(StatusCode::BAD_REQUEST, "unreadable", &reason),
    };
    let refunded = app.change(|world| world.refund_by_staff(wish, app.now()));
    app.agenda_changed.notify_one();
    match refunded {
        Ok(document) => Json(json!({
            "out_refund_no": document["out_refund_no"], "refund_id": document["refund_id"],
            "refund": document["amount"]["refund"],
        }))
        .into_response(),
        Err(refusal) => problem(StatusCode::CONFLICT, "refused", &refusal.message),
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
struct Turn {
    #[serde(default)]
    advance_seconds: u32,
    skew_seconds: Option<i32>,
}

async fn turn_clock(State(app): State<Arc<App>>, body: Bytes) -> Response {
    match read::<Turn>(&body) {
        Ok(Turn { advance_seconds, skew_seconds }) => {
            app.advance(advance_seconds);
            if let Some(seconds) = skew_seconds {
                app.skew(seconds);
            }
            Json(json!({"now": china(app.now()), "stamps": china(app.clock())})).into_response()
        }
        Err(reason) => problem(StatusCode::BAD_REQUEST, "unreadable", &reason),
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Day {
    /// `yyyy-MM-DD`, China's; today by default.
    date: Option<String>,
}

/// Closes a day and all before it; what is in its bill, differences included, stands until it is closed again.
async fn close_day(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let day = if body.is_empty() { Ok(Day::default()) } else { read::<Day>(&body) };
    let date = day.and_then(|day| {
        let today = || Ok(china_date(app.now()));
        day.date.map_or_else(today, |date| bill::parse_date(&date).ok_or("`date` is like 2026-11-22".to_owned()))
    });
    match date {
        Ok(date) => Json(app.change(|world| world.close_day(date, app.now()))).into_response(),
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

pub(crate) fn problem(status: StatusCode, reason: &str, detail: &str) -> Response {
    let document = json!({
        "type": format!("/problems/{reason}"),
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "reason": reason,
        "detail": detail,
    });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], document.to_string()).into_response()
}
