//! How Pay v3 answers: successes signed, also the empty ones; errors unsigned; every answer with a `Request-ID`.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Response, StatusCode, header},
    response::IntoResponse,
};
use time::OffsetDateTime;

use crate::{
    keys::Signer,
    random,
    refusal::Refusal,
    seal::Seal,
    wire::Wire,
    world::{
        Reply,
        fault::{Fault, Forgery, LostAs, Scripted},
    },
};

/// Who said no.
pub(crate) enum No {
    /// WeChat's rules.
    Rule(Refusal),
    /// The script.
    Script(Scripted),
}

/// With what, and as of when, an answer is signed.
pub(crate) struct Stamp<'a> {
    pub(crate) signer: &'a Signer,
    pub(crate) at: OffsetDateTime,
}

/// Answers as the outcome and the script say, after the script's latency.
pub(crate) async fn answer(
    outcome: Result<Reply, No>,
    stamp: &Stamp<'_>,
    fault: &Fault,
    wire: &Wire,
) -> Response<Body> {
    if fault.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(fault.latency_ms)).await;
    }
    if let Some(lost) = &fault.lost {
        return self::lost(lost, wire);
    }
    match outcome {
        Ok(Reply::Document(mut document)) => {
            fault.restate(&mut document);
            signed(StatusCode::OK, document.to_string(), stamp, fault.forgery)
        }
        Ok(Reply::Nothing) => signed(StatusCode::NO_CONTENT, String::new(), stamp, fault.forgery),
        Ok(Reply::File { bytes, media_type }) => unsigned(bytes, media_type),
        Err(No::Rule(refusal)) => refused(&refusal),
        Err(No::Script(error)) => scripted(&error),
    }
}

/// The answer that the client gets, or does not get, when the real one is lost.
pub(crate) fn lost(lost: &LostAs, wire: &Wire) -> Response<Body> {
    match lost {
        // This response is never written: the connection breaks first.
        LostAs::Dropped => {
            wire.cut();
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        LostAs::Error(error) => scripted(error),
    }
}

fn signed(status: StatusCode, body: String, stamp: &Stamp<'_>, forgery: Option<Forgery>) -> Response<Body> {
    let seal = Seal::new(stamp.signer, body.as_bytes(), stamp.at, forgery);
    let mut response = Response::builder().status(status).header("Request-ID", request_id(0));
    if !body.is_empty() {
        response = response.header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    }
    for (name, value) in seal.headers() {
        response = response.header(name, value);
    }
    response.body(body.into()).expect("our headers are visible ASCII")
}

/// A file, which proves itself by the hash that was told before (WeChat Pay: bill download).
fn unsigned(bytes: Vec<u8>, media_type: &'static str) -> Response<Body> {
    Response::builder()
        .header("Request-ID", request_id(0))
        .header(header::CONTENT_TYPE, media_type)
        .body(bytes.into())
        .expect("our headers are visible ASCII")
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
