//! `holdfast order override …`: a decision about one order, and the second person's word on it.

use std::time::{Duration, Instant};

use clap::ValueEnum;
use uuid::Uuid;

use crate::{
    broker::Broker,
    config::{Settings, needed},
    desk::overrides::{self as desk, Refusal},
    domain::{
        ids::{IdempotencyKey, OrderId, system_request},
        money::Fen,
        overrides::{OverrideAction, OverrideDocument, OverrideStatus, Proposal, override_id, receipt},
    },
    exit::Failure,
    store::{self, Database, overrides::OverrideFilter},
};

/// What is decided.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Action {
    /// Ask WeChat whether it was paid, and take its word, whatever became of the order.
    Confirm,
    /// Give the seat for nothing; WeChat closes the order first.
    Waive,
    /// Give the held seat to others now; the order can still be paid. Or take a waived seat back.
    Release,
    /// Give money back: of a booking, or what was set aside in a case.
    Refund,
    /// The customer paid in another way; WeChat closes the order first.
    RecordPayment,
    /// Give the order up; WeChat closes it first.
    Close,
    /// The second person agrees with the order's open proposal.
    Approve,
    /// Nobody wants the order's open proposal any more.
    Withdraw,
}

#[derive(clap::Args)]
pub struct Arguments {
    order_id: String,
    action: Action,
    /// Why. Part of the order's history; needed for every decision, not for the second person's word.
    #[arg(long, value_parser = super::sentence)]
    reason: Option<String>,
    /// Who decides.
    #[arg(long = "as", env = "USER", default_value = "cli", value_parser = super::operator)]
    operator: String,
    /// In fen. Of a refund: all that is left when left out. Of a payment: the order's whole price.
    #[arg(long)]
    amount_fen: Option<Fen>,
    /// Of a payment: 1 to 24 of a-z, 0-9 and -. The same receipt pays once.
    #[arg(long, value_parser = receipt)]
    receipt: Option<String>,
    /// Your name for this decision: the same name again is the same decision. A new one each time when left out.
    #[arg(long, value_parser = key)]
    key: Option<String>,
    /// Do not wait for what comes of it.
    #[arg(long)]
    no_wait: bool,
}

/// The decision that `order paid-offline` means. The same receipt is the same decision.
pub(super) fn record_payment(order_id: &str, amount_fen: Fen, receipt: &str, operator: &str) -> Arguments {
    Arguments {
        order_id: order_id.to_owned(),
        action: Action::RecordPayment,
        reason: Some(format!("paid offline, receipt {receipt}")),
        operator: operator.to_owned(),
        amount_fen: Some(amount_fen),
        receipt: Some(receipt.to_owned()),
        key: Some(format!("paid-offline/{order_id}/{receipt}")),
        no_wait: true,
    }
}

fn key(text: &str) -> Result<String, String> {
    IdempotencyKey::try_from(text).map(|_| text.to_owned()).map_err(|malformed| malformed.to_string())
}

impl Action {
    /// `None`: a word on what somebody else proposed.
    fn decision(self) -> Option<OverrideAction> {
        match self {
            Self::Confirm => Some(OverrideAction::Confirm),
            Self::Waive => Some(OverrideAction::Waive),
            Self::Release => Some(OverrideAction::Release),
            Self::Refund => Some(OverrideAction::Refund),
            Self::RecordPayment => Some(OverrideAction::RecordPayment),
            Self::Close => Some(OverrideAction::Close),
            Self::Approve | Self::Withdraw => None,
        }
    }
}

/// How long to wait for what comes of it; WeChat may be asked.
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn run(arguments: &Arguments, settings: &Settings, json: bool) -> Result<(), Failure> {
    let order_id = super::order_id(&arguments.order_id)?;
    let proposal =
        arguments.action.decision().map(|action| proposal(arguments, order_id.clone(), action)).transpose()?;
    let db = super::database(settings)?;
    let broker =
        Broker::start(&needed("broker.url", &settings.broker.url)?, "override", settings.broker.confirm_within());
    let operator = &arguments.operator;
    let second_person = Fen(settings.overrides.second_person_fen);
    let decided = match (proposal, arguments.action) {
        (Some(proposal), _) => desk::propose(&db, &broker.publisher, &proposal, second_person).await,
        (None, Action::Withdraw) => desk::withdraw(&db, open_proposal(&db, &order_id).await?, operator).await,
        (None, _) => desk::approve(&db, &broker.publisher, open_proposal(&db, &order_id).await?, operator).await,
    };
    broker.close().await;
    let mut document = decided?;
    if !arguments.no_wait {
        document = settled(&db, document).await?;
    }
    super::print(json, &document, || super::members(&document));
    match document.status {
        OverrideStatus::Refused => Err(Failure::No(document.outcome.unwrap_or_default())),
        OverrideStatus::Proposed => {
            eprintln!(
                "{} is at stake: `holdfast order override {order_id} approve --as SOMEBODY_ELSE`",
                document.money_fen
            );
            Ok(())
        }
        OverrideStatus::Approved if !arguments.no_wait => {
            Err(Failure::No("the workers have not carried it out yet: does the worker `expiry` run?".into()))
        }
        OverrideStatus::Approved | OverrideStatus::Done | OverrideStatus::Withdrawn => Ok(()),
    }
}

fn proposal(arguments: &Arguments, order_id: OrderId, action: OverrideAction) -> Result<Proposal, Failure> {
    let reason =
        arguments.reason.clone().ok_or_else(|| Failure::wrong("--reason is missing: why is it decided so?"))?;
    if (action == OverrideAction::RecordPayment) != arguments.receipt.is_some() {
        return Err(Failure::wrong("--receipt is given with record-payment and with nothing else"));
    }
    let id = match &arguments.key {
        Some(key) => {
            let key =
                IdempotencyKey::try_from(key.as_str()).map_err(|malformed| Failure::wrong(malformed.to_string()))?;
            override_id(&arguments.operator, &key)
        }
        None => Uuid::now_v7(),
    };
    Ok(Proposal {
        override_id: id,
        order_id,
        action,
        amount_fen: arguments.amount_fen,
        receipt: arguments.receipt.clone(),
        reason,
        operator: arguments.operator.clone(),
        request_id: system_request("cli", id.simple()),
    })
}

async fn open_proposal(db: &Database, order_id: &OrderId) -> Result<Uuid, Failure> {
    let status = Some(OverrideStatus::Proposed);
    let filter = OverrideFilter { status, order_id: Some(order_id.clone()), after: None };
    let open = store::overrides::list(db.pool(), &filter, 1).await?.pop();
    open.map(|open| open.override_id).ok_or_else(|| Failure::No(format!("nothing is proposed about {order_id}")))
}

/// Waits a while for what comes of it.
async fn settled(db: &Database, mut document: OverrideDocument) -> Result<OverrideDocument, Failure> {
    let began = Instant::now();
    while document.status == OverrideStatus::Approved && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Some(now) = store::overrides::find(db.pool(), document.override_id).await? {
            document = now;
        }
    }
    Ok(document)
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Store(error) => error.into(),
            refusal => Self::No(refusal.to_string()),
        }
    }
}
