//! What a proxy and its lender say. Numbers of limits are parts of [`Part::WHOLE`](crate::model::Part::WHOLE), so that proxies that have an
//! amount of before can be lent shares, too.

/// Of a proxy.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QuotaReport {
    /// Larger than before on this stream.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(message, repeated, tag = "2")]
    pub limits: Vec<LimitReport>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LimitReport {
    /// `namespace/name/limit`
    #[prost(string, tag = "1")]
    pub name: String,
    /// Requests in a thousand seconds.
    #[prost(uint64, tag = "2")]
    pub demand: u64,
    /// What is held; nothing: it was never lent anything.
    #[prost(uint32, tag = "3")]
    pub share: u32,
    #[prost(uint32, tag = "4")]
    pub rest: u32,
    /// For how long still, milliseconds.
    #[prost(uint64, tag = "5")]
    pub left: u64,
    /// The report that was answered with it; 0: one of an earlier stream.
    #[prost(uint64, tag = "6")]
    pub granted: u64,
    /// What was given back of a bucket, since the last report.
    #[prost(uint32, tag = "7")]
    pub returned: u32,
}

/// The answer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct QuotaGrant {
    /// Of the report.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    #[prost(message, repeated, tag = "2")]
    pub limits: Vec<LimitGrant>,
    /// When to report again, milliseconds.
    #[prost(uint64, tag = "3")]
    pub next: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LimitGrant {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub share: u32,
    /// What is left of it when it has run out.
    #[prost(uint32, tag = "3")]
    pub rest: u32,
    /// From when the report was sent, milliseconds.
    #[prost(uint64, tag = "4")]
    pub lasts: u64,
    /// How much of a bucket is there at once; the rest of a share that grew comes with the time.
    #[prost(uint32, tag = "5")]
    pub filled: u32,
}
