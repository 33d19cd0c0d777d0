//! The doors that strangers can send something through, one file per door, and the promise each keeps for any input.
//!
//! A target is a plain function: it reads the input as the door's own format and asserts what must hold, so that a
//! panic is a find. Two programs run them: libFuzzer (`./dev fuzz`), which invents inputs, and `tests/it/bad_input.rs`,
//! which sends each file of `fuzz/corpus` through on stable Rust.
//!
//! Inputs are text where the door's are, with parts set apart by an empty line. Chance finds no signature and no
//! seal, so the targets hold WeChat's keys and fill them in where an input says `SIGN` and `SEALED`.

mod answers;
mod bill;
mod decrypt;
mod envelope;
mod order_request;
mod webhook;
mod wechat_side;

/// Checks one input, and panics when a promise is broken. Tells whether the door took it: one that refuses everything
/// keeps every promise.
pub(crate) type Target = fn(&[u8]) -> bool;

pub(crate) const ALL: [(&str, Target); 6] = [
    ("answers", answers::check),
    ("bill", bill::check),
    ("decrypt", decrypt::check),
    ("envelope", envelope::check),
    ("order_request", order_request::check),
    ("webhook", webhook::check),
];

/// Stands for personal data: put where an input says `PERSON`, to be found in no error.
const OPENID: &str = "o-nobody-is-to-read-this";

/// Sends one input through. Mutation learns [`OPENID`] by seeing it compared; only `PERSON` is to put it anywhere.
pub(crate) fn run(target: Target, input: &[u8]) -> bool {
    let mut input = std::borrow::Cow::from(input);
    while holds(&input, OPENID.as_bytes()) {
        input = replaced(&input, OPENID.as_bytes(), b"").into();
    }
    target(&input)
}

fn with_person(input: &[u8]) -> Vec<u8> {
    replaced(input, b"PERSON", OPENID.as_bytes())
}

fn holds(text: &[u8], word: &[u8]) -> bool {
    // By the first byte first: libFuzzer writes down every comparison of more.
    text.windows(word.len()).any(|window| window[0] == word[0] && window == word)
}

#[track_caller]
fn assert_silent(words: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!words.contains(secret), "tells a secret: {words}");
    }
}

/// What strangers wrote and we keep: one line that PostgreSQL, its indexes, a log and a terminal can bear.
#[track_caller]
fn assert_plain<T: AsRef<str>>(texts: &[T]) {
    for text in texts.iter().map(AsRef::as_ref) {
        assert!(
            !text.contains(holdfast::domain::text::misleads) && text.chars().count() <= 128,
            "is not plain: {text:?}"
        );
    }
}

fn replaced(text: &[u8], word: &[u8], by: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        if rest[0] == word[0] && rest.starts_with(word) {
            out.extend_from_slice(by);
            rest = &rest[word.len()..];
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out
}

/// The part before the first empty line, and what follows it.
fn parts(input: &[u8]) -> (&[u8], &[u8]) {
    match input.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &[]),
    }
}

/// `name: value`, line by line; what is no such line is left out.
fn lines(head: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    head.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()?.split_once(": "))
}
