//! `/diagnostics`: what is wrong with the configuration, in the shape of `meshgate check -o json`.

use super::Admin;
use super::page::{Answer, Ask, json};
use crate::check;

pub fn page(admin: &Admin, _: &Ask) -> Answer {
    json(&check::report(&admin.status.load().diagnostics))
}
