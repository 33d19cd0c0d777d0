//! Who is let in where: every address of the ingress and every command × everybody who might try.
//!
//! The rules come from the router itself (`holdfast::api::access`); this asks a running ingress whether it keeps them.
//! What came out is left in `target/access-matrix.json` and, for people, in `target/access-matrix.md`.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use futures_util::{StreamExt as _, stream};
use holdfast::api::{
    Role,
    access::{Address, Rule, surface},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    access_cli,
    metrics::health_of,
    stack::{Answer, Choice, Stack},
};

/// Everybody who might try. The last four bear a token that says `operator`, and that we must not believe.
const EVERYBODY: [Who; 9] = [
    Who::Nobody,
    Who::Owner,
    Who::OtherCustomer,
    Who::Viewer,
    Who::Operator,
    Who::Expired,
    Who::WrongKey,
    Who::WrongAlgorithm,
    Who::NoAlgorithm,
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    /// The customer to whom the order belongs.
    Owner,
    OtherCustomer,
    Viewer,
    Operator,
    Expired,
    WrongKey,
    WrongAlgorithm,
    NoAlgorithm,
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Owner => "owner",
            Self::OtherCustomer => "other customer",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Expired => "expired",
            Self::WrongKey => "wrong key",
            Self::WrongAlgorithm => "wrong algorithm",
            Self::NoAlgorithm => "none",
        }
    }

    /// The role of whoever has a token that must be believed.
    fn role(self) -> Option<Role> {
        match self {
            Self::Owner | Self::OtherCustomer => Some(Role::Customer),
            Self::Viewer => Some(Role::Viewer),
            Self::Operator => Some(Role::Operator),
            Self::Nobody | Self::Expired | Self::WrongKey | Self::WrongAlgorithm | Self::NoAlgorithm => None,
        }
    }

    fn token(self, secret: &str) -> Option<String> {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        // The owner's own name where the role alone must not do.
        let (user, role) = match self {
            Self::Owner => ("ann", "customer"),
            Self::OtherCustomer => ("bob", "customer"),
            Self::Viewer => ("vic", "viewer"),
            Self::Nobody => return None,
            Self::Operator => ("oscar", "operator"),
            Self::Expired | Self::WrongKey | Self::WrongAlgorithm | Self::NoAlgorithm => ("ann", "operator"),
        };
        // An hour past every leeway that can be configured.
        let expires = if self == Self::Expired { now - 3_600 } else { now + 3_600 };
        let claims = json!({ "sub": user, "role": role, "exp": expires });
        if self == Self::NoAlgorithm {
            return Some(unsigned(&claims));
        }
        let secret = if self == Self::WrongKey { "a secret of somebody else, just as long as ours" } else { secret };
        let algorithm = if self == Self::WrongAlgorithm { Algorithm::HS512 } else { Algorithm::HS256 };
        let key = EncodingKey::from_secret(secret.as_bytes());
        Some(jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).expect("a token"))
    }
}

/// A token that says it needs no signature, and has none.
fn unsigned(claims: &Value) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.", part(&json!({"alg": "none", "typ": "JWT"})), part(claims))
}

/// What the door says. Behind it a request may still fail on its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    In,
    /// 401
    Stranger,
    /// 403
    Forbidden,
    /// 404, as if it were not there.
    Hidden,
}

/// What the rule promises.
fn promised(rule: &Rule, who: Who) -> Door {
    match (rule, who.role()) {
        (Rule::Anybody, _) => Door::In,
        // Nobody here can sign as WeChat does, whatever their token says.
        (Rule::WeChat, _) | (Rule::Token { .. }, None) => Door::Stranger,
        (Rule::Token { roles, .. }, Some(role)) if roles.contains(&role) => Door::In,
        (Rule::Token { owner: true, .. }, _) if who == Who::Owner => Door::In,
        // Who may see every order is told that they may not act; to others it is not there.
        (Rule::Token { owner: true, roles }, Some(Role::Viewer)) if !roles.is_empty() => Door::Forbidden,
        (Rule::Token { owner: true, .. }, _) => Door::Hidden,
        (Rule::Token { .. }, _) => Door::Forbidden,
    }
}

fn words(rule: &Rule) -> String {
    match rule {
        Rule::Anybody => "anybody".into(),
        Rule::WeChat => "WeChat's signature".into(),
        Rule::Token { owner, roles } => {
            let roles: Vec<String> = roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
            owner.then(|| "owner".to_owned()).into_iter().chain(roles).collect::<Vec<_>>().join(", ")
        }
    }
}

/// One question to a door, and what came of it.
#[derive(Clone)]
pub(crate) struct Cell {
    pub surface: &'static str,
    pub what: String,
    pub rule: String,
    pub who: &'static str,
    pub expected: String,
    pub answered: String,
    pub ok: bool,
}

#[tokio::test]
async fn s6_4_access_matrix() {
    // As in life; what the harness sets is more than `config check` takes.
    let settings = vec![("HOLDFAST_BROKER__CONFIRM_MS", "3000".to_owned())];
    let roles = vec!["api", "seats"];
    let stack = Stack::start_with("access", Choice { roles, settings, ..Choice::default() }).await;
    let order = {
        let (ann, schedule) = (stack.quick_token("ann"), stack.add_schedule(9).await);
        let order = stack.submit(&ann, &schedule).await;
        stack.until_status(&ann, &order, "held").await;
        order
    };
    let surface = surface();
    assert!(surface.len() > 50, "this walks the wrong list: {} addresses", surface.len());
    let without: Vec<&Address> = surface.iter().filter(|address| address.rule.is_none()).collect();
    assert!(without.is_empty(), "nobody said who may ask for {without:?}: give it a `security`");

    let secret = stack.environment["HOLDFAST_AUTH__SECRET"].clone();
    let tokens: BTreeMap<&str, Option<String>> = EVERYBODY.map(|who| (who.name(), who.token(&secret))).into();
    let questions: Vec<(&Address, Who)> =
        surface.iter().flat_map(|address| EVERYBODY.map(|who| (address, who))).collect();
    let mut cells: Vec<Cell> = stream::iter(questions)
        .map(|(address, who)| {
            let (stack, order, token) = (&stack, &order, tokens[who.name()].as_deref());
            async move { ask(stack, address, who, token, order).await }
        })
        .buffered(8)
        .collect()
        .await;
    cells.extend(other_methods(&stack, &surface, tokens["operator"].as_deref()).await);
    cells.extend(health_ports(&stack, &surface).await);
    cells.extend(access_cli::cells(&stack).await);
    write(&cells);
    let failed: Vec<String> = cells
        .iter()
        .filter(|cell| !cell.ok)
        .map(|cell| format!("{} as {}: {}, but {}", cell.what, cell.who, cell.expected, cell.answered))
        .collect();
    assert!(failed.is_empty(), "{} of {} cells:\n{}", failed.len(), cells.len(), failed.join("\n"));
    stack.check_invariants().await;
}

/// A request that says nothing but who asks.
async fn send(stack: &Stack, method: &str, path: &str, token: Option<&str>) -> Response {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let request = stack.request(method, path).header("Idempotency-Key", "access").json(&json!({ "reason": "access" }));
    token.into_iter().fold(request, |request, token| request.bearer_auth(token)).send().await.expect("an answer")
}

async fn ask(stack: &Stack, address: &Address, who: Who, token: Option<&str>, order: &str) -> Cell {
    let rule = address.rule.as_ref().expect("looked at before");
    // An order that is there; of everything else one that is not, since the door comes first.
    let thing = if address.path.starts_with("/v1/orders/") { order } else { "00000000-0000-7000-8000-000000000000" };
    let path = address.path.split('/').map(|part| if part.starts_with('{') { thing } else { part });
    let response = send(stack, &address.method, &path.collect::<Vec<_>>().join("/"), token).await;
    let status = response.status();
    let may_hide = matches!(rule, Rule::Token { owner: true, .. });
    let door = match status {
        StatusCode::UNAUTHORIZED => Door::Stranger,
        StatusCode::FORBIDDEN => Door::Forbidden,
        StatusCode::NOT_FOUND if may_hide => Door::Hidden,
        _ => Door::In,
    };
    let expected = promised(rule, who);
    Cell {
        surface: "http",
        what: format!("{} {}", address.method, address.path),
        rule: words(rule),
        who: who.name(),
        expected: format!("{expected:?}"),
        answered: status.as_u16().to_string(),
        // The scheme is named to whoever lacks it (RFC 9110, 11.6.1).
        ok: door == expected
            && status != StatusCode::INTERNAL_SERVER_ERROR
            && (door != Door::Stranger || *rule == Rule::WeChat || response.headers().contains_key("www-authenticate")),
    }
}

/// What an address does not take is refused whoever asks, with the methods that it does take.
async fn other_methods(stack: &Stack, surface: &[Address], token: Option<&str>) -> Vec<Cell> {
    let mut cells = Vec::new();
    let mut paths: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for address in surface {
        paths.entry(&address.path).or_default().push(&address.method);
    }
    for (path, takes) in paths {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            if takes.contains(&method) {
                continue;
            }
            let response = send(stack, method, &path.replace(['{', '}', '*'], ""), token).await;
            let allow = response.headers().get("allow").and_then(|allow| allow.to_str().ok()).unwrap_or_default();
            let told = takes.iter().all(|method| allow.split(',').any(|word| word.trim() == *method));
            cells.push(Cell {
                surface: "method",
                what: format!("{method} {path}"),
                rule: "no such method".into(),
                who: "operator",
                expected: format!("405, Allow: {}", takes.join(", ")),
                answered: format!("{}, Allow: {allow}", response.status().as_u16()),
                ok: response.status() == StatusCode::METHOD_NOT_ALLOWED && told,
            });
        }
    }
    cells
}

/// F9: the port on which a role tells its health serves nothing else, and the customers' port does not tell it.
async fn health_ports(stack: &Stack, surface: &[Address]) -> Vec<Cell> {
    let paths = ["/healthz", "/readyz", "/metrics"].map(|path| ("GET", path));
    let mut ports = vec![(format!("the customers' port, {}", stack.api), stack.api.clone(), false)];
    for role in ["api", "seats"] {
        ports.push((format!("the health port of {role}"), format!("http://{}", health_of(stack, role).await), true));
    }
    let mut cells = Vec::new();
    for (port, address, tells_health) in ports {
        let others = surface.iter().filter(|_| tells_health).map(|address| (&*address.method, &*address.path));
        for (method, path) in others.chain(paths) {
            let asked = Method::from_bytes(method.as_bytes()).expect("a method");
            let answer = Answer::of(stack.http.request(asked, format!("{address}{path}"))).await;
            let there = tells_health && paths.contains(&(method, path));
            cells.push(Cell {
                surface: "health",
                what: format!("{method} {path} at {port}"),
                rule: if there { "anybody" } else { "not there" }.into(),
                who: "nobody",
                expected: if there { "200" } else { "404" }.into(),
                answered: answer.status.as_u16().to_string(),
                ok: answer.status == if there { StatusCode::OK } else { StatusCode::NOT_FOUND },
            });
        }
    }
    cells
}

fn write(cells: &[Cell]) {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("a directory below target");
    let failed = cells.iter().filter(|cell| !cell.ok).count();
    let documents: Vec<Value> = cells
        .iter()
        .map(|cell| {
            json!({ "surface": cell.surface, "what": cell.what, "rule": cell.rule, "who": cell.who,
                "expected": cell.expected, "answered": cell.answered, "ok": cell.ok })
        })
        .collect();
    let json = json!({ "tested": cells.len(), "failed": failed, "cells": documents });
    fs::write(target.join("access-matrix.json"), json.to_string()).expect("the matrix");
    let table = tables(cells);
    fs::write(target.join("access-matrix.md"), &table).expect("the matrix");
    println!("{table}");
}

/// One table for what has a column for each asker, and one line for each of the other parts.
fn tables(cells: &[Cell]) -> String {
    let mut text = format!("# Access matrix\n\n{} cells.\n", cells.len());
    for (surface, title) in [
        (
            "http",
            "Addresses. A number is the status that was answered: 401, 403 and 404 where the rule wants them, else let in",
        ),
        ("cli", "Commands. A number is the exit code: 2 wrong use or settings, 3 a server does not let us in"),
    ] {
        let rows: Vec<&Cell> = cells.iter().filter(|cell| cell.surface == surface).collect();
        let mut askers: Vec<&str> = Vec::new();
        for cell in &rows {
            if !askers.contains(&cell.who) {
                askers.push(cell.who);
            }
        }
        let _ = write!(
            text,
            "\n## {title}\n\n| what | rule | {} |\n|---|---|{}\n",
            askers.join(" | "),
            "---|".repeat(askers.len())
        );
        for row in rows.chunk_by(|one, next| one.what == next.what) {
            let answers = askers.iter().map(|who| match row.iter().find(|cell| cell.who == *who) {
                None => "—".to_owned(),
                Some(cell) if cell.ok => cell.answered.clone(),
                Some(cell) => format!("**{}**", cell.answered),
            });
            let answers = answers.collect::<Vec<_>>().join(" | ");
            let _ = writeln!(text, "| {} | {} | {answers} |", row[0].what, row[0].rule);
        }
    }
    for (surface, title) in [
        ("method", "methods that an address does not take, answered 405 with `Allow`"),
        (
            "health",
            "requests to a role's health port, which tells its health and nothing else, and for it at the customers'",
        ),
    ] {
        let rows = cells.iter().filter(|cell| cell.surface == surface);
        let (right, all) = rows.fold((0, 0), |(right, all), cell| (right + usize::from(cell.ok), all + 1));
        let _ = write!(text, "\n{right} of {all} {title}.\n");
    }
    text
}

/// Whoever can put an address into a router beside the lists of `holdfast::api::access` would escape the matrix.
#[test]
fn s6_4_every_address_is_in_the_access_matrix() {
    for (path, text) in crate::sources::of(&["src"]) {
        let routes =
            text.matches(".route(").count() + text.matches(".route_service(").count() + text.matches(".nest").count();
        let listed = match path.as_str() {
            "src/api/access.rs" => 2,
            // One for each of `health::PATHS`.
            "src/api/health.rs" => 3,
            _ => 0,
        };
        assert_eq!(routes, listed, "{path} serves an address that holdfast::api::access does not list");
    }
}
