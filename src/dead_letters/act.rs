//! Discarding and restoring, and notes on a cause.

use std::collections::HashSet;

use serde_json::json;

use super::{DeadLetters, Failed, Refusal, Selection, document::RefusedLetter, look::MOST};
use crate::{
    broker::dead::Posting,
    domain::{dead_letter::LetterState, money::Fen},
    store::{
        self,
        dead_letter::{Filter, Row},
        dead_letter_act::{self, Deed},
    },
};

/// What came of it: the letters it was done to, and those that stay as they are.
pub type Discarded = super::document::OutcomeDocument;

impl DeadLetters {
    /// Puts letters away, but none whose order has open money. They can be restored.
    ///
    /// # Errors
    /// No parked letter fits; a server is away. What was decided until then is carried out by the next reading.
    pub async fn discard(&self, selection: &Selection, actor: &str, reason: &str) -> Result<Discarded, Failed> {
        self.refresh().await?;
        let chosen = self.select(&selection.parked()).await?;
        if chosen.is_empty() {
            return Err(Refusal::NothingFits.into());
        }
        let chosen: Vec<String> = chosen.into_iter().map(|letter| letter.row.letter_id).collect();

        let mut step = self.db.begin("dead_letters.discard").await?;
        // Judged under the lock: while it was chosen, its order may have got money, or another operator have replayed it.
        let locked = store::dead_letter::lock(&mut step, &chosen, LetterState::Parked).await?;
        let (open, settled): (Vec<_>, Vec<_>) =
            self.judge(locked).await?.into_iter().partition(|letter| letter.open_fen > Fen::ZERO);
        let refused = open.into_iter().map(|letter| RefusedLetter {
            letter_id: letter.row.letter_id,
            why: format!("its order has open money ({}): replay it, or settle the order first", letter.open_fen),
            open_fen: letter.open_fen,
        });
        let refused: Vec<RefusedLetter> = refused.collect();
        let letters: Vec<String> = settled.iter().map(|letter| letter.row.letter_id.clone()).collect();
        if !letters.is_empty() {
            store::dead_letter::set_state(&mut step, &letters, LetterState::Discarded).await?;
            let deed = Deed { actor, act: "discard", reason, replay_id: None, letters: &letters, details: json!({}) };
            dead_letter_act::write(&mut step, &deed).await?;
        }
        step.commit().await?;
        self.read_again(&settled.into_iter().map(|letter| letter.row.queue).collect()).await?;
        Ok(Discarded { letters, refused })
    }

    /// Puts discarded letters back into their queues, as they were.
    ///
    /// # Errors
    /// None of them is discarded; a server is away.
    pub async fn restore(&self, letters: &[String], actor: &str, reason: &str) -> Result<Discarded, Failed> {
        // No reading may take them out while they are put back.
        let turn = self.take_turn().await?;
        let restored = self.put_back(letters, actor, reason).await;
        turn.resign().await;
        let restored = restored?;
        self.refresh().await?;
        Ok(restored)
    }

    async fn put_back(&self, letters: &[String], actor: &str, reason: &str) -> Result<Discarded, Failed> {
        let discarded =
            Filter { state: Some(LetterState::Discarded), letters: Some(letters.to_vec()), ..Filter::default() };
        let rows = store::dead_letter::list(self.db.pool(), &discarded, None, MOST).await?;
        if rows.is_empty() {
            return Err(Refusal::NothingFits.into());
        }
        let known: HashSet<&str> = rows.iter().map(|row| row.letter_id.as_str()).collect();
        let strange = letters.iter().filter(|letter| !known.contains(letter.as_str()));
        let mut refused: Vec<RefusedLetter> = strange.map(|letter| stays(letter, "it is not discarded")).collect();
        let mut back = Vec::new();
        let mut postings = Vec::new();
        for row in &rows {
            match self.posting(row) {
                // What no reading has taken out yet lies there still.
                _ if row.removed_at.is_none() => back.push(row.letter_id.clone()),
                Some(posting) => postings.push((row, posting)),
                None => refused.push(stays(&row.letter_id, "another key sealed it")),
            }
        }
        let (gone, postings): (Vec<&Row>, Vec<Posting>) = postings.into_iter().unzip();
        for (row, answer) in gone.into_iter().zip(self.broker.publisher.post(postings).await) {
            match answer {
                Ok(()) => back.push(row.letter_id.clone()),
                Err(error) => refused.push(stays(&row.letter_id, &error.to_string())),
            }
        }
        let mut step = self.db.begin("dead_letters.restore").await?;
        store::dead_letter::set_state(&mut step, &back, LetterState::Parked).await?;
        let deed = Deed { actor, act: "restore", reason, replay_id: None, letters: &back, details: json!({}) };
        dead_letter_act::write(&mut step, &deed).await?;
        step.commit().await?;
        Ok(Discarded { letters: back, refused })
    }

    /// The letter as it lay in its queue.
    fn posting(&self, row: &Row) -> Option<Posting> {
        Some(Posting {
            queue: row.queue.clone(),
            kind: row.kind.clone(),
            message_id: row.message_id.clone(),
            headers: row.headers.0.clone(),
            body: row.body(&self.personal)?,
        })
    }

    /// Writes down what is known about a cause.
    ///
    /// # Errors
    /// No letter ever had this cause; PostgreSQL is away.
    pub async fn note(&self, cause: &str, actor: &str, note: &str) -> Result<(), Failed> {
        if !dead_letter_act::is_cause(self.db.pool(), cause).await? {
            return Err(Refusal::NoSuchCause(cause.to_owned()).into());
        }
        let mut step = self.db.begin("dead_letters.note_on_cause").await?;
        dead_letter_act::write_note(&mut step, cause, actor, note).await?;
        let details = json!({ "cause": cause });
        let deed = Deed { actor, act: "note", reason: note, replay_id: None, letters: &[], details };
        dead_letter_act::write(&mut step, &deed).await?;
        Ok(step.commit().await?)
    }
}

fn stays(letter: &str, why: &str) -> RefusedLetter {
    RefusedLetter { letter_id: letter.to_owned(), why: why.to_owned(), open_fen: Fen::ZERO }
}
