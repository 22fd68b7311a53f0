//! When an endpoint that fails is left out for a while.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::is_default;

/// Failures in a row are counted for each endpoint; a threshold of zero never ejects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// Answers with [`Self::errors`], and where [`Self::split`] is off also connections that failed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub consecutive_5xx: u32,
    /// Of those, 502, 503 and 504.
    #[serde(default, skip_serializing_if = "is_default")]
    pub consecutive_gateway: u32,
    /// Connections that failed, where [`Self::split`] is on.
    #[serde(default, skip_serializing_if = "is_default")]
    pub consecutive_local: u32,
    /// What this proxy saw fail is counted apart from what the endpoint answered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub split: bool,
    /// Statuses that are errors; empty: 500 to 599.
    #[serde(default, skip_serializing_if = "is_default")]
    pub errors: Vec<u16>,
    /// How often is looked after those that may come back.
    pub interval: Duration,
    /// How long an ejection lasts, times the number of ejections.
    pub base_ejection: Duration,
    /// An endpoint is ejected only if no more than this share of them are out then.
    pub max_ejection_percent: u32,
    /// If fewer than this share of the endpoints are left, all of them get requests, ejected or not. Zero: never.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_health_percent: u32,
}
