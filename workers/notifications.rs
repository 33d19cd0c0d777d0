//! Worker `notifications`: writes to customers through the Official Account.
//!
//! Consumes   notification.due             from queue `notifications`
//! Changes    notifications
//! Emits      nothing
//! Calls      Official Account: token, template message
//! Retries    when WeChat is busy or its answer was lost, within the ten minutes in which a repeat is harmless
//! Safe twice because a notification is claimed before the call, and WeChat sends a `client_msg_id` once

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::{
    broker::consume::{Fault, Handler, Received, Shape, Verdict},
    cache::token::{FreshToken, SharedToken},
    crash,
    domain::{
        ids::OrderId,
        message::NotificationDue,
        notification::{Facts, Kind, words},
        retry,
    },
    evidence::Mark,
    store::{
        self, Database, StoreError,
        notification::{Addressed, Claim, Ended, Record},
        sealed::PersonalKeys,
    },
    wechat::{
        official_account::{OfficialAccountClient, Sending, TemplateMessage, TokenFault},
        reaction::Reaction,
    },
};

use super::together::{InSets, Together};

pub struct Notifications {
    account: OfficialAccountClient,
    token: SharedToken,
    claims: Together<Claims>,
    records: Together<Records>,
}

impl Handler for Notifications {
    type Message = NotificationDue;
    const NAME: &'static str = "notifications";
    const SHAPE: Shape = Shape { batch: 1, concurrent: 32 };

    async fn handle(&self, batch: &[Received<NotificationDue>]) -> Result<Vec<Verdict>, Fault> {
        let mut verdicts = Vec::with_capacity(batch.len());
        for received in batch {
            verdicts.push(self.tell(&received.message).await?);
        }
        Ok(verdicts)
    }
}

/// What one attempt leads to: what is recorded, and what the queue does.
enum Attempt {
    Ended(Ended),
    /// Nothing is recorded: the doubt stands from the claim.
    InDoubt(String),
    /// Recorded as not sent; tried again.
    Later {
        class: retry::Class,
        ended: Ended,
        error: String,
    },
    /// Recorded as not sent; a person must mend something first.
    Stopped {
        ended: Ended,
        error: String,
    },
    /// Recorded as not sent; the account may send nothing until something is mended or the day's quota is back.
    Barred {
        ended: Ended,
        reason: String,
        until: Mark,
    },
}

impl Notifications {
    pub fn new(db: Database, personal: Arc<PersonalKeys>, account: OfficialAccountClient, token: SharedToken) -> Self {
        let claims = Together::start(Claims { db: db.clone(), personal });
        Self { account, token, claims, records: Together::start(Records(db)) }
    }

    async fn tell(&self, due: &NotificationDue) -> Result<Verdict, Fault> {
        let claim = self.claims.ask((due.order_id.clone(), due.kind)).await?;
        let (attempt, in_doubt_before) = match claim {
            Claim::Settled => return Ok(Verdict::Done(Vec::new())),
            Claim::TooLateToRepeat => (Attempt::Ended(Ended::Uncertain), true),
            Claim::Ours(addressed) => (self.attempt(due, &addressed).await, addressed.in_doubt_before),
        };
        let (ended, verdict) = match attempt {
            Attempt::Ended(ended) => (Some(ended), Ok(Verdict::Done(Vec::new()))),
            Attempt::InDoubt(error) => (None, Ok(Verdict::Retry { class: retry::Class::Unknown, error })),
            Attempt::Later { class, ended, error } => (Some(ended), Ok(Verdict::Retry { class, error })),
            Attempt::Stopped { ended, error } => (Some(ended), Ok(Verdict::Park { class: "account_refused", error })),
            Attempt::Barred { ended, reason, until } => (Some(ended), Err(Fault::Barred { reason, until })),
        };
        if let Some(ended) = ended {
            let outcome = match &ended {
                Ended::Sent { .. } => "sent",
                Ended::Failed { .. } => "failed",
                Ended::NotNow { .. } => "not_now",
                Ended::Uncertain => "uncertain",
            };
            metrics::counter!("notifications_total", "kind" => due.kind.as_str(), "outcome" => outcome).increment(1);
            self.records.ask(Record { order_id: due.order_id.clone(), kind: due.kind, ended, in_doubt_before }).await?;
        }
        verdict
    }

    async fn attempt(&self, due: &NotificationDue, addressed: &Addressed) -> Attempt {
        let openid = match &addressed.openid {
            Ok(Some(openid)) => openid,
            Ok(None) => return failed(None, "the customer has no openid"),
            // While keys are changed another process may know the new one a moment sooner.
            Err(closed) => {
                let error = format!("the openid {closed}");
                let ended = Ended::NotNow { errcode: None, error: error.clone() };
                return Attempt::Later { class: retry::Class::Early, ended, error };
            }
        };
        let Some(template) = self.account.account().templates.of(due.kind) else {
            return failed(None, "no template is configured for this kind");
        };
        let client_msg_id = client_msg_id(&due.order_id, due.kind);
        let facts = Facts {
            order_id: &due.order_id,
            course: &addressed.course,
            starts_at: addressed.starts_at,
            amount_fen: addressed.amount_fen,
            refunded_fen: addressed.refunded_fen,
            seat_no: addressed.seat_no,
            reason: addressed.reason.as_deref(),
        };
        let message = TemplateMessage {
            touser: &openid.0,
            template_id: template.id,
            url: None,
            data: words(due.kind, &facts).into_iter().map(|(key, value)| (template.key(key), value)).collect(),
            client_msg_id: &client_msg_id,
        };
        // A token may have died unnoticed: once more with a fresh one. Twenty a day may be forced, so the first
        // asks for the one that stands.
        for last in [false, true] {
            let fetch = || async move {
                let token = self.account.stable_token(last).await?;
                Ok::<_, TokenFault>(FreshToken {
                    token: token.token.expose_secret().to_owned(),
                    expires_in: token.expires_in,
                })
            };
            let token = match self.token.get(fetch).await {
                Ok(token) => token,
                Err(fault) => {
                    return refused(fault.errcode, fault.reaction, &fault.to_string(), self.account.token_given());
                }
            };
            match self.account.send_template(&SecretString::from(token.clone()), &message).await {
                Sending::Sent { msgid } => return Attempt::Ended(Ended::Sent { msgid: msgid.unwrap_or_default() }),
                Sending::Unknown { detail } => return Attempt::InDoubt(detail),
                Sending::Refused { reaction: Reaction::RefreshToken, .. } if !last => self.token.discard(&token).await,
                Sending::Refused { errcode, reaction, detail } => {
                    return refused(
                        Some(errcode),
                        reaction,
                        &format!("errcode {errcode}: {detail}"),
                        self.account.message_sent(),
                    );
                }
            }
        }
        Attempt::InDoubt("the token was refused twice".into())
    }
}

/// Marks attempts as begun.
struct Claims {
    db: Database,
    personal: Arc<PersonalKeys>,
}

impl InSets for Claims {
    type Question = (OrderId, Kind);
    type Answer = Claim;

    async fn ask(&self, set: &[(OrderId, Kind)]) -> Result<Vec<Claim>, StoreError> {
        store::notification::claim(&self.db, &self.personal, set).await
    }
}

/// Records how attempts ended.
struct Records(Database);

impl InSets for Records {
    type Question = Record;
    type Answer = ();

    async fn ask(&self, set: &[Record]) -> Result<Vec<()>, StoreError> {
        store::notification::record(self.0.pool(), set).await?;
        Ok(vec![(); set.len()])
    }
}

fn failed(errcode: Option<i64>, error: &str) -> Attempt {
    Attempt::Ended(Ended::Failed {
        errcode: errcode.and_then(|code| i32::try_from(code).ok()),
        error: error.to_owned(),
    })
}

/// WeChat refused; `until` is passed once it does the same for another message.
fn refused(errcode: Option<i64>, reaction: Reaction, detail: &str, until: Mark) -> Attempt {
    let errcode_stored = errcode.and_then(|code| i32::try_from(code).ok());
    let not_now = |error: &str| Ended::NotNow { errcode: errcode_stored, error: error.to_owned() };
    let later = |class| Attempt::Later { class, ended: not_now(detail), error: detail.to_owned() };
    match reaction {
        Reaction::Drop => failed(errcode, detail),
        Reaction::RetryLater => later(retry::Class::Busy),
        Reaction::RetryBounded => later(retry::Class::Unfamiliar),
        // A fresh token that is dead as well is no message's fault.
        Reaction::RefreshToken | Reaction::PauseUntilTomorrow | Reaction::FixAndStop => {
            Attempt::Barred { ended: not_now(detail), reason: detail.to_owned(), until }
        }
        Reaction::FixMessage => Attempt::Stopped { ended: not_now(detail), error: detail.to_owned() },
    }
}

/// One name per (order, kind), the same at every attempt; WeChat allows 32 characters.
fn client_msg_id(order: &OrderId, kind: Kind) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::new()
        .chain_update(crash::renamed("message_name", order.as_str()).as_bytes())
        .chain_update(kind.as_str())
        .finalize();
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
