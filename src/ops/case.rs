//! `holdfast case`: money and facts that need a person.

use time::OffsetDateTime;
use uuid::Uuid;

use super::Page;
use crate::{
    config::Settings,
    desk,
    domain::{
        case::{CaseDocument, CaseStatus},
        refund::EndedBy,
    },
    exit::Failure,
    store::{self, case::CaseFilter, refund_person::Closing},
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// List open cases, the oldest first, with what is at stake and what can be done.
    List {
        /// Only this kind.
        #[arg(long, value_parser = super::line)]
        kind: Option<String>,
        /// Closed ones too.
        #[arg(long)]
        all: bool,
        /// At most this many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=1000))]
        limit: i64,
        /// `next` of the page before.
        #[arg(long, value_parser = super::cursor)]
        cursor: Option<(OffsetDateTime, Uuid)>,
    },
    /// One case.
    Show { case_id: Uuid },
    /// Close a case, with what became of the money. A case about a refund that is still owed ends the refund: say how.
    Close {
        case_id: Uuid,
        /// What became of it, with the number that proves it.
        #[arg(long, value_parser = super::sentence)]
        resolution: String,
        /// The refund that the case is about was given back outside WeChat, against this receipt.
        #[arg(long, value_name = "RECEIPT", value_parser = EndedBy::receipt, conflicts_with = "not_owed")]
        paid_by_hand: Option<String>,
        /// The refund that the case is about is not owed.
        #[arg(long)]
        not_owed: bool,
        /// Who says so.
        #[arg(long = "as", env = "USER", default_value = "cli", value_parser = super::operator)]
        operator: String,
    },
}

pub async fn run(command: &Command, settings: &Settings, json: bool) -> Result<(), Failure> {
    let database = super::database(settings)?;
    match command {
        Command::List { kind, all, limit, cursor } => {
            let status = (!all).then_some(CaseStatus::Open);
            let filter = CaseFilter { status, kind: kind.clone(), after: *cursor, ..CaseFilter::default() };
            let items = store::case::list(database.pool(), &filter, limit + 1).await?;
            let page = Page::cut(items, *limit, |case| (case.opened_at, case.case_id));
            let header = ["case_id", "kind", "money", "age", "order or subject", "status", "what to do"];
            super::print(json, &page, || page.table(&header, columns));
            Ok(())
        }
        Command::Show { case_id } => {
            let case = find(&database, *case_id).await?;
            super::print(json, &case, || super::members(&case));
            Ok(())
        }
        Command::Close { case_id, resolution, paid_by_hand, not_owed, operator } => {
            let by = format!("operator:{operator}");
            let ended = match paid_by_hand {
                Some(receipt) => Some(EndedBy::Hand { receipt: receipt.clone() }),
                None => not_owed.then_some(EndedBy::NotOwed),
            };
            let cache = super::cache(settings);
            let closing =
                desk::cases::close(&database, cache.as_ref(), *case_id, &by, resolution, ended.as_ref()).await?;
            match closing {
                Closing::Closed { .. } => {}
                Closing::WasClosed | Closing::NoSuchCase => {
                    let case = find(&database, *case_id).await?;
                    super::print(json, &case, || super::members(&case));
                    return Err(Failure::No("it was closed before; nothing was changed".into()));
                }
                Closing::RefundIsOwed(refund) => {
                    return Err(Failure::wrong(format!(
                        "refund {refund} is still owed: say how it ends, with --paid-by-hand RECEIPT or --not-owed"
                    )));
                }
                Closing::NoRefundIsOwed => {
                    return Err(Failure::wrong(
                        "the case is about no refund that is still owed: leave out --paid-by-hand and --not-owed",
                    ));
                }
            }
            let case = find(&database, *case_id).await?;
            super::print(json, &case, || super::members(&case));
            Ok(())
        }
    }
}

async fn find(database: &store::Database, id: Uuid) -> Result<CaseDocument, Failure> {
    let case = store::case::find(database.pool(), id).await?;
    case.ok_or_else(|| Failure::No(format!("there is no case {id}")))
}

fn columns(case: &CaseDocument) -> Vec<String> {
    vec![
        case.case_id.to_string(),
        case.kind.clone(),
        case.money_fen.to_string(),
        super::age(case.age_seconds),
        case.order_id.as_ref().map_or_else(|| case.subject.clone(), ToString::to_string),
        case.status.as_str().to_owned(),
        case.suggestion.clone(),
    ]
}
