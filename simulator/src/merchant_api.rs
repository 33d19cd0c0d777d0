//! What a merchant does at the merchant platform: keys are added and taken away while WeChat works.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{app::App, keys, sim_api};

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/_sim/merchant", post(act))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Act {
    /// PEM, of a key that the merchant made.
    AddCertificate(String),
    /// By serial.
    RevokeCertificate(String),
    Apiv3Key(String),
    NewPublicKey {},
    /// By id.
    RetirePublicKey(String),
}

async fn act(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let done = match serde_json::from_slice(&body) {
        Ok(act) => perform(&app, act).await,
        Err(reason) => Err(reason.to_string()),
    };
    match done {
        Ok(document) => Json(document).into_response(),
        Err(reason) => sim_api::problem(StatusCode::BAD_REQUEST, "merchant", &reason),
    }
}

async fn perform(app: &App, act: Act) -> Result<Value, String> {
    match act {
        Act::AddCertificate(pem) => {
            let (serial_no, key) = keys::certificate_of(&pem).map_err(|reason| format!("{reason:#}"))?;
            app.platform.add_certificate(serial_no.clone(), key);
            return Ok(json!({"serial_no": serial_no}));
        }
        Act::RevokeCertificate(serial_no) => app.platform.revoke_certificate(&serial_no)?,
        Act::Apiv3Key(key) if key.len() == 32 && key.is_ascii() => {
            app.platform.add_apiv3(&key);
            app.change(|world| world.apiv3_keys += 1);
        }
        Act::Apiv3Key(_) => return Err("an APIv3 key has 32 ASCII characters".to_owned()),
        Act::NewPublicKey {} => return new_public_key(app).await,
        Act::RetirePublicKey(id) => app.platform.retire_public(&id)?,
    }
    Ok(json!({}))
}

async fn new_public_key(app: &App) -> Result<Value, String> {
    let made = tokio::task::spawn_blocking(keys::new_public_key).await.map_err(|reason| reason.to_string())?;
    let (signer, pem) = made.map_err(|reason| format!("{reason:#}"))?;
    let document = json!({"public_key_id": &*signer.serial, "public_key": pem});
    app.platform.add_public(signer);
    Ok(document)
}
