//! The pages as HTML. Everything that came from elsewhere is escaped.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::productpage::Fetched;

const TITLE: &str = "The Comedy of Errors";
const DESCRIPTION: &str = "A merchant searches a foreign town for his lost son on the very day that both of his sons, twins \
     who have never met, are in it, each with a servant who is a twin as well. Everybody is taken for somebody else, a \
     chain changes hands, a door stays shut, and one of Shakespeare's earliest plays turns out to be his shortest.";

/// What one product page shows.
pub struct Product<'a> {
    pub user: Option<&'a str>,
    pub details: &'a Fetched,
    pub reviews: &'a Fetched,
    /// As the gateway said it.
    pub scheme: Option<&'a str>,
    pub request_id: Option<&'a str>,
}

pub fn product_json() -> Value {
    json!({ "id": 0, "title": TITLE, "descriptionHtml": DESCRIPTION })
}

pub fn index() -> String {
    let body = "<main class=\"narrow\"><section class=\"card\"><h1>Bookinfo</h1><p>A small bookstore made of four services, to \
                try traffic rules on.</p><p><a class=\"button\" href=\"/productpage\">Open the product page</a></p></section></main>";
    frame(body, None, "")
}

pub fn product(product: &Product<'_>) -> String {
    let mut body = format!(
        "<main><section class=\"book card\"><img class=\"cover\" src=\"/static/cover.svg\" width=\"200\" height=\"290\" \
         alt=\"Cover of {TITLE}\"><div><h1>{TITLE}</h1><p class=\"summary\">{DESCRIPTION}</p>"
    );
    body.push_str("<h2>Book Details</h2>");
    match product.details {
        Ok(details) => details_list(&mut body, details),
        Err((_, sorry)) => error(&mut body, "Error fetching product details!", sorry),
    }
    body.push_str("</div></section><section class=\"card\"><h2>Book Reviews</h2>");
    match product.reviews {
        Ok(reviews) => reviews_list(&mut body, reviews),
        Err((_, sorry)) => error(&mut body, "Error fetching product reviews!", sorry),
    }
    body.push_str("</section></main>");
    let mut foot = String::new();
    if let Some(scheme) = product.scheme {
        let _ = write!(foot, "Came over <b>{}</b>", escape(scheme));
    }
    if let Some(id) = product.request_id {
        let _ = write!(foot, " · request <code>{}</code>", escape(id));
    }
    frame(&body, Some(product.user), &foot)
}

fn details_list(out: &mut String, details: &Value) {
    let rows = [
        ("Author", "author"),
        ("Year", "year"),
        ("Type", "type"),
        ("Pages", "pages"),
        ("Publisher", "publisher"),
        ("Language", "language"),
        ("ISBN-10", "ISBN-10"),
        ("ISBN-13", "ISBN-13"),
    ];
    out.push_str("<dl>");
    for (label, field) in rows {
        if let Some(value) = details.get(field) {
            let _ = write!(out, "<div><dt>{label}</dt><dd>{}</dd></div>", escape(&text(value)));
        }
    }
    out.push_str("</dl>");
}

fn reviews_list(out: &mut String, answer: &Value) {
    out.push_str("<div class=\"reviews\">");
    for review in answer.get("reviews").and_then(Value::as_array).into_iter().flatten() {
        let field = |name| review.get(name).map(text).unwrap_or_default();
        let _ = write!(out, "<figure><blockquote>{}</blockquote>", escape(&field("text")));
        if let Some(rating) = review.get("rating") {
            stars(out, rating);
        }
        let _ = write!(out, "<figcaption>{}</figcaption></figure>", escape(&field("reviewer")));
    }
    out.push_str("</div>");
    if let Some(pod) = answer.get("podname").map(text) {
        let _ = write!(out, "<p class=\"served\">Reviews served by <code>{}</code></p>", escape(&pod));
    }
}

fn stars(out: &mut String, rating: &Value) {
    match rating.get("stars").and_then(Value::as_u64) {
        Some(count) => {
            let full = count.min(5) as usize;
            let color = if rating.get("color").and_then(Value::as_str) == Some("red") { "red" } else { "black" };
            let _ = write!(
                out,
                "<p class=\"stars {color}\" title=\"{full} of 5 stars\" data-stars=\"{full}\">{}<span>{}</span></p>",
                "★".repeat(full),
                "★".repeat(5 - full)
            );
        }
        None => {
            let why = rating.get("error").map_or_else(|| "Not rated".to_owned(), text);
            let _ = write!(out, "<p class=\"norating\">{}</p>", escape(&why));
        }
    }
}

fn error(out: &mut String, what: &str, sorry: &str) {
    let _ = write!(out, "<div class=\"error\"><b>{what}</b><br>{}</div>", escape(sorry));
}

/// `user`: none where nobody can sign in.
fn frame(body: &str, user: Option<Option<&str>>, foot: &str) -> String {
    let account = match user {
        None => String::new(),
        Some(Some(user)) => format!(
            "<span class=\"who\">Signed in as <b>{}</b></span><a class=\"button quiet\" href=\"/logout\">Sign out</a>",
            escape(user)
        ),
        Some(None) => "<form method=\"post\" action=\"/login\"><input name=\"username\" placeholder=\"User name, e.g. jason\" \
                       aria-label=\"User name\" autocomplete=\"off\" maxlength=\"64\" required><button>Sign in</button></form>"
            .to_owned(),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>Simple Bookstore App</title><link rel=\"icon\" \
         href=\"/static/icon.svg\"><link rel=\"stylesheet\" href=\"/static/bookinfo.css\"></head><body><header><a class=\"brand\" \
         href=\"/productpage\"><img src=\"/static/icon.svg\" width=\"28\" height=\"28\" alt=\"\">Bookinfo</a><div \
         class=\"account\">{account}</div></header>{body}<footer>{foot}</footer></body></html>\n"
    )
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_elsewhere_is_escaped() {
        let reviews = Ok(json!({ "podname": "<b>", "reviews": [{ "reviewer": "\"x\"", "text": "<script>" }] }));
        let details = Err((http::StatusCode::SERVICE_UNAVAILABLE, "Sorry".to_owned()));
        let html = product(&Product {
            user: Some("a&b"),
            details: &details,
            reviews: &reviews,
            scheme: None,
            request_id: None,
        });
        assert!(!html.contains("<script>") && html.contains("&lt;script&gt;") && html.contains("a&amp;b"));
        assert!(html.contains("Error fetching product details!"));
    }

    #[test]
    fn stars_have_a_number_and_a_colour() {
        let reviews =
            Ok(json!({ "reviews": [{ "reviewer": "r", "text": "t", "rating": { "stars": 4, "color": "red" } }] }));
        let details = Ok(json!({}));
        let html =
            product(&Product { user: None, details: &details, reviews: &reviews, scheme: None, request_id: None });
        assert!(html.contains("stars red") && html.contains("data-stars=\"4\"") && html.contains("★★★★<span>★</span>"));
    }
}
