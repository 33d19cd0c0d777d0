//! `holdfast reconcile`: our books of one China day against WeChat's bill, now; exit 1 when a person is needed.

use std::sync::Arc;

use serde::Serialize;
use time::Date;

use crate::{
    broker::Broker,
    config::{Settings, needed},
    domain::{
        books::{DayDocument, DifferenceDocument, Sums},
        calendar::china_day,
        money::Fen,
    },
    exit::Failure,
    store::books,
    wechat::{Ambient, exchange::PayClient},
    workers::reconcile::books::{Books, Unfinished},
};

/// Differences printed; all are stored.
const SHOWN: usize = 10_000;

#[derive(clap::Args)]
pub struct Arguments {
    /// China's day, like 2026-11-22
    #[arg(long, value_parser = china_day)]
    date: Date,
}

/// As `GET /v1/ops/reconciliations/{date}` answers it.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    day: DayDocument,
    items: Vec<DifferenceDocument>,
    /// The number after which more are stored than are shown.
    next: Option<String>,
}

pub async fn run(arguments: &Arguments, settings: &Settings, json: bool) -> Result<(), Failure> {
    let db = super::database(settings)?;
    if arguments.date > books::today(&db).await? {
        return Err(Failure::wrong("this day has not begun in China"));
    }
    let account = Arc::new(settings.wechat_pay.load()?);
    let wechat = PayClient::new(account, Ambient::system())
        .map_err(|error| Failure::wrong(format!("the HTTP client cannot start: {error}")))?;
    if let Err(error) = wechat.refresh_certificates().await {
        tracing::warn!(%error, "WeChat's platform certificates could not be fetched");
    }
    let url = needed("broker.url", &settings.broker.url)?;
    let broker = Broker::start(&url, "reconcile", settings.broker.confirm_within());
    let books = Books {
        db: db.clone(),
        publisher: broker.publisher.clone(),
        wechat: Arc::new(wechat),
        neighbours: settings.order.neighbours()?,
    };
    let day = books.check(arguments.date).await.map_err(failure)?;
    broker.close().await;

    let mut items = books::differences(db.pool(), arguments.date, None, SHOWN as i64 + 1).await?;
    let more = items.len() > SHOWN;
    items.truncate(SHOWN);
    let next = items.last().filter(|_| more).map(|last| last.number.clone());
    let cases = day.cases;
    let report = Report { day, items, next };
    super::print(json, &report, || told(&report));
    if cases > 0 { Err(Failure::No(format!("{cases} differences need a person"))) } else { Ok(()) }
}

fn told(report: &Report) -> String {
    let day = &report.day;
    let side = |name: &str, sums: Sums| {
        let Sums { payments, paid_fen, refunds, refunded_fen } = sums;
        vec![
            name.to_owned(),
            payments.to_string(),
            Fen(paid_fen).to_string(),
            refunds.to_string(),
            Fen(refunded_fen).to_string(),
        ]
    };
    let sides = [side("WeChat's bill", day.bill), side("our books", day.books)];
    let mut words = format!("{} {}\n", day.date, day.status.as_str());
    words.push_str(&super::table(&["", "payments", "paid", "refunds", "refunded"], sides));
    if report.items.is_empty() {
        return words;
    }
    let sum = |fen: Option<i64>| fen.map_or_else(|| "—".to_owned(), |fen| Fen(fen).to_string());
    let rows = report.items.iter().map(|item| {
        let now = if item.settled_at.is_some() { "settled" } else { item.remedy.as_str() };
        let state = |state: &Option<String>| state.clone().unwrap_or_default();
        vec![
            item.kind.as_str().to_owned(),
            now.to_owned(),
            item.number.clone(),
            item.order_id.clone(),
            format!("{} {}", sum(item.bill_fen), state(&item.bill_state)),
            format!("{} {}", sum(item.books_fen), state(&item.books_state)),
        ]
    });
    words.push_str("\n\n");
    words.push_str(&super::table(&["difference", "", "number", "order", "bill", "books"], rows));
    words
}

fn failure(unfinished: Unfinished) -> Failure {
    match unfinished {
        Unfinished::Store(error) => error.into(),
        other => Failure::Away(format!("the day is not finished: {other}")),
    }
}
