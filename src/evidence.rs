//! Counts the good answers of one kind, so that it can be seen later whether one came meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A counter that is shared by all who note and all who look.
#[derive(Debug, Clone, Default)]
pub struct Evidence(Arc<AtomicU64>);

impl Evidence {
    /// Counts one good answer.
    pub fn note(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Marks this moment.
    pub fn mark(&self) -> Mark {
        Mark { evidence: self.clone(), seen: self.0.load(Ordering::Relaxed) }
    }
}

/// A moment in a counter's life.
#[derive(Debug, Clone)]
pub struct Mark {
    evidence: Evidence,
    seen: u64,
}

impl Mark {
    /// Whether a good answer came since.
    pub fn is_passed(&self) -> bool {
        self.evidence.0.load(Ordering::Relaxed) > self.seen
    }
}
