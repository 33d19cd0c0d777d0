//! WeChat's trade bill, read while it arrives: any number of rows in the memory of a few.
//!
//! A text in UTF-8 with a mark at its beginning, lines ended by CRLF: names of columns, rows, names of sums, sums.
//! Every cell of a row begins with a back-tick, which is where a row can be cut safely, since a product's name may
//! hold a comma. Money is in yuan. Columns are found by their names, because WeChat adds some now and then.

use std::io::Write as _;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use flate2::write::GzDecoder;

use crate::domain::{
    books::{Billed, Matter},
    hex::hex,
    money::Fen,
    text::plain,
};

/// Far above any line that WeChat can write: 29 cells of at most some hundred bytes.
const LINE_MAX: usize = 64 << 10;
/// Of a cell that is kept, in characters: twice the longest number there is.
const CELL_MAX: usize = 128;
/// Unpacked at a time, so that a file that unpacks to a thousand times its size takes a MiB.
const SLICE: usize = 1 << 10;
/// The first name of a sum ends the rows.
const FIRST_SUM: &str = "总交易单数";
/// A packed file begins so, and no text does.
const GZIP: u8 = 0x1F;

/// Why a bill cannot be believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BillFault {
    #[error("line {0} is not UTF-8")]
    NotUtf8(u64),
    #[error("line {0} is too long")]
    TooLong(u64),
    #[error("there is no column {0}")]
    NoColumn(&'static str),
    #[error("line {line} has {found} cells, not {expected}")]
    Cells { line: u64, found: usize, expected: usize },
    #[error("line {line} has no amount in {column}")]
    Amount { line: u64, column: &'static str },
    #[error("line {0} is not where it belongs")]
    Misplaced(u64),
    #[error("the packed file is broken")]
    Packing,
    #[error("the file ends early")]
    CutShort,
    #[error("the file is not the one whose hash WeChat signed")]
    Hash,
}

/// Reads a bill piece by piece, plain or packed, whichever it is. Nothing that it tells may be concluded from before
/// [`BillReader::finish`] has found the hash right.
pub struct BillReader {
    gzip: Option<Box<GzDecoder<Vec<u8>>>>,
    lines: Lines,
}

impl Default for BillReader {
    fn default() -> Self {
        Self { gzip: None, lines: Lines::new() }
    }
}

impl BillReader {
    /// Of this merchant's bill. A row of another merchant must not pass for one of ours: its state names the merchant.
    pub fn of(mchid: &str) -> Self {
        let mut reader = Self::default();
        reader.lines.mchid = Some(mchid.to_owned());
        reader
    }

    /// Takes the next piece, and answers the rows that it completes.
    ///
    /// # Errors
    /// The file is no bill; there is no use in reading on.
    pub fn push(&mut self, piece: &[u8]) -> Result<Vec<Billed>, BillFault> {
        if self.gzip.is_none() && self.lines.is_untouched() && piece.first() == Some(&GZIP) {
            self.gzip = Some(Box::new(GzDecoder::new(Vec::new())));
        }
        for slice in piece.chunks(SLICE) {
            match &mut self.gzip {
                None => self.lines.take(slice),
                Some(decoder) => {
                    decoder.write_all(slice).map_err(|_| BillFault::Packing)?;
                    self.lines.take(decoder.get_ref());
                    decoder.get_mut().clear();
                }
            }
            if let Some(fault) = self.lines.fault.take() {
                return Err(fault);
            }
        }
        Ok(std::mem::take(&mut self.lines.rows))
    }

    /// The file is there. `sha1` is the hash of the unpacked text that WeChat signed, in hex.
    ///
    /// # Errors
    /// The file is not whole, or not the one that was promised.
    pub fn finish(self, sha1: &str) -> Result<Vec<Billed>, BillFault> {
        let Self { gzip, mut lines } = self;
        if let Some(decoder) = gzip {
            lines.take(&decoder.finish().map_err(|_| BillFault::Packing)?);
        }
        lines.end();
        if let Some(fault) = lines.fault {
            return Err(fault);
        }
        if lines.place != Place::AfterSums {
            return Err(BillFault::CutShort);
        }
        let hash = hex(lines.sha1.finish());
        if hash.eq_ignore_ascii_case(sha1) { Ok(lines.rows) } else { Err(BillFault::Hash) }
    }
}

/// The unpacked text, line by line.
struct Lines {
    sha1: Context,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    number: u64,
    place: Place,
    rows: Vec<Billed>,
    fault: Option<BillFault>,
    /// Whose bill it must be; `None`: not compared.
    mchid: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Names,
    Rows(Columns),
    Sums,
    AfterSums,
}

/// Where the cells that we read stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Columns {
    count: usize,
    mchid: Option<usize>,
    transaction_id: usize,
    out_trade_no: usize,
    trade_state: usize,
    currency: usize,
    total: usize,
    refund_id: usize,
    out_refund_no: usize,
    refund: usize,
    refund_state: usize,
}

impl Columns {
    fn find(names: &str) -> Result<Self, BillFault> {
        let names: Vec<&str> = names.split(',').map(|name| name.trim_start_matches('`')).collect();
        let at = |name: &'static str| names.iter().position(|n| *n == name).ok_or(BillFault::NoColumn(name));
        Ok(Self {
            count: names.len(),
            mchid: names.iter().position(|name| *name == "商户号"),
            transaction_id: at("微信订单号")?,
            out_trade_no: at("商户订单号")?,
            trade_state: at("交易状态")?,
            currency: at("货币种类")?,
            total: at("订单金额")?,
            refund_id: at("微信退款单号")?,
            out_refund_no: at("商户退款单号")?,
            refund: at("申请退款金额")?,
            refund_state: at("退款状态")?,
        })
    }

    fn read(&self, line: u64, text: &str, mchid: Option<&str>) -> Result<Billed, BillFault> {
        let cells: Vec<&str> = text.split(",`").collect();
        if cells.len() != self.count {
            return Err(BillFault::Cells { line, found: cells.len(), expected: self.count });
        }
        let amount = |at: usize, column| {
            let fen = Fen::from_yuan(cells[at].trim()).filter(|fen| *fen <= Fen::LARGEST);
            fen.ok_or(BillFault::Amount { line, column })
        };
        let is_refund = !matches!(cells[self.refund_id].trim(), "" | "0");
        let (matter, number, amount, state) = if is_refund {
            let amount = amount(self.refund, "申请退款金额")?;
            (Matter::Refund, cells[self.out_refund_no], amount, cells[self.refund_state])
        } else {
            let amount = amount(self.total, "订单金额")?;
            (Matter::Payment, cells[self.transaction_id], amount, cells[self.trade_state])
        };
        // Ours is a merchant in yuan. Another currency must not pass for the same sum.
        let state = match cells[self.currency].trim() {
            "CNY" => plain(state, CELL_MAX),
            other => plain(&format!("{} {other}", state.trim()), CELL_MAX),
        };
        let told = self.mchid.map(|at| cells[at].trim());
        let state = match (mchid, told) {
            (Some(ours), Some(told)) if ours != told => plain(&format!("{state} {told}"), CELL_MAX),
            _ => state,
        };
        let out_trade_no = plain(cells[self.out_trade_no], CELL_MAX);
        Ok(Billed { matter, number: plain(number, CELL_MAX), out_trade_no, amount, state })
    }
}

impl Lines {
    fn new() -> Self {
        Self {
            sha1: Context::new(&SHA1_FOR_LEGACY_USE_ONLY),
            begun: Vec::new(),
            number: 0,
            place: Place::Names,
            rows: Vec::new(),
            fault: None,
            mchid: None,
        }
    }

    fn is_untouched(&self) -> bool {
        self.number == 0 && self.begun.is_empty()
    }

    fn take(&mut self, text: &[u8]) {
        self.sha1.update(text);
        for part in text.split_inclusive(|byte| *byte == b'\n') {
            if self.fault.is_some() {
                return;
            }
            if self.begun.len().saturating_add(part.len()) > LINE_MAX {
                self.fault = Some(BillFault::TooLong(self.number + 1));
                return;
            }
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") {
                self.end();
            }
        }
    }

    /// What has come is a line.
    fn end(&mut self) {
        let line = std::mem::take(&mut self.begun);
        if line.is_empty() || self.fault.is_some() {
            return;
        }
        self.number += 1;
        self.fault = match std::str::from_utf8(&line) {
            Ok(text) => self.read(text.trim_start_matches('\u{FEFF}').trim_end_matches(['\r', '\n'])).err(),
            Err(_) => Some(BillFault::NotUtf8(self.number)),
        };
        // The next line can use the memory of this one.
        self.begun = line;
        self.begun.clear();
    }

    fn read(&mut self, text: &str) -> Result<(), BillFault> {
        let row = text.strip_prefix('`');
        match (&self.place, row) {
            (Place::Names, _) => self.place = Place::Rows(Columns::find(text)?),
            (Place::Rows(columns), Some(row)) => {
                let read = columns.read(self.number, row, self.mchid.as_deref())?;
                self.rows.push(read);
            }
            (Place::Rows(_), None) if text.starts_with(FIRST_SUM) => self.place = Place::Sums,
            (Place::Sums, Some(_)) => self.place = Place::AfterSums,
            (Place::AfterSums, None) if text.is_empty() => {}
            (Place::Rows(_) | Place::Sums, None) | (Place::AfterSums, _) => {
                return Err(BillFault::Misplaced(self.number));
            }
        }
        Ok(())
    }
}
