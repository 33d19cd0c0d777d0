//! `POST /v1/ops/schedules`: a new session.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use time::Duration;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::{
    Api,
    auth::Operator,
    fields::{self, course_id, moment, number},
    headers::optional_idempotency_key,
    problem::{FieldError, Kind, Problem, ProblemDocument},
};
use crate::{
    desk::{self, schedules::Added},
    domain::{
        calendar::Moment,
        document::ScheduleDocument,
        ids::{CourseId, ScheduleId},
        schedule::{Capacity, NewSchedule, Price},
        session_rules::{GivenRules, RefundRule, RefundRules, SeatsPerCustomer},
        text::{Title, Unfit},
    },
};

const BODY_BYTES_MAX: usize = 4 * 1024;

/// A session to be added.
#[derive(Debug, ToSchema)]
#[schema(as = NewScheduleRequest)]
pub(in crate::api) struct Wish {
    /// Seats in the room.
    #[schema(value_type = i32, minimum = 1, maximum = 100_000, example = 20)]
    capacity: Capacity,
    /// Its course: 1 to 64 visible ASCII characters. Made when it is new.
    #[schema(value_type = String, example = "pottery", pattern = "^[!-~]{1,64}$")]
    course_id: CourseId,
    /// What customers read, on one line; only for a new course. The course's id when left out.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    title: Option<Title>,
    /// From the year 2000 to the year 2199. A week from now when left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    starts_at: Option<Moment>,
    /// The configured price when left out.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 100_000_000)]
    price_fen: Option<Price>,
    /// When orders are taken first. At once when left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    sale_opens_at: Option<Moment>,
    /// When orders are taken, and can be paid, no more: the start at the latest, which it is when left out.
    #[schema(value_type = Option<String>, format = DateTime)]
    sale_closes_at: Option<Moment>,
    /// Held and booked seats that one customer may have. The configured number when left out.
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 100_000)]
    seats_per_customer: Option<SeatsPerCustomer>,
    /// What customers take back by themselves: at most ten rules whose percentages do not grow towards the start; none:
    /// nothing. The configured ones when left out.
    #[schema(value_type = Option<Vec<RefundRule>>)]
    refund_rules: Option<RefundRules>,
}

impl Wish {
    async fn read(headers: &HeaderMap, body: Body) -> Result<Self, Problem> {
        let mut fields = fields::json_object(headers, body, BODY_BYTES_MAX).await?;
        let capacity = fields.required("capacity", |value| Capacity::try_from(number(value)));
        let course_id = fields.required("course_id", course_id);
        let title = fields.optional("title", |value| Title::try_from(value.as_str().ok_or(Unfit::Length(100))?));
        let starts_at = fields.optional("starts_at", moment);
        let price_fen = fields.optional("price_fen", |value| Price::try_from(number(value)));
        let sale_opens_at = fields.optional("sale_opens_at", moment);
        let sale_closes_at = fields.optional("sale_closes_at", moment);
        let seats_per_customer =
            fields.optional("seats_per_customer", |value| SeatsPerCustomer::try_from(number(value)));
        let refund_rules = fields.optional("refund_rules", |value| RefundRules::parse(&value.to_string()));
        fields.finish()?;
        let (Some(capacity), Some(course_id)) = (capacity, course_id) else {
            return Err(Problem::new(Kind::InvalidRequest));
        };
        Ok(Self {
            capacity,
            course_id,
            title,
            starts_at,
            price_fen,
            sale_opens_at,
            sale_closes_at,
            seats_per_customer,
            refund_rules,
        })
    }

    fn rules(&self) -> GivenRules {
        GivenRules {
            sale_opens_at: self.sale_opens_at,
            sale_closes_at: self.sale_closes_at,
            seats_per_customer: self.seats_per_customer,
            refund_rules: self.refund_rules.clone(),
        }
    }

    /// Whether the session is the one that was wished for. A course that existed has kept its title.
    fn became(&self, schedule: &ScheduleDocument) -> bool {
        self.capacity.get() == schedule.capacity
            && self.course_id.as_str() == schedule.course_id
            && self.starts_at.is_none_or(|at| at.get() == schedule.starts_at)
            && self.price_fen.is_none_or(|price| price.get() == schedule.price_fen)
            && self.rules().became(schedule)
    }
}

/// Add a session
///
/// With all its seats free; open for orders at once, unless its sale opens later. The same `Idempotency-Key` is the same session, however often it is
/// sent; without one, repeating it adds another session.
#[utoipa::path(
    post, path = "/v1/ops/schedules", tag = "operators", security(("bearer" = ["operator"])),
    request_body(content = Wish, content_type = "application/json", example = json!({"capacity": 20, "course_id": "pottery"})),
    params(("Idempotency-Key" = Option<String>, Header, description = "Your name for this wish: 1–255 visible ASCII characters")),
    responses(
        (status = 200, description = "The session, added before by this `Idempotency-Key`", body = ScheduleDocument),
        (status = 201, description = "The session", body = ScheduleDocument),
        (status = 400, description = "`unreadable`; `idempotency-key-missing`: it cannot be used", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "`forbidden`: not an operator's token", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "`too-large`: more than 4 KiB", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request` with every wrong field; `idempotency-key-reused`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn add(
    State(api): State<Api>,
    Operator(operator): Operator,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ScheduleDocument>), Problem> {
    let key = optional_idempotency_key(&headers)?;
    let wish = Wish::read(&headers, body).await?;
    let starts_at = wish.starts_at.unwrap_or_else(|| Moment::after((api.now)(), Duration::days(7)));
    let rules = wish
        .rules()
        .complete(starts_at, &api.rules)
        .map_err(|(field, why)| Problem::invalid(vec![FieldError { field: field.into(), problem: why.to_string() }]))?;
    let new = NewSchedule {
        schedule_id: key
            .map_or_else(|| ScheduleId(Uuid::now_v7()), |key| ScheduleId::derive(operator.user.as_str(), &key)),
        course: wish.title.clone().unwrap_or_else(|| Title::from(&wish.course_id)),
        course_id: wish.course_id.clone(),
        starts_at,
        price_fen: wish.price_fen.unwrap_or(api.price),
        capacity: wish.capacity,
        rules,
    };
    let added = desk::schedules::add(&api.desk, Some(&api.cache), &new).await;
    match added.map_err(|error| Problem::from_store(&error))? {
        Added { schedule, is_new: true } => Ok((StatusCode::CREATED, Json(schedule))),
        Added { schedule, is_new: false } if wish.became(&schedule) => Ok((StatusCode::OK, Json(schedule))),
        Added { .. } => Err(Problem::new(Kind::IdempotencyKeyReused)),
    }
}
