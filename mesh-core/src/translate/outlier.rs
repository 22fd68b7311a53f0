//! `outlierDetection`: when an endpoint is left out, with the defaults of Istio and Envoy.

use std::time::Duration;

use crate::api::{self, OutlierDetection};
use crate::model;

/// Failures in a row that eject, where the rule says nothing.
const CONSECUTIVE: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);
const BASE_EJECTION: Duration = Duration::from_secs(30);
const MAX_EJECTION_PERCENT: u32 = 10;

pub(super) fn outlier(rule: &OutlierDetection) -> model::OutlierDetection {
    let split = rule.split_external_local_origin_errors.unwrap_or(false);
    let duration = |given: Option<api::Duration>, otherwise: Duration| {
        given.map(|given| given.get()).filter(|given| !given.is_zero()).unwrap_or(otherwise)
    };
    let percent = |given: Option<i32>| given.and_then(|given| u32::try_from(given).ok()).filter(|given| *given > 0);
    model::OutlierDetection {
        consecutive_5xx: rule.consecutive_5xx_errors.unwrap_or(CONSECUTIVE),
        // Only where it is asked for.
        consecutive_gateway: rule.consecutive_gateway_errors.unwrap_or(0),
        consecutive_local: rule
            .consecutive_local_origin_failures
            .filter(|given| *given > 0)
            .unwrap_or(CONSECUTIVE)
            .saturating_mul(u32::from(split)),
        split,
        errors: rule.outlier_detection_http_error_codes.iter().filter_map(|code| u16::try_from(*code).ok()).collect(),
        interval: duration(rule.interval, INTERVAL),
        base_ejection: duration(rule.base_ejection_time, BASE_EJECTION),
        max_ejection_percent: percent(rule.max_ejection_percent).unwrap_or(MAX_EJECTION_PERCENT),
        min_health_percent: percent(rule.min_health_percent).unwrap_or(0),
    }
}
