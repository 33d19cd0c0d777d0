//! Carries callbacks to the merchant: encrypts, signs, posts, and reports back whether they were accepted.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use crate::{
    app::App,
    seal::{self, Seal},
    world::{callback::Attempt, letter::Letter},
};

/// A merchant must answer within this (WeChat Pay: callbacks, answer).
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes every attempt when it is due, for as long as the simulator runs.
pub(crate) async fn run(app: Arc<App>, client: reqwest::Client) {
    loop {
        let (attempts, next) = app.change(|world| (world.take_due(app.now()), world.next_due()));
        for attempt in attempts {
            let (app, client) = (Arc::clone(&app), client.clone());
            tokio::spawn(async move {
                let accepted = deliver(&app, &client, &attempt).await;
                if !attempt.copy {
                    app.change(|world| world.attempted(&attempt.letter.id, accepted, app.now()));
                    app.agenda_changed.notify_one();
                }
            });
        }
        match next {
            None => app.agenda_changed.notified().await,
            Some(next) => {
                let wait = Duration::try_from(next - app.now()).unwrap_or_default();
                // Ends early when something sooner is noted; a time-out is the ordinary case.
                let _ = tokio::time::timeout(wait, app.agenda_changed.notified()).await;
            }
        }
    }
}

async fn deliver(app: &App, client: &reqwest::Client, attempt: &Attempt) -> bool {
    let letter = &attempt.letter;
    let body = envelope(app, letter);
    let signer = app.callback_key(attempt.keys);
    let seal = Seal::new(&signer, body.as_bytes(), app.clock(), attempt.forgery);
    let mut request = client
        .post(&letter.notify_url)
        .timeout(PATIENCE)
        .header("Content-Type", "application/json")
        .header("User-Agent", "Mozilla/4.0")
        .header("Accept", "*/*");
    for (name, value) in seal.headers() {
        request = request.header(name, value);
    }
    match request.body(body).send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            tracing::debug!(id = letter.id, status, "callback answered");
            matches!(status, 200 | 204)
        }
        Err(reason) => {
            tracing::debug!(id = letter.id, reason = %reason.without_url(), "callback not answered");
            false
        }
    }
}

/// The same bytes at every attempt: id and nonce belong to the callback, not to the attempt.
fn envelope(app: &App, letter: &Letter) -> String {
    let apiv3_key = app.platform.apiv3(letter.apiv3_key);
    let associated_data = letter.news.associated_data();
    let ciphertext = seal::encrypt(&apiv3_key, &letter.nonce, associated_data, letter.plaintext.as_bytes());
    json!({
        "id": letter.id,
        "create_time": letter.create_time,
        "resource_type": "encrypt-resource",
        "event_type": letter.news.event_type(),
        "summary": letter.news.summary(),
        "resource": {
            "original_type": letter.news.original_type(),
            "algorithm": "AEAD_AES_256_GCM",
            "ciphertext": ciphertext,
            "associated_data": associated_data,
            "nonce": letter.nonce,
        },
    })
    .to_string()
}
