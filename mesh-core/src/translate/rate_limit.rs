//! RateLimits: what their limits count. A condition that cannot be understood matches nothing, so that no request is counted that may
//! not have been meant.

use super::Context;
use super::authorization::Reader;
use crate::api::{self, LimitBy, LimitScope, RateLimit};
use crate::attribute;
use crate::model::{LimitAmount, LimitKey, RateLimits, RequestLimit};
use crate::world::Entry;

impl Context<'_> {
    pub(super) fn rate_limits(&mut self, entry: &Entry<RateLimit>) -> RateLimits {
        let mesh = self.world.mesh();
        let mut reader = Reader { context: self, entry, mesh, denies: false };
        let limits = entry.spec.limits.iter().filter_map(|limit| reader.limit(limit)).collect();
        RateLimits {
            key: format!("{}/{}", entry.reference.namespace, entry.reference.name).into(),
            limits,
            origin: entry.reference.clone(),
        }
    }
}

impl Reader<'_, '_, RateLimit> {
    /// None: it was refused when the object was read.
    fn limit(&mut self, limit: &api::RequestLimit) -> Option<RequestLimit> {
        if limit.requests == 0 {
            return None;
        }
        let parts = (&*limit.from, &*limit.to, &*limit.when);
        let (from, to, when) = self.parts(parts, &format!("spec.limits[{}]", limit.index));
        let amount = LimitAmount {
            requests: limit.requests,
            per: limit.per?.get(),
            burst: limit.burst.unwrap_or(limit.requests),
            by: limit.by.iter().map(key).collect::<Option<Vec<_>>>()?,
            max_buckets: limit.max_buckets.unwrap_or(LimitAmount::USUAL_BUCKETS),
            global: limit.scope == Some(LimitScope::Global),
        };
        let index = u32::try_from(limit.index).ok()?;
        let silent = limit.headers == Some(false);
        Some(RequestLimit { index, name: limit.name.as_str().into(), from, to, when, amount, silent })
    }
}

fn key(by: &LimitBy) -> Option<LimitKey> {
    if let Some(address) = &by.client_address {
        let bits = |given: Option<u32>, usual: u8| given.map_or(Some(usual), |bits| u8::try_from(bits).ok());
        return Some(LimitKey::ClientAddress { ipv4: bits(address.ipv4, 32)?, ipv6: bits(address.ipv6, 64)? });
    }
    if let Some(header) = &by.header {
        return Some(LimitKey::Header(header.name.to_ascii_lowercase()));
    }
    attribute::claim(by.claim.as_deref()?).map(LimitKey::Claim)
}

#[cfg(test)]
#[path = "rate_limit_tests.rs"]
mod tests;
