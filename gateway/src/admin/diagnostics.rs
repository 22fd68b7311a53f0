//! `/diagnostics`: what is wrong with the configuration, in the shape of `meshgate check -o json`.

use mesh_core::diag;

use super::Admin;
use super::page::{Answer, Ask, json};

pub fn page(admin: &Admin, _: &Ask) -> Answer {
    json(&diag::report(&admin.status.load().diagnostics))
}
