//! `/problems` and `/problems/{slug}`: the page behind each problem's `type`.

use std::fmt::Write as _;

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    language::Language,
    page::{answer, escape},
    problem::Kind,
};

pub(super) async fn all(headers: HeaderMap) -> Response {
    let mut rows = String::new();
    for kind in Kind::ALL {
        row(&mut rows, *kind);
    }
    html(&headers, "Problems", &rows)
}

pub(super) async fn one(Path(slug): Path<String>, headers: HeaderMap) -> Response {
    let Some(kind) = Kind::from_slug(&slug) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let mut rows = String::new();
    row(&mut rows, kind);
    html(&headers, kind.title(), &rows)
}

fn row(rows: &mut String, kind: Kind) {
    let (slug, status, title) = (kind.slug(), kind.status(), escape(kind.title()));
    let (en, zh) = (escape(kind.words(Language::English)), escape(kind.words(Language::Chinese)));
    write!(
        rows,
        "<section id=\"{slug}\"><h2><a href=\"/problems/{slug}\">{slug}</a> <small>{status}</small></h2>\
         <p>{title}.</p><p lang=\"zh-CN\">{zh}</p><p lang=\"en\">{en}</p></section>"
    )
    .expect("a string takes everything");
}

fn html(headers: &HeaderMap, title: &str, rows: &str) -> Response {
    let title = escape(title);
    let page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/assets/docs/docs.css\"></head><body><main><h1>{title}</h1>{rows}\
         <p><a href=\"/problems\">All problems</a> · <a href=\"/docs\">Documentation</a></p></main></body></html>"
    );
    answer(headers, "text/html; charset=utf-8", page.into_bytes())
}
