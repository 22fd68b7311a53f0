//! What can be in the way to the controller, and what to do about it.

use std::io;
use std::path::PathBuf;

use rustls::CertificateError;
use tonic::{Code, Status};

/// The reason, for the metric; the sentence, for the log and the admin pages; what helps.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("cannot read the token {}: {error}", path.display())]
    NoToken { path: PathBuf, error: io::Error },
    #[error("the token in {} is not one line of text", .0.display())]
    BadToken(PathBuf),
    #[error("cannot read the certificates of the controller's CA {}: {error}", path.display())]
    NoCa { path: PathBuf, error: io::Error },
    #[error("the certificates of the controller's CA {}: {why}", path.display())]
    BadCa { path: PathBuf, why: String },
    #[error("the controller's address `{0}` is not HOST:PORT")]
    BadAddress(String),
    #[error("the controller's name `{0}` is no host name")]
    BadName(String),
    #[error("cannot look up {address}: {error}")]
    Unresolved { address: String, error: io::Error },
    #[error("cannot connect to {address}: {error}")]
    Unreachable { address: String, error: io::Error },
    #[error("{0} does not answer in time")]
    Silent(String),
    #[error("the certificate that {address} shows is not of a CA in {}: {error}", ca.display())]
    UnknownCa { address: String, ca: PathBuf, error: rustls::Error },
    #[error("the certificate that {address} shows is not for `{name}`: {error}")]
    WrongName { address: String, name: String, error: rustls::Error },
    #[error("TLS with {address} fails: {error}")]
    Tls { address: String, error: io::Error },
    #[error("the controller does not take us: {0}")]
    TokenRefused(String),
    #[error("the controller cannot tell us anything now: {0}")]
    NotYet(String),
    #[error("the connection to the controller broke ({0}); what it said last stays in force")]
    Broken(String),
}

impl Trouble {
    /// Label of the metric.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Trouble::NoToken { .. } | Trouble::BadToken(_) => "no_token",
            Trouble::NoCa { .. } | Trouble::BadCa { .. } => "no_ca",
            Trouble::BadAddress(_) | Trouble::BadName(_) => "bad_address",
            Trouble::Unresolved { .. } => "unresolved",
            Trouble::Unreachable { .. } => "unreachable",
            Trouble::Silent(_) => "timeout",
            Trouble::UnknownCa { .. } => "unknown_ca",
            Trouble::WrongName { .. } => "wrong_name",
            Trouble::Tls { .. } => "tls",
            Trouble::TokenRefused(_) => "token_refused",
            Trouble::NotYet(_) => "not_yet",
            Trouble::Broken(_) => "broken",
        }
    }

    /// What to do; none: it passes by itself.
    #[must_use]
    pub fn help(&self) -> Option<&'static str> {
        Some(match self {
            Trouble::NoToken { .. } | Trouble::BadToken(_) => {
                "mount a projected service account token of audience istio-ca there, or name its file with --token"
            }
            Trouble::NoCa { .. } | Trouble::BadCa { .. } => {
                "mount the ConfigMap istio-ca-root-cert of this namespace, which the controller writes, or name the file with \
                 --controller-ca"
            }
            Trouble::BadAddress(_) => {
                "--controller takes HOST:PORT, such as meshgate-controller.meshgate-system.svc:15012"
            }
            Trouble::BadName(_) => "--controller-name takes a name that is in the controller's certificate",
            Trouble::Unresolved { .. } => "is there such a Service, and does DNS work here?",
            Trouble::Unreachable { .. } | Trouble::Silent(_) => {
                "does the controller run, is that its discovery port (15012), is a NetworkPolicy in between?"
            }
            Trouble::UnknownCa { .. } => {
                "the ConfigMap istio-ca-root-cert of this namespace holds the controller's root: does --controller-ca name it, and is that \
                 the controller that wrote it?"
            }
            Trouble::WrongName { .. } => {
                "set --controller-name to a name that is in the certificate, or give the controller this one with --san"
            }
            Trouble::Tls { .. } => "is that the discovery port (15012) of a controller?",
            Trouble::TokenRefused(_) => {
                "the token must be of this pod's own service account, of audience istio-ca, and not expired"
            }
            Trouble::NotYet(_) | Trouble::Broken(_) => return None,
        })
    }

    /// Of a handshake that failed.
    pub(super) fn of_handshake(error: io::Error, address: &str, name: &str, ca: &std::path::Path) -> Trouble {
        let address = address.to_owned();
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).cloned();
        match cause {
            Some(
                cause @ rustls::Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                ),
            ) => Trouble::UnknownCa { address, ca: ca.to_owned(), error: cause },
            Some(
                cause @ rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                ),
            ) => Trouble::WrongName { address, name: name.to_owned(), error: cause },
            _ => Trouble::Tls { address, error },
        }
    }
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Trouble {
        Trouble::Broken(format!("{error:#}"))
    }
}

impl From<Status> for Trouble {
    fn from(status: Status) -> Trouble {
        let message = match status.message() {
            "" => status.code().description(),
            message => message,
        };
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Trouble::TokenRefused(message.to_owned()),
            // Its own word. What has a cause was made here, of a connection that failed.
            Code::Unavailable if std::error::Error::source(&status).is_none() => Trouble::NotYet(message.to_owned()),
            code => Trouble::Broken(broken(&status).unwrap_or_else(|| format!("{code:?}: {message}"))),
        }
    }
}

/// Of a connection that failed: what the socket said. The layers above it say only that something did.
fn broken(status: &Status) -> Option<String> {
    let mut next = std::error::Error::source(status);
    let mut innermost = None;
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(match io.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => "it ended without a word".to_owned(),
                _ => io.to_string(),
            });
        }
        innermost = Some(error.to_string());
        next = error.source();
    }
    innermost
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_connection_that_fails_is_not_the_controllers_word() {
        let said = Status::unavailable("not everything is listed yet");
        assert_eq!(Trouble::from(said.clone()).reason(), "not_yet");
        let mut broken = said;
        broken.set_source(Arc::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        let trouble = Trouble::from(broken);
        assert_eq!(trouble.reason(), "broken");
        let said = "the connection to the controller broke (connection reset); what it said last stays in force";
        assert_eq!(trouble.to_string(), said);
    }
}
