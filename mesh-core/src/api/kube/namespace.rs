//! `Namespace` (v1). What matters of it are its labels, and they are part of every object.

use serde::Deserialize;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Namespace {}
