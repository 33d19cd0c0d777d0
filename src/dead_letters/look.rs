//! Looking: lists, groups by cause and by business effect, and one letter with everything that is known about it.

use std::collections::{BTreeMap, HashMap, HashSet};

use time::OffsetDateTime;

use super::{
    DeadLetters, Failed, Refusal, Selection,
    document::{ActDocument, GroupDocument, LetterDetail, LetterDocument, LetterReplay, NoteDocument},
};
use crate::{
    domain::{
        dead_letter::{LetterState, pattern},
        ids::OrderId,
        message::Message,
        money::Fen,
        prospect::Prospect,
    },
    store::{
        self,
        dead_letter::{Cursor, Row},
        dead_letter_act::{Act, Note},
        dead_letter_replay,
    },
};

/// Most letters that are dealt with at once: what a dead-letter queue can hold of one reading, several times.
pub(super) const MOST: i64 = 200_000;
const ORDERS_SHOWN: usize = 20;

/// What letters are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    Cause,
    /// What would come of them.
    Effect,
}

/// A letter with what the books say of it.
pub(super) struct Judged {
    pub(super) row: Row,
    pub(super) effect: Prospect,
    pub(super) money_fen: Fen,
    pub(super) open_fen: Fen,
    pub(super) next_deadline: Option<OffsetDateTime>,
}

impl DeadLetters {
    /// A page of letters, newest first.
    ///
    /// # Errors
    /// A server is away.
    pub async fn list(
        &self,
        selection: &Selection,
        after: Option<&Cursor>,
        limit: i64,
    ) -> Result<Vec<LetterDocument>, Failed> {
        self.refresh().await?;
        // An effect is not stored but judged: then all that fit otherwise are.
        let most = if selection.effect.is_some() { MOST } else { limit };
        let rows = store::dead_letter::list(self.db.pool(), &selection.filter, after, most).await?;
        let judged = self.judge(rows).await?;
        let fits = |letter: &Judged| selection.effect.is_none_or(|effect| letter.effect == effect);
        let page = judged.into_iter().filter(fits).take(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(page.map(LetterDocument::from).collect())
    }

    /// All letters that fit, oldest first: the order in which they are replayed.
    pub(super) async fn select(&self, selection: &Selection) -> Result<Vec<Judged>, Failed> {
        let mut rows = store::dead_letter::list(self.db.pool(), &selection.filter, None, MOST + 1).await?;
        if i64::try_from(rows.len()).is_ok_and(|count| count > MOST) {
            return Err(Refusal::TooMany(MOST).into());
        }
        rows.reverse();
        let mut judged = self.judge(rows).await?;
        judged.retain(|letter| selection.effect.is_none_or(|effect| letter.effect == effect));
        Ok(judged)
    }

    /// Groups, those with the most open money first, then the largest.
    ///
    /// # Errors
    /// A server is away.
    pub async fn groups(&self, selection: &Selection, by: By) -> Result<Vec<GroupDocument>, Failed> {
        self.refresh().await?;
        let mut groups: BTreeMap<String, Vec<Judged>> = BTreeMap::new();
        for letter in self.select(selection).await? {
            let group = match by {
                By::Cause => letter.row.cause.clone(),
                By::Effect => letter.effect.as_str().to_owned(),
            };
            groups.entry(group).or_default().push(letter);
        }
        let causes: Vec<String> = groups.values().flatten().map(|letter| letter.row.cause.clone()).collect();
        let causes: Vec<String> = causes.into_iter().collect::<HashSet<_>>().into_iter().collect();
        let notes = store::dead_letter_act::notes(self.db.pool(), &causes).await?;
        let mut groups: Vec<GroupDocument> =
            groups.into_iter().filter_map(|(name, letters)| group(name, &letters, &notes)).collect();
        groups.sort_by_key(|group| (-group.open_fen.0, -group.letters, group.group.clone()));
        Ok(groups)
    }

    /// Everything about one letter.
    ///
    /// # Errors
    /// There is no such letter; a server is away.
    pub async fn show(&self, id: &str) -> Result<LetterDetail, Failed> {
        self.refresh().await?;
        let row = self.find(id).await?;
        let unreadable = read(&row).err();
        let (headers, body) = (row.headers.0.clone(), row.shown.clone());
        let order_id = row.order_id.clone().and_then(|id| OrderId::try_from(id).ok());
        let order = match &order_id {
            Some(id) => store::order::snapshot(self.db.pool(), id).await?.map(|snapshot| snapshot.document),
            None => None,
        };
        let notes = store::dead_letter_act::notes(self.db.pool(), std::slice::from_ref(&row.cause)).await?;
        let replays = dead_letter_replay::of_letter(self.db.pool(), id).await?;
        let acts = store::dead_letter_act::acts(self.db.pool(), Some(id), None, 100).await?;
        let letter = self.judge(vec![row]).await?.pop().ok_or_else(|| Refusal::NoSuchLetter(id.to_owned()))?;
        Ok(LetterDetail {
            letter: letter.into(),
            headers,
            body,
            unreadable,
            order,
            replays: replays
                .into_iter()
                .map(|(replay_id, result, detail, published_at)| LetterReplay {
                    replay_id,
                    result,
                    detail,
                    published_at,
                })
                .collect(),
            acts: acts.into_iter().map(ActDocument::from).collect(),
            notes: notes.into_iter().map(NoteDocument::from).collect(),
        })
    }

    pub(super) async fn find(&self, id: &str) -> Result<Row, Failed> {
        let row = store::dead_letter::find(self.db.pool(), id).await?;
        row.ok_or_else(|| Refusal::NoSuchLetter(id.to_owned()).into())
    }

    /// What operators did, newest first, before this act.
    ///
    /// # Errors
    /// PostgreSQL is away.
    pub async fn acts(&self, before: Option<i64>, limit: i64) -> Result<Vec<(i64, ActDocument)>, Failed> {
        let acts = store::dead_letter_act::acts(self.db.pool(), None, before, limit).await?;
        Ok(acts.into_iter().map(|act| (act.act_id, act.into())).collect())
    }

    /// Asks the books about all of them at one moment.
    pub(super) async fn judge(&self, rows: Vec<Row>) -> Result<Vec<Judged>, Failed> {
        let messages: Vec<Option<Message>> = rows.iter().map(|row| read(row).ok()).collect();
        let readable: Vec<Message> = messages.iter().flatten().cloned().collect();
        // Of an unreadable one at least the order can be looked up.
        let order_ids: Vec<OrderId> =
            rows.iter().filter_map(|row| OrderId::try_from(row.order_id.clone()?).ok()).collect();
        let books = store::prospect::books(&self.db, &self.merchant, &readable, &order_ids).await?;
        let judged = rows.into_iter().zip(messages).map(|(row, message)| {
            let order = row.order_id.clone().and_then(|id| OrderId::try_from(id).ok());
            let order = order.and_then(|id| books.orders.get(&id));
            let (effect, open_fen) = match &message {
                Some(message) => (books.judge(message), books.open_fen(message)),
                None => (Prospect::WouldParkAgain, order.map_or(Fen::ZERO, |order| order.open_fen())),
            };
            let said = message.as_ref().and_then(Message::money_fen).unwrap_or(Fen::ZERO);
            Judged {
                row,
                effect,
                money_fen: order.map_or(said, |order| order.amount_fen),
                open_fen,
                next_deadline: order.and_then(|order| order.next_deadline),
            }
        });
        Ok(judged.collect())
    }
}

/// The message, with masked openids; its words when it is none.
pub(super) fn read(row: &Row) -> Result<Message, String> {
    Message::read(&row.kind, row.shown.as_bytes()).map_err(|unreadable| unreadable.to_string())
}

fn group(name: String, letters: &[Judged], notes: &[Note]) -> Option<GroupDocument> {
    let (oldest, newest) = (letters.first()?, letters.last()?);
    let mut effects = BTreeMap::new();
    // Each order's money counts once; a letter without one counts for itself.
    let mut money: HashMap<&str, (i64, i64)> = HashMap::new();
    let mut order_ids: Vec<OrderId> = Vec::new();
    let mut causes = HashSet::new();
    for letter in letters {
        *effects.entry(letter.effect.as_str()).or_insert(0) += 1;
        causes.insert(letter.row.cause.as_str());
        let about = letter.row.order_id.as_deref().unwrap_or(&letter.row.letter_id);
        let known = money.entry(about).or_insert_with(|| {
            order_ids.extend(letter.row.order_id.clone().and_then(|id| OrderId::try_from(id).ok()));
            (0, 0)
        });
        *known = (known.0.max(letter.money_fen.0), known.1.max(letter.open_fen.0));
    }
    let orders = i64::try_from(order_ids.len()).unwrap_or(i64::MAX);
    order_ids.truncate(ORDERS_SHOWN);
    let sum = |part: fn(&(i64, i64)) -> i64| Fen(money.values().map(part).fold(0, i64::saturating_add));
    Some(GroupDocument {
        group: name,
        queue: newest.row.queue.clone(),
        kind: newest.row.kind.clone(),
        error_class: newest.row.error_class.clone(),
        pattern: pattern(&newest.row.error),
        letters: i64::try_from(letters.len()).unwrap_or(i64::MAX),
        orders,
        order_ids,
        money_fen: sum(|(money, _)| *money),
        open_fen: sum(|(_, open)| *open),
        next_deadline: letters.iter().filter_map(|letter| letter.next_deadline).min(),
        oldest: oldest.row.failed_at,
        newest: newest.row.failed_at,
        effects,
        notes: notes
            .iter()
            .filter(|note| causes.contains(note.cause.as_str()))
            .cloned()
            .map(NoteDocument::from)
            .collect(),
    })
}

impl From<Judged> for LetterDocument {
    fn from(letter: Judged) -> Self {
        let Judged { row, effect, money_fen, open_fen, next_deadline } = letter;
        Self {
            letter_id: row.letter_id,
            state: row.state,
            queue: row.queue,
            work_queue: row.work_queue,
            kind: row.kind,
            message_id: row.message_id,
            order_id: row.order_id,
            error_class: row.error_class,
            error: row.error,
            cause: row.cause,
            worker: row.worker,
            attempt: row.attempt,
            failed_at: row.failed_at,
            replay_id: row.replay_id,
            effect,
            money_fen,
            open_fen,
            next_deadline,
        }
    }
}

impl From<Act> for ActDocument {
    fn from(act: Act) -> Self {
        let Act { at, actor, act, reason, replay_id, letters, details, .. } = act;
        Self { at, actor, act, reason, replay_id, letters, details: details.0 }
    }
}

impl From<Note> for NoteDocument {
    fn from(note: Note) -> Self {
        Self { author: note.author, note: note.note, written_at: note.written_at }
    }
}

impl Selection {
    /// Only what lies in the queues: what can be replayed or discarded.
    pub(super) fn parked(&self) -> Self {
        let mut parked = self.clone();
        parked.filter.state = Some(LetterState::Parked);
        parked
    }
}
