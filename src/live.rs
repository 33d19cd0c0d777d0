//! A value that is replaced while it is in use, as keys are.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

/// Readers take the value as it is and never wait; whoever has taken it keeps it to the end of what they do.
pub struct Live<T>(RwLock<Arc<T>>);

impl<T> Live<T> {
    pub fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn replace(&self, value: T) {
        self.replace_shared(Arc::new(value));
    }

    /// Puts another one's value in the place of this one's.
    pub fn copy(&self, other: &Self) {
        self.replace_shared(other.get());
    }

    fn replace_shared(&self, value: Arc<T>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
