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

/// A story with the deaths that a role dies in it: none, one, or a second of the process that followed.
#[derive(Clone)]
pub(crate) struct Cell {
    pub story: &'static Story,
    pub role: &'static str,
    pub deaths: Vec<String>,
    pub without: Option<Without>,
}

impl Cell {
    pub(crate) fn undisturbed(story: &'static Story) -> Self {
        Self { story, role: "", deaths: Vec::new(), without: None }
    }

    pub(crate) fn at(story: &'static Story, point: &Point) -> Self {
        Self { story, role: point.role, deaths: vec![point.name.clone()], without: None }
    }

    pub(crate) fn then(&self, second: &Point) -> Self {
        Self { deaths: vec![self.deaths[0].clone(), second.name.clone()], ..self.clone() }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = if self.deaths.is_empty() { "undisturbed".to_owned() } else { self.deaths.join(", then ") };
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
    /// The story went another way, and ended well: the process did not die.
    NotReached,
}

/// A cell with its ending.
pub(crate) struct Told {
    pub cell: Cell,
    pub outcome: Outcome,
    /// Points passed, in order, by each role; of the role that died, those after its first death.
    pub passed: Vec<Point>,
}
