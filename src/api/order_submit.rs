//! `POST /v1/orders`: takes a wish, puts it in the line, answers. Neither PostgreSQL nor WeChat is asked.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};
use utoipa::ToSchema;

use super::{
    Api, Inner,
    auth::{Caller, Customer},
    headers::{PREFERENCE_APPLIED, Wait, idempotency_key},
    names,
    noted::Asked,
    order_follow::Follow,
    order_request::OrderRequest,
    problem::{Kind, Problem, ProblemDocument},
    request::Context,
};
use crate::{
    cache::catalogue::{Card, Known},
    domain::{
        document::{OrderDocument, Snapshot},
        ids::OrderId,
        limits::Limit,
        message::{Message, OrderSubmitted},
        order::Status,
        session_rules::Sale,
    },
};

const BROKER_RETRY: Duration = Duration::from_secs(2);

/// A place in the line, not a seat.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Receipt {
    #[schema(value_type = String, example = "hf2m6qk0c9v1x8y4zt3w7p5rab")]
    order_id: OrderId,
    #[schema(example = "submitted")]
    status: Status,
}

/// Place an order
///
/// The order id is a pure function of user and `Idempotency-Key`: repeating a request, whatever happened to the
/// first, gives the same order and never a second one.
#[utoipa::path(
    post, path = "/v1/orders", tag = "orders", security(("bearer" = ["customer"])),
    request_body(content = OrderRequest, content_type = "application/json",
        example = json!({"schedule_id": "$schedule", "amount_fen": 20000})),
    params(
        ("Idempotency-Key" = String, Header, description = "Your name for this wish: 1–255 visible ASCII characters", example = "my-first-booking"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N (at most 10) seconds for the outcome"),
    ),
    responses(
        (status = 201, description = "With `Prefer: wait`: the QR code can be paid (or more has happened since)", body = OrderDocument,
            headers(("Location" = String), ("Preference-Applied" = String))),
        (status = 202, description = "In the line; the outcome is at `Location`", body = Receipt, headers(("Location" = String))),
        (status = 400, description = "`unreadable`, `idempotency-key-missing`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not a customer's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-schedule`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "With `Prefer: wait`: `sold-out`, `seat-taken` with `alternatives`. Also at once: `schedule-closed`, `not-on-sale` with the times, `limit-reached`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`too-large`: more than 16 KiB", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request` with every wrong field, `amount-mismatch`, `idempotency-key-reused`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "`too-many-requests`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
        (status = 503, description = "`broker-unavailable`, `overloaded`: repeat with the same key", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(super) async fn submit(
    State(api): State<Api>,
    Extension(context): Extension<Context>,
    Customer(caller): Customer,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let started = Instant::now();
    let key = idempotency_key(&headers)?;
    let wish = OrderRequest::read(&headers, body, caller.openid.is_some()).await?;
    let request_hash = wish.hash();
    let order_id = OrderId::derive(&api.order_id_prefix, &caller.user, &key);

    // From here on every change is heard, also one that comes before the broker's confirm.
    let waiting = Wait::wished(&headers).map(|wait| (wait, Follow::begin(&api, order_id.clone(), caller.user.clone())));
    let place_in_line = PlaceInLine { api: &api, caller: &caller, order_id: &order_id, request_hash: &request_hash };
    let taken = place_in_line.admit(&wish).await.inspect_err(|problem| {
        metrics::counter!(names::ORDERS_REFUSED, "problem" => problem.kind.slug()).increment(1);
    })?;

    let mut newest = taken;
    let asked = Asked {
        order: order_id.as_str(),
        what: "POST /v1/orders",
        who: format!("user:{}", caller.user),
        started: started.into_std(),
    };
    if newest.is_some() {
        asked.note(&context, "repeated");
    } else {
        asked.noted(&context, place_in_line.publish(&wish, &context).await)?;
    }

    let Some((wait, mut follow)) = waiting else {
        return Ok(receipt(order_id));
    };
    let deadline = started + wait.duration();
    let mut response = loop {
        if let Some(snapshot) = newest.take() {
            if snapshot.request_hash != request_hash {
                return Err(Problem::new(Kind::IdempotencyKeyReused));
            }
            if !matches!(snapshot.document.status, Status::Submitted | Status::Held) {
                break outcome(snapshot);
            }
        }
        match timeout_at(deadline, follow.next()).await {
            Ok(snapshot) => newest = Some(snapshot),
            Err(_) => break receipt(order_id),
        }
    };
    response.headers_mut().insert(PREFERENCE_APPLIED, wait.applied());
    Ok(response)
}

/// What stands between a readable wish and its place in the line.
struct PlaceInLine<'a> {
    api: &'a Inner,
    caller: &'a Caller,
    order_id: &'a OrderId,
    request_hash: &'a str,
}

impl PlaceInLine<'_> {
    /// Lets the wish in, or says why not. Gives the order's snapshot when a worker has taken this very order
    /// before: then there is nothing to publish.
    async fn admit(&self, wish: &OrderRequest) -> Result<Option<Snapshot>, Problem> {
        let Self { api, caller, order_id, request_hash } = *self;
        let (known, pace) = tokio::join!(
            api.cache.admit(order_id, request_hash, wish.schedule_id, &caller.user),
            api.limits.orders.take(&api.cache, caller.user.as_str()),
        );
        let pace = pace.map_err(|wait| Problem::new(Kind::TooManyRequests).retry_after(wait));
        // Away: an earlier body under this key simply stands, and the worker judges session and price.
        let Ok(known) = known else {
            return pace.map(|()| None);
        };
        let stored_hash = known.snapshot.as_ref().map(|snapshot| snapshot.request_hash.as_str());
        match known.earlier.as_deref().or(stored_hash) {
            Some(earlier) if earlier != request_hash => Err(Problem::new(Kind::IdempotencyKeyReused)),
            // What was let in once is not judged by today's price.
            Some(_) => pace.map(|()| known.snapshot.filter(|snapshot| snapshot.document.version > 0)),
            None => {
                let now = api.database_clock.now((api.now)());
                let verdict = judge(wish, known.schedule, known.limit, now).and(pace);
                if verdict.is_err() {
                    // Away: the same key will be refused with another body for a day; a new key helps.
                    let _ = api.cache.withdraw(order_id).await;
                }
                verdict.map(|()| None)
            }
        }
    }

    /// Publishes the wish; afterwards the broker has it, and Redis a note for those who ask before a worker did.
    async fn publish(&self, wish: &OrderRequest, context: &Context) -> Result<(), Problem> {
        let message = OrderSubmitted {
            order_id: self.order_id.clone(),
            user_id: self.caller.user.clone(),
            openid: self.caller.openid.clone(),
            schedule_id: wish.schedule_id,
            seat_no: wish.seat_no,
            amount_fen: wish.amount_fen,
            channel: wish.channel,
            request_hash: self.request_hash.to_owned(),
            submitted_at: (self.api.now)(),
            request_id: context.request_id.clone(),
        };
        let note = Snapshot::of_submitted(&message);
        let sent = self.api.publisher.publish(&Message::OrderSubmitted(message)).await;
        sent.map_err(|error| {
            tracing::warn!(order_id = %self.order_id, %error, "an order could not be published");
            Problem::new(Kind::BrokerUnavailable)
                .detail("The broker has not confirmed the order. Repeat the request with the same Idempotency-Key.")
                .retry_after(BROKER_RETRY)
        })?;
        metrics::counter!(names::ORDERS_SUBMITTED).increment(1);
        // Away: the order reads 404 until a worker has taken it.
        let _ = self.api.cache.note(&note).await;
        Ok(())
    }
}

/// Refuses what the catalogue, or a refusal of a moment ago, shows to be hopeless. `now` is the database's clock, where it
/// is known; the worker judges by it as well.
fn judge(
    wish: &OrderRequest,
    schedule: Known,
    limit: Option<Limit>,
    now: Option<OffsetDateTime>,
) -> Result<(), Problem> {
    match schedule {
        Known::Card(card) if !card.open => Err(Problem::new(Kind::ScheduleClosed)),
        Known::Card(Card { times: Some(times), .. }) if now.is_some_and(|now| times.at(now) != Sale::Open) => {
            Err(Problem::not_on_sale(Some(times)))
        }
        Known::Card(card) if card.price_fen != wish.amount_fen => {
            let words = format!("The session costs {} fen, not {}.", card.price_fen.0, wish.amount_fen.0);
            Err(Problem::new(Kind::AmountMismatch).detail(words))
        }
        Known::Absent => Err(Problem::new(Kind::NoSuchSchedule)),
        Known::Card(_) | Known::Unknown => {
            limit.map_or(Ok(()), |limit| Err(Problem::new(Kind::LimitReached).detail(limit.to_string())))
        }
    }
}

fn receipt(order_id: OrderId) -> Response {
    let location = location(&order_id);
    let receipt = Receipt { order_id, status: Status::Submitted };
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(receipt)).into_response()
}

/// A settled order as the answer to the request that asked for it.
fn outcome(snapshot: Snapshot) -> Response {
    let document = snapshot.document;
    if document.status == Status::Rejected {
        let kind = document.reason.as_deref().and_then(Kind::from_slug).unwrap_or(Kind::SoldOut);
        let problem = if kind == Kind::NotOnSale { Problem::not_on_sale(snapshot.sale) } else { Problem::new(kind) };
        return problem.about(document.order_id, document.alternatives).into_response();
    }
    let location = location(&document.order_id);
    (StatusCode::CREATED, [(header::LOCATION, location)], Json(document)).into_response()
}

/// The order's own address.
pub(super) fn location(order_id: &OrderId) -> HeaderValue {
    HeaderValue::try_from(format!("/v1/orders/{order_id}")).expect("an order id is digits and letters")
}
