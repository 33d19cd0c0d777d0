//! The booking page, the console and every other static file, compiled in; and a developer's token.

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
    Api, Inner,
    auth::Role,
    fields::{self, text},
    problem::{Kind, Problem},
};
use crate::domain::{hex::hex, ids::UserId};

macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_bytes!(concat!("../web/", $name)).as_slice())),*] };
}

/// Everything under `src/web/` that a browser may fetch; a test compares.
static FILES: LazyLock<HashMap<&str, &[u8]>> = LazyLock::new(|| {
    files! {
        "booking/alternatives.js" "booking/api.js" "booking/base.css" "booking/cancel.js" "booking/catalogue.js"
        "booking/choose.css" "booking/choose.js" "booking/confirm.js" "booking/ending.css" "booking/events.js"
        "booking/facts.js" "booking/format.js" "booking/index.html" "booking/intent.js" "booking/main.js"
        "booking/messages.js" "booking/mine.js" "booking/notice.js" "booking/order.css" "booking/order.js"
        "booking/pay.js" "booking/placing.js" "booking/reasons.js" "booking/refund.js" "booking/refunds.js"
        "booking/reminder.js" "booking/seats.js" "booking/sessions.js" "booking/signin.js" "booking/status.js"
        "booking/ticket.js" "booking/waitlist.js" "booking/words.en.js" "booking/words.js" "booking/words.zh.js"
        "both/clock.js" "both/dom.js" "both/format.js" "both/handover.js" "both/http.js" "both/identity.js" "both/key.js"
        "both/language.js" "both/pace.js" "both/stream.js" "console/api.js" "console/base.css" "console/book_day.js" "console/books.js" "console/cases.js" "console/deed.js"
        "console/errors.js" "console/index.html" "console/invariants.js" "console/letter.js"
        "console/letter_deeds.js" "console/letter_groups.js" "console/letters.js" "console/live.js" "console/main.js" "console/money.js"
        "console/now.js" "console/order.js" "console/orders.js" "console/pages.css" "console/parts.css"
        "console/plot.js" "console/replay.js" "console/replay_plan.js" "console/replays.js" "console/say.js"
        "console/session.js" "console/session_deeds.js" "console/sessions.js" "console/signin.js" "console/table.js" "console/timeline.js"
        "console/trouble.js" "console/words.en.js" "console/words.js" "console/words.zh.js" "docs/docs.css"
        "docs/docs.js" "docs/index.html"
    }
    .into()
});

/// Own files only, no inline script or style, never framed.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data: blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(super) async fn booking(State(api): State<Api>, headers: HeaderMap) -> Response {
    page(include_str!("../web/booking/index.html"), &api, &headers)
}

pub(super) async fn console(State(api): State<Api>, headers: HeaderMap) -> Response {
    page(include_str!("../web/console/index.html"), &api, &headers)
}

fn page(html: &str, api: &Inner, headers: &HeaderMap) -> Response {
    let phone = escape(api.settings.phone_url.as_deref().unwrap_or_default());
    let html = html
        .replace("{{development}}", &api.settings.development.to_string())
        .replace("{{sign_in}}", api.settings.console_sign_in.name())
        .replace("{{phone_url}}", &phone);
    answer(headers, "text/html; charset=utf-8", html.into_bytes())
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
    let tag = hex(&digest[..12]);
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

/// `POST /dev/token` `{"user": …, "role": …}`, a customer's when no role is said: there only with `api.development`.
pub(super) async fn development_token(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, Problem> {
    let mut fields = fields::json_object(&headers, body, 1024).await?;
    let user =
        fields.required("user", |value| UserId::try_from(text(value)?.to_owned()).map_err(|malformed| malformed.0));
    let role = fields.optional("role", |value| text(value)?.parse::<Role>());
    fields.finish()?;
    let user = user.ok_or_else(|| Problem::new(Kind::InvalidRequest))?;
    let expires = (api.now)() + time::Duration::DAY;
    let role = role.unwrap_or(Role::Customer);
    let openid = (role == Role::Customer).then(|| format!("openid-{user}"));
    let token = api.auth.mint(user.as_str(), role, openid.as_deref(), expires);
    let token = token.map_err(|fault| {
        tracing::warn!(%fault, "no token for development");
        Problem::new(Kind::TemporarilyUnavailable).detail(fault.to_string())
    })?;
    Ok(Json(json!({ "token": token })))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

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

    fn text_of(name: &str) -> &'static str {
        std::str::from_utf8(FILES[name]).unwrap()
    }

    fn scripts() -> impl Iterator<Item = (&'static str, &'static str)> {
        FILES.keys().filter(|name| name.ends_with(".js")).map(|name| (*name, text_of(name)))
    }

    #[tokio::test]
    async fn every_file_is_served_with_its_type_under_the_policy_and_once() {
        for name in FILES.keys() {
            let served = asset(Path((*name).to_owned()), HeaderMap::new()).await;
            if name.ends_with(".html") {
                assert_eq!(served.status(), StatusCode::NOT_FOUND, "{name} has an address of its own");
                continue;
            }
            assert_eq!(served.status(), StatusCode::OK, "{name}");
            let media_type = if name.ends_with(".js") { "text/javascript" } else { "text/css" };
            assert_eq!(served.headers()[header::CONTENT_TYPE], format!("{media_type}; charset=utf-8"), "{name}");
            assert_eq!(served.headers()[header::CONTENT_SECURITY_POLICY], PAGE_POLICY, "{name}");

            let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, served.headers()[header::ETAG].clone())]);
            let again = asset(Path((*name).to_owned()), known).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{name}");
            assert_eq!(again.headers()[header::ETAG], served.headers()[header::ETAG], "{name}");
            assert!(axum::body::to_bytes(again.into_body(), 1).await.unwrap().is_empty(), "{name}");
        }
        for stranger in ["booking/none.js", "../web/booking/main.js", "booking/", ""] {
            let answer = asset(Path(stranger.to_owned()), HeaderMap::new()).await;
            assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{stranger}");
        }
    }

    #[test]
    fn the_policy_allows_nothing_inline_and_the_pages_have_nothing_inline() {
        assert!(!PAGE_POLICY.contains("unsafe-") && PAGE_POLICY.starts_with("default-src 'none'"));
        for name in FILES.keys().filter(|name| name.ends_with(".html")) {
            let html = text_of(name);
            for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
                assert!(!html.contains(inline), "{name} has {inline}");
            }
            for script in html.split("<script").skip(1) {
                let (tag, rest) = script.split_once('>').unwrap();
                assert!(tag.contains(" src=\"/assets/") && rest.starts_with("</script>"), "{name}: {tag}");
            }
        }
        for (name, script) in scripts() {
            for unsafe_way in [".innerHTML", ".outerHTML", "insertAdjacentHTML", "eval(", ".style.", "document.write"] {
                assert!(!script.contains(unsafe_way), "{name} has {unsafe_way}");
            }
        }
    }

    #[test]
    fn the_pages_reach_every_file_and_none_that_is_not_there() {
        let pages = FILES.keys().filter(|name| name.ends_with("index.html"));
        let mut reached: BTreeSet<String> = pages.map(|name| (*name).to_owned()).collect();
        let mut unread: Vec<String> = reached.iter().cloned().collect();
        while let Some(name) = unread.pop() {
            let (folder, _) = name.split_once('/').unwrap();
            let text = text_of(&name);
            let named = |before: &str| text.split(before).skip(1).map(until_quote).collect::<Vec<_>>();
            let own = [named("from \"./"), named("import \"./")].concat();
            let modules = own.iter().map(|module| format!("{folder}/{module}"));
            let outside = [named("from \"../"), named("\"/assets/")].concat();
            for found in modules.chain(outside.into_iter().map(str::to_owned)) {
                assert!(FILES.contains_key(found.as_str()), "{name} wants {found}");
                if reached.insert(found.clone()) {
                    unread.push(found);
                }
            }
        }
        let all: BTreeSet<String> = FILES.keys().map(|name| (*name).to_owned()).collect();
        assert_eq!(reached, all, "some files are reached by no page");
    }

    #[test]
    fn a_module_takes_only_what_another_gives() {
        for (name, script) in scripts() {
            let (folder, _) = name.split_once('/').unwrap();
            for import in script.split("import { ").skip(1) {
                let (taken, rest) = import.split_once(" } from \"").unwrap();
                let from = until_quote(rest).trim_start_matches("./");
                let from = from.strip_prefix("../").map_or(format!("{folder}/{from}"), str::to_owned);
                let given = gives(&from);
                for one in taken.split(", ").filter_map(|one| one.split(" as ").next()) {
                    assert!(given.contains(one.trim().trim_end_matches(',')), "{name} takes {one} from {from}");
                }
            }
        }
    }

    /// The names that a module exports, its own and those that it hands on.
    fn gives(name: &str) -> BTreeSet<String> {
        let mut given = BTreeSet::new();
        for line in text_of(name).lines().filter_map(|line| line.strip_prefix("export ")) {
            if let Some(from) = line.strip_prefix("* from \"../") {
                given.extend(gives(until_quote(from)));
            } else if let Some(handed_on) = line.strip_prefix("{ ") {
                given.extend(handed_on.split(" }").next().unwrap().split(", ").map(str::to_owned));
            } else {
                let line = line.trim_start_matches("async ");
                let word = line.split_once(' ').unwrap().1;
                given.insert(word.chars().take_while(|sign| sign.is_ascii_alphanumeric() || *sign == '_').collect());
            }
        }
        given
    }

    fn until_quote(text: &str) -> &str {
        text.split('"').next().unwrap()
    }

    const PAGES: [&str; 2] = ["booking", "console"];

    /// Key and text of each word of a page in one language, as its file writes them: one to a line.
    fn words(page: &str, language: &str) -> BTreeMap<&'static str, &'static str> {
        let file = text_of(&format!("{page}/words.{language}.js"));
        let (_, rest) = file.split_once(&format!("const {language} = {{\n")).unwrap();
        let (lines, _) = rest.split_once("\n};").unwrap();
        let lines = lines.lines().filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let (key, text) = line.trim().split_once(": \"").unwrap_or_else(|| panic!("{line}"));
                (key.trim_matches('"'), text.strip_suffix("\",").unwrap_or_else(|| panic!("{line}")))
            })
            .collect()
    }

    #[test]
    fn both_languages_say_the_same_things() {
        fn blanks(text: &str) -> BTreeSet<&str> {
            text.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect()
        }
        for page in PAGES {
            let (zh, en) = (words(page, "zh"), words(page, "en"));
            assert!(zh.len() > 100, "the words were found");
            for (key, text) in &en {
                // Chinese does not tell one from many.
                let same = zh.get(key.trim_end_matches(".one")).unwrap_or_else(|| panic!("{key} has no Chinese"));
                assert_eq!(blanks(text), blanks(same), "{key}");
                assert!(!text.is_empty() && !same.is_empty(), "{key}");
            }
            for key in zh.keys() {
                assert!(en.contains_key(key), "{key} has no English");
            }
        }
    }

    #[test]
    fn a_page_says_every_word_it_has_and_has_every_word_it_says() {
        for page in PAGES {
            let zh = words(page, "zh");
            let mine = |name: &str| name.starts_with(page) || name.starts_with("both/");
            let is_code = |name: &str| mine(name) && !name.contains("/words.");
            let code: String = scripts().filter(|(name, _)| is_code(name)).map(|(_, text)| text).collect();
            for call in ["t(\"", "count(\""] {
                for (at, _) in code.match_indices(call) {
                    // `.set("…")` ends in the same letters.
                    if !code[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '.') {
                        let said = until_quote(&code[at + call.len()..]);
                        assert!(zh.contains_key(said), "{page}: {call}{said}\") has no words");
                    }
                }
            }
            // Families of words: `status_${…}`.
            let beginnings = code.split('`').filter_map(|rest| Some(rest.split_once("${")?.0));
            let families: BTreeSet<&str> = beginnings.filter(|family| family.ends_with('_')).collect();
            for key in zh.keys() {
                let is_made = families.iter().any(|family| key.starts_with(family));
                let is_status = statuses().any(|status| key.trim_end_matches("_text") == status);
                assert!(is_made || is_status || code.contains(&format!("\"{key}\"")), "{page}: nothing says {key}");
            }
        }
    }

    fn statuses() -> impl Iterator<Item = &'static str> {
        crate::domain::order::Status::ALL.into_iter().map(crate::domain::order::Status::as_str).chain(["unknown"])
    }

    #[test]
    fn every_status_has_its_words() {
        let (booking, console) = (words("booking", "zh"), words("console", "zh"));
        for status in statuses() {
            for key in [status.to_owned(), format!("{status}_text"), format!("short_{status}")] {
                assert!(booking.contains_key(key.as_str()), "{key}");
            }
            assert!(status == "unknown" || console.contains_key(format!("status_{status}").as_str()), "{status}");
        }
    }

    #[test]
    fn what_goes_into_a_page_cannot_leave_its_attribute() {
        assert_eq!(escape("\"><script>&"), "&quot;&gt;&lt;script&gt;&amp;");
    }
}
