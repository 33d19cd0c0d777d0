//! `GET /v1/ops/dead-letters…`: looking at what nobody could handle. Nothing is taken out of a queue by looking.

use axum::{
    Json,
    extract::{Path, Query, State},
};

use crate::{
    api::{
        Api,
        auth::Viewer,
        fields::{Fields, line, moment, text},
        paging::{PAGE, Page, Place},
        problem::{Kind, Problem, ProblemDocument},
    },
    dead_letters::{
        By, Failed, Refusal, Selection,
        document::{GroupDocument, LetterDetail, LetterDocument, WechatWord},
    },
    domain::{calendar::Moment, dead_letter::LetterState, prospect::Prospect},
    store::dead_letter::{Cursor, Filter},
};

/// List dead letters
///
/// Newest first. Reads what is new in the queues, and leaves it there.
#[utoipa::path(
    get, path = "/v1/ops/dead-letters", tag = "dead letters", security(("bearer" = ["viewer", "operator"])),
    params(
        ("state" = Option<LetterState>, Query, description = "`parked` unless said otherwise"),
        ("queue" = Option<String>, Query, description = "`prepay`, `prepay.dead` or `orders.3`"),
        ("error_class" = Option<String>, Query), ("kind" = Option<String>, Query, description = "The AMQP `type`, such as `order.held`"),
        ("order_id" = Option<String>, Query), ("cause" = Option<String>, Query),
        ("effect" = Option<Prospect>, Query, description = "What would come of it now"),
        ("text" = Option<String>, Query, description = "Somewhere in the error, the body or the message's id"),
        ("since" = Option<String>, Query, description = "Failed then or later (RFC 3339)"),
        ("until" = Option<String>, Query, description = "Failed before then (RFC 3339)"),
        ("cursor" = Option<String>, Query, description = "`next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of letters", body = Page<LetterDocument>),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<LetterDocument>>, Problem> {
    let mut fields = Fields::of_query(query);
    let cursor = fields.optional("cursor", |value| Place::parse(text(value)?));
    let selection = selection(&mut fields);
    fields.finish()?;
    let after = cursor.map(|place| Cursor { failed_at: place.at, letter_id: place.id });
    let limit = i64::try_from(PAGE).expect("a page is small") + 1;
    let letters = api.dead_letters.list(&selection, after.as_ref(), limit).await.map_err(problem)?;
    Ok(Json(Page::cut(letters, |letter| Place { at: letter.failed_at, id: letter.letter_id.clone() })))
}

/// Group dead letters
///
/// By cause: which failed alike, with the notes on it. By effect: what would come of them now. Each group says which
/// orders it is about, how much money, and the next deadline. Those with the most open money first.
#[utoipa::path(
    get, path = "/v1/ops/dead-letters/groups", tag = "dead letters", security(("bearer" = ["viewer", "operator"])),
    params(
        ("by" = Option<String>, Query, description = "`cause` (default) or `effect`"),
        ("state" = Option<LetterState>, Query), ("queue" = Option<String>, Query), ("error_class" = Option<String>, Query),
        ("kind" = Option<String>, Query), ("order_id" = Option<String>, Query), ("cause" = Option<String>, Query),
        ("effect" = Option<Prospect>, Query), ("text" = Option<String>, Query), ("since" = Option<String>, Query),
        ("until" = Option<String>, Query),
    ),
    responses(
        (status = 200, description = "All groups; `next` is always null", body = Page<GroupDocument>),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-request`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn groups(
    State(api): State<Api>,
    _viewer: Viewer,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Page<GroupDocument>>, Problem> {
    let mut fields = Fields::of_query(query);
    let by = fields.optional("by", |value| match text(value)? {
        "cause" => Ok(By::Cause),
        "effect" => Ok(By::Effect),
        _ => Err("must be cause or effect"),
    });
    let selection = selection(&mut fields);
    fields.finish()?;
    let groups = api.dead_letters.groups(&selection, by.unwrap_or(By::Cause)).await.map_err(problem)?;
    Ok(Json(Page::whole(groups)))
}

/// Read a dead letter
///
/// Body and headers, its order as it is now, what it came to in replays, what operators did and noted.
#[utoipa::path(
    get, path = "/v1/ops/dead-letters/{id}", tag = "dead letters", security(("bearer" = ["viewer", "operator"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "The letter, whatever its state", body = LetterDetail),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-letter`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn one(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<LetterDetail>, Problem> {
    Ok(Json(api.dead_letters.show(&letter_id(&id)?).await.map_err(problem)?))
}

/// Ask WeChat about a dead letter
///
/// About the refund that it names, else about its order, now. Nothing is concluded from the answer.
#[utoipa::path(
    get, path = "/v1/ops/dead-letters/{id}/wechat", tag = "dead letters", security(("bearer" = ["viewer", "operator"])),
    params(("id" = String, Path)),
    responses(
        (status = 200, description = "WeChat's word, or the doubt", body = WechatWord),
        (status = 403, description = "`forbidden`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "`no-such-letter`", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "`nothing-fits`: it names neither an order nor a refund", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "`temporarily-unavailable`", body = ProblemDocument, content_type = "application/problem+json", headers(("Retry-After" = i64))),
    )
)]
pub(in crate::api) async fn wechat(
    State(api): State<Api>,
    _viewer: Viewer,
    Path(id): Path<String>,
) -> Result<Json<WechatWord>, Problem> {
    Ok(Json(api.dead_letters.ask_wechat(&letter_id(&id)?, &api.wechat).await.map_err(problem)?))
}

/// The members that choose letters; parked ones unless said otherwise.
pub(super) fn selection(fields: &mut Fields) -> Selection {
    let state = fields.optional("state", |value| {
        let word = text(value)?;
        let state = LetterState::ALL.into_iter().find(|state| state.as_str() == word);
        state.ok_or("must be parked, replayed, discarded or gone")
    });
    Selection {
        filter: Filter {
            state: Some(state.unwrap_or(LetterState::Parked)),
            queue: fields.optional("queue", line::<256>),
            error_class: fields.optional("error_class", line::<256>),
            kind: fields.optional("kind", line::<256>),
            order_id: fields.optional("order_id", line::<256>),
            cause: fields.optional("cause", line::<256>),
            text: fields.optional("text", line::<256>),
            since: fields.optional("since", moment).map(Moment::get),
            until: fields.optional("until", moment).map(Moment::get),
            letters: None,
        },
        effect: fields.optional("effect", |value| Prospect::parse(text(value)?).ok_or("is no effect that is known")),
    }
}

pub(super) fn letter_id(id: &str) -> Result<String, Problem> {
    // Anything else names no letter, and need not reach PostgreSQL.
    let fits = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if fits { Ok(id.to_owned()) } else { Err(Problem::new(Kind::NoSuchLetter)) }
}

pub(super) fn problem(failed: Failed) -> Problem {
    match failed {
        Failed::Store(error) => Problem::from_store(&error),
        Failed::Broker(error) => {
            tracing::warn!(%error, "the dead-letter queues could not be read");
            Problem::new(Kind::BrokerUnavailable)
        }
        Failed::Refused(refusal) => {
            let kind = match &refusal {
                Refusal::NoSuchLetter(_) | Refusal::NoSuchReplay(_) | Refusal::NoSuchCause(_) => Kind::NoSuchLetter,
                Refusal::NothingFits | Refusal::TooMany(_) | Refusal::NothingToAsk(_) => Kind::NothingFits,
                Refusal::WrongState(_) | Refusal::OtherSet(_) => Kind::WrongState,
                Refusal::Unpatchable { .. } => Kind::InvalidRequest,
            };
            let words = refusal.to_string();
            match kind {
                Kind::InvalidRequest => {
                    Problem::invalid(vec![crate::api::problem::FieldError { field: "patch".into(), problem: words }])
                }
                kind => Problem::new(kind).detail(format!("{words}.")),
            }
        }
    }
}
