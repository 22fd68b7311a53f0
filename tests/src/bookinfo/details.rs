//! The details service: facts about the book.

use http::StatusCode;
use serde_json::json;

use super::product_id;
use super::server::{Answer, Call};

/// `GET /details/{id}`
pub fn answer(call: &Call) -> Answer {
    if !call.is_read() {
        return Answer::method_not_allowed();
    }
    match product_id(call.path(), "details") {
        None => Answer::not_found(),
        Some(Err(answer)) => answer,
        Some(Ok(id)) => Answer::json(
            StatusCode::OK,
            &json!({
                "id": id,
                "author": "William Shakespeare",
                "year": 1595,
                "type": "paperback",
                "pages": 200,
                "publisher": "PublisherA",
                "language": "English",
                "ISBN-10": "1234567890",
                "ISBN-13": "123-1234567890",
            }),
        ),
    }
}
