//! The matrix: which cells there are, what they printed, what is left in `target/` as evidence. The cells in which a
//! twin works beside a paused process are chosen in `twin_matrix.rs` and played together with the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::LazyLock,
    thread,
    time::Instant,
};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::{
    cell::{Cell, Outcome, Point, Told, Twin},
    lane, points,
    stack::checkout,
    stories::{STORIES, Story},
    twin_matrix,
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

/// Whether all cells of a matrix are to be played: `crash` or `twins`.
pub(crate) fn is_whole(matrix: &str) -> bool {
    std::env::var_os(format!("{}_WHOLE", matrix.to_uppercase())).is_some()
}

/// The stories that are to be played alone, for the mending of a red cell.
pub(crate) fn some_stories() -> Option<String> {
    std::env::var("CRASH_STORIES").ok()
}

/// What is played once for all tests of this program: the stories undisturbed, then the cells of one matrix, or a cut
/// of both.
pub(crate) static PLAYED: LazyLock<Vec<Told>> = LazyLock::new(|| {
    let began = Instant::now();
    let only = some_stories();
    let wanted = |story: &&Story| only.as_ref().is_none_or(|only| only.split(',').any(|name| name == story.name));
    let mut told = lane::play("undisturbed", lanes(), STORIES.iter().filter(wanted).map(Cell::undisturbed).collect());
    assert_nothing_red(&told);
    if only.is_none() {
        assert_in_every_point("no story passes", &passed(&told));
    }
    let (deaths, pauses) = (cells_of(&told, Cell::at), cells_of(&told, Cell::with_a_twin));
    let cells = match (is_whole("crash"), is_whole("twins")) {
        (true, _) => deaths,
        (false, true) => pauses,
        (false, false) => [cut(deaths, &DANGEROUS, CUT), twin_matrix::cut_of(pauses)].concat(),
    };
    told.extend(lane::play("once", lanes(), cells));
    if is_whole("crash") {
        let twice = second_deaths(&told);
        told.extend(lane::play("twice", lanes(), twice));
    }
    println!("{} cells in {} s", told.len(), began.elapsed().as_secs());
    told
});

#[test]
fn s3_3_a_process_killed_at_any_point_leaves_nothing_lost_and_nothing_twice() {
    let told: Vec<Told> = PLAYED.iter().filter(|told| told.cell.pause.is_none()).cloned().collect();
    let is_all = is_whole("crash") && some_stories().is_none();
    if is_all {
        write("crash", &told);
    }
    summarize(&told);
    assert_nothing_red(&told);
    if is_all {
        assert_in_every_point("nobody died at", &reached(&told));
    }
}

pub(crate) fn assert_nothing_red(told: &[Told]) {
    let red: Vec<String> = red(told).map(|(cell, why)| format!("{cell}: {why}")).collect();
    assert!(red.is_empty(), "{} cells are red:\n{}", red.len(), red.join("\n"));
}

pub(crate) fn assert_in_every_point(not: &str, names: &BTreeSet<String>) {
    let missed: Vec<String> =
        points::in_the_code().into_iter().filter(|point| !points::is_among(point, names)).collect();
    assert!(missed.is_empty(), "{not} {missed:#?}");
}

fn passed(told: &[Told]) -> BTreeSet<String> {
    told.iter().flat_map(|told| &told.passed).map(|point| point.name.clone()).collect()
}

/// The points at which processes died, or were paused, in cells that ended well.
pub(crate) fn reached(told: &[Told]) -> BTreeSet<String> {
    let reached = told.iter().filter(|told| told.outcome == Outcome::Green);
    reached.flat_map(|told| told.cell.points()).cloned().collect()
}

/// A cell for every story and every point that was passed in it.
fn cells_of(undisturbed: &[Told], cell: fn(&'static Story, &Point) -> Cell) -> Vec<Cell> {
    let points = |told: &Told| told.passed.iter().cloned().collect::<BTreeSet<Point>>();
    let mut cells: Vec<Cell> = undisturbed
        .iter()
        .flat_map(|told| points(told).into_iter().map(|point| cell(told.cell.story, &point)).collect::<Vec<_>>())
        .collect();
    cells.sort_by_key(ToString::to_string);
    cells
}

/// So many of them, the same in each run: the dangerous ones, then of each story one at a point that few others pass,
/// then the rarest points that no cell has so far.
pub(crate) fn cut(cells: Vec<Cell>, dangerous: &[(&str, &str, &str)], size: usize) -> Vec<Cell> {
    let point = |cell: &Cell| cell.points().next().expect("a point").clone();
    let (mut cut, mut others): (Vec<Cell>, Vec<Cell>) =
        cells.into_iter().partition(|cell| dangerous.contains(&(cell.story.name, cell.role, &point(cell))));
    let is_complete = some_stories().is_some() || cut.len() == dangerous.len();
    assert!(is_complete, "a dangerous point has another name now");
    let seed = chosen("CRASH_SEED", 0);
    let mut stories_with: BTreeMap<String, usize> = BTreeMap::new();
    for cell in &others {
        *stories_with.entry(point(cell)).or_default() += 1;
    }
    others.sort_by_cached_key(|cell| (stories_with[&point(cell)], Sha256::digest(format!("{seed} {cell}")).to_vec()));
    let mut stories: BTreeSet<&str> = cut.iter().map(|cell| cell.story.name).collect();
    let mut points: BTreeSet<String> = cut.iter().map(point).collect();
    for every_story in [true, false] {
        others.retain(|cell| {
            let is_new = if every_story { stories.insert(cell.story.name) } else { !points.contains(&point(cell)) };
            let is_chosen = is_new && cut.len() < size;
            if is_chosen {
                points.insert(point(cell));
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
    told.iter().flat_map(|told| told.cell.points().map(|point| (told.cell.role, point.clone()))).collect()
}

/// `target/crash-matrix.json` or `target/twin-matrix.json`, and beside it every cell with its ending.
pub(crate) fn write(name: &str, told: &[Told]) {
    let red: Vec<_> = red(told).map(|(cell, why)| json!({ "cell": cell.to_string(), "why": why })).collect();
    let mut matrix = json!({
        "points": points_of(told).len(), "scenarios": STORIES.len(), "cells": told.len(), "red": red,
    });
    for (twin, did) in Twin::ALL {
        let count = told.iter().filter(|told| told.twin == Some(twin)).count();
        if count > 0 {
            matrix["twins"][did] = json!(count);
        }
    }
    let target = checkout("target");
    fs::write(target.join(format!("{name}-matrix.json")), format!("{matrix:#}\n")).expect("written");
    let mut lines: Vec<String> = told
        .iter()
        .map(|told| {
            let twin = told.twin.map_or_else(String::new, |twin| format!(", the twin {}", did(twin)));
            format!("{:12} {}{twin}", ending(&told.outcome), told.cell)
        })
        .collect();
    lines.sort_unstable();
    fs::write(target.join(format!("{name}-cells.txt")), lines.join("\n") + "\n").expect("written");
}

fn ending(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Green => "green",
        Outcome::Red(_) => "red",
        Outcome::NotReached => "not reached",
    }
}

fn did(twin: Twin) -> &'static str {
    Twin::ALL.iter().find(|(one, _)| *one == twin).map_or("", |(_, did)| *did)
}

/// One row for each story: cells by the role that died or was paused, and how they ended.
pub(crate) fn summarize(told: &[Told]) {
    let roles: BTreeSet<&str> = told.iter().map(|told| told.cell.role).filter(|role| !role.is_empty()).collect();
    let twins = Twin::ALL.iter().filter(|(twin, _)| told.iter().any(|told| told.twin == Some(*twin)));
    let mut rows: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for told in told {
        let row = rows.entry(told.cell.story.name).or_default();
        for column in [Some(told.cell.role), Some(ending(&told.outcome)), told.twin.map(did)].into_iter().flatten() {
            *row.entry(column).or_default() += 1;
        }
    }
    let columns: Vec<&str> =
        roles.into_iter().chain(["green", "red", "not reached"]).chain(twins.map(|(_, did)| *did)).collect();
    println!("| story | {} |", columns.join(" | "));
    println!("|---|{}", "--:|".repeat(columns.len()));
    for story in STORIES {
        let row = rows.remove(story.name).unwrap_or_default();
        let counts: Vec<String> =
            columns.iter().map(|column| row.get(column).map_or_else(String::new, ToString::to_string)).collect();
        println!("| {} | {} |", story.name.replace('_', " "), counts.join(" | "));
    }
}
