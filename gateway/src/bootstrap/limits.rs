//! Flags of what clients may cost. Who knows what to do with them: [`ListenOptions`], [`Settings`].

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::http::{Room, Settings};
use crate::listen::ListenOptions;

/// Each has a default that no honest client meets, but for the limit of one client: many may stand behind one address.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "What clients may cost")]
pub struct LimitArgs {
    /// Connections of clients at a time; further ones are closed at once.
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = at_least_one, env = "MESHGATE_MAX_CONNECTIONS")]
    pub max_connections: usize,
    /// The same of one address; with IPv6 of a network of 64 bits [default: no limit]
    #[arg(long, value_name = "N", value_parser = at_least_one, env = "MESHGATE_MAX_CONNECTIONS_PER_CLIENT")]
    pub max_connections_per_client: Option<usize>,
    /// Requests at a time; further ones are answered 503 (OM).
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = at_least_one, env = "MESHGATE_MAX_REQUESTS")]
    pub max_requests: usize,
    /// Streams of an HTTP/2 connection at a time; further ones are refused.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..), env = "MESHGATE_MAX_STREAMS")]
    pub max_streams: u32,
    /// Size of a request's head in KiB; a larger one is answered 431.
    #[arg(long, value_name = "KIB", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=8192), env = "MESHGATE_MAX_HEAD_KIB")]
    pub max_head_kib: u32,
    /// Seconds that a TLS handshake, or a PROXY header, may take.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..), env = "MESHGATE_HANDSHAKE_SECONDS")]
    pub handshake_seconds: u64,
    /// Seconds that the head of a request of HTTP/1 may take, from its first byte (408).
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..), env = "MESHGATE_HEAD_SECONDS")]
    pub head_seconds: u64,
    /// Seconds without a byte from a client that is to send its request's body (408), or to take its answer (SI).
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..), env = "MESHGATE_STALL_SECONDS")]
    pub stall_seconds: u64,
    /// Seconds that a connection without a request stays.
    #[arg(long, value_name = "N", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(1..), env = "MESHGATE_IDLE_SECONDS")]
    pub idle_seconds: u64,
}

impl LimitArgs {
    #[must_use]
    pub fn listen(&self, options: ListenOptions) -> ListenOptions {
        ListenOptions {
            max_connections: self.max_connections,
            max_connections_per_client: self.max_connections_per_client,
            handshake_timeout: Duration::from_secs(self.handshake_seconds),
            ..options
        }
    }

    #[must_use]
    pub fn http(&self, mut settings: Settings) -> Settings {
        settings.h1.head_bytes = usize::try_from(self.max_head_kib).map_or(usize::MAX, |kib| kib.saturating_mul(1024));
        Settings {
            head_timeout: Duration::from_secs(self.head_seconds),
            idle_timeout: Duration::from_secs(self.idle_seconds),
            stall_timeout: Duration::from_secs(self.stall_seconds),
            room: Arc::new(Room::of(self.max_requests)),
            h2_max_streams: self.max_streams,
            h2_max_header_list: self.max_head_kib.saturating_mul(1024),
            ..settings
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("nothing at all would be served".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err(format!("`{text}` is not a number")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        limits: LimitArgs,
    }

    fn parse(arguments: &[&str]) -> Result<LimitArgs, clap::Error> {
        Line::try_parse_from(["x"].iter().chain(arguments)).map(|line| line.limits)
    }

    #[test]
    fn defaults_are_those_of_the_rooms() {
        let limits = parse(&[]).unwrap();
        let (listen, own) = (limits.listen(ListenOptions::default()), ListenOptions::default());
        assert_eq!(
            (listen.max_connections, listen.max_connections_per_client, listen.handshake_timeout),
            (own.max_connections, own.max_connections_per_client, own.handshake_timeout)
        );
        let (http, own) = (limits.http(Settings::default()), Settings::default());
        assert_eq!((http.head_timeout, http.idle_timeout), (own.head_timeout, own.idle_timeout));
        assert_eq!((http.stall_timeout, http.h1.head_bytes), (own.stall_timeout, own.h1.head_bytes));
        assert_eq!((http.h2_max_streams, http.h2_max_header_list), (own.h2_max_streams, own.h2_max_header_list));
    }

    #[test]
    fn none_may_be_nothing() {
        for flag in ["--max-connections", "--max-requests", "--max-streams", "--max-head-kib", "--stall-seconds"] {
            assert!(parse(&[flag, "0"]).is_err(), "{flag}");
            assert!(parse(&[flag, "7"]).is_ok(), "{flag}");
        }
    }
}
