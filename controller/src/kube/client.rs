//! The way to the API server, and what is in it.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use kube::client::{AuthError, ClientBuilder};
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use rustls::CertificateError;
use tower::BoxError;
use tower::util::MapErrLayer;

/// Which cluster is meant cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum NoCluster {
    #[error("there is no kubeconfig ({}), and this is no pod of a cluster: set KUBECONFIG or give --kubeconfig", .0.display())]
    None(PathBuf),
    /// The file that was given.
    #[error("the kubeconfig {}: {why}", file.display())]
    File { file: PathBuf, why: String },
    /// The context that was given.
    #[error("the kubeconfig has no context `{name}`; it has {}", listed(known))]
    Context { name: String, known: Vec<String> },
    #[error("the kubeconfig: {0}")]
    Kubeconfig(String),
    #[error("no client can be made of the kubeconfig: {}", root(.0))]
    Client(kube::Error),
}

/// The API server does not answer.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the API server at {server}: {why}")]
pub struct Unreachable {
    server: String,
    why: String,
}

/// A client; nothing is asked yet. Without a file: KUBECONFIG, `~/.kube/config` or what a pod has; `context` is one of the
/// file's, else its current one.
pub async fn connect(file: Option<&Path>, context: Option<&str>) -> Result<Client, NoCluster> {
    // kube's TLS takes the process default; it is set already when this is called twice.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = match (file, context) {
        (None, None) => Config::infer().await.map_err(NoCluster::from)?,
        (file, context) => chosen(file, context).await?,
    };
    client(config).map_err(NoCluster::Client)
}

/// Of a kubeconfig, whether this is a pod or not.
async fn chosen(file: Option<&Path>, context: Option<&str>) -> Result<Config, NoCluster> {
    let kubeconfig = match file {
        Some(file) => Kubeconfig::read_from(file)
            .map_err(|error| NoCluster::File { file: file.to_owned(), why: of_kubeconfig(&error) })?,
        None => Kubeconfig::read().map_err(NoCluster::from)?,
    };
    let known: Vec<String> = kubeconfig.contexts.iter().map(|context| context.name.clone()).collect();
    if let Some(name) = context.filter(|name| !known.iter().any(|known| known == name)) {
        return Err(NoCluster::Context { name: name.to_owned(), known });
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| match file {
        Some(file) => NoCluster::File { file: file.to_owned(), why: of_kubeconfig(&error) },
        None => error.into(),
    })
}

impl From<InferConfigError> for NoCluster {
    fn from(error: InferConfigError) -> NoCluster {
        // That this is no pod goes without saying.
        match error.source().and_then(|source| source.downcast_ref::<KubeconfigError>()) {
            Some(KubeconfigError::ReadConfig(cause, file)) if cause.kind() == io::ErrorKind::NotFound => {
                NoCluster::None(file.clone())
            }
            Some(error) => NoCluster::Kubeconfig(of_kubeconfig(error)),
            None => NoCluster::Kubeconfig(error.to_string()),
        }
    }
}

impl From<KubeconfigError> for NoCluster {
    fn from(error: KubeconfigError) -> NoCluster {
        match error {
            KubeconfigError::ReadConfig(cause, file) if cause.kind() == io::ErrorKind::NotFound => {
                NoCluster::None(file)
            }
            error => NoCluster::Kubeconfig(of_kubeconfig(&error)),
        }
    }
}

/// Without the path, which is said already or not of interest.
fn of_kubeconfig(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(cause, _) => cause.to_string(),
        KubeconfigError::CurrentContextNotSet => "it has no `current-context`; give --context".to_owned(),
        KubeconfigError::LoadContext(name) => format!("its context `{name}` does not exist"),
        KubeconfigError::LoadClusterOfContext(name) => format!("the cluster `{name}` of its context does not exist"),
        // A parser shows the place, too.
        error => error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Whose errors say which API server does not answer, and why.
fn client(config: Config) -> kube::Result<Client> {
    let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
    let layer = MapErrLayer::new(move |error: BoxError| -> BoxError {
        if error.is::<kube::Error>() || error.is::<AuthError>() {
            return error;
        }
        let server = server.clone();
        Unreachable { server, why: why(&*error) }.into()
    });
    Ok(ClientBuilder::try_from(config)?.with_layer(&layer).build())
}

/// What went wrong, of an error whose chain tells it in the words of several libraries.
fn why(error: &(dyn Error + 'static)) -> String {
    let mut causes = chain(error);
    if let Some(refused) = causes.find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return of_tls(refused);
    }
    let named = chain(error).any(|cause| cause.to_string() == "dns error");
    let kind = chain(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match kind {
        _ if named => format!("its name cannot be resolved ({})", root(error)),
        Some(io::ErrorKind::ConnectionRefused) => "connection refused: nothing listens there".to_owned(),
        Some(io::ErrorKind::TimedOut) => "no answer in time".to_owned(),
        _ => root(error),
    }
}

fn of_tls(error: &rustls::Error) -> String {
    match error {
        // CAs of different clusters often have the same name; then it is the signature that is wrong.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "its certificate is not from the CA that the kubeconfig names (`certificate-authority`)".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name or address".to_owned(),
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "its certificate has expired".to_owned()
        }
        rustls::Error::InvalidMessage(_) => "it does not speak TLS".to_owned(),
        error => error.to_string(),
    }
}

/// The error and its causes. What an `io::Error` holds is among them, for it does not call that its source.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

fn cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(held) => Some(held),
        None => error.source(),
    }
}

/// The innermost cause.
fn root(error: &(dyn Error + 'static)) -> String {
    chain(error).last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
