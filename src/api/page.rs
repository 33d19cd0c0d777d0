//! The booking page and every other static file, compiled in; and a developer's token.

use std::{collections::HashMap, sync::LazyLock};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    Api,
    auth::Role,
    fields::{self, text},
    problem::{Kind, Problem},
};
use crate::domain::ids::UserId;

macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_bytes!(concat!("../web/", $name)).as_slice())),*] };
}

/// Everything under `src/web/` that a browser may fetch; a test compares.
static FILES: LazyLock<HashMap<&str, &[u8]>> = LazyLock::new(|| {
    files! {
        "booking/alternatives.js" "booking/api.js" "booking/base.css" "booking/catalogue.js" "booking/choose.css"
        "booking/choose.js" "booking/clock.js" "booking/dom.js" "booking/events.js" "booking/facts.js" "booking/format.js"
        "booking/identity.js" "booking/index.html" "booking/intent.js" "booking/language.js" "booking/main.js"
        "booking/mine.js" "booking/notice.js" "booking/order.css" "booking/order.js" "booking/pace.js"
        "booking/pay.js" "booking/placing.js" "booking/reminder.js" "booking/seats.js" "booking/sessions.js" "booking/signin.js"
        "booking/status.js" "booking/ticket.js" "booking/words.js"
        "docs/docs.css" "docs/docs.js" "docs/index.html"
    }
    .into()
});

/// Own files only, no inline script or style, never framed.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data: blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(super) async fn index(State(api): State<Api>, headers: HeaderMap) -> Response {
    let phone = escape(api.settings.phone_url.as_deref().unwrap_or_default());
    let html = include_str!("../web/booking/index.html").replace("{{phone_url}}", &phone);
    answer(&headers, "text/html; charset=utf-8", html.into_bytes())
}

pub(super) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let media_type = match path.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        // Pages have addresses of their own.
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    match FILES.get(path.as_str()) {
        Some(bytes) => answer(&headers, media_type, bytes.to_vec()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A page or file, or 304 when the browser has it: it asks each time, so a new release shows at once.
pub(super) fn answer(headers: &HeaderMap, media_type: &'static str, bytes: Vec<u8>) -> Response {
    let digest = Sha256::digest(&bytes);
    let tag: String = digest[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("W/\"{tag}\"");
    let fresh = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str());
    let mut response = if fresh { StatusCode::NOT_MODIFIED.into_response() } else { Body::from(bytes).into_response() };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// Text as HTML, also inside a double-quoted attribute.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `POST /dev/token` `{"user": …}`: there only with `api.development`.
pub(super) async fn development_token(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let mut fields = fields::json_object(&headers, body, 1024).await?;
    let user =
        fields.required("user", |value| UserId::try_from(text(value)?.to_owned()).map_err(|malformed| malformed.0));
    fields.finish()?;
    let user = user.ok_or_else(|| Problem::new(Kind::InvalidRequest))?;
    let expires = (api.now)() + time::Duration::DAY;
    let token = api.auth.mint(user.as_str(), Role::Customer, Some(&format!("openid-{user}")), expires);
    let token = token.map_err(|fault| {
        tracing::warn!(%fault, "no token for development");
        Problem::new(Kind::TemporarilyUnavailable).detail(fault.to_string())
    })?;
    Ok(Json(json!({ "token": token })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_under_web_is_compiled_in() {
        let web = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web");
        let mut found = 0;
        for folder in std::fs::read_dir(&web).unwrap() {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let name = path.strip_prefix(&web).unwrap().to_str().unwrap();
                let held = FILES.get(name).unwrap_or_else(|| panic!("{name} is not in the table"));
                assert_eq!(*held, std::fs::read(&path).unwrap(), "{name}");
                found += 1;
            }
        }
        assert_eq!(found, FILES.len());
    }

    #[test]
    fn what_goes_into_a_page_cannot_leave_its_attribute() {
        assert_eq!(escape("\"><script>&"), "&quot;&gt;&lt;script&gt;&amp;");
    }
}
