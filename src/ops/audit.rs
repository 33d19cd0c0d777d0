//! `holdfast audit prune`: the audit log's retention.

use serde::Serialize;

use crate::{
    config::Settings,
    exit::Failure,
    store::{
        self,
        retention::{Kept, Month},
    },
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Drop whole months of the audit log whose time is over, never one with rows of an order that is unfinished or has
    /// an open case.
    Prune {
        /// Months that are kept whole, this one not counted; as configured when left out.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1200))]
        keep_months: Option<u16>,
        /// Show what would be dropped, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Serialize)]
struct Report {
    dry_run: bool,
    keep_months: u16,
    items: Vec<Month>,
    next: Option<String>,
}

pub async fn run(command: &Command, settings: &Settings, json: bool) -> Result<(), Failure> {
    let Command::Prune { keep_months, dry_run } = command;
    let keep_months = keep_months.unwrap_or(settings.retention.audit_months);
    let database = super::owners_database(settings)?;
    let items = store::retention::prune(&database, keep_months, *dry_run).await?;
    let report = Report { dry_run: *dry_run, keep_months, items, next: None };
    super::print(json, &report, || told(&report));
    Ok(())
}

fn told(report: &Report) -> String {
    if report.items.is_empty() {
        return format!("no month is older than {} months", report.keep_months);
    }
    let rows = report.items.iter().map(|month| {
        let became = match &month.kept {
            None if report.dry_run => "would be dropped".to_owned(),
            None => "dropped".to_owned(),
            Some(Kept::OpenCases(orders)) => format!("kept: {orders} orders have an open case"),
            Some(Kept::Unfinished(orders)) => format!("kept: {orders} orders are unfinished"),
        };
        vec![month.partition.clone(), month.rows.to_string(), month.orders.to_string(), became]
    });
    super::table(&["month", "rows", "orders", ""], rows)
}
