//! The Official Account's endpoints. Every answer is HTTP 200; `errcode` tells.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{ConnectInfo, Query, State},
    http::{Response, StatusCode},
    response::IntoResponse as _,
    routing::{get, post},
};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::{
    answer,
    app::App,
    random,
    wire::Wire,
    world::{World, account::AccountError, script::Operation},
};

type Parameters = Query<HashMap<String, String>>;
type Deed = Result<Value, AccountError>;

/// Tokens and template messages.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/cgi-bin/stable_token", post(stable_token))
        .route("/cgi-bin/token", get(classic_token))
        .route("/cgi-bin/message/template/send", post(send))
}

async fn stable_token(
    State(app): State<Arc<App>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    body: Bytes,
) -> Response<Body> {
    let asked = object(&body).and_then(|asked| {
        let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
        credentials(&app, &text("grant_type"), &text("appid"), &text("secret"))?;
        Ok(asked["force_refresh"].as_bool().unwrap_or_default())
    });
    perform(&app, &wire, Operation::Token, "", |world, now| Ok(world.stable_token(asked?, now))).await
}

async fn classic_token(
    State(app): State<Arc<App>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    Query(asked): Parameters,
) -> Response<Body> {
    let text = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
    let checked = credentials(&app, text("grant_type"), text("appid"), text("secret"));
    perform(&app, &wire, Operation::Token, "", |world, now| checked.map(|()| world.classic_token(now))).await
}

async fn send(
    State(app): State<Arc<App>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    Query(asked): Parameters,
    body: Bytes,
) -> Response<Body> {
    let message = object(&body);
    let touser = message.as_ref().ok().and_then(|message| message["touser"].as_str()).unwrap_or_default().to_owned();
    let token = asked.get("access_token").filter(|token| !token.is_empty());
    perform(&app, &wire, Operation::TemplateSend, &touser, |world, now| {
        world.check_token(token.map(String::as_str), now)?;
        let msgid = world.send_message(&message?, now)?;
        Ok(json!({"errcode": 0, "errmsg": "ok", "msgid": msgid}))
    })
    .await
}

fn object(body: &[u8]) -> Deed {
    if body.is_empty() {
        return Err(AccountError::new(44002, "empty post data"));
    }
    serde_json::from_slice::<Value>(body)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| AccountError::new(47001, "data format error"))
}

fn credentials(app: &App, grant_type: &str, appid: &str, secret: &str) -> Result<(), AccountError> {
    if grant_type != "client_credential" {
        Err(AccountError::new(40002, "invalid grant_type"))
    } else if appid != app.settings.appid {
        Err(AccountError::new(40013, "invalid appid"))
    } else if secret != app.settings.official_account_secret {
        Err(AccountError::new(40125, "invalid appsecret"))
    } else {
        Ok(())
    }
}

/// Does the deed under the lock unless the script forbids, then answers as the script lets it.
async fn perform(
    app: &App,
    wire: &Wire,
    operation: Operation,
    subject: &str,
    deed: impl FnOnce(&mut World, OffsetDateTime) -> Deed,
) -> Response<Body> {
    let now = app.now();
    let (outcome, fault) = app.change(|world| {
        let fault = world.play.draw(operation, subject, now);
        if fault.expire_token {
            world.expire_tokens(now);
        }
        if fault.revoke_token {
            world.revoke_tokens(now);
        }
        let outcome = match (fault.errcode, &fault.instead) {
            (None, None) => deed(world, now),
            (errcode, _) => Err(AccountError::new(errcode.unwrap_or(-1), "scripted error")),
        };
        (outcome, fault)
    });
    if fault.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(fault.latency_ms)).await;
    }
    if let Some(lost) = &fault.lost {
        return answer::lost(lost, wire);
    }
    if let Some(error) = &fault.instead {
        return answer::scripted(error);
    }
    let body = outcome.unwrap_or_else(|error| {
        tracing::info!(?operation, errcode = error.errcode, errmsg = error.errmsg, "said no");
        let rid = format!("{}-{}-{}", random::hex(8), random::hex(8), random::hex(8)).to_lowercase();
        json!({"errcode": error.errcode, "errmsg": format!("{} rid: {rid}", error.errmsg)})
    });
    (StatusCode::OK, axum::Json(body)).into_response()
}
