//! Trade bills: a day is closed, its rows stand as they are then, differences planted by the script included, and
//! its file is fetched by a link that dies soon (WeChat Pay: trade bill, bill download).

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{Date, Duration, OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use super::{
    CHINA, Outcome, Reply, World,
    bill_file::{self, Kind, RefundRow, Row},
    china_date,
    fault::BillFault,
    order::Order,
    refund::{Refund, RefundStatus},
    script::Operation,
};
use crate::refusal::Refusal;

const KEPT_FOR: Duration = Duration::days(90);
const LINK_LIFE: Duration = Duration::minutes(5);
const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");

/// A day whose bill stands.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ClosedDay {
    date: Date,
    rows: Vec<Row>,
}

/// The bills that stand, and the links to their files that still live.
#[derive(Debug, Default)]
pub(super) struct Bills {
    closed: BTreeMap<Date, Vec<Row>>,
    links: HashMap<String, Link>,
}

#[derive(Debug)]
struct Link {
    date: Date,
    file: String,
    gzip: bool,
    dies: OffsetDateTime,
}

impl Bills {
    pub(super) fn enter(&mut self, day: ClosedDay) {
        self.closed.insert(day.date, day.rows);
    }
}

/// `yyyy-MM-DD`.
pub(crate) fn parse_date(text: &str) -> Option<Date> {
    Date::parse(text, DATE).ok()
}

fn written(date: Date) -> String {
    date.format(DATE).expect("a date has a year, a month and a day")
}

impl World {
    /// Closes `date`, again if need be, and every earlier day with trade that stands open. Tells what was planted.
    pub(crate) fn close_day(&mut self, date: Date, now: OffsetDateTime) -> Value {
        let open: Vec<Date> = self.days_with_trade(date).filter(|day| !self.bills.closed.contains_key(day)).collect();
        for day in open {
            self.close_one(day, now);
        }
        let planted = self.close_one(date, now);
        json!({"bill_date": written(date), "rows": self.bills.closed[&date].len(), "planted": planted})
    }

    fn days_with_trade(&self, before: Date) -> impl Iterator<Item = Date> {
        let paid = self.orders.values().filter_map(|order| order.payment.as_ref()).map(|payment| payment.paid_at);
        let refunded = self.refunds.values().map(|refund| refund.created_at);
        let days: std::collections::BTreeSet<_> = paid.chain(refunded).map(china_date).collect();
        days.into_iter().filter(move |day| *day < before)
    }

    fn close_one(&mut self, date: Date, now: OffsetDateTime) -> Vec<Value> {
        let (mut rows, mut planted) = (Vec::new(), Vec::new());
        for row in self.rows_of(date) {
            let operation = if row.refund.is_some() { Operation::BillRefund } else { Operation::BillPayment };
            match self.play.draw(operation, &row.out_trade_no, now).bill {
                Some(fault) => {
                    planted.push(json!({
                        "kind": fault,
                        "out_trade_no": row.out_trade_no,
                        "out_refund_no": row.refund.as_ref().map(|refund| &refund.out_refund_no),
                    }));
                    rows.extend(self.falsified(row, fault));
                }
                None => rows.push(row),
            }
        }
        let day = ClosedDay { date, rows };
        self.journal.record("bill", &day);
        self.bills.enter(day);
        planted
    }

    /// What truly happened, in order of time.
    fn rows_of(&self, date: Date) -> Vec<Row> {
        let paid = self.orders.values().filter_map(|order| {
            let payment = order.payment.as_ref().filter(|payment| china_date(payment.paid_at) == date)?;
            Some((order.number, Row { total: order.total, ..Row::about(order, "SUCCESS", payment.paid_at) }))
        });
        let refunded = self.refunds.values().filter(|refund| china_date(refund.created_at) == date);
        let refunded = refunded.filter_map(|refund| Some((refund.number, self.refund_row(refund)?)));
        let mut rows: Vec<_> = paid.chain(refunded).collect();
        rows.sort_unstable_by_key(|(number, row)| (row.at, *number));
        rows.into_iter().map(|(_, row)| row).collect()
    }

    fn refund_row(&self, refund: &Refund) -> Option<Row> {
        let order = self.orders.get(&refund.out_trade_no)?;
        let succeeded_at = refund.settled_at.filter(|_| refund.status == RefundStatus::Success);
        let status = match refund.status {
            RefundStatus::Success => "SUCCESS",
            RefundStatus::Processing => "PROCESSING",
            RefundStatus::Closed | RefundStatus::Abnormal => "FAIL",
        };
        let part = RefundRow {
            refund_id: refund.refund_id.clone(),
            out_refund_no: refund.out_refund_no.clone(),
            amount: refund.refund,
            status: status.to_owned(),
            succeeded_at,
        };
        Some(Row { refund: Some(part), ..Row::about(order, "REFUND", refund.created_at) })
    }

    /// The row as the script wants it, or the rows that stand in its place.
    fn falsified(&self, mut row: Row, fault: BillFault) -> Vec<Row> {
        match fault {
            BillFault::Missing => Vec::new(),
            BillFault::Extra => {
                let mut stranger = self.doubled(&row);
                stranger.out_trade_no =
                    self.numbers_of(&["stranger", &row.transaction_id]).text(row.out_trade_no.len().min(32));
                vec![row, stranger]
            }
            BillFault::Doubled => {
                let second = self.doubled(&row);
                vec![row, second]
            }
            BillFault::WrongAmount => {
                match &mut row.refund {
                    Some(refund) => refund.amount += 1,
                    None => row.total += 1,
                }
                vec![row]
            }
            BillFault::WrongState => {
                match &mut row.refund {
                    Some(refund) => (refund.status, refund.succeeded_at) = ("FAIL".to_owned(), None),
                    None => row.state = "REVOKED".to_owned(),
                }
                vec![row]
            }
        }
    }

    /// The same again, under numbers that nobody gave or knows.
    fn doubled(&self, row: &Row) -> Row {
        let mut double = row.clone();
        match &mut double.refund {
            Some(refund) => {
                let mut numbers = self.numbers_of(&["doubled", &refund.refund_id]);
                refund.out_refund_no = numbers.text(32);
                refund.refund_id = self.transaction_id("5030", &refund.out_refund_no, row.at);
            }
            None => double.transaction_id = self.transaction_id("4200", &row.transaction_id, row.at),
        }
        double
    }

    /// Answers hash and link of a day's file. The bill of a day that is over closes by itself in the morning.
    pub(crate) fn trade_bill(
        &mut self,
        date: &str,
        kind: &str,
        packing: &str,
        base: &str,
        now: OffsetDateTime,
    ) -> Outcome {
        let wrong = |field: &str, value: &str| Refusal::field("query", field, &json!(value), "取值不正确");
        let day = parse_date(date).ok_or_else(|| wrong("/bill_date", date))?;
        let kind = match kind {
            "" | "ALL" => Kind::All,
            "SUCCESS" => Kind::Success,
            "REFUND" => Kind::Refund,
            _ => return Err(wrong("/bill_type", kind)),
        };
        let gzip = match packing {
            "" => false,
            "GZIP" => true,
            _ => return Err(wrong("/tar_type", packing)),
        };
        let over = day.next_day().unwrap_or(day).midnight().assume_offset(CHINA);
        if now >= over + KEPT_FOR {
            return Err(Refusal::invalid("账单日期超过三个月", 268_435_464));
        }
        if !self.bills.closed.contains_key(&day) {
            may_close(over, Duration::hours(self.settings.bill_hour.into()), now)?;
            self.close_one(day, now);
        }
        let of_kind = |row: &&Row| match kind {
            Kind::All => true,
            Kind::Success => row.refund.is_none(),
            Kind::Refund => row.refund.is_some(),
        };
        let rows: Vec<&Row> = self.bills.closed[&day].iter().filter(of_kind).collect();
        if rows.is_empty() {
            return Err(Refusal::new(400, "NO_STATEMENT_EXIST", "账单不存在", 268_435_461));
        }
        let file = bill_file::trade_bill(&rows, kind, &self.settings);
        let hash = bill_file::sha1(file.as_bytes());
        let number = self.next_number().to_string();
        let token = self.numbers_of(&["link", date, &number]).text(64);
        self.bills.links.retain(|_, link| now < link.dies);
        self.bills.links.insert(token.clone(), Link { date: day, file, gzip, dies: now + LINK_LIFE });
        Ok(Reply::Document(json!({
            "hash_type": "SHA1",
            "hash_value": hash,
            "download_url": format!("{base}/v3/billdownload/file?token={token}"),
        })))
    }

    /// The file behind a link; `damaged` changes one byte of what was hashed.
    pub(crate) fn bill_file(&self, token: &str, damaged: bool, now: OffsetDateTime) -> Outcome {
        let link = self.bills.links.get(token).filter(|link| now < link.dies);
        let link = link.ok_or_else(|| Refusal::invalid("token已过期，请重新申请账单", 268_435_461))?;
        let mut file = link.file.clone();
        if damaged {
            // The last digit of the summary.
            file.truncate(file.trim_end().len());
            let digit = if file.pop() == Some('9') { '8' } else { '9' };
            file.push(digit);
            file.push_str("\r\n");
        }
        Ok(if link.gzip {
            Reply::File { bytes: bill_file::gzip(file.as_bytes()), media_type: "application/x-gzip" }
        } else {
            Reply::File { bytes: file.into_bytes(), media_type: "text/plain" }
        })
    }

    /// The day that a link is about, for the script.
    pub(crate) fn day_of_link(&self, token: &str) -> String {
        self.bills.links.get(token).map(|link| written(link.date)).unwrap_or_default()
    }
}

impl Row {
    fn about(order: &Order, state: &str, at: OffsetDateTime) -> Self {
        let payment = order.payment.as_ref();
        Self {
            at,
            transaction_id: payment.map(|payment| payment.transaction_id.clone()).unwrap_or_default(),
            out_trade_no: order.out_trade_no.clone(),
            openid: payment.map(|payment| payment.openid.clone()).unwrap_or_default(),
            trade_type: order.trade_type,
            state: state.to_owned(),
            total: 0,
            refund: None,
            description: order.text("/description").to_owned(),
            attach: order.text("/attach").to_owned(),
        }
    }
}

/// A bill is built for some hours (`building`) after the day, which is over at `over`.
fn may_close(over: OffsetDateTime, building: Duration, now: OffsetDateTime) -> Result<(), Refusal> {
    if now < over {
        Err(Refusal::invalid("账单日期不能晚于昨天", 268_435_464))
    } else if now < over + building {
        Err(Refusal::new(400, "STATEMENT_CREATING", "账单生成中", 268_435_461))
    } else {
        Ok(())
    }
}
