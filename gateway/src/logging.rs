//! The gateway's own log: to stderr, with a filter that can be changed while it runs. Not the access log.

use std::sync::Arc;

use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Registry, fmt, reload};

/// The filter of the process.
#[derive(Clone)]
pub struct Logging {
    handle: Arc<reload::Handle<EnvFilter, Registry>>,
}

#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("`{0}` is not a log level or filter: {1}")]
    Filter(String, ParseError),
    #[error("`{0}` is not a log level (off, error, warn, info, debug, trace); for a module write `{0}=debug`")]
    Level(String),
    #[error("the filter cannot be changed: {0}")]
    Reload(#[from] reload::Error),
    #[error("logging is set up already: {0}")]
    Twice(#[from] TryInitError),
}

impl Logging {
    /// Takes over the process's logging, that of libraries included.
    pub fn start(filter: &str) -> Result<Logging, LoggingError> {
        let (layer, handle) = reload::Layer::new(parse(filter)?);
        let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).with_target(true);
        tracing_subscriber::registry().with(layer).with(lines).try_init()?;
        Ok(Logging { handle: Arc::new(handle) })
    }

    /// Whether it is one.
    pub fn check(filter: &str) -> Result<(), LoggingError> {
        parse(filter).map(drop)
    }

    pub fn set(&self, filter: &str) -> Result<(), LoggingError> {
        Ok(self.handle.reload(parse(filter)?)?)
    }

    #[must_use]
    pub fn current(&self) -> String {
        self.handle.with_current(ToString::to_string).unwrap_or_default()
    }
}

/// `warning` and `critical` are Envoy's words. A lone word that is no level would be taken for a module, and everything else
/// would fall silent: a misspelled level is refused.
fn parse(filter: &str) -> Result<EnvFilter, LoggingError> {
    let words = match filter {
        "warning" => "warn",
        "critical" => "error",
        other => other,
    };
    let lone =
        |word: &&str| !word.is_empty() && !word.contains(['=', '[', ':']) && word.parse::<LevelFilter>().is_err();
    if let Some(word) = words.split(',').map(str::trim).find(lone) {
        return Err(LoggingError::Level(word.to_owned()));
    }
    EnvFilter::builder().parse(words).map_err(|error| LoggingError::Filter(filter.to_owned(), error))
}
