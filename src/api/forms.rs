//! What `/openapi.json` says of every operation alike: the forms of parameters, by name, and the answers that the
//! layers around a handler give.
//!
//! A name means the same everywhere, so its form is said once. `./dev test schemathesis` holds us to all of it.

use utoipa::openapi::{
    Content, HeaderBuilder, KnownFormat, Object, OpenApi, RefOr, ResponseBuilder, Schema, SchemaFormat,
    path::{Operation, Parameter},
    schema::{AdditionalProperties, ObjectBuilder, Ref, SchemaType, Type},
};

use super::access;

/// The form of a parameter of this name; `None` where any text will do.
fn form(parameter: &str) -> Option<Object> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let one_of = |words: &[&str]| text().enum_values(Some(words.iter().copied())).build();
    let form = match parameter {
        "Idempotency-Key" => text().pattern(Some("^[!-~]{1,255}$")).build(),
        "order_id" => text().pattern(Some("^[0-9a-z]{6,32}$")).build(),
        "course_id" => text().pattern(Some("^[!-~]{1,64}$")).build(),
        "text" => text().pattern(Some("^[!-~]{1,128}$")).build(),
        "queue" | "error_class" | "kind" | "cause" => text().pattern(Some("^[!-~]{1,256}$")).build(),
        "from" | "to" | "since" | "until" => {
            text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime))).build()
        }
        "range" => one_of(&["hour", "day", "week"]),
        "by" => one_of(&["cause", "effect"]),
        "status" => one_of(&["open", "closed", "all"]),
        _ => return None,
    };
    Some(form)
}

/// Replaces "a text" by what the text must be.
pub(super) fn say_forms(operation: &mut Operation) {
    // A letter may be about an order of somebody else's making.
    let of_letters = operation.tags.iter().flatten().any(|tag| tag == "dead letters");
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(Parameter { name, schema: Some(RefOr::T(Schema::Object(schema))), .. }) = parameter
            && is_text(&schema.schema_type)
            && schema.enum_values.is_none()
            && let Some(mut form) = form(if of_letters && name == "order_id" { "cause" } else { name })
        {
            form.example = schema.example.take();
            *schema = form;
        }
    }
}

fn is_text(schema_type: &SchemaType) -> bool {
    match schema_type {
        SchemaType::Type(one) => *one == Type::String,
        SchemaType::Array(some) => some.contains(&Type::String),
        SchemaType::AnyValue => false,
    }
}

/// A member that we do not know is refused, so that a misspelt one is not silently left out.
pub(super) fn close_bodies(openapi: &mut OpenApi) {
    let Some(components) = &mut openapi.components else { return };
    let bodies = openapi.paths.paths.values().filter_map(|item| item.post.as_ref()?.request_body.as_ref());
    let contents = bodies.filter_map(|body| match body {
        RefOr::T(body) => body.content.get("application/json"),
        RefOr::Ref(_) => None,
    });
    for content in contents {
        if let RefOr::T(Content { schema: Some(RefOr::Ref(named)), .. }) = content
            && let Some(name) = named.ref_location.strip_prefix("#/components/schemas/")
            && let Some(RefOr::T(Schema::Object(body))) = components.schemas.get_mut(name)
        {
            body.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        }
    }
}

/// Adds what any operation may answer, where its handler has not said it better.
pub(super) fn add_common_answers(operation: &mut Operation) {
    let security = serde_json::to_value(&operation.security).unwrap_or_default();
    let is_wechats = security[0].get(access::WECHAT).is_some();
    let mut common = vec![("408", "`request-timeout`"), ("500", "`internal`"), ("503", "`overloaded`")];
    if operation.request_body.is_some() {
        common.extend([("400", "`unreadable`: the body did not arrive whole, or is not JSON"), ("413", "`too-large`")]);
    }
    if !is_wechats {
        common.extend([
            ("401", "`unauthenticated`: no token, an expired one, or not one of ours"),
            ("429", "`too-many-requests` of this caller or from this address"),
        ]);
        if operation.request_body.is_some() {
            common.extend([("415", "`unsupported-media-type`"), ("422", "`invalid-request` with every wrong field")]);
        }
    }
    for (status, words) in common {
        let mut answer = ResponseBuilder::new()
            .description(words)
            .header("X-Request-Id", HeaderBuilder::new().schema(Some(text())).build());
        // WeChat is told in its own form.
        answer = if is_wechats {
            answer.content("application/json", Content::new(Some(ObjectBuilder::new().build())))
        } else {
            answer.content("application/problem+json", Content::new(Some(Ref::from_schema_name("ProblemDocument"))))
        };
        operation.responses.responses.entry(status.into()).or_insert(RefOr::T(answer.build()));
    }
}

/// A stream's content is its events, one by one, rather than one text.
pub(super) fn say_events(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        if let RefOr::T(response) = response
            && let Some(RefOr::T(content)) = response.content.get_mut("text/event-stream")
        {
            *content = Content::new(Some(Ref::from_schema_name("Event")));
        }
    }
}

/// One event of a stream.
pub(super) fn event() -> Schema {
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
    let event = ObjectBuilder::new()
        .description(Some("One event of a stream (`text/event-stream`); a comment keeps a quiet one open."))
        .property("event", text())
        .property("id", text())
        .property("data", text())
        .property("retry", number);
    Schema::Object(event.build())
}

fn text() -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).build().into()
}
