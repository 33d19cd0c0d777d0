//! The matrix: which cells there are, what they printed, what is left in `target/` as evidence.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, thread,
    time::Instant,
};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    cell::{Cell, Outcome, Point, Told},
    lane, points,
    stack::checkout,
    stories::{STORIES, Story},
};

/// Stories about money coming in or going back: after the first death the fresh process dies at each point again.
const TWICE: [&str; 3] = ["booking_paid", "whole_refund", "refund_closed"];
/// Whose second deaths are played.
const TWICE_BY: [&str; 2] = ["payments", "refunds"];
/// Always among those in `./dev test`: the cells in which most could go wrong. The others are drawn by a seed.
const DANGEROUS: [(&str, &str, &str); 8] = [
    ("booking_paid", "api", "publish.after:order.submitted>orders"),
    ("booking_paid", "seats", "commit.after:seats.take_in"),
    ("booking_paid", "prepay", "wechat.after:create_order"),
    ("booking_paid", "payments", "commit.after:payments.record"),
    ("booking_paid", "notifications", "wechat.after:send_template"),
    ("whole_refund", "refunds", "wechat.after:create_refund"),
    ("refund_closed", "refunds", "commit.after:refunds.record"),
    ("callback_late_by_a_cancel", "expiry", "wechat.after:close_order"),
];
const CUT: usize = 60;

fn chosen(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |number| number.parse().expect("a number"))
}

/// Stacks side by side: more than there are cores, since their processes mostly wait.
pub(crate) fn lanes() -> usize {
    chosen("CRASH_LANES", thread::available_parallelism().map_or(4, |cores| cores.get() + 2))
}

#[test]
fn s3_3_a_process_killed_at_any_point_leaves_nothing_lost_and_nothing_twice() {
    let began = Instant::now();
    let is_whole = std::env::var_os("CRASH_WHOLE").is_some();
    // For whoever mends a red cell.
    let only = std::env::var("CRASH_STORIES").ok();
    let wanted = |story: &&Story| only.as_ref().is_none_or(|only| only.split(',').any(|name| name == story.name));
    let mut told = lane::play("undisturbed", lanes(), STORIES.iter().filter(wanted).map(Cell::undisturbed).collect());
    assert_nothing_red(&told);
    if only.is_none() {
        assert_in_every_point("no story passes", &passed(&told));
    }
    let once = cells_of(&told);
    told.extend(lane::play("once", lanes(), if is_whole { once } else { cut(once) }));
    if is_whole {
        let twice = second_deaths(&told);
        told.extend(lane::play("twice", lanes(), twice));
    }
    if is_whole && only.is_none() {
        write(&told);
    }
    summarize(&told);
    println!("{} cells in {} s", told.len(), began.elapsed().as_secs());
    assert_nothing_red(&told);
    if is_whole && only.is_none() {
        assert_in_every_point("nobody died at", &died_at(&told));
    }
}

fn assert_nothing_red(told: &[Told]) {
    let red: Vec<String> = red(told).map(|(cell, why)| format!("{cell}: {why}")).collect();
    assert!(red.is_empty(), "{} cells are red:\n{}", red.len(), red.join("\n"));
}

fn assert_in_every_point(not: &str, names: &BTreeSet<String>) {
    let missed: Vec<String> =
        points::in_the_code().into_iter().filter(|point| !points::is_among(point, names)).collect();
    assert!(missed.is_empty(), "{not} {missed:#?}");
}

fn passed(told: &[Told]) -> BTreeSet<String> {
    told.iter().flat_map(|told| &told.passed).map(|point| point.name.clone()).collect()
}

fn died_at(told: &[Told]) -> BTreeSet<String> {
    let reached = told.iter().filter(|told| told.outcome == Outcome::Green);
    reached.flat_map(|told| &told.cell.deaths).cloned().collect()
}

/// A cell for every story and every point that was passed in it.
fn cells_of(undisturbed: &[Told]) -> Vec<Cell> {
    let points = |told: &Told| told.passed.iter().cloned().collect::<BTreeSet<Point>>();
    let mut cells: Vec<Cell> = undisturbed
        .iter()
        .flat_map(|told| points(told).into_iter().map(|point| Cell::at(told.cell.story, &point)).collect::<Vec<_>>())
        .collect();
    cells.sort_by_key(ToString::to_string);
    cells
}

/// Some of them, the same in each run: the dangerous ones, then of each story one at a point that few others pass, then
/// the rarest points at which nobody has died so far.
fn cut(cells: Vec<Cell>) -> Vec<Cell> {
    let (mut cut, mut others): (Vec<Cell>, Vec<Cell>) =
        cells.into_iter().partition(|cell| DANGEROUS.contains(&(cell.story.name, cell.role, &cell.deaths[0])));
    assert_eq!(cut.len(), DANGEROUS.len(), "a dangerous point has another name now");
    let seed = chosen("CRASH_SEED", 0);
    let mut stories_with: BTreeMap<String, usize> = BTreeMap::new();
    for cell in &others {
        *stories_with.entry(cell.deaths[0].clone()).or_default() += 1;
    }
    others
        .sort_by_cached_key(|cell| (stories_with[&cell.deaths[0]], Sha256::digest(format!("{seed} {cell}")).to_vec()));
    let mut stories: BTreeSet<&str> = cut.iter().map(|cell| cell.story.name).collect();
    let mut points: BTreeSet<String> = cut.iter().map(|cell| cell.deaths[0].clone()).collect();
    for every_story in [true, false] {
        others.retain(|cell| {
            let is_new = if every_story { stories.insert(cell.story.name) } else { !points.contains(&cell.deaths[0]) };
            let is_chosen = is_new && cut.len() < CUT;
            if is_chosen {
                points.insert(cell.deaths[0].clone());
                cut.push(cell.clone());
            }
            !is_chosen
        });
    }
    cut
}

/// A second death at each point that the fresh process passed after the first.
fn second_deaths(told: &[Told]) -> Vec<Cell> {
    let of_money = told.iter().filter(|told| {
        told.outcome == Outcome::Green && TWICE.contains(&told.cell.story.name) && TWICE_BY.contains(&told.cell.role)
    });
    of_money
        .flat_map(|told| {
            let after: BTreeSet<&Point> = told.passed.iter().collect();
            after.into_iter().map(|second| told.cell.then(second)).collect::<Vec<_>>()
        })
        .collect()
}

fn red(told: &[Told]) -> impl Iterator<Item = (&Cell, &str)> {
    told.iter().filter_map(|told| match &told.outcome {
        Outcome::Red(why) => Some((&told.cell, why.as_str())),
        Outcome::Green | Outcome::NotReached => None,
    })
}

fn points_of(told: &[Told]) -> BTreeSet<(&'static str, String)> {
    told.iter().flat_map(|told| told.cell.deaths.iter().map(|death| (told.cell.role, death.clone()))).collect()
}

/// `target/crash-matrix.json`, and beside it every cell with its ending.
fn write(told: &[Told]) {
    let red: Vec<_> = red(told).map(|(cell, why)| json!({ "cell": cell.to_string(), "why": why })).collect();
    let matrix = json!({
        "points": points_of(told).len(), "scenarios": STORIES.len(), "cells": told.len(), "red": red,
    });
    let target = checkout("target");
    fs::write(target.join("crash-matrix.json"), format!("{matrix:#}\n")).expect("written");
    let mut lines: Vec<String> = told
        .iter()
        .map(|Told { cell, outcome, .. }| match outcome {
            Outcome::Green => format!("green        {cell}"),
            Outcome::Red(_) => format!("red          {cell}"),
            Outcome::NotReached => format!("not reached  {cell}"),
        })
        .collect();
    lines.sort_unstable();
    fs::write(target.join("crash-cells.txt"), lines.join("\n") + "\n").expect("written");
}

/// One row for each story: cells by who died, and how they ended.
fn summarize(told: &[Told]) {
    let roles: BTreeSet<&str> = told.iter().map(|told| told.cell.role).filter(|role| !role.is_empty()).collect();
    let mut rows: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for told in told {
        let row = rows.entry(told.cell.story.name).or_default();
        let ending = match told.outcome {
            Outcome::Green => "green",
            Outcome::Red(_) => "red",
            Outcome::NotReached => "not reached",
        };
        *row.entry(told.cell.role).or_default() += 1;
        *row.entry(ending).or_default() += 1;
    }
    let columns: Vec<&str> = roles.into_iter().chain(["green", "red", "not reached"]).collect();
    println!("| story | {} |", columns.join(" | "));
    println!("|---|{}", "--:|".repeat(columns.len()));
    for story in STORIES {
        let row = rows.remove(story.name).unwrap_or_default();
        let counts: Vec<String> =
            columns.iter().map(|column| row.get(column).map_or_else(String::new, ToString::to_string)).collect();
        println!("| {} | {} |", story.name.replace('_', " "), counts.join(" | "));
    }
}
