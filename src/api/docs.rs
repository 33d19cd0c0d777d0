//! `/openapi.json`, gathered from the handlers, and `/docs`, which shows it to people.

use axum::{Json, http::HeaderMap, response::Response};
use utoipa::openapi::{
    Content, HeaderBuilder, InfoBuilder, OpenApi, RefOr, ResponseBuilder, Schema,
    path::Operation,
    schema::{ObjectBuilder, Ref, Type},
    security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    server::ServerBuilder,
    tag::TagBuilder,
};

use super::{page, settings::ApiSettings};

pub(super) async fn page(headers: HeaderMap) -> Response {
    let html = include_bytes!("../web/docs/index.html").to_vec();
    page::answer(&headers, "text/html; charset=utf-8", html)
}

pub(super) async fn openapi_json(openapi: OpenApi) -> Json<OpenApi> {
    Json(openapi)
}

/// Adds what no single handler can say: who we are, how to sign in, and the answers every operation may give.
pub(super) fn complete(mut openapi: OpenApi, settings: &ApiSettings) -> OpenApi {
    openapi.info = InfoBuilder::new()
        .title("holdfast")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Seats of course sessions, booked and paid with WeChat Pay. Times are RFC 3339, money is whole fen, ids \
             are opaque. Errors are problem documents (RFC 9457); each `type` is a page that explains it.",
        ))
        .build();
    let url = settings.public_url.clone().unwrap_or_else(|| "/".to_owned());
    openapi.servers = Some(vec![ServerBuilder::new().url(url).build()]);
    let tags = [
        ("sessions", "What can be booked"),
        ("orders", "Booking a seat and paying for it"),
        ("wechat", "What WeChat calls"),
    ];
    openapi.tags = Some(tags.map(|(name, words)| TagBuilder::new().name(name).description(Some(words)).build()).into());
    let components = openapi.components.get_or_insert_default();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("Claims `sub` (user id), `role` (customer, viewer, operator), `exp`, optional `openid`."));
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));

    for item in openapi.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            add_common_answers(operation);
        }
    }
    openapi
}

fn add_common_answers(operation: &mut Operation) {
    let mut common = vec![("408", "`request-timeout`"), ("500", "`internal`"), ("503", "`overloaded`")];
    if operation.security.is_some() {
        common.push(("401", "`unauthenticated`: no token, an expired one, or not one of ours"));
    }
    for (status, words) in common {
        let answer = ResponseBuilder::new()
            .description(words)
            .content("application/problem+json", Content::new(Some(Ref::from_schema_name("ProblemDocument"))))
            .header("X-Request-Id", HeaderBuilder::new().schema(Some(text())).build())
            .build();
        operation.responses.responses.entry(status.into()).or_insert(RefOr::T(answer));
    }
}

fn text() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}
