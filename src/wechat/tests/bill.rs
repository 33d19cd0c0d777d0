//! Bills: WeChat's format, plain and packed, in pieces of any size; what is no bill; and a million rows.

use std::{io::Write as _, process::Command};

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use serde_json::json;
use time::macros::date;

use super::support::{Reply, Server, client, settings};
use crate::{
    domain::{
        books::{Billed, Matter},
        money::Fen,
    },
    wechat::{
        answers::Class,
        bill::{BillFault, BillReader},
    },
};

const NAMES: &str = "交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,用户标识,交易类型,交易状态,付款银行,\
    货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,\
    费率,订单金额,申请退款金额,费率备注";
const SUMS: &str = "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n\
    `2.0,`200.00,`50.01,`0.0,`1.20000,`200.00,`50.01\r\n";
const PAID: &str = "`2026-11-21 10:00:00,`wx8,`1900000109,`0,`,`4200002026112100000000000001,`hf000001,`oUser,`NATIVE,`SUCCESS,\
    `OTHERS,`CNY,`200.00,`0.00,`0,`0,`0.00,`0.00,`,`,`陶艺课, 10月1日,`,`1.20000,`0.60%,`200.00,`0.00,`";
const REFUNDED: &str = "`2026-11-21 11:00:00,`wx8,`1900000109,`0,`,`4200002026112100000000000001,`hf000001,`oUser,`NATIVE,`REFUND,\
    `OTHERS,`CNY,`0.00,`0.00,`5030002026112100000000000001,`hf000001-r1,`50.01,`0.00,`ORIGINAL,`PROCESSING,`陶艺课, 10月1日,`,\
    `0.00000,`0.60%,`0.00,`50.01,`";

fn file(rows: &[&str]) -> String {
    let rows: String = rows.iter().map(|row| format!("{row}\r\n")).collect();
    format!("\u{FEFF}{NAMES}\r\n{rows}{SUMS}")
}

fn sha1(text: &[u8]) -> String {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(text);
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn read(bytes: &[u8], hash: &str, pieces: usize) -> Result<Vec<Billed>, BillFault> {
    let mut reader = BillReader::default();
    let mut rows = Vec::new();
    for piece in bytes.chunks(pieces.max(1)) {
        rows.extend(reader.push(piece)?);
    }
    rows.extend(reader.finish(hash)?);
    Ok(rows)
}

fn expected() -> Vec<Billed> {
    let row = |matter, number: &str, fen, state: &str| Billed {
        matter,
        number: number.into(),
        out_trade_no: "hf000001".into(),
        amount: Fen(fen),
        state: state.into(),
    };
    vec![
        row(Matter::Payment, "4200002026112100000000000001", 20_000, "SUCCESS"),
        row(Matter::Refund, "hf000001-r1", 5_001, "PROCESSING"),
    ]
}

#[test]
fn a_bill_is_read_plain_and_packed_in_pieces_of_any_size() {
    let text = file(&[PAID, REFUNDED]);
    let hash = sha1(text.as_bytes());
    for bytes in [text.clone().into_bytes(), packed(text.as_bytes())] {
        for pieces in [1, 2, 3, 7, 64, 1_000, bytes.len()] {
            assert_eq!(read(&bytes, &hash, pieces), Ok(expected()), "{pieces}");
        }
    }
    assert_eq!(read(text.as_bytes(), &hash.to_uppercase(), 100), Ok(expected()));
}

#[test]
fn columns_are_found_by_name_wherever_they_stand() {
    let add = |line: &str, cell: &str| format!("{cell},{line}");
    let text = format!("\u{FEFF}{}\r\n{}\r\n{SUMS}", add(NAMES, "新列"), add(PAID, "`x"));
    assert_eq!(read(text.as_bytes(), &sha1(text.as_bytes()), 50).map(|rows| rows.len()), Ok(1));
    let text = file(&[PAID]).replace("微信订单号", "别的");
    assert_eq!(read(text.as_bytes(), "", 50), Err(BillFault::NoColumn("微信订单号")));
}

#[test]
fn a_bill_that_is_not_whole_or_not_the_promised_one_is_no_bill() {
    let text = file(&[PAID, REFUNDED]);
    let hash = sha1(text.as_bytes());
    let other = text.replace("200.00", "200.01");
    assert_eq!(read(other.as_bytes(), &hash, 100), Err(BillFault::Hash));
    assert_eq!(read(b"", &hash, 1), Err(BillFault::CutShort));
    let rows_only = text.split("总交易单数").next().expect("a beginning");
    assert_eq!(read(rows_only.as_bytes(), &sha1(rows_only.as_bytes()), 100), Err(BillFault::CutShort));
    let gzip = packed(text.as_bytes());
    assert_eq!(read(&gzip[..gzip.len() - 5], &hash, 100), Err(BillFault::Packing));

    let wrong = |from: &str, to: &str| read(text.replacen(from, to, 1).as_bytes(), &hash, 100).expect_err("no bill");
    assert_eq!(wrong(",`SUCCESS", ""), BillFault::Cells { line: 2, found: 26, expected: 27 });
    assert_eq!(wrong("`200.00,`0.00,`\r", "`two,`0.00,`\r"), BillFault::Amount { line: 2, column: "订单金额" });
    assert_eq!(wrong(REFUNDED, ""), BillFault::Misplaced(3));
    assert_eq!(read(&[b'a'; 70_000], &hash, 1_000), Err(BillFault::TooLong(1)));
    assert_eq!(read(b"\xFF\xFE\r\n", &hash, 10), Err(BillFault::NotUtf8(1)));
}

#[test]
fn after_the_sums_a_bill_ends() {
    let ended = format!("{}\r\n", file(&[PAID]));
    assert_eq!(read(ended.as_bytes(), &sha1(ended.as_bytes()), 100).map(|rows| rows.len()), Ok(1));
    let more = format!("{ended}more\r\n");
    assert_eq!(read(more.as_bytes(), &sha1(more.as_bytes()), 100), Err(BillFault::Misplaced(6)));
}

#[tokio::test]
async fn a_download_is_over_when_its_hash_is_the_signed_one_and_not_before() {
    let text = file(&[PAID]);
    let ready = |server: &str, hash_type: &str, hash: &str| {
        let url = format!("{server}/v3/billdownload/file?token=t");
        let ready = json!({"hash_type": hash_type, "hash_value": hash, "download_url": url});
        Reply::signed(200, &ready.to_string())
    };
    let (right, arrives) = (sha1(text.as_bytes()), Reply::plain(200, &text));
    let server = Server::start_with(|url| {
        vec![ready(url, "MD5", &right), ready(url, "SHA1", &right), arrives.clone(), ready(url, "SHA1", "00"), arrives]
    });
    let client = client(&settings(&server.url));
    let day = date!(2026 - 11 - 21);
    let doubt = client.trade_bill(day).await.expect_err("a hash that nobody announced");
    assert_eq!(doubt.class, Class::Unknown, "{doubt}");
    for is_right in [true, false] {
        let link = client.trade_bill(day).await.expect("an answer").expect("a bill");
        let mut download = client.download_bill(&link).await.expect("it begins");
        let mut rows = 0;
        let ended = loop {
            match download.next().await {
                Ok(Some(page)) => rows += page.len(),
                ended => break ended,
            }
        };
        assert_eq!((rows, ended.is_ok()), (1, is_right));
        assert_eq!(download.next().await.is_ok(), is_right, "asked again, it says the same");
    }
}

#[test]
fn money_of_another_currency_is_another_state() {
    let text = file(&[&PAID.replace("`CNY", "`USD")]);
    let rows = read(text.as_bytes(), &sha1(text.as_bytes()), 100).expect("a bill");
    assert_eq!(rows[0].state, "SUCCESS USD");
}

proptest! {
    #[test]
    fn any_bytes_as_a_bill_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400), pieces in 1usize..50) {
        let _ = read(&bytes, "", pieces);
        let _ = read(&packed(&bytes), "", pieces);
    }
}

/// Set for the process that reads: alone, so that its memory is told apart.
const ALONE: &str = "HOLDFAST_TEST_ALONE";
const MILLION: usize = 1_000_000;

#[test]
fn a_million_rows_are_read_in_the_memory_of_a_few() {
    if std::env::var_os(ALONE).is_none() {
        let this = "wechat::tests::bill::a_million_rows_are_read_in_the_memory_of_a_few";
        let test = std::env::current_exe().expect("a test has its executable");
        let output =
            Command::new(test).args(["--exact", this, "--nocapture"]).env(ALONE, "1").output().expect("it runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        return;
    }
    let mut reader = BillReader::default();
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let (mut rows, mut fen) = (0_usize, 0);
    let mut before = 0;
    let mut send = |text: &str, last: bool| {
        hash.update(text.as_bytes());
        encoder.write_all(text.as_bytes()).expect("memory");
        if last {
            encoder.try_finish().expect("memory");
        }
        for row in reader.push(&std::mem::take(encoder.get_mut())).expect("a bill") {
            rows += 1;
            fen += row.amount.0;
        }
    };
    send(&format!("\u{FEFF}{NAMES}\r\n"), false);
    let (begin, end) = PAID.split_once("4200002026112100000000000001").expect("a number");
    let mut page = String::new();
    for number in 0..MILLION {
        page.push_str(&format!("{begin}42000020261121{number:014}{end}\r\n"));
        if number % 500 == 499 {
            send(&page, false);
            page.clear();
        }
        if number == MILLION / 100 {
            before = peak_kib();
        }
    }
    send(SUMS, true);
    let grown = peak_kib() - before;
    let hash: String = hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let last = reader.finish(&hash).expect("a bill");
    rows += last.len();
    fen += last.iter().map(|row| row.amount.0).sum::<i64>();
    assert_eq!((rows, fen), (MILLION, MILLION as i64 * 20_000));
    // Kept, the rows would take more than a hundred MiB, and the text two hundred.
    assert!(grown < 16 * 1_024, "from ten thousand rows to a million the memory grew by {grown} KiB");
}

/// The most memory that this process ever had.
fn peak_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the peak");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// B5: a row of another merchant is never the same fact as one of ours.
#[test]
fn a_row_of_another_merchant_does_not_pass_for_ours() {
    for (mchid, state) in [("1900000109", "SUCCESS"), ("1900000000", "SUCCESS 1900000109")] {
        let mut reader = BillReader::of(mchid);
        let rows = reader.push(file(&[PAID]).as_bytes()).expect("rows");
        assert_eq!(rows[0].state, state);
    }
}

/// E2: a bill's cells can be stored, and no amount is beyond every sum.
#[test]
fn e2_cells_are_plain_and_amounts_bounded() {
    let odd = PAID.replace("SUCCESS", "SUC\0CESS").replace("hf000001", "hf\0\u{202E}");
    let text = file(&[&odd]);
    let rows = read(text.as_bytes(), &sha1(text.as_bytes()), 1_000).expect("a bill");
    assert_eq!((rows[0].state.as_str(), rows[0].out_trade_no.as_str()), ("SUC\u{FFFD}CESS", "hf\u{FFFD}\u{FFFD}"));
    for yuan in ["10000000000.01", "92233720368547758.07"] {
        let text = file(&[&PAID.replace("`0.60%,`200.00", &format!("`0.60%,`{yuan}"))]);
        assert!(
            matches!(read(text.as_bytes(), &sha1(text.as_bytes()), 1_000), Err(BillFault::Amount { .. })),
            "{yuan}"
        );
    }
}
