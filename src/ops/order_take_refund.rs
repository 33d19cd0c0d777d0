//! `holdfast order take-refund`: a refund that staff made in the merchant platform is taken into the books.

use std::sync::Arc;

use crate::{
    broker::Broker,
    config::{Settings, needed},
    desk::refunds_at_wechat::{Refusal, number, take_in},
    domain::message::TakenIn,
    exit::Failure,
    wechat::{Ambient, exchange::PayClient},
};

#[derive(clap::Args)]
pub struct Arguments {
    order_id: String,
    /// The refund's number, as the merchant platform shows it.
    #[arg(long, value_parser = number)]
    out_refund_no: String,
    /// Who refunded, and why.
    #[arg(long, value_parser = super::sentence)]
    reason: String,
    /// Who takes it in.
    #[arg(long = "as", env = "USER", default_value = "cli", value_parser = super::operator)]
    operator: String,
}

pub async fn run(arguments: &Arguments, settings: &Settings, json: bool) -> Result<(), Failure> {
    let Arguments { order_id, out_refund_no, reason, operator } = arguments;
    let order = super::order_id(order_id)?;
    let db = super::database(settings)?;
    let account = Arc::new(settings.wechat_pay.load()?);
    let wechat = PayClient::new(account, Ambient::system())
        .map_err(|error| Failure::wrong(format!("the HTTP client cannot start: {error}")))?;
    if let Err(error) = wechat.refresh_certificates().await {
        tracing::warn!(%error, "failed to fetch WeChat's platform certificates; answers may not be verified");
    }
    let url = needed("broker.url", &settings.broker.url)?;
    let broker = Broker::start(&url, "take-refund", settings.broker.confirm_within());
    let taken_in = TakenIn { operator: format!("operator:{operator}"), reason: reason.clone() };
    let taken = take_in(&db, &wechat, &broker.publisher, &order, out_refund_no, taken_in).await;
    broker.close().await;
    match taken {
        Ok(document) => {
            super::print(json, &document, || super::members(&document));
            Ok(())
        }
        Err(Refusal::Store(error)) => Err(error.into()),
        Err(refusal @ (Refusal::NoSuchOrder | Refusal::NotAtWechat | Refusal::OtherOrder(_))) => {
            Err(Failure::No(refusal.to_string()))
        }
        Err(refusal @ (Refusal::Unclear | Refusal::Doubt(_) | Refusal::Publish(_))) => {
            Err(Failure::Away(refusal.to_string()))
        }
    }
}
