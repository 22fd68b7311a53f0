//! What is counted, in Istio's words.

use prometheus::{Histogram, HistogramOpts, IntCounter};

use crate::observe::Observe;

#[derive(Clone, Debug)]
pub struct DnsMetrics {
    pub requests: IntCounter,
    pub upstream_requests: IntCounter,
    pub upstream_failures: IntCounter,
    pub upstream_seconds: Histogram,
}

impl DnsMetrics {
    pub fn new() -> prometheus::Result<DnsMetrics> {
        let seconds = HistogramOpts::new(
            "istio_agent_dns_upstream_request_duration_seconds",
            "Time until the resolvers of the pod answer.",
        );
        Ok(DnsMetrics {
            requests: IntCounter::new("istio_agent_dns_requests_total", "Queries for names.")?,
            upstream_requests: IntCounter::new(
                "istio_agent_dns_upstream_requests_total",
                "Queries that were passed on to the resolvers of the pod.",
            )?,
            upstream_failures: IntCounter::new(
                "istio_agent_dns_upstream_failures_total",
                "Queries that no resolver of the pod answered.",
            )?,
            upstream_seconds: Histogram::with_opts(seconds.buckets(vec![0.001, 0.005, 0.01, 0.1, 1.0, 5.0]))?,
        })
    }

    pub fn register(&self, observe: &Observe) -> prometheus::Result<()> {
        observe.register(self.requests.clone())?;
        observe.register(self.upstream_requests.clone())?;
        observe.register(self.upstream_failures.clone())?;
        observe.register(self.upstream_seconds.clone())
    }
}
