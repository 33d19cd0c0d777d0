//! The keys that an OpenID issuer publishes, kept fresh.
//!
//! One task fetches: at the start, at a steady pace, and when a token's key is not known. Requests only read what it has,
//! or wait for its next answer. Strangers can send any number of tokens with unknown keys, so what those cause is bounded
//! by an allowance.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Client, Url, header::ACCEPT, redirect};
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use url::Host;

use super::{
    jwks,
    keys::VerifyingKey,
    settings::{AuthSettings, Published, wrong},
};
use crate::setting::BadSetting;

/// For one document, connecting included.
const FETCH_WITHIN: Duration = Duration::from_secs(4);
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// For the metadata and the keys, with some room: no request waits longer.
const NEWS_WITHIN: Duration = Duration::from_secs(9);
/// The largest sets known have some 20 KiB.
const DOCUMENT_BYTES_MAX: usize = 256 * 1024;
/// So soon a key that its issuer has withdrawn is no longer accepted.
const FETCH_EVERY: Duration = Duration::from_secs(300);
/// After a fetch that failed; the keys before stay in force meanwhile.
const RETRY_AFTER: Duration = Duration::from_secs(15);
/// Fetches that tokens with unknown keys cause at once, and one more for each time that passes.
const ALLOWANCE_MAX: u32 = 3;
const ALLOWANCE_EVERY: Duration = Duration::from_secs(20);

/// Whether keys may be fetched there: with TLS, on this machine, or anywhere where `plain_http` permits it.
pub(super) fn may_be_asked(url: &Url, plain_http: bool) -> bool {
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => plain_http || is_loopback(url),
        _ => false,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The outcome of the last fetch.
pub(super) struct Fetched {
    /// Of the last fetch that succeeded.
    pub(super) keys: Vec<VerifyingKey>,
    pub(super) failed: bool,
    /// Number of the fetch, which distinguishes its outcome from the next one.
    number: u64,
}

/// An issuer whose keys a task of this process keeps fresh.
pub struct Issuer {
    fetched: watch::Receiver<Arc<Fetched>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    wanted: Notify,
    allowance: Mutex<Allowance>,
}

/// How often tokens with unknown keys may still cause a fetch.
struct Allowance {
    /// A fetch is under way or about to begin.
    pending: bool,
    left: u32,
    counted_at: Instant,
}

/// What a request with an unknown key does.
#[derive(Debug, PartialEq, Eq)]
enum Permit {
    /// Requests a fetch from the task and waits for its outcome.
    Ask,
    /// Waits for the fetch that is pending.
    Wait,
    /// Goes by the last outcome.
    Neither,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { pending: true, left: ALLOWANCE_MAX, counted_at: Instant::now() }
    }
}

impl Allowance {
    fn take(&mut self, now: Instant) -> Permit {
        if self.pending {
            return Permit::Wait;
        }
        while self.left < ALLOWANCE_MAX && now.duration_since(self.counted_at) >= ALLOWANCE_EVERY {
            self.left += 1;
            self.counted_at += ALLOWANCE_EVERY;
        }
        if self.left == 0 {
            return Permit::Neither;
        }
        if self.left == ALLOWANCE_MAX {
            self.counted_at = now;
        }
        self.left -= 1;
        self.pending = true;
        Permit::Ask
    }
}

impl Shared {
    fn allowance(&self) -> std::sync::MutexGuard<'_, Allowance> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Issuer {
    /// Begins to fetch; `None` when the settings name no keys to be fetched. The issuer need not be there yet.
    ///
    /// # Errors
    /// A setting is wrong, or the TLS library cannot start.
    pub fn start(settings: &AuthSettings, plain_http: bool) -> Result<Option<Self>, BadSetting> {
        let Some(from) = settings.published(plain_http)? else { return Ok(None) };
        let first = match &from {
            Published::Keys(url) | Published::Metadata { url, .. } => url,
        };
        let builder = Client::builder()
            .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .timeout(FETCH_WITHIN)
            .connect_timeout(CONNECT_WITHIN)
            // A redirect could lead to an address without TLS.
            .redirect(redirect::Policy::none());
        let builder = if is_loopback(first) { builder.no_proxy() } else { builder };
        let http = builder.build().map_err(|error| wrong("auth.issuer", format!("cannot be asked: {error}")))?;
        let (sender, fetched) = watch::channel(Arc::new(Fetched { keys: Vec::new(), failed: true, number: 0 }));
        let shared = Arc::new(Shared::default());
        let fetcher = Fetcher { http, from, plain_http };
        tokio::spawn(keep_fresh(fetcher, sender, Arc::clone(&shared)));
        Ok(Some(Self { fetched, shared }))
    }

    pub(super) fn known(&self) -> Arc<Fetched> {
        Arc::clone(&self.fetched.borrow())
    }

    /// The outcome of a fetch after `seen`, where the allowance permits one; else the last outcome.
    pub(super) async fn newer_than(&self, seen: &Fetched) -> Arc<Fetched> {
        let mut fetched = self.fetched.clone();
        if fetched.borrow().number == seen.number {
            let permit = self.shared.allowance().take(Instant::now());
            if permit == Permit::Ask {
                self.shared.wanted.notify_one();
            }
            if permit != Permit::Neither {
                // Late or ended, the last outcome is what there is.
                let _ = timeout(NEWS_WITHIN, fetched.wait_for(|news| news.number != seen.number)).await;
            }
        }
        let last = fetched.borrow();
        Arc::clone(&last)
    }
}

/// Fetches for as long as an [`Issuer`] waits for outcomes.
async fn keep_fresh(fetcher: Fetcher, sender: watch::Sender<Arc<Fetched>>, shared: Arc<Shared>) {
    let gauge = metrics::gauge!("keys_refused", "keys" => "issuer");
    let mut last_fault: Option<FetchFault> = None;
    while !sender.is_closed() {
        let outcome = fetcher.fetch().await;
        shared.allowance().pending = false;
        let failed = outcome.is_err();
        gauge.set(if failed { 1 } else { 0 });
        sender.send_modify(|fetched| {
            let number = fetched.number.wrapping_add(1);
            match outcome {
                Ok(keys) => {
                    if last_fault.take().is_some() || number == 1 {
                        let count = keys.len();
                        tracing::info!(count, "issuer's keys were fetched and are in force");
                    }
                    *fetched = Arc::new(Fetched { keys, failed: false, number });
                }
                Err(fault) => {
                    if last_fault.as_ref() != Some(&fault) {
                        tracing::warn!(%fault, "issuer's keys cannot be fetched; those before stay in force");
                    }
                    last_fault = Some(fault);
                    *fetched = Arc::new(Fetched { keys: fetched.keys.clone(), failed: true, number });
                }
            }
        });
        tokio::select! {
            () = sleep(if failed { RETRY_AFTER } else { FETCH_EVERY }) => {}
            () = shared.wanted.notified() => {}
        }
    }
}

struct Fetcher {
    http: Client,
    from: Published,
    plain_http: bool,
}

/// Reasons for which no keys were fetched. URLs are logged without their queries, which may hold secrets, and documents are
/// not logged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum FetchFault {
    #[error("no answer from {0}: {1}")]
    NoAnswer(String, String),
    #[error("{0} answers with status {1}")]
    Status(String, u16),
    #[error("{0} answers with more than {DOCUMENT_BYTES_MAX} bytes")]
    TooLong(String),
    #[error("{0} is no OpenID provider's metadata")]
    NoMetadata(String),
    #[error("{0} names another issuer than auth.issuer; give its keys by auth.jwks_url if both are the same")]
    OtherIssuer(String),
    #[error("{0} names a jwks_uri that is not an https address")]
    KeysAddress(String),
    #[error("{0} {1}")]
    Keys(String, jwks::NoKeys),
}

#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

impl Fetcher {
    async fn fetch(&self) -> Result<Vec<VerifyingKey>, FetchFault> {
        let url = match &self.from {
            Published::Keys(url) => url.clone(),
            Published::Metadata { url, issuer } => self.address_of_keys(url, issuer).await?,
        };
        let document = self.document(&url).await?;
        jwks::parse(&document).map_err(|fault| FetchFault::Keys(shown(&url), fault))
    }

    /// OpenID Connect Discovery 1.0, 4: the metadata must name the very issuer that they were asked of.
    async fn address_of_keys(&self, url: &Url, issuer: &str) -> Result<Url, FetchFault> {
        let document = self.document(url).await?;
        let metadata: Metadata = serde_json::from_slice(&document).map_err(|_| FetchFault::NoMetadata(shown(url)))?;
        if metadata.issuer != issuer {
            return Err(FetchFault::OtherIssuer(shown(url)));
        }
        let keys = Url::parse(&metadata.jwks_uri).ok().filter(|keys| may_be_asked(keys, self.plain_http));
        keys.ok_or_else(|| FetchFault::KeysAddress(shown(url)))
    }

    async fn document(&self, url: &Url) -> Result<Vec<u8>, FetchFault> {
        let no_answer = |error: reqwest::Error| FetchFault::NoAnswer(shown(url), error.without_url().to_string());
        let request = self.http.get(url.clone()).header(ACCEPT, "application/json");
        let mut answer = request.send().await.map_err(no_answer)?;
        if answer.status().as_u16() != 200 {
            return Err(FetchFault::Status(shown(url), answer.status().as_u16()));
        }
        let mut document = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(no_answer)? {
            if document.len().saturating_add(chunk.len()) > DOCUMENT_BYTES_MAX {
                return Err(FetchFault::TooLong(shown(url)));
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document)
    }
}

/// Scheme, host, port and path.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        f.debug_struct("Issuer").field("keys", &known.keys.len()).field("failed", &known.failed).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F12: Tokens with unknown keys cause three fetches at once, then one each twenty seconds, however many come.
    #[test]
    fn f12_unknown_keys_cause_few_fetches() {
        let start = Instant::now();
        let mut allowance = Allowance::default();
        assert_eq!(allowance.take(start), Permit::Wait, "the first fetch is under way");
        let mut asked = Vec::new();
        for second in 0..100 {
            for _ in 0..10 {
                // Each fetch is done before the next token comes.
                allowance.pending = false;
                if allowance.take(start + Duration::from_secs(second)) == Permit::Ask {
                    asked.push(second);
                }
            }
        }
        assert_eq!(asked, [0, 0, 0, 20, 40, 60, 80]);
        allowance.pending = false;
        let later = start + Duration::from_secs(3_600);
        assert_eq!(
            [(); 4].map(|()| allowance.take(later)).map(|permit| permit == Permit::Ask),
            [true, false, false, false]
        );
        assert_eq!(allowance.take(later), Permit::Wait);
    }

    #[test]
    fn f12_keys_are_fetched_with_tls_or_on_this_machine() {
        let may = |text: &str, plain_http| may_be_asked(&Url::parse(text).unwrap(), plain_http);
        for fits in ["https://a.example/k", "http://127.0.0.1:1/k", "http://[::1]/k", "http://localhost/k"] {
            assert!(may(fits, false), "{fits}");
        }
        for wrong in
            ["http://a.example/k", "http://10.0.0.1/k", "http://127.0.0.1.a.example/k", "http://localhost.a.example"]
        {
            assert!(!may(wrong, false) && may(wrong, true), "{wrong}");
        }
        for never in ["file:///k", "ftp://a.example/k", "data:,k"] {
            assert!(!may(never, true), "{never}");
        }
    }
}
