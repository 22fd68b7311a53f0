//! Response flags: Envoy's short words for why an answer is what it is. A set of bits, so that setting one costs nothing.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// Set of response flags. Printed as `URX,UF`, or `-` when empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResponseFlags(u32);

macro_rules! flags {
    ($($name:ident = $bit:literal, $text:literal;)*) => {
        impl ResponseFlags {
            $(#[doc = $text] pub const $name: ResponseFlags = ResponseFlags(1 << $bit);)*
        }
        /// In the order in which they are printed: causes of the gateway's own doing first.
        const NAMES: &[(ResponseFlags, &str)] = &[$((ResponseFlags::$name, stringify!($name))),*];
    };
}

flags! {
    URX = 0, "Retries are used up, or none was allowed.";
    NR = 1, "No route (404).";
    NC = 2, "The cluster of the route does not exist (503).";
    UH = 3, "No healthy upstream (503).";
    UF = 4, "The upstream connection could not be made (503).";
    UT = 5, "Upstream request timeout (504).";
    UC = 6, "The upstream closed the connection (503).";
    UR = 7, "The upstream reset the stream (503).";
    UPE = 8, "Upstream protocol error (502).";
    DC = 9, "The client went away.";
    DPE = 10, "Protocol error of the client.";
    DI = 12, "The request was delayed on purpose.";
    FI = 13, "The request was aborted on purpose.";
    UO = 14, "Overflow: the destination has no room for another request, or for another try (503).";
    DT = 15, "The connection is as old as it may become.";
    SI = 16, "The client kept its request waiting for too long (408).";
    OM = 17, "Overload: this process has no room for another request (503).";
    RL = 18, "A rate limit has no room for the request (429).";
    DF = 19, "The host of the request has no address (503).";
    UAEX = 11, "An external authorizer did not let it through (403).";
}

impl ResponseFlags {
    pub const NONE: ResponseFlags = ResponseFlags(0);

    pub fn insert(&mut self, other: ResponseFlags) {
        self.0 |= other.0;
    }

    #[must_use]
    pub fn contains(self, other: ResponseFlags) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl BitOr for ResponseFlags {
    type Output = ResponseFlags;
    fn bitor(self, other: ResponseFlags) -> ResponseFlags {
        ResponseFlags(self.0 | other.0)
    }
}

impl BitOrAssign for ResponseFlags {
    fn bitor_assign(&mut self, other: ResponseFlags) {
        self.insert(other);
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let mut separator = "";
        for (flag, name) in NAMES {
            if self.contains(*flag) {
                f.write_str(separator)?;
                f.write_str(name)?;
                separator = ",";
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ResponseFlags;

    #[test]
    fn printed_as_envoy_does() {
        assert_eq!(ResponseFlags::NONE.to_string(), "-");
        assert_eq!((ResponseFlags::UF | ResponseFlags::URX).to_string(), "URX,UF");
        assert_eq!(ResponseFlags::DPE.to_string(), "DPE");
        let mut flags = ResponseFlags::default();
        flags |= ResponseFlags::UC;
        assert!(flags.contains(ResponseFlags::UC) && !flags.contains(ResponseFlags::UH));
    }
}
