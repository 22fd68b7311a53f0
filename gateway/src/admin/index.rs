//! `/`: the list of pages.

use std::fmt::Write as _;

use http::StatusCode;

use super::Admin;
use super::page::{Answer, Ask, text, with_type};
use super::server::{ADMIN_PAGES, Entry};

pub fn page(_: &Admin, ask: &Ask) -> Answer {
    let browser = ask
        .headers
        .get("accept")
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"));
    if !browser {
        return text(StatusCode::OK, list(ADMIN_PAGES));
    }
    let mut rows = String::new();
    for entry in ADMIN_PAGES {
        let name = match entry.post {
            true => format!("<form method=post action=\"{0}\"><button>{0}</button></form>", entry.path),
            false => format!("<a href=\"{0}\">{0}</a>", entry.path),
        };
        let _ = writeln!(rows, "<tr><td>{name}</td><td>{}</td></tr>", entry.about);
    }
    let body = format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8><title>Meshgate</title>\n\
         <style>body{{font:15px/1.6 system-ui;margin:2rem;max-width:60rem}}td{{padding:.1rem 1rem .1rem 0}}form{{margin:0}}</style>\n\
         <h1>Meshgate {}</h1>\n<table>\n{rows}</table>\n",
        env!("CARGO_PKG_VERSION")
    );
    with_type(StatusCode::OK, "text/html; charset=utf-8", body)
}

pub fn list(pages: &[Entry]) -> String {
    let mut out = String::new();
    for entry in pages {
        let method = if entry.post { "POST " } else { "" };
        let _ = writeln!(out, "  {:<20} {}", format!("{method}{}", entry.path), entry.about);
    }
    out
}
