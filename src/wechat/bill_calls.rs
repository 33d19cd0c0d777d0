//! The calls behind a bill: its hash and link, which WeChat signs, and the file, which proves itself by the hash.

use std::time::Duration;

use reqwest::{Method, Url};
use serde::Deserialize;
use time::{Date, format_description::FormatItem, macros::format_description};
use tokio::time::timeout;

use crate::{
    crash,
    domain::{
        books::Billed,
        json::{self, json_fault},
    },
    wechat::{
        answers::{Call, Claim, Class, Inconclusive},
        bill::BillReader,
        exchange::{PayClient, Record, Request},
        settings::is_pay_host,
    },
};

const DATE: &[FormatItem<'_>] = format_description!("[year]-[month]-[day]");
/// The longest silence within a download.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest download: a million rows are some tens of MiB, packed.
const WHOLE: Duration = Duration::from_secs(1_800);

/// A bill that is ready, for some minutes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillLink {
    /// At the address of all other calls.
    path: String,
    query: Option<String>,
    sha1: String,
}

impl BillLink {
    /// Takes path and query of a link to the host of all other calls, or to the other of WeChat Pay's two.
    ///
    /// # Errors
    /// Says why our signature is not carried to this address.
    fn read(base: &Url, link: &str, sha1: String) -> Result<Self, String> {
        let url = Url::parse(link).map_err(|_| "the link is no URL".to_owned())?;
        let is_wechats = |url: &Url| url.scheme() == "https" && url.port().is_none() && is_pay_host(url);
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the link carries a login".to_owned());
        }
        if url.origin() != base.origin() && !(is_wechats(base) && is_wechats(&url)) {
            return Err("the link leads to another host".to_owned());
        }
        Ok(Self { path: url.path().to_owned(), query: url.query().map(str::to_owned), sha1 })
    }

    /// The host is never the link's.
    fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        url.set_path(&self.path);
        url.set_query(self.query.as_deref());
        url
    }
}

/// A file that is arriving.
pub struct Download {
    response: reqwest::Response,
    reader: BillReader,
    /// Read to its end, and the file whose hash WeChat signed.
    is_whole: bool,
    sha1: String,
    record: Option<Record>,
}

impl PayClient {
    /// GET /v3/bill/tradebill, packed. `None` when WeChat says that there was no trade on this China day; it says so
    /// without a signature, so it means nothing against books that know of some.
    pub async fn trade_bill(&self, date: Date) -> Result<Option<BillLink>, Inconclusive> {
        #[derive(Deserialize)]
        struct Ready {
            hash_type: String,
            hash_value: String,
            download_url: String,
        }
        let date = date.format(DATE).expect("a date has a year, a month and a day");
        let mut url = self.url(&["v3", "bill", "tradebill"], None);
        url.set_query(Some(&format!("bill_date={date}&bill_type=ALL&tar_type=GZIP")));
        let request = Request { call: Call::TradeBill, method: Method::GET, url, body: Vec::new(), about: None };
        let asked = self.call(request, |signed| {
            let ready: Ready = json::read_plain(&signed.body).map_err(|error| json_fault(&error))?;
            if !ready.hash_type.eq_ignore_ascii_case("SHA1") {
                return Err(format!("the hash is a {}", ready.hash_type));
            }
            BillLink::read(&self.account.base_url, &ready.download_url, ready.hash_value)
        });
        match asked.await {
            Ok(link) => Ok(Some(link)),
            Err(Inconclusive { class: Class::Claimed(Claim::Absent), .. }) => Ok(None),
            Err(inconclusive) => Err(inconclusive),
        }
    }

    /// GET the file behind the link. To be read to its end with [`Download::next`].
    pub async fn download_bill(&self, link: &BillLink) -> Result<Download, Inconclusive> {
        let call = Call::DownloadBill;
        let mut record = Record::begin(call, None);
        let opened = async {
            let url = link.url(&self.account.base_url);
            let request = Request { call, method: Method::GET, url, body: Vec::new(), about: None };
            self.open(request, WHOLE, &mut record).await
        };
        match crash::around("wechat", call.label(), opened).await {
            Ok(response) => Ok(Download {
                response,
                reader: BillReader::of(&self.account.mchid),
                is_whole: false,
                sha1: link.sha1.clone(),
                record: Some(record),
            }),
            Err(inconclusive) => {
                let failed = Err(inconclusive);
                record.end(&failed);
                failed
            }
        }
    }
}

impl Download {
    /// The next rows; `None` when the file was read to its end and is the one whose hash WeChat signed. Until then
    /// nothing may be concluded from any row.
    pub async fn next(&mut self) -> Result<Option<Vec<Billed>>, Inconclusive> {
        let step = self.step().await;
        if !matches!(step, Ok(Some(_)))
            && let Some(record) = self.record.take()
        {
            record.end(&step);
        }
        step
    }

    async fn step(&mut self) -> Result<Option<Vec<Billed>>, Inconclusive> {
        let unknown = |detail: String| Inconclusive::unknown(Call::DownloadBill, Some(200), None, detail);
        if self.is_whole {
            return Ok(None);
        }
        let piece = timeout(SILENCE, self.response.chunk()).await.map_err(|_| unknown("silence".to_owned()))?;
        let rows = match piece.map_err(|error| unknown(error.without_url().to_string()))? {
            Some(piece) => self.reader.push(&piece),
            None => std::mem::take(&mut self.reader).finish(&self.sha1).inspect(|_| self.is_whole = true),
        };
        rows.map(Some).map_err(|fault| unknown(fault.to_string()))
    }
}
