//! A day's bill beside our books: its rows wait in a temporary table until the whole file has proved itself, and are
//! then matched with ours. PostgreSQL does the matching, so that a bill of any length needs no memory of ours, and
//! leaves out what is the same in every part; the rules of `domain::books` judge the rest.

use sqlx::{Connection as _, FromRow, PgConnection};
use time::{Date, Duration, OffsetDateTime};

use super::{Database, StoreError};
use crate::domain::{
    books::{Billed, Booked, Matter, Pair, Sums},
    calendar::CHINA,
    money::Fen,
    refund::RefundStatus,
};

/// One bill on its way, with a connection of its own: the table and the lock end with it, whatever happens.
pub struct StagedBill {
    connection: PgConnection,
    from: OffsetDateTime,
    to: OffsetDateTime,
}

impl StagedBill {
    /// `None` while somebody else compares the same day.
    pub async fn begin(db: &Database, date: Date) -> Result<Option<Self>, StoreError> {
        let mut connection = PgConnection::connect_with(&db.pool.connect_options()).await?;
        let is_ours: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended('books ' || $1, 0))")
            .bind(date.to_string())
            .fetch_one(&mut connection)
            .await?;
        if !is_ours {
            return Ok(None);
        }
        sqlx::query(
            "CREATE TEMPORARY TABLE bill (
                 matter text NOT NULL, number text NOT NULL, out_trade_no text NOT NULL, fen bigint NOT NULL, state text NOT NULL)",
        )
        .execute(&mut connection)
        .await?;
        let from = date.midnight().assume_offset(CHINA);
        Ok(Some(Self { connection, from, to: from.saturating_add(Duration::DAY) }))
    }

    /// Keeps some rows of the bill.
    pub async fn add(&mut self, rows: &[Billed]) -> Result<(), StoreError> {
        let texts = |part: fn(&Billed) -> &str| rows.iter().map(|row| part(row).to_owned()).collect::<Vec<_>>();
        sqlx::query(
            "INSERT INTO bill (matter, number, out_trade_no, fen, state)
             SELECT matter, number, out_trade_no, fen, state
               FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])
                 AS t(matter, number, out_trade_no, fen, state)",
        )
        .bind(texts(|row| row.matter.as_str()))
        .bind(texts(|row| &row.number))
        .bind(texts(|row| &row.out_trade_no))
        .bind(rows.iter().map(|row| row.amount).collect::<Vec<_>>())
        .bind(texts(|row| &row.state))
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }

    /// The bill is complete: every fact of the day is matched, and what is the same in every part is left out. A row of
    /// the bill meets ours whatever day ours bears; a fact of ours that the bill lacks is one of this day.
    pub async fn complete(&mut self) -> Result<(), StoreError> {
        for statement in [
            "CREATE INDEX ON bill (matter, number)",
            "ANALYZE bill",
            "CREATE TEMPORARY TABLE pair (
                 place bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, matter text NOT NULL, number text NOT NULL,
                 out_trade_no text, fen bigint, state text, order_known boolean NOT NULL,
                 order_id text, our_fen bigint, refund refund_status)",
        ] {
            sqlx::query(statement).execute(&mut self.connection).await?;
        }
        for statement in [PAYMENTS, REFUNDS] {
            sqlx::query(statement).bind(self.from).bind(self.to).execute(&mut self.connection).await?;
        }
        Ok(())
    }

    /// The next facts that may differ, after the place where the page before ended, 0 at first.
    pub async fn pairs(&mut self, after: i64, limit: i64) -> Result<Vec<(i64, Option<Pair>)>, StoreError> {
        let rows: Vec<PairRow> = sqlx::query_as(
            "SELECT place, matter, number, out_trade_no, fen, state, order_known, order_id, our_fen, refund::text AS refund
               FROM pair WHERE place > $1 ORDER BY place LIMIT $2",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&mut self.connection)
        .await?;
        Ok(rows.into_iter().map(PairRow::pair).collect())
    }

    /// The day in numbers: the bill's, and ours.
    pub async fn sums(&mut self) -> Result<(Sums, Sums), StoreError> {
        let sums = |(payments, paid_fen, refunds, refunded_fen)| Sums { payments, paid_fen, refunds, refunded_fen };
        let bill = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE matter = 'payment'),
                    coalesce(sum(fen) FILTER (WHERE matter = 'payment'), 0)::bigint,
                    count(*) FILTER (WHERE matter = 'refund'),
                    coalesce(sum(fen) FILTER (WHERE matter = 'refund'), 0)::bigint FROM bill",
        );
        let bill = bill.fetch_one(&mut self.connection).await?;
        let books = sqlx::query_as(
            "SELECT p.count, p.fen, r.count, r.fen
               FROM (SELECT count(*), coalesce(sum(total_fen), 0)::bigint AS fen FROM payment_transactions
                      WHERE success_time >= $1 AND success_time < $2 AND transaction_id NOT LIKE 'offline-%') p,
                    (SELECT count(*), coalesce(sum(amount_fen), 0)::bigint AS fen FROM refunds
                      WHERE sent_at >= $1 AND sent_at < $2
                        AND status IN ('processing', 'succeeded', 'abnormal', 'closed')) r",
        );
        let books = books.bind(self.from).bind(self.to).fetch_one(&mut self.connection).await?;
        Ok((sums(bill), sums(books)))
    }

    /// Gives the day up for whoever wants to compare it next.
    pub async fn end(self) {
        // A connection that does not close in peace ends with the process.
        let _ = self.connection.close().await;
    }
}

const PAYMENTS: &str = "
    INSERT INTO pair (matter, number, out_trade_no, fen, state, order_known, order_id, our_fen)
    SELECT 'payment', b.number, b.out_trade_no, b.fen, b.state, o.order_id IS NOT NULL, t.order_id, t.total_fen
      FROM bill b
      LEFT JOIN payment_transactions t ON t.transaction_id = b.number
      LEFT JOIN payment_orders o ON o.order_id = b.out_trade_no
     WHERE b.matter = 'payment'
       AND (b.out_trade_no, b.fen, b.state) IS DISTINCT FROM (t.order_id, t.total_fen, 'SUCCESS')
    UNION ALL
    SELECT 'payment', t.transaction_id, NULL, NULL, NULL, true, t.order_id, t.total_fen
      FROM payment_transactions t
     WHERE success_time >= $1 AND success_time < $2 AND transaction_id NOT LIKE 'offline-%'
       AND NOT EXISTS (SELECT FROM bill b WHERE b.matter = 'payment' AND b.number = t.transaction_id)";

/// Only what WeChat has accepted is in its bill. One that is still `requested` may never have arrived.
const REFUNDS: &str = "
    INSERT INTO pair (matter, number, out_trade_no, fen, state, order_known, order_id, our_fen, refund)
    SELECT 'refund', b.number, b.out_trade_no, b.fen, b.state, o.order_id IS NOT NULL, r.order_id, r.amount_fen, r.status
      FROM bill b
      LEFT JOIN refunds r ON coalesce(r.out_refund_no, r.refund_id) = b.number
      LEFT JOIN payment_orders o ON o.order_id = b.out_trade_no
     WHERE b.matter = 'refund'
       AND (b.out_trade_no, b.fen, b.state, 'succeeded')
           IS DISTINCT FROM (r.order_id, r.amount_fen, 'SUCCESS', r.status::text)
    UNION ALL
    SELECT 'refund', coalesce(r.out_refund_no, r.refund_id), NULL, NULL, NULL, true, r.order_id, r.amount_fen, r.status
      FROM refunds r
     WHERE sent_at >= $1 AND sent_at < $2 AND status IN ('processing', 'succeeded', 'abnormal', 'closed')
       AND NOT EXISTS (SELECT FROM bill b WHERE b.matter = 'refund' AND b.number = coalesce(r.out_refund_no, r.refund_id))";

#[derive(FromRow)]
struct PairRow {
    place: i64,
    matter: String,
    number: String,
    out_trade_no: Option<String>,
    fen: Option<Fen>,
    state: Option<String>,
    order_known: bool,
    order_id: Option<String>,
    our_fen: Option<Fen>,
    refund: Option<String>,
}

impl PairRow {
    /// `None` when this release does not know a word of it: the rest of the day is compared all the same.
    fn pair(self) -> (i64, Option<Pair>) {
        let known = |word: &String| RefundStatus::ALL.into_iter().find(|status| status.as_str() == word);
        let refund = self.refund.as_ref().and_then(known);
        if refund.is_none() && self.refund.is_some() {
            metrics::counter!("unreadable_rows_total", "table" => "refunds").increment(1);
            tracing::error!(number = self.number, status = self.refund, "skipped a refund of an unknown status");
            return (self.place, None);
        }
        let matter = if self.matter == Matter::Refund.as_str() { Matter::Refund } else { Matter::Payment };
        let billed = match (self.out_trade_no, self.fen, self.state) {
            (Some(out_trade_no), Some(amount), Some(state)) => {
                Some(Billed { matter, number: self.number.clone(), out_trade_no, amount, state })
            }
            _ => None,
        };
        let booked = match (self.order_id, self.our_fen) {
            (Some(order_id), Some(amount)) => Some(Booked { order_id, amount, refund }),
            _ => None,
        };
        let pair = Pair { matter, number: self.number, billed, booked, order_known: self.order_known };
        (self.place, Some(pair))
    }
}
