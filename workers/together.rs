//! What several messages want of PostgreSQL at the same moment, asked once.
//!
//! Messages that wait for WeChat are handled one by one, many side by side; their statements need not be. While one
//! set of questions is under way the next one gathers, so nobody waits for company: a quiet worker asks for one
//! message, a busy one for dozens in the same round trips and with the same commit.

use std::{panic::AssertUnwindSafe, slice, time::Duration};

use futures_util::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use crate::{broker::consume::Fault, store::StoreError};

/// Most questions in one set.
const SET: usize = 64;
/// A connection that is dead without a reset would answer never. Askers that give up leave this task alone with it, so
/// it has a limit of its own, below that of a handler's step.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// A question that can be put for many at once.
pub(super) trait InSets: Send + Sync + 'static {
    type Question: Send + Sync + 'static;
    type Answer: Send + 'static;

    /// One answer per question, in the same order; all or nothing.
    fn ask(&self, set: &[Self::Question]) -> impl Future<Output = Result<Vec<Self::Answer>, StoreError>> + Send;
}

/// Puts questions in sets, one set at a time.
pub(super) struct Together<Q: InSets> {
    waiting: mpsc::Sender<(Q::Question, Asker<Q::Answer>)>,
}

type Asker<A> = oneshot::Sender<Result<A, Fault>>;

impl<Q: InSets> Together<Q> {
    /// Starts the task that asks; it ends with this.
    pub(super) fn start(questions: Q) -> Self {
        let (waiting, mut arriving) = mpsc::channel(SET);
        tokio::spawn(async move {
            let mut gathered = Vec::with_capacity(SET);
            while arriving.recv_many(&mut gathered, SET).await > 0 {
                let (set, askers): (Vec<_>, Vec<_>) = gathered.drain(..).unzip();
                answer(&questions, &set, askers).await;
            }
        });
        Self { waiting }
    }

    pub(super) async fn ask(&self, question: Q::Question) -> Result<Q::Answer, Fault> {
        let (asker, answer) = oneshot::channel();
        let unanswered = || Fault::Away("the process is stopping".into());
        self.waiting.send((question, asker)).await.map_err(|_| unanswered())?;
        answer.await.unwrap_or_else(|_| Err(unanswered()))
    }
}

/// Asks for all; when that fails, for each alone, so that nobody pays for a neighbour.
async fn answer<Q: InSets>(questions: &Q, set: &[Q::Question], askers: Vec<Asker<Q::Answer>>) {
    match ask(questions, set).await {
        Ok(answers) => askers.into_iter().zip(answers).for_each(|(asker, answer)| drop(asker.send(Ok(answer)))),
        Err(Fault::Away(server)) => {
            askers.into_iter().for_each(|asker| drop(asker.send(Err(Fault::Away(server.clone())))));
        }
        Err(_) => {
            for (question, asker) in set.iter().zip(askers) {
                let alone = ask(questions, slice::from_ref(question)).await;
                drop(asker.send(alone.map(|mut answers| answers.remove(0))));
            }
        }
    }
}

async fn ask<Q: InSets>(questions: &Q, set: &[Q::Question]) -> Result<Vec<Q::Answer>, Fault> {
    let asked = AssertUnwindSafe(questions.ask(set)).catch_unwind();
    let Ok(answered) = timeout(ANSWERS_WITHIN, asked).await else {
        return Err(Fault::Away(format!("no answer within {ANSWERS_WITHIN:?}")));
    };
    match answered {
        Ok(Ok(answers)) if answers.len() == set.len() => Ok(answers),
        Ok(Ok(answers)) => Err(Fault::Bug(format!("{} answers to {} questions", answers.len(), set.len()))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Fault::Bug("asking for a set panicked".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: i32 = -1;
    const FORGOTTEN: i32 = -2;
    const DEADLY: i32 = -3;

    /// Doubles numbers; some of them spoil the set that they are in.
    struct Doubling;

    impl InSets for Doubling {
        type Question = i32;
        type Answer = i32;

        async fn ask(&self, set: &[i32]) -> Result<Vec<i32>, StoreError> {
            assert!(!set.contains(&DEADLY), "a question that panics");
            if set.contains(&REFUSED) {
                return Err(StoreError::Bug(sqlx::Error::RowNotFound));
            }
            Ok(set.iter().filter(|number| **number != FORGOTTEN).map(|number| number * 2).collect())
        }
    }

    #[tokio::test]
    async fn one_bad_question_spoils_no_neighbours_answer() {
        for bad in [REFUSED, FORGOTTEN, DEADLY] {
            let together = Together::start(Doubling);
            let (before, spoilt, after) = tokio::join!(together.ask(1), together.ask(bad), together.ask(2));
            assert_eq!((before.ok(), after.ok()), (Some(2), Some(4)), "{bad}");
            assert!(matches!(spoilt, Err(Fault::Bug(_))), "{bad}: {spoilt:?}");
            assert_eq!(together.ask(3).await.ok(), Some(6), "the next are answered");
        }
    }
}
