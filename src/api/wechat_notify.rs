//! `POST /v1/wechat/notify/…`: WeChat's callbacks. Verified over the raw bytes, opened, published, then answered.
//!
//! An answer of the 2xx class ends WeChat's re-sending (fifteen times over a day). So it is given only when the
//! broker has the message, or when there is nothing in the callback to keep.

use axum::{
    Extension,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use std::time::{Duration, Instant};
use tokio::sync::SemaphorePermit;

use super::{
    Api, Inner, fields, names,
    noted::Asked,
    problem::{Kind, Problem},
    request::Context,
};
use crate::{
    broker::PublishError,
    domain::{
        message::{Message, PaymentSeen, RefundSeen, Source},
        text::plain,
    },
    wechat::{
        notification::{ECHO_EVENT, NotificationFault, Unreadable, read_admitted_payment, read_admitted_refund},
        transaction::Standing,
        verify::{Admission, SignatureFault},
    },
};

/// A callback without unusual coupons has about 2 KiB.
const ORDINARY_BYTES_MAX: usize = 64 * 1024;
/// A ciphertext has up to 1 MiB in base64; the envelope around it some hundred bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024 + 16 * 1024;
/// How many bodies above [`ORDINARY_BYTES_MAX`] are read at the same moment.
pub(super) const LARGE_BODIES_MAX: usize = 4;
/// WeChat gives up after five seconds, answer included.
const BODY_WITHIN: Duration = Duration::from_secs(5);

/// Of WeChat's `Request-ID`, in characters; theirs have about 60.
const REQUEST_ID_MAX: usize = 128;

/// A callback that is not taken: why, for the metric, and what WeChat hears.
struct Refused {
    reason: &'static str,
    problem: Problem,
}

/// A callback that is done with.
enum Taken {
    Published,
    /// Nothing in it to act on; said why.
    Ignored(&'static str),
}

/// WeChat Pay: a payment
///
/// Signed by WeChat; needs no token. Answered once the broker has the message.
#[utoipa::path(
    post, path = "/v1/wechat/notify/payments", tag = "wechat", security(("wechat" = [])),
    request_body(content = String, content_type = "application/json", description = "WeChat Pay's signed and encrypted notification"),
    responses(
        (status = 204, description = "Taken"),
        (status = 400, description = "Unreadable: `{\"code\":\"FAIL\",\"message\":…}`", body = serde_json::Value),
        (status = 401, description = "Not WeChat's signature", body = serde_json::Value),
        (status = 413, description = "More than 1 MiB", body = serde_json::Value),
        (status = 503, description = "The broker is away; WeChat sends again", body = serde_json::Value),
    )
)]
pub(super) async fn payments(
    State(api): State<Api>,
    Extension(context): Extension<Context>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let taken = take_payment(&api, &context, &headers, body).await;
    answer("payment", taken)
}

/// WeChat Pay: a refund
///
/// Signed by WeChat; needs no token. Answered once the broker has the message.
#[utoipa::path(
    post, path = "/v1/wechat/notify/refunds", tag = "wechat", security(("wechat" = [])),
    request_body(content = String, content_type = "application/json", description = "WeChat Pay's signed and encrypted notification"),
    responses(
        (status = 204, description = "Taken"),
        (status = 400, description = "Unreadable: `{\"code\":\"FAIL\",\"message\":…}`", body = serde_json::Value),
        (status = 401, description = "Not WeChat's signature", body = serde_json::Value),
        (status = 413, description = "More than 1 MiB", body = serde_json::Value),
        (status = 503, description = "The broker is away; WeChat sends again", body = serde_json::Value),
    )
)]
pub(super) async fn refunds(
    State(api): State<Api>,
    Extension(context): Extension<Context>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let taken = take_refund(&api, &context, &headers, body).await;
    answer("refund", taken)
}

async fn take_payment(api: &Inner, context: &Context, headers: &HeaderMap, body: Body) -> Result<Taken, Refused> {
    let started = Instant::now();
    let admission = admit(api, headers)?;
    let raw_body = raw_body(api, headers, body).await?;
    let notification = match read_admitted_payment(&admission, &raw_body, &api.account.keys.api_v3) {
        Ok(notification) => notification,
        // WeChat's own word about something we never asked to be told; a refund's is on the wrong address.
        Err(NotificationFault::Unreadable(Unreadable::Event(event))) if !event.starts_with("REFUND.") => {
            return Ok(other_event(&event));
        }
        Err(fault) => return Err(refused(api, fault)),
    };
    let payment = match notification.content.standing() {
        Standing::Paid(payment) => *payment,
        Standing::Unpaid => return Ok(Taken::Ignored("unpaid")),
        Standing::Closed => return Ok(Taken::Ignored("closed")),
        Standing::Unclear(why) => return Err(unclear(why, &notification.id)),
    };
    let message = PaymentSeen {
        payment,
        source: Source::Callback { notification_id: notification.id },
        request_id: request_id(headers, context),
    };
    publish(api, context, "POST /v1/wechat/notify/payments", Message::PaymentSeen(message), started).await
}

async fn take_refund(api: &Inner, context: &Context, headers: &HeaderMap, body: Body) -> Result<Taken, Refused> {
    let started = Instant::now();
    let admission = admit(api, headers)?;
    let raw_body = raw_body(api, headers, body).await?;
    let notification = match read_admitted_refund(&admission, &raw_body, &api.account.keys.api_v3) {
        Ok(notification) => notification,
        Err(NotificationFault::Unreadable(Unreadable::Event(event))) if !event.starts_with("TRANSACTION.") => {
            return Ok(other_event(&event));
        }
        Err(fault) => return Err(refused(api, fault)),
    };
    let facts = notification
        .content
        .facts()
        .ok_or_else(|| unclear("unknown refund_status, or no refund at all", &notification.id))?;
    let message = RefundSeen {
        facts,
        source: Source::Callback { notification_id: notification.id },
        request_id: request_id(headers, context),
        taken_in: None,
    };
    publish(api, context, "POST /v1/wechat/notify/refunds", Message::RefundSeen(message), started).await
}

async fn publish(
    api: &Inner,
    context: &Context,
    what: &'static str,
    message: Message,
    started: Instant,
) -> Result<Taken, Refused> {
    let published = api.publisher.publish(&message).await;
    if let Some(order) = message.order() {
        let asked = Asked { order, what, who: "wechat".into(), started };
        asked.note(context, if published.is_ok() { "taken" } else { "broker-unavailable" });
    }
    published.map(|()| Taken::Published).map_err(|error| {
        tracing::warn!(%error, kind = message.kind(), "a callback could not be published; WeChat will send it again");
        Refused {
            reason: match error {
                PublishError::Unconfirmed(_) => "broker_unconfirmed",
                PublishError::Refused(_) => "broker_refused",
            },
            problem: Problem::new(Kind::BrokerUnavailable).retry_after(Duration::from_secs(15)),
        }
    })
}

/// WeChat's word, but not one that this release understands.
fn unclear(why: &'static str, id: &str) -> Refused {
    tracing::error!(why, id, "a callback is WeChat's, but not understood");
    Refused { reason: "unclear", problem: Problem::new(Kind::NotificationUnreadable).detail(why) }
}

/// Looks at the headers before a byte of the body is read: who cannot say when and with which key they signed is not
/// listened to.
fn admit(api: &Inner, headers: &HeaderMap) -> Result<Admission, Refused> {
    api.account.keys.platform.admit(headers, (api.now)()).map_err(|fault| refused(api, fault.into()))
}

async fn raw_body(api: &Inner, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Refused> {
    let refuse = |problem: Problem| Refused { reason: problem.kind.slug(), problem };
    let large = large_body(api, headers).map_err(refuse)?;
    let limit = if large.is_some() { BODY_BYTES_MAX } else { ORDINARY_BYTES_MAX };
    let bytes = tokio::time::timeout(BODY_WITHIN, fields::bytes(headers, body, limit)).await;
    bytes.unwrap_or_else(|_| Err(Problem::new(Kind::RequestTimeout))).map_err(refuse)
}

/// A place among the large bodies, for a body that announces itself as one.
fn large_body<'a>(api: &'a Inner, headers: &HeaderMap) -> Result<Option<SemaphorePermit<'a>>, Problem> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    match length {
        Some(length) if length > ORDINARY_BYTES_MAX && length <= BODY_BYTES_MAX => {
            let place = api.limits.large_callbacks.try_acquire();
            place.map(Some).map_err(|_| Problem::new(Kind::Overloaded).retry_after(Duration::from_secs(15)))
        }
        _ => Ok(None),
    }
}

/// An event that is none of ours: WeChat need not send it again.
fn other_event(event: &str) -> Taken {
    if event == ECHO_EVENT {
        tracing::info!("received WeChat's test callback; its signature and the APIv3 key are right");
        Taken::Ignored("echo")
    } else {
        Taken::Ignored("event")
    }
}

fn refused(api: &Inner, fault: NotificationFault) -> Refused {
    if let NotificationFault::Signature(SignatureFault::UnknownSerial(serial)) = &fault {
        // When WeChat sends again, in fifteen seconds, we know whether it is a new certificate's.
        let (wechat, serial) = (api.wechat.clone(), serial.clone());
        tokio::spawn(async move { wechat.learn_serial(&serial).await });
    }
    let kind = match &fault {
        NotificationFault::Signature(_) => Kind::BadSignature,
        NotificationFault::Unreadable(_) => Kind::NotificationUnreadable,
    };
    // The reason goes to the log alone, so that the sender of forged signatures learns nothing. Strangers control the rate:
    // the log gets one line per minute, the metric counts every refusal.
    match api.limits.refused_callbacks.take() {
        Some(unsaid) => tracing::warn!(%fault, unsaid, "a callback was refused"),
        None => tracing::debug!(%fault, "a callback was refused; the log has had its line"),
    }
    Refused { reason: fault.label(), problem: Problem::new(kind) }
}

/// WeChat's own, by which its support finds the call.
fn request_id(headers: &HeaderMap, context: &Context) -> String {
    let theirs = headers.get("request-id").and_then(|id| id.to_str().ok());
    plain(theirs.unwrap_or(&context.request_id), REQUEST_ID_MAX)
}

fn answer(kind: &'static str, taken: Result<Taken, Refused>) -> Result<StatusCode, Problem> {
    let (outcome, reason) = match &taken {
        Ok(Taken::Published) => ("published", ""),
        Ok(Taken::Ignored(reason)) => ("ignored", *reason),
        Err(refused) => ("refused", refused.reason),
    };
    metrics::counter!(names::CALLBACKS, "kind" => kind, "outcome" => outcome, "reason" => reason).increment(1);
    taken.map(|_| StatusCode::NO_CONTENT).map_err(|refused| refused.problem)
}
