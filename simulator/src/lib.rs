//! The other party: WeChat Pay v3 and the Official Account API, for tests and development.
//!
//! It shares no code with the merchant it talks to, so that a mistake in one is not forgiven by the other.
//! In reading order: [`settings`] and [`keys`]; `world`, the rules as a pure state machine; `authorization`
//! and `fields`, which let requests in; `answer` and `seal`, which sign what goes out; `serve` and `wire`, its
//! connections; `courier`, which carries callbacks; `call`, one request from proof to answer; and the endpoints `pay_api`, `official_account`, `phone`,
//! `sim_api`, `merchant_api`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on may stop"))]

mod answer;
mod app;
mod authorization;
mod call;
mod courier;
mod fields;
mod keys;
mod merchant_api;
mod official_account;
mod pay_api;
mod phone;
mod platform;
mod random;
mod refusal;
mod seal;
mod serve;
mod settings;
mod sim_api;
mod wire;
mod world;

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use axum::{Router, http::StatusCode};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

pub use keys::{Keys, PlatformCertificate};
pub use settings::{KeyMode, Settings};

/// A simulator at work. Dropping it stops it.
#[derive(Debug)]
pub struct Running {
    /// Where it listens, e.g. `http://127.0.0.1:8090`.
    pub url: String,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    courier: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.courier.abort();
        // Idle connections close, answers under way are finished.
        drop(self.stop.take());
    }
}

impl Running {
    /// Ends when the server does, which is never unless it is dropped.
    pub async fn finished(&mut self) {
        // A panic of the server is its end too.
        let _ = (&mut self.server).await;
    }
}

/// Starts a simulator on `listener`; call it inside a tokio runtime.
///
/// # Errors
/// When the settings make no sense, the journal cannot be read, or no HTTP client for callbacks can be made.
pub fn start(settings: Settings, keys: Keys, listener: TcpListener) -> Result<Running> {
    ensure!(settings.callback_speed.is_finite() && settings.callback_speed > 0.0, "callback_speed must be above 0");
    let url = format!("http://{}", listener.local_addr().context("the listener has no address")?);
    let client = reqwest::Client::builder()
        .http1_title_case_headers()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .context("cannot make the client that carries callbacks")?;
    let public_url = settings.public_url.clone().unwrap_or_else(|| url.clone());
    let idle_close = settings.idle_close;
    let app = Arc::new(app::App::new(settings, keys, public_url)?);

    let router: Router = Router::new()
        .merge(pay_api::routes())
        .merge(official_account::routes())
        .merge(phone::routes())
        .merge(merchant_api::routes())
        .merge(sim_api::routes())
        .fallback(async || StatusCode::NOT_FOUND)
        .with_state(Arc::clone(&app));
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve::serve(listener, router, idle_close, stopped));
    let courier = tokio::spawn(courier::run(app, client));
    Ok(Running { url, stop: Some(stop), server, courier })
}
