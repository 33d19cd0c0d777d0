//! A script being played: which rule strikes now, and which keys sign.

use std::collections::HashMap;

use time::{Duration, OffsetDateTime};

use super::{
    fault::Fault,
    script::{Operation, Rotation, Script},
};
use crate::{random::Seeded, settings::KeyMode};

/// The rules, and what they have struck so far.
#[derive(Debug)]
pub(crate) struct Play {
    script: Script,
    default_seed: u64,
    /// By rule.
    marks: Vec<Marks>,
    /// How often chance was asked about each subject by each rule, and for signatures: it depends on nothing else.
    asked: HashMap<(Asker, String), u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asker {
    Rule(usize),
    Signature,
}

/// What a rule remembers.
#[derive(Clone, Debug, Default)]
struct Marks {
    struck: u64,
    /// When the second began in which calls are being counted, and how many there were in it.
    second: Option<(OffsetDateTime, u64)>,
}

/// Which of WeChat's keys sign, where the script has a say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeysInForce {
    pub(crate) mode: Option<KeyMode>,
    pub(crate) rotation: Option<Rotation>,
    /// Decides where either of two keys may sign.
    pub(crate) chance: bool,
}

impl Play {
    pub(crate) fn new(default_seed: u64) -> Self {
        Self { script: Script::default(), default_seed, marks: Vec::new(), asked: HashMap::new() }
    }

    /// Puts a new script in the place of the old one.
    pub(crate) fn start(&mut self, script: Script) {
        *self = Self { marks: vec![Marks::default(); script.rules.len()], script, ..Self::new(self.default_seed) };
    }

    pub(crate) fn script(&self) -> &Script {
        &self.script
    }

    /// How often each rule has struck.
    pub(crate) fn struck(&self) -> Vec<u64> {
        self.marks.iter().map(|marks| marks.struck).collect()
    }

    /// The keys in force, without the chance that some of them leave.
    pub(crate) fn keys(&self) -> KeysInForce {
        KeysInForce { mode: self.script.key_mode, rotation: self.script.rotation, chance: false }
    }

    /// The keys in force for an answer about `subject`.
    pub(crate) fn keys_of_answer(&mut self, subject: &str) -> KeysInForce {
        let keys = self.keys();
        let chance = keys.rotation == Some(Rotation::Overlap)
            && self.numbers_of(Asker::Signature, subject).next().is_multiple_of(2);
        KeysInForce { chance, ..keys }
    }

    /// The next numbers for `asker` and `subject`.
    fn numbers_of(&mut self, asker: Asker, subject: &str) -> Seeded {
        let asked = self.asked.entry((asker, subject.to_owned())).or_default();
        *asked += 1;
        let asker = match asker {
            Asker::Rule(index) => index,
            Asker::Signature => usize::MAX,
        };
        let seed = self.script.seed.unwrap_or(self.default_seed);
        Seeded::of(seed, &[&asker.to_le_bytes(), subject.as_bytes(), &asked.to_le_bytes()])
    }

    /// What goes wrong now. Rules add up; where two say the same thing, the earlier one stands.
    pub(crate) fn draw(&mut self, operation: Operation, subject: &str, now: OffsetDateTime) -> Fault {
        let mut fault = Fault::default();
        for index in 0..self.script.rules.len() {
            if self.strikes(index, operation, subject, now) {
                self.marks[index].struck += 1;
                self.script.rules[index].add_to(&mut fault);
            }
        }
        fault
    }

    /// All conditions of a rule must hold.
    fn strikes(&mut self, index: usize, operation: Operation, subject: &str, now: OffsetDateTime) -> bool {
        let (rule, marks) = (&self.script.rules[index], &mut self.marks[index]);
        if !rule.on.covers(operation)
            || rule.order.as_deref().is_some_and(|order| order != subject)
            || rule.count.is_some_and(|count| marks.struck >= count)
            || rule.beyond_per_second.is_some_and(|most| marks.calls_of_this_second(now) <= most)
        {
            return false;
        }
        match rule.rate {
            Some(rate) => {
                f64::from((self.numbers_of(Asker::Rule(index), subject).next() % MILLION) as u32) < millions(rate)
            }
            None => true,
        }
    }
}

impl Marks {
    /// How many calls there were in this second, this one included.
    fn calls_of_this_second(&mut self, now: OffsetDateTime) -> u64 {
        let calls = match self.second {
            Some((began, calls)) if now < began + Duration::SECOND => (began, calls + 1),
            _ => (now, 1),
        };
        self.second = Some(calls);
        calls.1
    }
}

const MILLION: u64 = 1_000_000;

#[expect(clippy::float_arithmetic, reason = "a chance, not money")]
fn millions(rate: f64) -> f64 {
    rate * 1e6
}
