//! A bill as WeChat writes it: UTF-8 with a mark at its beginning, CRLF, a back-tick before every cell, yuan with
//! decimals, a summary at the end (WeChat Pay: trade bill, file).

use std::io::Write as _;

use aws_lc_rs::digest;
use flate2::{Compression, write::GzEncoder};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};

use super::{CHINA, order::TradeType};
use crate::settings::Settings;

const TIME: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");

/// Six per mille. Five decimals of a yuan, so six of these units per fen.
const FEE_PER_FEN: i64 = 6;
const FEE_UNITS_PER_YUAN: i64 = 100_000;

/// One payment or one accepted refund of a day.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Row {
    /// When it was paid, or the refund asked for.
    pub(super) at: OffsetDateTime,
    pub(super) transaction_id: String,
    pub(super) out_trade_no: String,
    pub(super) openid: String,
    pub(super) trade_type: TradeType,
    /// `SUCCESS`, `REVOKED`; of refunds `REFUND`.
    pub(super) state: String,
    /// Fen paid; of refunds 0.
    pub(super) total: i64,
    pub(super) refund: Option<RefundRow>,
    pub(super) description: String,
    pub(super) attach: String,
}

/// What a refund's row tells beside its payment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RefundRow {
    pub(super) refund_id: String,
    pub(super) out_refund_no: String,
    /// Fen.
    pub(super) amount: i64,
    pub(super) status: String,
    pub(super) succeeded_at: Option<OffsetDateTime>,
}

/// Which rows a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    All,
    Success,
    Refund,
}

/// The whole file, not compressed.
pub(super) fn trade_bill(rows: &[&Row], kind: Kind, settings: &Settings) -> String {
    let mut file = String::from('\u{FEFF}');
    let columns: Vec<Column> = COLUMNS.iter().copied().filter(|column| column.kinds.contains(&kind)).collect();
    line(&mut file, "", columns.iter().map(|column| column.name.to_owned()));
    for row in rows {
        line(&mut file, "`", columns.iter().map(|column| (column.cell)(row, settings)));
    }
    let sums: Vec<_> = SUMS.iter().filter(|sum| kind != Kind::Success || sum.of_success).collect();
    line(&mut file, "", sums.iter().map(|sum| sum.name.to_owned()));
    line(&mut file, "`", sums.iter().map(|sum| (sum.cell)(rows)));
    file
}

fn line(file: &mut String, mark: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.map(|cell| format!("{mark}{cell}")).collect();
    file.push_str(&cells.join(","));
    file.push_str("\r\n");
}

#[derive(Clone, Copy)]
struct Column {
    name: &'static str,
    kinds: &'static [Kind],
    cell: fn(&Row, &Settings) -> String,
}

const EVERY: &[Kind] = &[Kind::All, Kind::Success, Kind::Refund];
const WITH_REFUNDS: &[Kind] = &[Kind::All, Kind::Refund];
const REFUNDS_ONLY: &[Kind] = &[Kind::Refund];

const fn column(name: &'static str, kinds: &'static [Kind], cell: fn(&Row, &Settings) -> String) -> Column {
    Column { name, kinds, cell }
}

/// In WeChat's order: 27 of ALL, 20 of SUCCESS, 29 of REFUND.
const COLUMNS: [Column; 29] = [
    column("交易时间", EVERY, |row, _| at(row.at)),
    column("公众账号ID", EVERY, |_, settings| settings.appid.clone()),
    column("商户号", EVERY, |_, settings| settings.mchid.clone()),
    column("特约商户号", EVERY, |_, _| "0".into()),
    column("设备号", EVERY, |_, _| String::new()),
    column("微信订单号", EVERY, |row, _| row.transaction_id.clone()),
    column("商户订单号", EVERY, |row, _| row.out_trade_no.clone()),
    column("用户标识", EVERY, |row, _| row.openid.clone()),
    column("交易类型", EVERY, |row, _| row.trade_type.as_str().into()),
    column("交易状态", EVERY, |row, _| row.state.clone()),
    column("付款银行", EVERY, |_, _| "OTHERS".into()),
    column("货币种类", EVERY, |_, _| "CNY".into()),
    column("应结订单金额", EVERY, |row, _| yuan(row.total)),
    column("代金券金额", EVERY, |_, _| yuan(0)),
    column("退款申请时间", REFUNDS_ONLY, |row, _| at(row.at)),
    column("退款成功时间", REFUNDS_ONLY, |row, _| {
        row.refund.as_ref().and_then(|refund| refund.succeeded_at).map(at).unwrap_or_default()
    }),
    column("微信退款单号", WITH_REFUNDS, |row, _| {
        row.refund.as_ref().map_or_else(|| "0".into(), |refund| refund.refund_id.clone())
    }),
    column("商户退款单号", WITH_REFUNDS, |row, _| {
        row.refund.as_ref().map_or_else(|| "0".into(), |refund| refund.out_refund_no.clone())
    }),
    column("退款金额", WITH_REFUNDS, |row, _| yuan(refunded(row))),
    column("充值券退款金额", WITH_REFUNDS, |_, _| yuan(0)),
    column("退款类型", WITH_REFUNDS, |row, _| row.refund.as_ref().map_or("", |_| "ORIGINAL").into()),
    column("退款状态", WITH_REFUNDS, |row, _| {
        row.refund.as_ref().map(|refund| refund.status.clone()).unwrap_or_default()
    }),
    column("商品名称", EVERY, |row, _| row.description.clone()),
    column("商户数据包", EVERY, |row, _| row.attach.clone()),
    column("手续费", EVERY, |row, _| fee(row.total)),
    column("费率", EVERY, |_, _| "0.60%".into()),
    column("订单金额", EVERY, |row, _| yuan(row.total)),
    column("申请退款金额", WITH_REFUNDS, |row, _| yuan(refunded(row))),
    column("费率备注", EVERY, |_, _| String::new()),
];

struct Sum {
    name: &'static str,
    of_success: bool,
    cell: fn(&[&Row]) -> String,
}

const SUMS: [Sum; 7] = [
    // Counts come with decimals too.
    Sum { name: "总交易单数", of_success: true, cell: |rows| format!("{}.0", rows.len()) },
    Sum { name: "应结订单总金额", of_success: true, cell: |rows| yuan(sum(rows, |row| row.total)) },
    Sum { name: "退款总金额", of_success: false, cell: |rows| yuan(sum(rows, refunded)) },
    Sum { name: "充值券退款总金额", of_success: false, cell: |_| "0.0".into() },
    Sum { name: "手续费总金额", of_success: true, cell: |rows| fee(sum(rows, |row| row.total)) },
    Sum { name: "订单总金额", of_success: true, cell: |rows| yuan(sum(rows, |row| row.total)) },
    Sum { name: "申请退款总金额", of_success: false, cell: |rows| yuan(sum(rows, refunded)) },
];

fn sum(rows: &[&Row], fen: fn(&Row) -> i64) -> i64 {
    rows.iter().map(|row| fen(row)).sum()
}

fn refunded(row: &Row) -> i64 {
    row.refund.as_ref().map_or(0, |refund| refund.amount)
}

fn yuan(fen: i64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

fn fee(fen: i64) -> String {
    let units = fen * FEE_PER_FEN;
    format!("{}.{:05}", units / FEE_UNITS_PER_YUAN, units % FEE_UNITS_PER_YUAN)
}

fn at(time: OffsetDateTime) -> String {
    time.to_offset(CHINA).format(TIME).expect("a time has all of these parts")
}

/// Hex of the hash that is told with the link.
pub(super) fn sha1(file: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, file);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn gzip(file: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(file).and_then(|()| encoder.finish()).expect("writing into memory does not fail")
}
