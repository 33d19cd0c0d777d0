//! How a command ends: the exit codes that scripts rely on.

use std::{fmt, process::ExitCode};

use crate::{setting::BadSetting, store::StoreError};

/// Why a command did not end well.
#[derive(Debug)]
pub enum Failure {
    /// 1: the answer is "no" (nothing found, something differs).
    No(String),
    /// 2: wrong use or configuration; all that is wrong, at once.
    Wrong(Vec<String>),
    /// 3: a server that it needs is away.
    Away(String),
}

impl Failure {
    pub fn wrong(what: impl Into<String>) -> Self {
        Self::Wrong(vec![what.into()])
    }

    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::No(_) => 1,
            Self::Wrong(_) => 2,
            Self::Away(_) => 3,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No(what) | Self::Away(what) => f.write_str(what),
            Self::Wrong(problems) => f.write_str(&problems.join("\n")),
        }
    }
}

impl From<Vec<BadSetting>> for Failure {
    fn from(problems: Vec<BadSetting>) -> Self {
        Self::Wrong(problems.iter().map(ToString::to_string).collect())
    }
}

impl From<BadSetting> for Failure {
    fn from(problem: BadSetting) -> Self {
        Self::wrong(problem.to_string())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        if error.lacks_right() {
            return Self::wrong(format!(
                "{error}; `holdfast migrate`, run as the owner, gives each account its rights"
            ));
        }
        match error {
            StoreError::Away(_) | StoreError::Conflict(_) | StoreError::Newer(_) => Self::Away(error.to_string()),
            StoreError::Bug(_) => Self::wrong(format!("{error}; is the schema at head? (`holdfast migrate`)")),
        }
    }
}

impl From<crate::broker::BrokerAway> for Failure {
    fn from(away: crate::broker::BrokerAway) -> Self {
        Self::Away(away.to_string())
    }
}
