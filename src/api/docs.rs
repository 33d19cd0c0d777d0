//! `/openapi.json`, gathered from the handlers, and `/docs`, which shows it to people.

use std::{collections::BTreeMap, io::Write as _};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use utoipa::openapi::{
    InfoBuilder, OpenApi, RefOr, Schema,
    schema::{Array, ArrayItems, Ref},
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    server::ServerBuilder,
    tag::TagBuilder,
};

use super::{access, forms, links, page, settings::ApiSettings};
use crate::domain::hex::hex;

pub(super) async fn page(headers: HeaderMap) -> Response {
    let html = include_bytes!("../web/docs/index.html").to_vec();
    page::answer(&headers, "text/html; charset=utf-8", html)
}

/// `/openapi.json` as it goes out: written and packed once, at the start. It has some hundred kilobytes, which would
/// cost each request tens of milliseconds and a copy of its own.
#[derive(Clone)]
pub(super) struct Prebuilt {
    plain: Bytes,
    packed: Bytes,
    tag: HeaderValue,
}

impl Prebuilt {
    pub(super) fn new(openapi: &OpenApi) -> Self {
        let plain = serde_json::to_vec(openapi).expect("plain structs with text keys always serialize");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&plain).expect("memory takes everything");
        let packed = encoder.finish().expect("memory takes everything");
        let tag = format!("W/\"{}\"", hex(&Sha256::digest(&plain)[..12]));
        let tag = HeaderValue::try_from(tag).expect("hexadecimal digits in quotes");
        Self { plain: plain.into(), packed: packed.into(), tag }
    }

    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        let names = |name| headers.get_all(name).iter().filter_map(|value: &HeaderValue| value.to_str().ok());
        let is_known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == self.tag);
        let takes_gzip = names(header::ACCEPT_ENCODING).flat_map(|line| line.split(',')).any(|word| {
            let (coding, quality) = word.split_once(';').unwrap_or((word, ""));
            coding.trim() == "gzip" && quality.trim() != "q=0"
        });
        let mut response = match (is_known, takes_gzip) {
            (true, _) => StatusCode::NOT_MODIFIED.into_response(),
            (false, true) => Body::from(self.packed.clone()).into_response(),
            (false, false) => Body::from(self.plain.clone()).into_response(),
        };
        let headers = response.headers_mut();
        if takes_gzip && !is_known {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert(header::ETAG, self.tag.clone());
        response
    }
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
    links::name_and_link(&mut openapi);
    let url = settings.public_url.clone().unwrap_or_else(|| "/".to_owned());
    openapi.servers = Some(vec![ServerBuilder::new().url(url).build()]);
    let tags = [
        ("sessions", "What can be booked"),
        ("orders", "Booking a seat and paying for it"),
        ("refunds", "Giving money back"),
        ("wechat", "What WeChat calls"),
        ("dead letters", "For operators: messages that nobody could handle"),
        ("operators", "What operators see and decide; viewers only look"),
    ];
    openapi.tags = Some(tags.map(|(name, words)| TagBuilder::new().name(name).description(Some(words)).build()).into());
    let components = openapi.components.get_or_insert_default();
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").description(Some(
        "Claims `sub` (user id), `role` (customer, viewer, operator), `exp`, optional `openid`. An \
             operation names the roles that it takes; `owner` is the customer whose order it is.",
    ));
    components.add_security_scheme(access::BEARER, SecurityScheme::Http(bearer.build()));
    let signature = "RSA-SHA256 over timestamp, nonce and body, made by WeChat Pay; with `Wechatpay-Timestamp`, `-Nonce` and `-Serial`.";
    let signature = ApiKeyValue::with_description("Wechatpay-Signature", signature);
    components.add_security_scheme(access::WECHAT, SecurityScheme::ApiKey(ApiKey::Header(signature)));

    name_the_items_of_pages(&mut components.schemas);
    components.schemas.insert("Event".into(), forms::event().into());

    forms::close_bodies(&mut openapi);
    for item in openapi.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            forms::say_forms(operation);
            forms::say_events(operation);
            forms::add_common_answers(operation);
        }
    }
    openapi
}

/// The generator repeats an item's whole schema inside its page; a reader wants its name. What has none yet gets it.
fn name_the_items_of_pages(schemas: &mut BTreeMap<String, RefOr<Schema>>) {
    let mut named = Vec::new();
    for (name, schema) in schemas.iter_mut() {
        if let (Some(item), RefOr::T(Schema::Object(page))) = (name.strip_prefix("Page_"), schema) {
            let items = Array::new(Ref::from_schema_name(item));
            let whole = page.properties.insert("items".into(), Schema::Array(items).into());
            if let Some(RefOr::T(Schema::Array(Array { items: ArrayItems::RefOrSchema(whole), .. }))) = whole {
                named.push((item.to_owned(), *whole));
            }
        }
    }
    for (name, whole) in named {
        schemas.entry(name).or_insert(whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn openapi() -> serde_json::Value {
        let settings = ApiSettings {
            listen: ([127, 0, 0, 1], 0).into(),
            public_url: None,
            console_sign_in: crate::api::settings::ConsoleSignIn::Token,
            development: false,
            phone_url: None,
            trusted_proxies: String::new().try_into().unwrap(),
            head_timeout_seconds: 30,
            certificate_file: None,
            key_file: None,
            request_timeout_seconds: 15,
            connections_max: 1,
            address_connections_max: 1,
            requests_max: 1,
            event_streams_max: 1,
            orders_per_second: 1,
            orders_burst: 1,
            address_requests_per_second: 1,
            address_requests_burst: 1,
        };
        let (_, openapi) = super::super::documented().split_for_parts();
        serde_json::to_value(complete(openapi, &settings)).unwrap()
    }

    #[test]
    fn s6_2_every_operation_of_the_contract_is_described_with_its_answers() {
        let openapi = openapi();
        assert!(openapi["openapi"].as_str().unwrap().starts_with("3.1"));
        for (method, path, statuses) in [
            ("get", "/v1/schedules", &["200", "401", "422", "503"][..]),
            ("get", "/v1/schedules/{id}", &["200", "401", "404", "503"]),
            ("get", "/v1/schedules/{id}/availability", &["200", "401", "404", "503"]),
            ("get", "/v1/orders", &["200", "401", "422", "503"]),
            (
                "post",
                "/v1/orders",
                &["201", "202", "400", "401", "403", "404", "409", "413", "415", "422", "429", "503"],
            ),
            ("get", "/v1/orders/{id}", &["200", "401", "404", "503"]),
            ("get", "/v1/orders/{id}/events", &["200", "401", "404", "503"]),
            ("get", "/v1/orders/{id}/qr.svg", &["200", "401", "404", "409"]),
            ("get", "/v1/orders/{id}/qr.png", &["200", "401", "404", "409"]),
            ("post", "/v1/orders/{id}/cancel", &["202", "401", "404", "409", "429", "503"]),
            (
                "post",
                "/v1/orders/{id}/refunds",
                &["202", "400", "401", "403", "404", "409", "413", "415", "422", "429", "503"],
            ),
            ("get", "/v1/orders/{id}/refunds", &["200", "401", "404", "422", "503"]),
            ("get", "/v1/orders/{id}/notifications", &["200", "401", "404", "503"]),
            ("post", "/v1/schedules/{id}/waitlist", &["202", "401", "403", "404", "409", "429", "503"]),
            ("delete", "/v1/schedules/{id}/waitlist", &["202", "401", "403", "404", "429", "503"]),
            ("get", "/v1/schedules/{id}/waitlist", &["200", "401", "403", "404", "503"]),
            ("post", "/v1/wechat/notify/payments", &["204", "400", "401", "413", "503"]),
            ("post", "/v1/wechat/notify/refunds", &["204", "400", "401", "413", "503"]),
            ("get", "/v1/ops/orders/{id}/timeline", &["200", "401", "403", "404", "503"]),
            (
                "post",
                "/v1/ops/orders/{id}/wechat-refunds",
                &["202", "400", "401", "403", "404", "413", "415", "422", "503"],
            ),
            ("get", "/v1/ops/cases", &["200", "401", "403", "422", "503"]),
            ("get", "/v1/ops/cases/{id}", &["200", "401", "403", "404", "503"]),
            ("post", "/v1/ops/cases/{id}/close", &["200", "401", "403", "404", "409", "422", "503"]),
            ("get", "/v1/ops/overrides", &["200", "401", "403", "422", "503"]),
            ("post", "/v1/ops/overrides", &["202", "400", "401", "403", "404", "409", "422", "503"]),
            ("get", "/v1/ops/overrides/{id}", &["200", "401", "403", "404", "503"]),
            ("post", "/v1/ops/overrides/{id}/approve", &["202", "401", "403", "404", "409", "503"]),
            ("post", "/v1/ops/overrides/{id}/withdraw", &["200", "401", "403", "404", "409", "503"]),
            ("get", "/v1/ops/schedules", &["200", "401", "403", "422", "503"]),
            ("post", "/v1/ops/schedules", &["201", "401", "403", "422", "503"]),
            ("get", "/v1/ops/schedules/{id}", &["200", "401", "403", "404", "503"]),
            ("post", "/v1/ops/schedules/{id}/cancel", &["200", "202", "401", "403", "404", "422", "503"]),
        ] {
            let operation = &openapi["paths"][path][method];
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            for status in statuses {
                assert!(operation["responses"][status].is_object(), "{method} {path} lacks {status}");
            }
            let scheme = if path.starts_with("/v1/wechat/") { "wechat" } else { "bearer" };
            assert!(operation["security"][0][scheme].is_array(), "{method} {path}");
        }
    }

    #[test]
    fn s6_2_every_reference_leads_to_a_schema() {
        fn references<'a>(value: &'a serde_json::Value, found: &mut Vec<&'a str>) {
            match value {
                serde_json::Value::Object(members) => {
                    found.extend(members.get("$ref").and_then(|target| target.as_str()));
                    members.values().for_each(|member| references(member, found));
                }
                serde_json::Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let openapi = openapi();
        let mut found = Vec::new();
        references(&openapi, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(openapi.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }
}
