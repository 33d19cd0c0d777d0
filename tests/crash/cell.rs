//! What one cell of the matrix is, and how it ended.

use std::fmt;

use crate::stories::Story;

/// A point as one role passes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Point {
    pub role: &'static str,
    /// As `src/crash.rs` names it.
    pub name: String,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

/// A safeguard that a role is to do without.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Without {
    pub safeguard: &'static str,
    /// Only the process that comes after a crash does without: before it nothing can be noticed.
    pub after_the_crash: bool,
}

/// A story with the deaths that a role dies in it (none, one, or a second of the process that followed), or with the
/// point at which its process is paused.
#[derive(Clone)]
pub(crate) struct Cell {
    pub story: &'static Story,
    pub role: &'static str,
    pub deaths: Vec<String>,
    /// The process stops there; a twin of it handles a second copy of the same message; then the first goes on.
    pub pause: Option<String>,
    pub without: Option<Without>,
}

impl Cell {
    pub(crate) fn undisturbed(story: &'static Story) -> Self {
        Self { story, role: "", deaths: Vec::new(), pause: None, without: None }
    }

    pub(crate) fn at(story: &'static Story, point: &Point) -> Self {
        Self { role: point.role, deaths: vec![point.name.clone()], ..Self::undisturbed(story) }
    }

    pub(crate) fn with_a_twin(story: &'static Story, point: &Point) -> Self {
        Self { role: point.role, pause: Some(point.name.clone()), ..Self::undisturbed(story) }
    }

    /// Where its processes die or are paused.
    pub(crate) fn points(&self) -> impl Iterator<Item = &String> {
        self.deaths.iter().chain(&self.pause)
    }

    pub(crate) fn then(&self, second: &Point) -> Self {
        Self { deaths: vec![self.deaths[0].clone(), second.name.clone()], ..self.clone() }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = match &self.pause {
            Some(point) => format!("paused at {point}"),
            None if self.deaths.is_empty() => "undisturbed".to_owned(),
            None => self.deaths.join(", then "),
        };
        write!(f, "{}: {} {points}", self.story.name, self.role)?;
        if let Some(Without { safeguard, .. }) = self.without { write!(f, " without {safeguard}") } else { Ok(()) }
    }
}

/// How a cell ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Green,
    /// What was wrong.
    Red(String),
    /// The story went another way, and ended well: the process did not die, or was not paused.
    NotReached,
}

/// How far the twin had come when the paused process went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Twin {
    /// It had handled the second copy to its end.
    Handled,
    /// It waited for a lock of PostgreSQL that the paused process holds.
    WaitedAtALock,
    /// It waited for the paused process in another way: it passed no point any more.
    Waited,
    /// There was no second copy: the broker had taken the acknowledgement.
    HadNothing,
    /// The story ended the processes first.
    Ended,
}

impl Twin {
    pub(crate) const ALL: [(Self, &str); 5] = [
        (Self::Handled, "handled"),
        (Self::WaitedAtALock, "waited at a lock"),
        (Self::Waited, "waited otherwise"),
        (Self::HadNothing, "had nothing"),
        (Self::Ended, "ended"),
    ];
}

/// A cell with its ending.
#[derive(Clone)]
pub(crate) struct Told {
    pub cell: Cell,
    pub outcome: Outcome,
    /// What the twin did, where there was one.
    pub twin: Option<Twin>,
    /// Points passed, in order, by each role; of the role that died, those after its first death.
    pub passed: Vec<Point>,
}
