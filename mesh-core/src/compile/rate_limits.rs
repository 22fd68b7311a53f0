//! Limits become tests, by the compiler of the policies' conditions.

use std::sync::Arc;

use super::policies::Compiler;
use super::regex::Patterns;
use super::rules::header_key;
use crate::diag::Diagnostic;
use crate::model::{LimitKey, RateLimits, RequestLimit, Resources};
use crate::snapshot::{CompiledLimit, CompiledLimitKey, RateLimiter};

/// The one before, if nothing is different.
pub(super) fn limiter(
    all: &Resources<RateLimits>,
    previous: Option<&Arc<RateLimiter>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Arc<RateLimiter> {
    if let Some(previous) = previous.filter(|previous| previous.source.diff(all).next().is_none()) {
        return Arc::clone(previous);
    }
    let mut limiter = RateLimiter { source: all.clone(), ..RateLimiter::default() };
    let mut patterns = Patterns::default();
    for object in all.values() {
        let mut compiler = Compiler {
            origin: &object.origin,
            list: "limits",
            patterns: &mut patterns,
            diagnostics,
            wide: true,
            refused_holds: false,
        };
        limiter.limits.extend(object.limits.iter().map(|limit| compiled(object, limit, &mut compiler)));
    }
    Arc::new(limiter)
}

fn compiled(object: &RateLimits, limit: &RequestLimit, compiler: &mut Compiler<'_>) -> CompiledLimit {
    let (from, to, when) = compiler.parts((&limit.from, &limit.to, &limit.when), limit.index);
    CompiledLimit {
        name: format!("{}/{}", object.key, limit.name).into(),
        origin: object.origin.clone(),
        amount: limit.amount.clone(),
        silent: limit.silent,
        from,
        to,
        when,
        by: limit.amount.by.iter().map(key).collect(),
    }
}

fn key(key: &LimitKey) -> CompiledLimitKey {
    match key {
        LimitKey::ClientAddress { ipv4, ipv6 } => CompiledLimitKey::ClientAddress {
            ipv4: u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(*ipv4))).unwrap_or(0),
            ipv6: u128::MAX.checked_shl(128_u32.saturating_sub(u32::from(*ipv6))).unwrap_or(0),
        },
        LimitKey::Header(name) => CompiledLimitKey::Header(header_key(name)),
        LimitKey::Claim(names) => CompiledLimitKey::Claim(names.clone().into()),
    }
}

#[cfg(test)]
#[path = "rate_limits_tests.rs"]
mod tests;
