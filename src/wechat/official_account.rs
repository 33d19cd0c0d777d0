//! Messages to the customer by the Official Account: its token, and template messages.
//!
//! Answers are HTTP 200 with an `errcode` and carry no signature; nothing about money is decided here. Errcode 0
//! means accepted, not delivered.

use crate::crash;
use crate::domain::{json::json_fault, text::plain};
use crate::evidence::{Evidence, Mark};
use crate::live::Live;
use crate::setting::BadSetting;
use crate::spans::{self, Kind, Span};
use crate::wechat::answers::WORDS_MAX;
use crate::wechat::connection::{http_client, measure, receive, spanned};
use crate::wechat::reaction::Reaction;
use crate::wechat::settings::{Check, OfficialAccountSettings, Templates, is_appid};
use crate::wechat::template::fit;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An Official Account (service account) that can send. Made by [`OfficialAccountSettings::load`].
#[derive(Debug)]
pub struct OfficialAccount {
    pub base_url: Url,
    pub appid: String,
    pub secret: Live<SecretString>,
    pub templates: Templates,
    pub timeout: Duration,
}

impl OfficialAccount {
    /// Takes over the secret of the same account, read again.
    pub fn renew(&self, fresh: &Self) {
        self.secret.copy(&fresh.secret);
    }
}

impl OfficialAccountSettings {
    /// The file that is read again when it changes.
    pub fn files(&self) -> Vec<PathBuf> {
        self.secret_file.iter().cloned().collect()
    }

    /// Everything that is wrong; empty when messages can be sent.
    pub fn problems(&self) -> Vec<BadSetting> {
        self.load().err().unwrap_or_default()
    }

    /// The account, or every problem at once.
    pub fn load(&self) -> Result<OfficialAccount, Vec<BadSetting>> {
        let mut check = Check::new("official_account");
        let base_url = check.base_url(&self.base_url);
        let appid = check.text("appid", &self.appid, "wx and 16 hex digits", is_appid);
        let secret = check.needed_secret("secret", &self.secret, &self.secret_file);
        if self.templates == Templates::default() {
            check.wrong("templates", "names no template, so nothing can be sent");
        }
        for (name, problem) in self.templates.problems() {
            check.wrong(&name, problem);
        }
        let timeout = check.timeout(self.timeout_ms);
        match (base_url, appid, secret) {
            (Some(base_url), Some(appid), Some(secret)) if check.problems.is_empty() => Ok(OfficialAccount {
                base_url,
                appid: appid.to_owned(),
                secret: Live::new(secret),
                templates: self.templates.clone(),
                timeout,
            }),
            _ => Err(check.problems),
        }
    }
}

/// Longest token, in bytes.
const TOKEN_MAX: usize = 512;
/// Official Account, stable token: two hours. Answers are not signed, and a process counts on from this.
const LONGEST_LIFE: Duration = Duration::from_secs(2 * 60 * 60);

/// A token for sending. One for all processes; see to it that only one of them fetches at a time.
#[derive(Debug, Clone)]
pub struct AccessToken {
    pub token: SecretString,
    /// At most two hours; a token near its end may come with five minutes.
    pub expires_in: Duration,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stable_token failed, errcode {errcode:?}: {detail}")]
pub struct TokenFault {
    /// `None` when no answer came that could be read.
    pub errcode: Option<i64>,
    pub reaction: Reaction,
    pub detail: String,
}

/// A message to one follower.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct TemplateMessage<'a> {
    /// The openid under this account.
    pub touser: &'a str,
    pub template_id: &'a str,
    /// What a tap opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<&'a str>,
    /// By key (`thing4`); each value is brought to its key's rule when it is sent.
    #[serde(serialize_with = "fitted")]
    pub data: BTreeMap<&'a str, String>,
    /// The same for every try of one message: within ten minutes WeChat sends it only once.
    pub client_msg_id: &'a str,
}

/// How a sending ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sending {
    /// Accepted. `msgid` comes back in the delivery event; it needs 64 bits.
    Sent { msgid: Option<i64> },
    /// Not sent.
    Refused { errcode: i64, reaction: Reaction, detail: String },
    /// Perhaps sent. The same `client_msg_id` makes a repetition harmless for ten minutes, not longer.
    Unknown { detail: String },
}

/// Calls the Official Account's host.
#[derive(Debug)]
pub struct OfficialAccountClient {
    account: Arc<OfficialAccount>,
    http: reqwest::Client,
    /// Tokens that were given, and messages that were sent.
    given: Evidence,
    sent: Evidence,
}

/// Either call's answer; which members are there depends on how it went.
#[derive(Default, Deserialize)]
struct Answer {
    errcode: Option<i64>,
    #[serde(default)]
    errmsg: String,
    msgid: Option<i64>,
    access_token: Option<SecretString>,
    expires_in: Option<u64>,
}

impl OfficialAccountClient {
    /// Fails only when the TLS library cannot start.
    pub fn new(account: impl Into<Arc<OfficialAccount>>) -> reqwest::Result<Self> {
        let account = account.into();
        let http = http_client(&account.base_url, account.timeout)?;
        Ok(Self { http, account, given: Evidence::default(), sent: Evidence::default() })
    }

    /// The account this client sends for.
    pub fn account(&self) -> &Arc<OfficialAccount> {
        &self.account
    }

    /// A mark that is passed once a token is given.
    pub fn token_given(&self) -> Mark {
        self.given.mark()
    }

    /// A mark that is passed once a message is sent.
    pub fn message_sent(&self) -> Mark {
        self.sent.mark()
    }

    /// POST /cgi-bin/stable_token. Gives everybody who asks the same token until its last five minutes.
    ///
    /// `force_refresh` kills the present token at once and is allowed twenty times a day.
    pub async fn stable_token(&self, force_refresh: bool) -> Result<AccessToken, TokenFault> {
        #[derive(Serialize)]
        struct Body<'a> {
            grant_type: &'static str,
            appid: &'a str,
            secret: &'a str,
            force_refresh: bool,
        }
        let secret = self.account.secret.get();
        let body = Body {
            grant_type: "client_credential",
            appid: &self.account.appid,
            secret: secret.expose_secret(),
            force_refresh,
        };
        let (started, span) = begin("stable_token");
        let request = self.http.post(self.url("/cgi-bin/stable_token")).json(&body);
        let outcome = match crash::around("wechat", "stable_token", receive(request)).await {
            Ok(answer) => AccessToken::of_answer(answer.status, &answer.body),
            Err(detail) => Err(TokenFault::unknown(detail)),
        };
        let (label, errcode, detail) = match &outcome {
            Ok(_) => {
                self.given.note();
                ("ok", None, "")
            }
            Err(fault) => (fault.reaction.label(), fault.errcode, fault.detail.as_str()),
        };
        record(span, "stable_token", label, errcode, detail, started.elapsed());
        outcome
    }

    /// POST /cgi-bin/message/template/send.
    pub async fn send_template(&self, token: &SecretString, message: &TemplateMessage<'_>) -> Sending {
        let mut url = self.url("/cgi-bin/message/template/send");
        url.query_pairs_mut().append_pair("access_token", token.expose_secret());
        let (started, span) = begin("send_template");
        let sent = receive(self.http.post(url).json(message));
        let sending = match crash::around("wechat", "send_template", sent).await {
            Ok(answer) => Sending::of_answer(answer.status, &answer.body),
            Err(detail) => Sending::Unknown { detail },
        };
        let (label, errcode, detail) = match &sending {
            Sending::Sent { .. } => {
                self.sent.note();
                ("ok", None, "")
            }
            Sending::Refused { errcode, reaction, detail } => (reaction.label(), Some(*errcode), detail.as_str()),
            Sending::Unknown { detail } => ("unknown", None, detail.as_str()),
        };
        record(span, "send_template", label, errcode, detail, started.elapsed());
        sending
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.account.base_url.clone();
        url.set_path(path);
        url
    }
}

impl Answer {
    /// An error is an unreadable answer, told without token, secret or openid.
    fn read(status: u16, body: &[u8]) -> Result<Self, String> {
        match status {
            200 => serde_json::from_slice(body).map_err(|error| json_fault(&error)),
            status => Err(format!("HTTP {status}")),
        }
    }
}

impl AccessToken {
    /// What an answer to the request for a token means.
    pub fn of_answer(status: u16, body: &[u8]) -> Result<Self, TokenFault> {
        match Answer::read(status, body) {
            Ok(Answer { access_token: Some(token), expires_in: Some(seconds), .. })
                if (1..=TOKEN_MAX).contains(&token.expose_secret().len()) =>
            {
                Ok(Self { token, expires_in: Duration::from_secs(seconds).min(LONGEST_LIFE) })
            }
            Ok(Answer { errcode: Some(errcode), errmsg, .. }) if errcode != 0 => Err(TokenFault {
                errcode: Some(errcode),
                reaction: Reaction::to_token_request(errcode),
                detail: plain(&errmsg, WORDS_MAX),
            }),
            Ok(_) => Err(TokenFault::unknown("neither token nor errcode".to_owned())),
            Err(detail) => Err(TokenFault::unknown(detail)),
        }
    }
}

impl Sending {
    /// What an answer to a sending means.
    pub fn of_answer(status: u16, body: &[u8]) -> Self {
        match Answer::read(status, body) {
            Ok(Answer { errcode: Some(0), msgid, .. }) => Self::Sent { msgid },
            Ok(Answer { errcode: Some(errcode), errmsg, .. }) => {
                Self::Refused { errcode, reaction: Reaction::to_sending(errcode), detail: plain(&errmsg, WORDS_MAX) }
            }
            Ok(_) => Self::Unknown { detail: "answer without errcode".to_owned() },
            Err(detail) => Self::Unknown { detail },
        }
    }
}

impl TokenFault {
    fn unknown(detail: String) -> Self {
        Self { errcode: None, reaction: Reaction::RetryLater, detail }
    }
}

fn fitted<S: serde::Serializer>(data: &BTreeMap<&str, String>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    struct Value {
        value: String,
    }
    serializer.collect_map(data.iter().map(|(key, value)| {
        let value = fit(key, value);
        (key, Value { value })
    }))
}

fn begin(call: &'static str) -> (Instant, Span) {
    (Instant::now(), Span::begin(Kind::Client, "wechat", call, spans::context_about(None)))
}

fn record(
    mut span: Span,
    call: &'static str,
    outcome: &'static str,
    errcode: Option<i64>,
    detail: &str,
    took: Duration,
) {
    let code = errcode.map(|errcode| errcode.to_string());
    spanned(&mut span, None, None, outcome, code.as_deref());
    let duration_ms = measure(call, outcome, code.as_deref(), took);
    match outcome {
        "ok" => tracing::info!(call, outcome, duration_ms, "WeChat answered"),
        _ => tracing::warn!(call, outcome, errcode, duration_ms, detail, "WeChat did not do it"),
    }
}
