//! The ratings service: how many stars each reviewer gave. `POST /ratings/{id}` changes them in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use http::{Method, StatusCode};
use serde_json::json;

use super::product_id;
use super::server::{Answer, Call};

type Stars = BTreeMap<String, u8>;

/// Products that anybody rated; the others have the ratings of the tutorial.
#[derive(Default)]
pub struct Ratings {
    rated: Mutex<HashMap<u32, Stars>>,
}

/// So many products may be rated before the memory of the demo is full.
const MAX_RATED: usize = 1000;

impl Ratings {
    /// `GET /ratings/{id}`, `POST /ratings/{id}` with `{"Reviewer1": 3}`
    pub fn answer(&self, call: &Call) -> Answer {
        let id = match product_id(call.path(), "ratings") {
            None => return Answer::not_found(),
            Some(Err(answer)) => return answer,
            Some(Ok(id)) => id,
        };
        let Ok(mut rated) = self.rated.lock() else {
            return Answer::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": "a rating was lost" }));
        };
        if call.method == Method::POST {
            let Ok(stars) = serde_json::from_slice::<Stars>(&call.body) else {
                let error = json!({ "error": "please give JSON like {\"Reviewer1\": 3}" });
                return Answer::json(StatusCode::BAD_REQUEST, &error);
            };
            if rated.len() < MAX_RATED || rated.contains_key(&id) {
                rated.insert(id, stars);
            }
        } else if !call.is_read() {
            return Answer::method_not_allowed();
        }
        let stars = rated.get(&id).cloned().unwrap_or_else(first_ratings);
        Answer::json(StatusCode::OK, &json!({ "id": id, "ratings": stars }))
    }
}

fn first_ratings() -> Stars {
    BTreeMap::from([("Reviewer1".to_owned(), 5), ("Reviewer2".to_owned(), 4)])
}
