//! `holdfast order`: one order.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    config::Settings,
    domain::{
        ids::OrderId,
        money::Fen,
        overrides::{OverrideStatus, receipt},
    },
    exit::Failure,
    store::{self, overrides::OverrideFilter},
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// The order as its owner sees it.
    Show { order_id: String },
    /// Its whole story: what happened, what it waits for, how it can end.
    Explain { order_id: String },
    /// Decide about it by hand; above `override.second_person_fen` a second operator must agree.
    Override(super::order_override::Arguments),
    /// Decisions about orders, the newest first.
    Overrides {
        /// Only what waits for a second operator.
        #[arg(long)]
        proposed: bool,
        /// At most this many.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
        /// `next` of the page before.
        #[arg(long, value_parser = super::cursor)]
        cursor: Option<(OffsetDateTime, Uuid)>,
    },
    /// Take a refund into the books that staff made in the merchant platform: WeChat is asked about it.
    TakeRefund(super::order_take_refund::Arguments),
    /// Record that the customer paid in another way: short for `override ID record-payment`.
    PaidOffline {
        order_id: String,
        /// What was taken, in fen: the order's whole price.
        #[arg(long)]
        amount_fen: Fen,
        /// The receipt's number: 1 to 24 of a-z, 0-9 and -. The same receipt pays once.
        #[arg(long, value_parser = receipt)]
        receipt: String,
        /// Who took it.
        #[arg(long, value_parser = super::operator)]
        operator: String,
    },
}

pub async fn run(command: &Command, settings: &Settings, json: bool) -> Result<(), Failure> {
    match command {
        Command::Show { order_id } => show(&super::order_id(order_id)?, settings, json).await,
        Command::Explain { order_id } => super::order_explain::run(&super::order_id(order_id)?, settings, json).await,
        Command::TakeRefund(arguments) => super::order_take_refund::run(arguments, settings, json).await,
        Command::Override(arguments) => super::order_override::run(arguments, settings, json).await,
        Command::Overrides { proposed, limit, cursor } => overrides(*proposed, *limit, *cursor, settings, json).await,
        Command::PaidOffline { order_id, amount_fen, receipt, operator } => {
            let record = super::order_override::record_payment(order_id, *amount_fen, receipt, operator);
            super::order_override::run(&record, settings, json).await
        }
    }
}

async fn overrides(
    proposed: bool,
    limit: i64,
    after: Option<(OffsetDateTime, Uuid)>,
    settings: &Settings,
    json: bool,
) -> Result<(), Failure> {
    let database = super::database(settings)?;
    let status = proposed.then_some(OverrideStatus::Proposed);
    let filter = OverrideFilter { status, after, ..OverrideFilter::default() };
    let items = store::overrides::list(database.pool(), &filter, limit + 1).await?;
    let page = super::Page::cut(items, limit, |document| (document.proposed_at, document.override_id));
    super::print(json, &page, || {
        let header = ["order_id", "action", "money", "status", "by", "and", "why", "what came of it"];
        page.table(&header, |document| {
            vec![
                document.order_id.to_string(),
                document.action.as_str().to_owned(),
                document.money_fen.to_string(),
                document.status.as_str().to_owned(),
                document.proposed_by.clone(),
                document.decided_by.clone().unwrap_or_default(),
                document.reason.clone(),
                document.outcome.clone().unwrap_or_default(),
            ]
        })
    });
    Ok(())
}

async fn find(id: &OrderId, settings: &Settings) -> Result<crate::domain::document::OrderDocument, Failure> {
    let database = super::database(settings)?;
    let snapshot = store::order::snapshot(database.pool(), id).await?;
    snapshot.map(|snapshot| snapshot.document).ok_or_else(|| super::no_order(id))
}

async fn show(id: &OrderId, settings: &Settings, json: bool) -> Result<(), Failure> {
    let document = find(id, settings).await?;
    super::print(json, &document, || super::members(&document));
    Ok(())
}
