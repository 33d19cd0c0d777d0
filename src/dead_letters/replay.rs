//! Replays: a set of letters, frozen when it is asked for, and the acts that start, pause and cancel it.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    DeadLetters, Failed, Refusal, Selection,
    document::{ItemDocument, ReplayDocument},
    look::Judged,
};
use crate::{
    domain::{
        dead_letter::{Difference, ReplayState, Unpatchable, differences, mend, shown},
        hex::hex,
        prospect::Prospect,
    },
    store::{
        dead_letter_act::{self, Deed},
        dead_letter_replay::{self, NewReplay, Replay},
    },
};

/// How a set is to be replayed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// As the caller wrote it, for the record.
    pub asked: Value,
    /// `operator:…`
    pub actor: String,
    pub reason: String,
    /// Freeze the set and judge it; publish nothing until it is started.
    pub dry_run: bool,
    /// Letters that go first, alone.
    pub canary: i32,
    pub per_second: i32,
    /// Pauses when more than this share of what was published was parked again.
    pub stop_percent: i32,
    /// A JSON merge patch for every body.
    pub patch: Option<Value>,
}

impl Plan {
    /// A plan with the usual pace.
    pub fn new(actor: String, reason: String) -> Self {
        Self {
            asked: Value::Null,
            actor,
            reason,
            dry_run: false,
            canary: 1,
            per_second: 500,
            stop_percent: 20,
            patch: None,
        }
    }
}

/// What an operator does to a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Starts what is planned, goes on with what is paused.
    Start,
    Pause,
    Cancel,
}

impl Turn {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Pause => "pause",
            Self::Cancel => "cancel",
        }
    }

    /// From which states it leads where, and in which there is nothing left to do.
    fn table(self) -> (&'static [ReplayState], ReplayState, &'static [ReplayState]) {
        use ReplayState as S;
        match self {
            Self::Start => (&[S::Planned, S::Paused], S::Running, &[S::Running, S::Finished]),
            Self::Pause => (&[S::Running], S::Paused, &[S::Paused, S::Finished]),
            Self::Cancel => (&[S::Planned, S::Running, S::Paused], S::Cancelled, &[S::Cancelled, S::Finished]),
        }
    }
}

impl DeadLetters {
    /// Freezes a set of parked letters, judges it, and starts its replay unless it is a dry run. Whoever runs
    /// [`DeadLetters::perform`] or [`DeadLetters::look_after`] carries it out.
    ///
    /// # Errors
    /// Nothing fits; the patch does not fit a letter; a server is away.
    pub async fn plan(&self, selection: &Selection, plan: Plan) -> Result<ReplayDocument, Failed> {
        self.refresh().await?;
        let set = self.select(&selection.parked()).await?;
        if set.is_empty() {
            return Err(Refusal::NothingFits.into());
        }
        if let Some(patch) = &plan.patch {
            for letter in &set {
                self.mended(letter, patch).map_err(|why| {
                    let letter_id = letter.row.letter_id.clone();
                    Refusal::Unpatchable { letter_id, why }
                })?;
            }
        }
        let new = NewReplay {
            replay_id: Uuid::now_v7(),
            hash: hash(plan.patch.as_ref(), set.iter().map(|letter| letter.row.letter_id.as_str())),
            state: if plan.dry_run { ReplayState::Planned } else { ReplayState::Running },
            asked: plan.asked,
            patch: plan.patch,
            effects: effects(&set),
            reason: plan.reason,
            created_by: plan.actor,
            canary: plan.canary,
            per_second: plan.per_second,
            stop_percent: plan.stop_percent,
        };
        let items: Vec<(String, Prospect)> =
            set.iter().map(|letter| (letter.row.letter_id.clone(), letter.effect)).collect();
        let mut step = self.db.begin("dead_letters.plan").await?;
        dead_letter_replay::create(&mut step, &new, &items).await?;
        let act = if plan.dry_run { "plan" } else { "start" };
        let details = json!({ "hash": new.hash, "letters": items.len(), "patch": new.patch });
        let deed = Deed {
            actor: &new.created_by,
            act,
            reason: &new.reason,
            replay_id: Some(new.replay_id),
            letters: &[],
            details,
        };
        dead_letter_act::write(&mut step, &deed).await?;
        step.commit().await?;
        self.replay(new.replay_id).await
    }

    /// Starts, pauses or cancels a replay. What it has become already is answered as it is: starting a finished one
    /// changes nothing.
    ///
    /// # Errors
    /// There is no such replay; it is in a state from which this does not lead; `hash` is given and is another one;
    /// PostgreSQL is away.
    pub async fn turn(
        &self,
        id: Uuid,
        turn: Turn,
        hash: Option<&str>,
        actor: &str,
        reason: &str,
    ) -> Result<ReplayDocument, Failed> {
        let replay = self.find_replay(id).await?;
        if hash.is_some_and(|hash| hash != replay.hash) {
            return Err(Refusal::OtherSet(replay.hash).into());
        }
        let (from, to, settled) = turn.table();
        let mut step = self.db.begin("dead_letters.turn").await?;
        if dead_letter_replay::turn(&mut step, id, from, to, None).await? {
            let details = json!({ "hash": replay.hash });
            let deed = Deed { actor, act: turn.name(), reason, replay_id: Some(id), letters: &[], details };
            dead_letter_act::write(&mut step, &deed).await?;
            step.commit().await?;
        } else if !settled.contains(&replay.state) {
            return Err(Refusal::WrongState(replay.state.as_str()).into());
        }
        self.replay(id).await
    }

    /// A replay and how far it is.
    ///
    /// # Errors
    /// There is no such replay; PostgreSQL is away.
    pub async fn replay(&self, id: Uuid) -> Result<ReplayDocument, Failed> {
        let replay = self.find_replay(id).await?;
        let differences = match &replay.patch {
            Some(patch) => self.differences(id, &patch.0).await?,
            None => Vec::new(),
        };
        Ok(ReplayDocument { differences, ..replay.into() })
    }

    /// Replays, newest first.
    ///
    /// # Errors
    /// PostgreSQL is away.
    pub async fn replays(
        &self,
        after: Option<(OffsetDateTime, Uuid)>,
        limit: i64,
    ) -> Result<Vec<ReplayDocument>, Failed> {
        let replays = dead_letter_replay::list(self.db.pool(), after, limit).await?;
        Ok(replays.into_iter().map(ReplayDocument::from).collect())
    }

    /// The letters of a replay after this place, each with its result.
    ///
    /// # Errors
    /// There is no such replay; PostgreSQL is away.
    pub async fn items(&self, id: Uuid, after: i32, limit: i64) -> Result<Vec<ItemDocument>, Failed> {
        self.find_replay(id).await?;
        let items = dead_letter_replay::items(self.db.pool(), id, after, limit).await?;
        let document = |item: dead_letter_replay::Item| ItemDocument {
            place: item.place,
            letter_id: item.letter_id,
            kind: item.kind,
            message_id: item.message_id,
            order_id: item.order_id,
            effect: item.effect,
            result: item.result,
            detail: item.detail,
            published_at: item.published_at,
        };
        Ok(items.into_iter().map(document).collect())
    }

    pub(super) async fn find_replay(&self, id: Uuid) -> Result<Replay, Failed> {
        let replay = dead_letter_replay::find(self.db.pool(), id).await?;
        replay.ok_or_else(|| Refusal::NoSuchReplay(id).into())
    }

    fn mended(&self, letter: &Judged, patch: &Value) -> Result<Vec<u8>, Unpatchable> {
        let row = &letter.row;
        let body = row.body(&self.personal).ok_or_else(|| Unpatchable::Schema("another key sealed it".into()))?;
        mend(&row.kind, &body, row.message_id.as_deref(), patch)
    }

    /// What the patch changes in the first letter, openids masked.
    async fn differences(&self, id: Uuid, patch: &Value) -> Result<Vec<Difference>, Failed> {
        let Some(first) = dead_letter_replay::items(self.db.pool(), id, 0, 1).await?.pop() else {
            return Ok(Vec::new());
        };
        let row = self.find(&first.letter_id).await?;
        let body = row.body(&self.personal).unwrap_or_default();
        let mended = mend(&row.kind, &body, row.message_id.as_deref(), patch).unwrap_or_default();
        Ok(differences(&row.shown, &shown(&mended)))
    }
}

/// By effect: how many letters and orders, and the money they are about, each order's once.
fn effects(set: &[Judged]) -> Value {
    let mut effects: BTreeMap<&str, (i64, i64, i64)> = BTreeMap::new();
    let mut counted: HashSet<(&str, &str)> = HashSet::new();
    for letter in set {
        let effect = letter.effect.as_str();
        let about = letter.row.order_id.as_deref().unwrap_or(&letter.row.letter_id);
        let sums = effects.entry(effect).or_default();
        sums.0 += 1;
        if counted.insert((effect, about)) {
            sums.1 += i64::from(letter.row.order_id.is_some());
            sums.2 = sums.2.saturating_add(letter.money_fen.0);
        }
    }
    let table = effects.into_iter().map(|(effect, (letters, orders, money_fen))| {
        (effect.to_owned(), json!({ "letters": letters, "orders": orders, "money_fen": money_fen }))
    });
    Value::Object(table.collect())
}

fn hash<'a>(patch: Option<&Value>, letters: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new().chain_update(patch.map(Value::to_string).unwrap_or_default());
    for letter in letters {
        hash.update("\n");
        hash.update(letter);
    }
    hex(hash.finalize())
}

impl From<Replay> for ReplayDocument {
    fn from(replay: Replay) -> Self {
        Self {
            replay_id: replay.replay_id,
            hash: replay.hash,
            state: replay.state,
            paused_why: replay.paused_why,
            reason: replay.reason,
            created_by: replay.created_by,
            asked: replay.asked.0,
            patch: replay.patch.map(|patch| patch.0),
            effects: replay.effects.0,
            canary: replay.canary,
            per_second: replay.per_second,
            stop_percent: replay.stop_percent,
            letters: replay.letters,
            pending: replay.pending,
            published: replay.published,
            done: replay.done,
            parked_again: replay.parked_again,
            skipped: replay.skipped,
            created_at: replay.created_at,
            started_at: replay.started_at,
            finished_at: replay.finished_at,
            differences: Vec::new(),
        }
    }
}
