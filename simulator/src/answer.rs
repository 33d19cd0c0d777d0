//! How Pay v3 answers: successes signed, also the empty ones; errors unsigned; every answer with a `Request-ID`.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Response, StatusCode, header},
    response::IntoResponse,
};

use crate::{
    app::App,
    keys::Signer,
    random,
    refusal::Refusal,
    seal::Seal,
    wire::Wire,
    world::{
        Reply,
        script::{Fault, Forgery, Lost, Scripted},
    },
};

/// Who said no.
pub(crate) enum No {
    /// WeChat's rules.
    Rule(Refusal),
    /// The script.
    Script(Scripted),
}

/// Answers as the outcome and the script say, after the script's latency.
pub(crate) async fn answer(outcome: Result<Reply, No>, signer: &Signer, fault: &Fault, wire: &Wire) -> Response<Body> {
    if fault.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(fault.latency_ms)).await;
    }
    if let Some(lost) = fault.lost {
        return self::lost(lost, wire);
    }
    match outcome {
        Ok(reply) => signed(&reply, signer, fault.forgery),
        Err(No::Rule(refusal)) => refused(&refusal),
        Err(No::Script(error)) => scripted(&error),
    }
}

/// The answer that the client gets, or does not get, when the real one is lost.
pub(crate) fn lost(lost: Lost, wire: &Wire) -> Response<Body> {
    match lost {
        // This response is never written: the connection breaks first.
        Lost::Dropped => {
            wire.cut();
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        Lost::Error => refused(&Refusal::new(500, "SYSTEM_ERROR", "系统异常，请稍后重试", 268_435_456)),
    }
}

fn signed(reply: &Reply, signer: &Signer, forgery: Option<Forgery>) -> Response<Body> {
    let (status, body) = match reply {
        Reply::Document(document) => (StatusCode::OK, document.to_string()),
        Reply::Nothing => (StatusCode::NO_CONTENT, String::new()),
    };
    let seal = Seal::new(signer, body.as_bytes(), App::clock(), forgery);
    let mut response = Response::builder().status(status).header("Request-ID", request_id(0));
    if !body.is_empty() {
        response = response.header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    }
    for (name, value) in seal.headers() {
        response = response.header(name, value);
    }
    response.body(body.into()).expect("our headers are visible ASCII")
}

/// An error, unsigned as WeChat's are.
pub(crate) fn refused(refusal: &Refusal) -> Response<Body> {
    Response::builder()
        .status(refusal.status)
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .header("Request-ID", request_id(refusal.sub_code))
        .body(refusal.to_json().to_string().into())
        .expect("statuses are between 400 and 599 and our headers visible ASCII")
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response<Body> {
        refused(&self)
    }
}

/// The error a script asked for.
pub(crate) fn scripted(error: &Scripted) -> Response<Body> {
    if error.html {
        let page = format!("<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>", error.status);
        return Response::builder()
            .status(error.status)
            .header(header::CONTENT_TYPE, "text/html")
            .body(page.into())
            .expect("statuses are between 400 and 599");
    }
    let code = error.code.as_deref().unwrap_or(match error.status {
        401 => "SIGN_ERROR",
        403 => "RULE_LIMIT",
        404 => "RESOURCE_NOT_EXISTS",
        429 => "FREQUENCY_LIMITED",
        400..500 => "INVALID_REQUEST",
        502 | 503 => "SERVICE_UNAVAILABLE",
        _ => "SYSTEM_ERROR",
    });
    let message = error.message.as_deref().unwrap_or("系统异常，请稍后重试");
    refused(&Refusal::new(error.status, code, message, 268_435_456))
}

/// Its last part is the number that support asks for; 0 is fine.
fn request_id(sub_code: u32) -> String {
    format!("08{}-{sub_code}", random::hex(30))
}
