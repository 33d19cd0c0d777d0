//! Every way in which the API says no: one table, one document (RFC 9457), one place that writes it.
//!
//! Handlers return a [`Problem`]; the outermost layer writes it in the caller's language with the request's id
//! (see [`super::request`]). What axum, tower and panics answer by themselves becomes a problem there as well.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use super::language::Language;
use crate::domain::{document::Alternatives, ids::OrderId, session_rules::SaleTimes};

/// Each row: variant, slug, status, title, words for the customer in English and Chinese.
macro_rules! problems {
    ($($kind:ident $slug:literal $status:ident $title:literal $en:literal $zh:literal)*) => {
        /// What kind of problem; the last part of its `type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Kind { $($kind),* }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            pub fn slug(self) -> &'static str {
                match self { $(Self::$kind => $slug),* }
            }

            pub fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status),* }
            }

            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title),* }
            }

            pub fn words(self, language: Language) -> &'static str {
                match (self, language) {
                    $((Self::$kind, Language::English) => $en,
                      (Self::$kind, Language::Chinese) => $zh),*
                }
            }
        }
    };
}

problems! {
    Unreadable "unreadable" BAD_REQUEST "The request could not be read"
        "Something went wrong while sending. Please try again." "请求有误，请重试。"
    IdempotencyKeyMissing "idempotency-key-missing" BAD_REQUEST "A usable Idempotency-Key is needed"
        "Something went wrong while sending. Please reload and try again." "请求有误，请刷新页面后重试。"
    NotificationUnreadable "notification-unreadable" BAD_REQUEST "The notification could not be read"
        "The notification could not be read." "通知内容无法读取。"
    Unauthenticated "unauthenticated" UNAUTHORIZED "A valid token is needed"
        "Please sign in again." "请重新登录。"
    BadSignature "bad-signature" UNAUTHORIZED "The signature is not WeChat's"
        "The signature could not be verified." "签名验证失败。"
    Forbidden "forbidden" FORBIDDEN "Your role does not allow this"
        "You are not allowed to do this." "您没有权限进行此操作。"
    NotFound "not-found" NOT_FOUND "There is nothing at this address"
        "This page does not exist." "页面不存在。"
    NoSuchOrder "no-such-order" NOT_FOUND "You have no such order"
        "We could not find this order." "未找到该订单。"
    NoSuchSchedule "no-such-schedule" NOT_FOUND "There is no such session"
        "We could not find this session." "未找到该场次。"
    NoSuchLetter "no-such-letter" NOT_FOUND "There is no such dead letter, replay or cause"
        "We could not find this." "未找到该内容。"
    NoSuchCase "no-such-case" NOT_FOUND "There is no such case"
        "We could not find this case." "未找到该事项。"
    NoSuchOverride "no-such-override" NOT_FOUND "There is no such override"
        "We could not find this decision." "未找到该操作记录。"
    MethodNotAllowed "method-not-allowed" METHOD_NOT_ALLOWED "This address does not take this method"
        "Something went wrong while sending. Please reload and try again." "请求有误，请刷新页面后重试。"
    RequestTimeout "request-timeout" REQUEST_TIMEOUT "The request took too long"
        "This took too long. Please try again." "请求超时，请重试。"
    SoldOut "sold-out" CONFLICT "The session is sold out"
        "Sorry, this session is sold out." "抱歉，本场次已售罄。"
    SeatTaken "seat-taken" CONFLICT "Somebody else has this seat"
        "Sorry, this seat has just been taken. Please choose another." "抱歉，该座位刚被预订，请另选座位。"
    ScheduleClosed "schedule-closed" CONFLICT "The session takes no more orders"
        "Sorry, this session can no longer be booked." "抱歉，本场次已停止预订。"
    NotOnSale "not-on-sale" CONFLICT "The session is not on sale now"
        "This session is not on sale at this moment." "本场次当前不在售票时间内。"
    LimitReached "limit-reached" CONFLICT "The customer has as many seats or unpaid orders as one may have"
        "You have as many seats or unpaid orders as one customer may have. Please pay or cancel one first."
        "您已达到每人可持有的座位或待付款订单上限，请先付款或取消。"
    NotPayable "not-payable" CONFLICT "There is nothing to pay on this order"
        "This order cannot be paid at present." "该订单当前无法支付。"
    AlreadyPaid "already-paid" CONFLICT "The order is paid; ask for a refund instead"
        "This order has been paid. You can ask for a refund instead." "订单已付款，如不需要，请申请退款。"
    AlreadyEnded "already-ended" CONFLICT "The order has ended by itself"
        "This order has already ended; there is nothing to cancel." "订单已结束，无需取消。"
    NotPaid "not-paid" CONFLICT "The order is not paid"
        "This order has not been paid, so there is nothing to refund." "订单尚未付款，没有可退的款项。"
    NothingLeft "nothing-left" CONFLICT "Nothing is left to refund"
        "All the money of this order has been refunded or is on its way back." "款项已全部退还或正在退还。"
    RefundNotAllowed "refund-not-allowed" CONFLICT "The session's rules give nothing back any more"
        "The time to take this booking back yourself is over. Please contact the studio." "已过自助退款时间，请联系商家。"
    SeatsFree "seats-free" CONFLICT "Seats are free: order one instead of waiting"
        "Seats are free. You can book one right now." "目前有空位，可以直接预订。"
    NothingFits "nothing-fits" CONFLICT "No letter fits that this could be done to"
        "There is nothing to do." "没有可处理的内容。"
    WrongState "wrong-state" CONFLICT "It is in a state from which this is not possible"
        "This is no longer possible. Please reload." "当前状态无法进行此操作，请刷新。"
    CaseClosed "case-closed" CONFLICT "The case is closed already"
        "This case has been closed." "该事项已关闭。"
    OverrideNotPossible "override-not-possible" CONFLICT "This cannot be decided about the order as it is now"
        "This is not possible for the order as it is now." "订单当前状态下无法执行该操作。"
    SecondPersonNeeded "second-person-needed" CONFLICT "Another operator must agree"
        "Another operator must agree." "需要另一位操作员确认。"
    TooLarge "too-large" PAYLOAD_TOO_LARGE "The body is too large"
        "The request is too large." "请求内容过大。"
    UnsupportedMediaType "unsupported-media-type" UNSUPPORTED_MEDIA_TYPE "The body must be application/json"
        "Something went wrong while sending. Please reload and try again." "请求有误，请刷新页面后重试。"
    InvalidRequest "invalid-request" UNPROCESSABLE_ENTITY "Some fields are wrong"
        "Please check what you entered." "请检查填写的内容。"
    AmountMismatch "amount-mismatch" UNPROCESSABLE_ENTITY "The amount is not the session's price"
        "The price has changed. Please reload and try again." "价格已变动，请刷新页面后重试。"
    AmountNotYours "amount-not-yours" UNPROCESSABLE_ENTITY "Customers do not choose what goes back"
        "The amount of a refund follows from the rules of the session." "退款金额由场次的退款规则决定，不能自行填写。"
    IdempotencyKeyReused "idempotency-key-reused" UNPROCESSABLE_ENTITY
        "This Idempotency-Key was used for another request"
        "Please reload the page and try again." "请刷新页面后重试。"
    TooManyRequests "too-many-requests" TOO_MANY_REQUESTS "Too many requests"
        "That was too fast. Please wait a moment." "操作过于频繁，请稍候。"
    Internal "internal" INTERNAL_SERVER_ERROR "We made a mistake"
        "Something went wrong on our side. Please try again." "系统出错，请重试。"
    BrokerUnavailable "broker-unavailable" SERVICE_UNAVAILABLE "The request could not be taken just now"
        "We cannot take this for a moment. Please try again shortly." "暂时无法受理，请稍后重试。"
    Overloaded "overloaded" SERVICE_UNAVAILABLE "Too many requests at once"
        "We are very busy. Please try again in a moment." "当前访问量过大，请稍后重试。"
    TemporarilyUnavailable "temporarily-unavailable" SERVICE_UNAVAILABLE "This cannot be answered just now"
        "This is not available for a moment. Please try again shortly." "服务暂时不可用，请稍后重试。"
}

impl Kind {
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.slug() == slug)
    }

    /// What an answer with this status means when nobody said more about it.
    pub(super) fn from_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthenticated,
            StatusCode::FORBIDDEN => Self::Forbidden,
            StatusCode::NOT_FOUND => Self::NotFound,
            StatusCode::METHOD_NOT_ALLOWED => Self::MethodNotAllowed,
            StatusCode::REQUEST_TIMEOUT => Self::RequestTimeout,
            StatusCode::PAYLOAD_TOO_LARGE => Self::TooLarge,
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::UnsupportedMediaType,
            StatusCode::UNPROCESSABLE_ENTITY => Self::InvalidRequest,
            StatusCode::TOO_MANY_REQUESTS => Self::TooManyRequests,
            StatusCode::SERVICE_UNAVAILABLE => Self::TemporarilyUnavailable,
            status if status.is_client_error() => Self::Unreadable,
            _ => Self::Internal,
        }
    }
}

/// A field of a request that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The member of the body, or the parameter of the query; empty for the body as a whole.
    #[schema(example = "seat_no")]
    pub field: String,
    #[schema(example = "must be a whole number from 1 to 100000")]
    pub problem: String,
}

/// A refusal on its way to the caller.
#[derive(Debug, Clone)]
pub struct Problem {
    pub kind: Kind,
    detail: Option<String>,
    /// Boxed, so that a `Result` with a problem stays small.
    extensions: Box<Extensions>,
    retry_after: Option<Duration>,
}

/// What some kinds say in addition.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(as = ProblemExtensions)]
struct Extensions {
    /// Every wrong field (`invalid-request`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// The order that was rejected (`sold-out`, `seat-taken`, …).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    order_id: Option<OrderId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alternatives: Option<Alternatives>,
    /// The address that serves this purpose (`already-paid`, `seats-free`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/v1/orders/hf2m6qk0c9v1x8y4zt3w7p5rab/refunds")]
    instead: Option<String>,
    /// From when orders are taken (`not-on-sale`).
    #[serde(with = "crate::domain::calendar::rfc3339::option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    sale_opens_at: Option<OffsetDateTime>,
    /// Until when orders are taken (`not-on-sale`).
    #[serde(with = "crate::domain::calendar::rfc3339::option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    sale_closes_at: Option<OffsetDateTime>,
}

/// A problem as it is written (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProblemDocument {
    /// Stable; a page that explains it.
    #[serde(rename = "type")]
    #[schema(example = "/problems/sold-out")]
    kind: String,
    title: &'static str,
    #[schema(example = 409)]
    status: u16,
    /// For the developer, in English.
    detail: String,
    /// For the customer, in the language of `Accept-Language` (zh-CN default, en).
    user_message: &'static str,
    /// For asking us.
    request_id: String,
    #[serde(flatten)]
    extensions: Box<Extensions>,
}

impl Problem {
    pub fn new(kind: Kind) -> Self {
        Self { kind, detail: None, extensions: Box::default(), retry_after: None }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    pub fn about(mut self, order: OrderId, alternatives: Option<Alternatives>) -> Self {
        self.extensions.order_id = Some(order);
        self.extensions.alternatives = alternatives;
        self
    }

    /// Points to the address that serves the caller's purpose.
    pub fn instead(mut self, address: impl Into<String>) -> Self {
        self.extensions.instead = Some(address.into());
        self
    }

    /// Outside the sale of a session, with its times where they are known.
    pub fn not_on_sale(times: Option<SaleTimes>) -> Self {
        let mut problem = Self::new(Kind::NotOnSale);
        if let Some(SaleTimes { opens_at, closes_at }) = times {
            let show = |at: OffsetDateTime| at.format(&Rfc3339).unwrap_or_default();
            let from = opens_at.map(|at| format!("from {} ", show(at))).unwrap_or_default();
            problem.detail = Some(format!("Orders are taken {from}until {}.", show(closes_at)));
            problem.extensions.sale_opens_at = opens_at;
            problem.extensions.sale_closes_at = Some(closes_at);
        }
        problem
    }

    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let mut problem = Self::new(Kind::InvalidRequest);
        problem.extensions.errors = errors;
        problem
    }

    /// The store is away, or we made a mistake; the log knows which.
    pub fn from_store(error: &crate::store::StoreError) -> Self {
        use crate::store::StoreError as E;
        if error.lacks_right() {
            tracing::error!(%error, "database account of this process lacks a right; answered 503");
            return Self::new(Kind::TemporarilyUnavailable).retry_after(Duration::from_secs(2));
        }
        match error {
            E::Away(_) | E::Conflict(_) | E::Newer(_) => {
                tracing::warn!(%error, "database call of a request came to nothing; answered 503");
                Self::new(Kind::TemporarilyUnavailable).retry_after(Duration::from_secs(2))
            }
            E::Bug(_) => {
                tracing::error!(%error, "database refused a statement of a request; answered 500");
                Self::new(Kind::Internal)
            }
        }
    }

    /// The wrong fields, for a caller who has them inside one of their own.
    pub(super) fn fields_in_words(&self) -> String {
        let words = self.extensions.errors.iter().map(|error| format!("{} {}", error.field, error.problem));
        words.collect::<Vec<_>>().join("; ")
    }

    /// For a caller whose form of error has room for one text.
    pub(super) fn words(&self) -> &str {
        self.detail.as_deref().unwrap_or(self.kind.title())
    }

    pub(super) fn document(&self, language: Language, request_id: &str) -> ProblemDocument {
        ProblemDocument {
            kind: format!("/problems/{}", self.kind.slug()),
            title: self.kind.title(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone().unwrap_or_else(|| format!("{}.", self.kind.title())),
            user_message: self.kind.words(language),
            request_id: request_id.to_owned(),
            extensions: self.extensions.clone(),
        }
    }
}

/// Only the status, the headers and the problem itself: the words are added on the way out.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        let headers = response.headers_mut();
        if let Some(wait) = self.retry_after {
            // Rounded up, so that nobody comes back too early.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            if let Ok(value) = HeaderValue::try_from(seconds.to_string()) {
                headers.insert(header::RETRY_AFTER, value);
            }
        }
        if self.kind == Kind::Unauthenticated {
            let challenge = HeaderValue::from_static("Bearer realm=\"holdfast\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if self.kind == Kind::TooLarge {
            // There may be more to come that nobody reads.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_is_complete_and_says_everything_once() {
        let slugs: HashSet<_> = Kind::ALL.iter().map(|kind| kind.slug()).collect();
        assert_eq!(slugs.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert_eq!(Kind::from_slug(kind.slug()), Some(*kind));
            assert!(kind.status().is_client_error() || kind.status().is_server_error());
            assert!(kind.words(Language::English).is_ascii());
            assert!(!kind.words(Language::Chinese).is_ascii());
        }
    }

    #[test]
    fn the_document_is_rfc_9457_with_our_additions() {
        let problem = Problem::new(Kind::SoldOut).detail("None of the 20 seats is free.");
        let document = serde_json::to_value(problem.document(Language::Chinese, "r1")).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "type": "/problems/sold-out",
                "title": "The session is sold out",
                "status": 409,
                "detail": "None of the 20 seats is free.",
                "user_message": "抱歉，本场次已售罄。",
                "request_id": "r1",
            })
        );
    }

    #[test]
    fn every_status_that_a_layer_may_answer_has_a_kind_of_the_same_class() {
        for status in (400..600).filter_map(|code| StatusCode::from_u16(code).ok()) {
            let kind = Kind::from_status(status).status();
            assert_eq!(kind.is_client_error(), status.is_client_error(), "{status}");
        }
    }
}
