//! A customer's phone in a browser: shows what a scanned code asks for, and pays it or not.

use std::sync::Arc;

use axum::{
    Form, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;

use crate::{
    app::App,
    world::payment::{Bill, Offer},
};

const STYLE: &str = include_str!("phone.css");
/// The page runs nothing and loads nothing but its style.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'";

/// The phone's pages.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/phone", get(show))
        .route("/phone/pay", post(pay))
        .route("/phone/cancel", post(cancel))
        .route("/phone.css", get(async || ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)))
}

#[derive(Deserialize)]
struct Scanned {
    #[serde(default)]
    code_url: String,
    openid: Option<String>,
}

async fn show(State(app): State<Arc<App>>, Query(scanned): Query<Scanned>) -> Response {
    let offer = app.change(|world| world.offer(&Bill::CodeUrl(scanned.code_url.clone()), app.now()));
    match offer {
        Ok(offer) => page(StatusCode::OK, "确认支付", &cashier(&offer, &scanned)),
        Err(unpayable) => result(StatusCode::CONFLICT, unpayable.shown(), "请返回商家页面查看订单", false),
    }
}

async fn pay(State(app): State<Arc<App>>, Form(scanned): Form<Scanned>) -> Response {
    let bill = Bill::CodeUrl(scanned.code_url);
    let paid = app.change(|world| {
        let offer = world.offer(&bill, app.now());
        offer.and_then(|offer| Ok((offer, world.pay(&bill, scanned.openid.as_deref(), app.now())?)))
    });
    app.agenda_changed.notify_one();
    match paid {
        Ok((offer, _)) => {
            let hint = format!("{} ¥{}", escape(&offer.description), yuan(offer.total));
            result(StatusCode::OK, "支付成功", &hint, true)
        }
        Err(unpayable) => result(StatusCode::CONFLICT, unpayable.shown(), "请返回商家页面查看订单", false),
    }
}

async fn cancel() -> Response {
    result(StatusCode::OK, "已取消支付", "订单尚未支付，可重新扫码", false)
}

fn cashier(offer: &Offer, scanned: &Scanned) -> String {
    let openid = scanned.openid.as_deref().map_or_else(String::new, |openid| {
        format!(r#"<input type="hidden" name="openid" value="{}">"#, escape(openid))
    });
    format!(
        r#"<header>微信支付 · 模拟</header>
<h1 id="description">{description}</h1>
<p class="amount" id="amount"><small>¥</small>{amount}</p>
<dl><div><dt>收款方</dt><dd>模拟商户</dd></div><div><dt>商户单号</dt><dd>{number}</dd></div><div><dt>付款方式</dt><dd>零钱</dd></div></dl>
<footer>
<form method="post" action="/phone/pay"><input type="hidden" name="code_url" value="{code_url}">{openid}<button id="pay">支付</button></form>
<form method="post" action="/phone/cancel"><button id="cancel">取消</button></form>
</footer>"#,
        description = escape(&offer.description),
        amount = yuan(offer.total),
        number = escape(&offer.out_trade_no),
        code_url = escape(&scanned.code_url),
    )
}

/// `hint` is HTML.
fn result(status: StatusCode, said: &str, hint: &str, good: bool) -> Response {
    let mark = if good {
        r#"<div class="mark" aria-hidden="true">✓</div>"#
    } else {
        r#"<div class="mark no" aria-hidden="true">!</div>"#
    };
    let body = format!(r#"{mark}<h1 id="result" role="status">{said}</h1><p class="hint">{hint}</p>"#);
    page(status, said, &body)
}

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        r#"<!doctype html>
<html lang="zh-CN"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><link rel="stylesheet" href="/phone.css"></head>
<body><main>{body}</main></body></html>
"#
    );
    (status, [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-store")], Html(html))
        .into_response()
}

fn yuan(fen: i64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
