//! `holdfast config check`: every setting, its source, secrets masked; and all that is wrong, at once.

use serde::Serialize;

use crate::{
    config::{Loaded, Shown},
    exit::Failure,
};

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show every setting and say everything that is wrong; exit 2 if anything is.
    Check {
        /// Also say what must not go live: simulators, examples, default passwords, unencrypted wires.
        #[arg(long)]
        production: bool,
    },
}

#[derive(Serialize)]
struct Report {
    items: Vec<Shown>,
    next: Option<String>,
    problems: Vec<String>,
}

pub fn run(Command::Check { production }: &Command, loaded: Loaded, json: bool) -> Result<(), Failure> {
    let problems = match &loaded.settings {
        Ok(settings) if *production => {
            [loaded.unfilled(), settings.problems(), settings.production_problems()].concat()
        }
        Ok(settings) => settings.problems(),
        Err(unreadable) => vec![unreadable.clone()],
    };
    let report =
        Report { items: loaded.shown, next: None, problems: problems.iter().map(ToString::to_string).collect() };
    super::print(json, &report, || {
        let rows =
            report.items.iter().map(|shown| vec![shown.setting.clone(), shown.value.clone(), shown.source.clone()]);
        super::table(&["setting", "value", "source"], rows)
    });
    if report.problems.is_empty() { Ok(()) } else { Err(Failure::Wrong(report.problems)) }
}
