//! WeChat's trade bill: a file of any size, plain or packed, that comes in pieces.
//!
//! Input: the size of the pieces as one byte, then the file. The signed hash is right where the first byte is even.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use holdfast::{
    domain::money::Fen,
    wechat::bill::{BillFault, BillReader},
};

use super::assert_plain;

pub(crate) fn check(data: &[u8]) -> bool {
    let Some((first, file)) = data.split_first() else {
        return false;
    };
    let hash: String =
        digest(&SHA1_FOR_LEGACY_USE_ONLY, file).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let whole = read(file, file.len().max(1), &hash);
    // However a file is cut on its way, it says the same; of two things that are wrong, the one that is met first.
    assert_eq!(read(file, usize::from(*first).max(1), &hash).ok(), whole.as_ref().ok().cloned());
    let Ok(rows) = whole else {
        return false;
    };
    for row in &rows {
        assert!((0..=Fen::LARGEST.0).contains(&row.amount.0), "{row:?}");
        assert_plain(&[&row.number, &row.out_trade_no, &row.state]);
    }
    assert_eq!(read(file, 1 << 12, "another"), Err(BillFault::Hash));
    !rows.is_empty()
}

fn read(file: &[u8], piece: usize, sha1: &str) -> Result<Vec<holdfast::domain::books::Billed>, BillFault> {
    let mut reader = BillReader::default();
    let mut rows = Vec::new();
    for piece in file.chunks(piece) {
        rows.append(&mut reader.push(piece)?);
    }
    rows.append(&mut reader.finish(sha1)?);
    Ok(rows)
}
