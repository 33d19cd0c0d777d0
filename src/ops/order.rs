//! `holdfast order`: one order.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    broker::{Broker, TraceParent},
    config::{Settings, needed},
    domain::{
        ids::OrderId,
        message::{Message, OrderPaidOffline},
        money::Fen,
    },
    exit::Failure,
    store,
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// The order as its owner sees it.
    Show { order_id: String },
    /// Record that the customer paid in another way. The order is closed at WeChat first, so that it is not paid twice.
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

fn receipt(text: &str) -> Result<String, String> {
    let fits = (1..=24).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits { Ok(text.to_owned()) } else { Err("1 to 24 of a-z, 0-9 and -".into()) }
}

pub async fn run(command: &Command, settings: &Settings, json: bool) -> Result<(), Failure> {
    match command {
        Command::Show { order_id } => show(&parse(order_id)?, settings, json).await,
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

fn parse(order_id: &str) -> Result<OrderId, Failure> {
    OrderId::try_from(order_id.to_owned()).map_err(|malformed| Failure::wrong(malformed.to_string()))
}

async fn find(id: &OrderId, settings: &Settings) -> Result<crate::domain::document::OrderDocument, Failure> {
    let database = super::database(settings)?;
    let snapshot = store::order::snapshot(database.pool(), id).await?;
    snapshot
        .map(|snapshot| snapshot.document)
        .ok_or_else(|| Failure::No(format!("there is no order {id} in the books")))
}

async fn show(id: &OrderId, settings: &Settings, json: bool) -> Result<(), Failure> {
    let document = find(id, settings).await?;
    super::print(json, &document, || {
        let document = serde_json::to_value(&document).expect("plain data");
        let rows = document.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        super::table(&[], rows.map(|(name, value)| vec![name.clone(), value.to_string().trim_matches('"').to_owned()]))
    });
    Ok(())
}

async fn hand_over(message: &Message, settings: &Settings) -> Result<(), Failure> {
    let broker = Broker::start(&needed("broker.url", &settings.broker.url)?, "order", settings.broker.confirm_within());
    let mut random = [0; 24];
    random[..16].copy_from_slice(Uuid::now_v7().as_bytes());
    let published = broker.publisher.publish(message, &TraceParent::new(random)).await;
    broker.close().await;
    published.map_err(|error| Failure::Away(format!("RabbitMQ did not take it: {error}")))
}
