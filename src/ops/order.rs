//! `holdfast order`: one order.

use std::fmt::Display;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    broker::{Broker, TraceParent},
    config::{Settings, needed},
    domain::{
        ids::OrderId,
        message::{Message, OrderPaidOffline},
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
    /// Record that the customer paid in another way; `override ID record-payment` with a second person's word. The order is closed at WeChat first, so that it is not paid twice.
    PaidOffline {
        order_id: String,
        /// What was taken, in fen: the order's whole price.
        #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
        amount_fen: i64,
        /// The receipt's number: 1 to 24 of a-z, 0-9 and -. The same receipt pays once.
        #[arg(long, value_parser = receipt)]
        receipt: String,
        /// Who took it.
        #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
        operator: String,
    },
}

pub async fn run(command: &Command, settings: &Settings, json: bool) -> Result<(), Failure> {
    match command {
        Command::Show { order_id } => show(&parse(order_id)?, settings, json).await,
        Command::Explain { order_id } => super::order_explain::run(&parse(order_id)?, settings, json).await,
        Command::Override(arguments) => super::order_override::run(arguments, settings, json).await,
        Command::Overrides { proposed, limit, cursor } => overrides(*proposed, *limit, *cursor, settings, json).await,
        Command::PaidOffline { order_id, amount_fen, receipt, operator } => {
            let id = parse(order_id)?;
            let paid = OrderPaidOffline {
                order_id: id.clone(),
                receipt: receipt.clone(),
                operator: operator.clone(),
                reason: None,
                amount_fen: Fen(*amount_fen),
                paid_at: OffsetDateTime::now_utc(),
                request_id: format!("cli-{}", Uuid::now_v7().simple()),
            };
            find(&id, settings).await?;
            hand_over(&Message::OrderPaidOffline(paid), settings).await?;
            eprintln!("handed to the workers; `holdfast order show {id}` tells what came of it");
            show(&id, settings, json).await
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

/// Ids mean nothing to those who use them: what cannot be one is not found.
pub(super) fn parse(order_id: &str) -> Result<OrderId, Failure> {
    OrderId::try_from(order_id.to_owned()).map_err(|_| unknown(order_id))
}

fn unknown(order_id: impl Display) -> Failure {
    Failure::No(format!("there is no order {order_id} in the books"))
}

async fn find(id: &OrderId, settings: &Settings) -> Result<crate::domain::document::OrderDocument, Failure> {
    let database = super::database(settings)?;
    let snapshot = store::order::snapshot(database.pool(), id).await?;
    snapshot.map(|snapshot| snapshot.document).ok_or_else(|| unknown(id))
}

async fn show(id: &OrderId, settings: &Settings, json: bool) -> Result<(), Failure> {
    let document = find(id, settings).await?;
    super::print(json, &document, || super::members(&document));
    Ok(())
}

async fn hand_over(message: &Message, settings: &Settings) -> Result<(), Failure> {
    let broker = Broker::start(&needed("broker.url", &settings.broker.url)?, "order", settings.broker.confirm_within());
    let published = broker.publisher.publish(message, &trace()).await;
    broker.close().await;
    published.map_err(|error| Failure::Away(format!("RabbitMQ did not take it: {error}")))
}

/// The context of what a command sets off.
pub(super) fn trace() -> TraceParent {
    let mut random = [0; 24];
    random[..16].copy_from_slice(Uuid::now_v7().as_bytes());
    TraceParent::new(random)
}
