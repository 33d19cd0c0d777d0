//! A day's bill: who may have it when, WeChat's own format, its hash, and the differences that can be planted.

use std::io::Read as _;

use serde_json::{Value, json};
use time::{Date, Duration, OffsetDateTime, UtcOffset, macros::format_description};

use crate::merchant::{Answer, Merchant, hex};

const REFUNDS: &str = "/v3/refund/domestic/refunds";

fn today() -> Date {
    OffsetDateTime::now_utc().to_offset(UtcOffset::from_hms(8, 0, 0).unwrap()).date()
}

fn written(date: Date) -> String {
    date.format(format_description!("[year]-[month]-[day]")).unwrap()
}

async fn ask(merchant: &Merchant, more: &str) -> Answer {
    merchant.get(&format!("/v3/bill/tradebill?bill_date={}{more}", written(today()))).await
}

/// The path of the link, as a merchant signs it.
fn link(answer: &Answer) -> String {
    assert!(answer.is_genuine(), "the answer with the link is signed");
    let url = answer.json()["download_url"].as_str().unwrap().to_owned();
    url[url.find("/v3/").unwrap()..].to_owned()
}

/// Asks, downloads, checks the hash, and answers the file's lines.
async fn bill(merchant: &Merchant, more: &str) -> Vec<String> {
    let answer = ask(merchant, more).await;
    let download = merchant.get(&link(&answer)).await;
    assert_eq!(download.status, 200);
    assert!(!download.headers.contains_key("Wechatpay-Signature"), "downloads are not signed");
    let mut file = download.body.to_vec();
    if more.contains("GZIP") {
        let packed = std::mem::take(&mut file);
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut file).unwrap();
    }
    let sha1 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &file);
    assert_eq!(answer.json()["hash_value"], hex(sha1.as_ref()));
    let file = String::from_utf8(file).unwrap();
    file.strip_prefix('\u{FEFF}').unwrap().split_terminator("\r\n").map(str::to_owned).collect()
}

/// Cells of a data row: all but the first back-tick separate.
fn cells(line: &str) -> Vec<&str> {
    line.strip_prefix('`').unwrap().split(",`").collect()
}

async fn day(merchant: &Merchant) {
    merchant.paid("hf000001").await;
    merchant.paid("hf000002").await;
    let refund = json!({
        "out_trade_no": "hf000002", "out_refund_no": "rf000002",
        "amount": {"refund": 5001, "total": 20000, "currency": "CNY"},
    });
    assert_eq!(merchant.post(REFUNDS, &refund).await.status, 200);
}

#[tokio::test]
async fn a_bill_has_wechats_format_plain_and_packed() {
    let merchant = Merchant::new().await;
    day(&merchant).await;
    let (status, closed) = merchant.sim("/_sim/bill", &json!({})).await;
    assert_eq!((status, closed["rows"].as_u64()), (200, Some(3)));

    let lines = bill(&merchant, "").await;
    assert_eq!(lines, bill(&merchant, "&bill_type=ALL&tar_type=GZIP").await);
    let head: Vec<_> = lines[0].split(',').collect();
    assert_eq!((head.len(), head[0], head[26]), (27, "交易时间", "费率备注"));
    let column = |line: usize, name: &str| cells(&lines[line])[head.iter().position(|head| *head == name).unwrap()];
    let paid = [("商户订单号", "hf000001"), ("交易状态", "SUCCESS"), ("订单金额", "200.00"), ("手续费", "1.20000")];
    for (name, value) in paid.into_iter().chain([("微信退款单号", "0"), ("退款金额", "0.00"), ("特约商户号", "0")])
    {
        assert_eq!(column(1, name), value, "{name}");
    }
    for (name, value) in
        [("交易状态", "REFUND"), ("订单金额", "0.00"), ("申请退款金额", "50.01"), ("商户退款单号", "rf000002")]
    {
        assert_eq!(column(3, name), value, "{name}");
    }
    assert_eq!(lines[4].split(',').next(), Some("总交易单数"));
    assert_eq!(cells(&lines[5])[..3], ["3.0", "400.00", "50.01"]);
    assert_eq!(lines.len(), 6);

    for (kind, columns, rows) in [("SUCCESS", 20, 2), ("REFUND", 29, 1)] {
        let lines = bill(&merchant, &format!("&bill_type={kind}")).await;
        assert_eq!((lines[0].split(',').count(), lines.len()), (columns, rows + 3), "{kind}");
        assert_eq!(cells(&lines[1]).len(), columns, "{kind}");
    }
}

#[tokio::test]
async fn a_bill_comes_in_the_morning_after() {
    let merchant = Merchant::new().await;
    merchant.paid("hf000001").await;
    let too_soon = ask(&merchant, "").await;
    assert_eq!(too_soon.error(), (400, "INVALID_REQUEST".into()), "the day is not over");
    let over = today().next_day().unwrap().midnight().assume_offset(UtcOffset::from_hms(8, 0, 0).unwrap());
    let until_midnight = (over - OffsetDateTime::now_utc()).whole_seconds() + 1;
    merchant.sim("/_sim/clock", &json!({"advance_seconds": until_midnight})).await;
    assert_eq!(ask(&merchant, "").await.error(), (400, "STATEMENT_CREATING".into()));
    merchant.sim("/_sim/clock", &json!({"advance_seconds": Duration::hours(10).whole_seconds()})).await;
    assert_eq!(bill(&merchant, "").await.len(), 4);
    let empty = written(today().previous_day().unwrap());
    let answer = merchant.get(&format!("/v3/bill/tradebill?bill_date={empty}")).await;
    assert_eq!(answer.error(), (400, "NO_STATEMENT_EXIST".into()));
    assert_eq!(ask(&merchant, "&bill_type=REFUND").await.error(), (400, "NO_STATEMENT_EXIST".into()));

    for wrong in ["&bill_type=SOME", "&tar_type=ZIP"] {
        assert_eq!(ask(&merchant, wrong).await.error(), (400, "PARAM_ERROR".into()));
    }
    let answer = merchant.get("/v3/bill/tradebill?bill_date=yesterday").await;
    assert_eq!(answer.error(), (400, "PARAM_ERROR".into()));
    merchant.sim("/_sim/clock", &json!({"advance_seconds": Duration::days(91).whole_seconds()})).await;
    let old = merchant.get(&format!("/v3/bill/tradebill?bill_date={empty}")).await;
    assert_eq!(old.error(), (400, "INVALID_REQUEST".into()));
}

#[tokio::test]
async fn a_link_dies_and_a_file_can_be_damaged() {
    let merchant = Merchant::new().await;
    day(&merchant).await;
    merchant.sim("/_sim/bill", &json!({"date": written(today())})).await;
    let answer = ask(&merchant, "").await;
    let path = link(&answer);
    let whole = merchant.get(&path).await.body;
    merchant.script(json!([{"on": "bill_download", "damaged": true, "count": 1}])).await;
    let damaged = merchant.get(&path).await.body;
    assert_eq!((damaged.len(), damaged == whole), (whole.len(), false));
    assert_eq!(merchant.get(&path).await.body, whole);
    let unsigned = merchant.http.get(format!("{}{path}", merchant.wechat.url)).send().await.unwrap();
    assert_eq!(unsigned.status(), 401);
    merchant.sim("/_sim/clock", &json!({"advance_seconds": 300})).await;
    assert_eq!(merchant.get(&path).await.error(), (400, "INVALID_REQUEST".into()));
}

#[tokio::test]
async fn differences_are_planted_and_stand() {
    let merchant = Merchant::new().await;
    for number in 1..=5 {
        merchant.paid(&format!("hf00000{number}")).await;
    }
    let refund = json!({
        "out_trade_no": "hf000001", "out_refund_no": "rf000001",
        "amount": {"refund": 5000, "total": 20000, "currency": "CNY"},
    });
    merchant.post(REFUNDS, &refund).await;
    let rules: Vec<Value> = [(1, "missing"), (2, "extra"), (3, "wrong_amount"), (4, "wrong_state"), (5, "doubled")]
        .into_iter()
        .map(|(number, kind)| json!({"on": "bill_payment", "order": format!("hf00000{number}"), "bill": kind}))
        .chain([json!({"on": "bill_refund", "bill": "wrong_state"})])
        .collect();
    merchant.script(json!(rules)).await;
    let (_, closed) = merchant.sim("/_sim/bill", &json!({})).await;
    assert_eq!(closed["planted"].as_array().unwrap().len(), 6);
    assert_eq!(closed["planted"][0], json!({"kind": "missing", "out_trade_no": "hf000001", "out_refund_no": null}));

    let lines = bill(&merchant, "").await;
    let rows: Vec<Vec<&str>> = lines[1..lines.len() - 2].iter().map(|line| cells(line)).collect();
    let of = |number: &str| rows.iter().filter(|row| row[6] == number).collect::<Vec<_>>();
    let refunded = of("hf000001");
    assert_eq!((refunded.len(), refunded[0][9], refunded[0][19]), (1, "REFUND", "FAIL"));
    assert_eq!(of("hf000003")[0][24], "200.01");
    assert_eq!(of("hf000004")[0][9], "REVOKED");
    assert_eq!(of("hf000005").len(), 2);
    assert_ne!(of("hf000005")[0][5], of("hf000005")[1][5], "another transaction");
    assert_eq!(rows.iter().filter(|row| !row[6].starts_with("hf")).count(), 1);

    merchant.sim("/_sim/script", &json!({})).await;
    assert_eq!(bill(&merchant, "").await, lines, "a closed day stands");
    merchant.sim("/_sim/bill", &json!({})).await;
    assert_eq!(bill(&merchant, "").await.len(), 9, "until it is closed again");
    assert_eq!(merchant.sim("/_sim/bill", &json!({"date": "today"})).await.0, 400);
}
