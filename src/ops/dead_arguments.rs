//! `holdfast dead …`: which letters, who acts, and why.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    dead_letters::Selection,
    domain::{dead_letter::LetterState, prospect::Prospect},
    exit::Failure,
    store::dead_letter::Filter,
};

#[derive(clap::Args)]
pub struct TurnArguments {
    replay_id: Uuid,
    /// Why; kept for ever.
    #[arg(long, value_parser = super::note)]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
}

impl TurnArguments {
    pub(super) fn parts(&self) -> (Uuid, &str, String) {
        (self.replay_id, self.reason.as_deref().unwrap_or_default(), self.who.actor())
    }
}

/// Who acts, for the record.
#[derive(clap::Args)]
pub struct Who {
    /// Your name, for the record.
    #[arg(long, env = "USER", default_value = "cli", value_parser = super::operator)]
    operator: String,
}

impl Who {
    pub(super) fn actor(&self) -> String {
        format!("operator:{}", self.operator)
    }
}

/// Which letters.
#[derive(clap::Args)]
pub struct FilterArguments {
    /// `prepay`, `prepay.dead` or `orders.3`.
    #[arg(long, value_parser = super::line)]
    queue: Option<String>,
    /// `x-error-class`.
    #[arg(long = "error-class", visible_alias = "class", value_parser = super::line)]
    error_class: Option<String>,
    /// Such as `order.held`.
    #[arg(long, visible_alias = "type", value_parser = super::line)]
    kind: Option<String>,
    #[arg(long = "order", value_parser = super::line)]
    order_id: Option<String>,
    /// As groups are named.
    #[arg(long, value_parser = super::line)]
    cause: Option<String>,
    /// What would come of it now, such as `would_confirm`.
    #[arg(long, value_parser = effect)]
    effect: Option<Prospect>,
    /// Somewhere in the error, the body or the message's id.
    #[arg(long, value_parser = super::line)]
    text: Option<String>,
    /// Failed at least so long ago: 90s, 15m, 2h, 3d.
    #[arg(long, value_parser = age)]
    older_than: Option<Duration>,
    /// Failed at most so long ago.
    #[arg(long, value_parser = age)]
    newer_than: Option<Duration>,
    /// `parked`, `replayed`, `discarded` or `gone`.
    #[arg(long, default_value = "parked", value_parser = state)]
    state: LetterState,
}

impl FilterArguments {
    pub(super) fn selection(&self) -> Selection {
        let before = |age: Option<Duration>| {
            age.map(|age| OffsetDateTime::now_utc().saturating_sub(age.try_into().unwrap_or(time::Duration::MAX)))
        };
        Selection {
            filter: Filter {
                state: Some(self.state),
                queue: self.queue.clone(),
                error_class: self.error_class.clone(),
                kind: self.kind.clone(),
                order_id: self.order_id.clone(),
                cause: self.cause.clone(),
                text: self.text.clone(),
                since: before(self.newer_than),
                until: before(self.older_than),
                letters: None,
            },
            effect: self.effect,
        }
    }

    fn chooses(&self) -> bool {
        let texts = [&self.queue, &self.error_class, &self.kind, &self.order_id, &self.cause, &self.text];
        texts.iter().any(|text| text.is_some())
            || self.effect.is_some()
            || self.older_than.is_some()
            || self.newer_than.is_some()
    }
}

/// Which letters something is done to: by name, by a filter, or all.
#[derive(clap::Args)]
pub struct ChosenArguments {
    /// Letters by name.
    #[arg(conflicts_with = "all", value_parser = super::letter)]
    letters: Vec<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// Everything that is parked.
    #[arg(long)]
    all: bool,
}

impl ChosenArguments {
    pub(super) fn selection(&self) -> Result<Selection, Failure> {
        let mut selection = self.filter.selection();
        match (self.letters.is_empty(), self.all || self.filter.chooses()) {
            (false, false) => selection.filter.letters = Some(self.letters.clone()),
            (true, true) => {}
            (false, true) => return Err(Failure::wrong("letters by name, or a filter: not both")),
            (true, false) => return Err(Failure::wrong("which letters? By name, by a filter, or --all")),
        }
        Ok(selection)
    }

    /// For the record.
    pub(super) fn asked(&self) -> serde_json::Value {
        let FilterArguments { queue, error_class, kind, order_id, cause, text, .. } = &self.filter;
        json!({ "letters": self.letters.len(), "queue": queue, "error_class": error_class, "kind": kind,
                "order_id": order_id, "cause": cause, "text": text, "all": self.all })
    }
}

fn effect(text: &str) -> Result<Prospect, String> {
    Prospect::parse(text).ok_or_else(|| {
        let known: Vec<&str> = Prospect::ALL.iter().map(|effect| effect.as_str()).collect();
        format!("one of {}", known.join(", "))
    })
}

fn state(text: &str) -> Result<LetterState, String> {
    let found = LetterState::ALL.into_iter().find(|state| state.as_str() == text);
    found.ok_or_else(|| "parked, replayed, discarded or gone".to_owned())
}

fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "a number and s, m, h or d, such as 15m".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    // Beyond what a calendar holds nothing can have failed.
    number.checked_mul(seconds).filter(|age| *age < 100 * 366 * 86_400).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_a_unit() {
        assert_eq!(age("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(age("2d"), Ok(Duration::from_secs(172_800)));
        for wrong in ["", "m", "15", "-1s", "1w", "99999999999999999d", "é"] {
            assert!(age(wrong).is_err(), "{wrong:?}");
        }
    }
}
