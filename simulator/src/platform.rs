//! The merchant platform: keys that a merchant changes while WeChat works. In memory only; a simulator that starts anew
//! has those of its files.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::signature::ParsedPublicKey;
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

use crate::{
    app::App,
    keys::{self, Keys, Signer},
    sim_api,
};

/// The keys in force.
pub(crate) struct Platform(RwLock<InForce>);

struct InForce {
    /// The merchant's certificates, by serial: any of them may have signed a request.
    merchants: Vec<(String, Arc<ParsedPublicKey>)>,
    /// Every APIv3 key there has been, the present one last: what was sealed stays so.
    apiv3: Vec<Arc<str>>,
    /// WeChat Pay's public keys, the newest last.
    public: Vec<Signer>,
    /// The newest that a request has asked for: callbacks come with no newer one, so that they are not signed with a
    /// key of which the merchant has just heard.
    asked: usize,
}

impl Platform {
    pub(crate) fn new(keys: &Keys) -> Self {
        Self(RwLock::new(InForce {
            merchants: vec![(keys.merchant_serial_no.clone(), Arc::clone(&keys.merchant))],
            apiv3: vec![keys.apiv3_key.as_str().into()],
            public: vec![keys.public.clone()],
            asked: 0,
        }))
    }

    /// The public key of the merchant's certificate with this serial.
    pub(crate) fn merchant(&self, serial_no: &str) -> Option<Arc<ParsedPublicKey>> {
        self.look(|keys| keys.merchants.iter().find(|(serial, _)| serial == serial_no).map(|(_, key)| Arc::clone(key)))
    }

    /// An APIv3 key by its number, the present one beyond the last.
    pub(crate) fn apiv3(&self, number: usize) -> Arc<str> {
        self.look(|keys| Arc::clone(&keys.apiv3[number.min(keys.apiv3.len() - 1)]))
    }

    /// The public key of this name.
    pub(crate) fn public(&self, id: &str) -> Option<Signer> {
        self.look(|keys| keys.public.iter().find(|signer| &*signer.serial == id).cloned())
    }

    /// The public key of this name, for an answer that was asked to be signed with it.
    pub(crate) fn asked_for(&self, id: &str) -> Option<Signer> {
        self.change(|keys| {
            let place = keys.public.iter().position(|signer| &*signer.serial == id)?;
            keys.asked = keys.asked.max(place);
            Some(keys.public[place].clone())
        })
    }

    /// The newest public key in use, or with `older` the one before it.
    pub(crate) fn newest_public(&self, older: bool) -> Signer {
        self.look(|keys| keys.public[keys.asked.saturating_sub(usize::from(older))].clone())
    }

    fn look<T>(&self, look: impl FnOnce(&InForce) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, deed: impl FnOnce(&mut InForce) -> T) -> T {
        deed(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a merchant does there.
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

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/_sim/merchant", post(act))
}

async fn act(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let done = match serde_json::from_slice::<Act>(&body) {
        Ok(Act::NewPublicKey {}) => new_public_key(&app).await,
        Ok(act) => perform(&app, act),
        Err(reason) => Err(reason.to_string()),
    };
    match done {
        Ok(document) => Json(document).into_response(),
        Err(reason) => sim_api::problem(StatusCode::BAD_REQUEST, "merchant", &reason),
    }
}

fn perform(app: &App, act: Act) -> Result<Value, String> {
    match act {
        Act::AddCertificate(pem) => {
            let (serial_no, key) = keys::certificate_of(&pem).map_err(|reason| format!("{reason:#}"))?;
            app.platform.change(|keys| keys.merchants.push((serial_no.clone(), Arc::new(key))));
            Ok(json!({"serial_no": serial_no}))
        }
        Act::RevokeCertificate(serial_no) => {
            let is_it = |(serial, _): &(String, _)| *serial == serial_no;
            app.platform.change(|keys| remove(&mut keys.merchants, is_it)).map(|()| json!({}))
        }
        Act::Apiv3Key(key) if key.len() == 32 && key.is_ascii() => {
            app.platform.change(|keys| keys.apiv3.push(key.into()));
            app.change(|world| world.apiv3_keys += 1);
            Ok(json!({}))
        }
        Act::Apiv3Key(_) => Err("an APIv3 key has 32 ASCII characters".to_owned()),
        Act::RetirePublicKey(id) => {
            let retire = |keys: &mut InForce| {
                remove(&mut keys.public, |signer| *signer.serial == id)?;
                keys.asked = keys.asked.saturating_sub(1);
                Ok(json!({}))
            };
            app.platform.change(retire)
        }
        Act::NewPublicKey {} => Err("is made apart".to_owned()),
    }
}

/// The last one is needed.
fn remove<T>(list: &mut Vec<T>, is_it: impl Fn(&T) -> bool) -> Result<(), String> {
    let place = list.iter().position(is_it).ok_or("there is none of this name")?;
    if list.len() == 1 {
        return Err("it is the last one".to_owned());
    }
    list.remove(place);
    Ok(())
}

async fn new_public_key(app: &App) -> Result<Value, String> {
    let made = tokio::task::spawn_blocking(keys::new_public_key).await.map_err(|reason| reason.to_string())?;
    let (signer, pem) = made.map_err(|reason| format!("{reason:#}"))?;
    let document = json!({"public_key_id": &*signer.serial, "public_key": pem});
    app.platform.change(|keys| keys.public.push(signer));
    Ok(document)
}
