//! The way to the API server.

use std::path::Path;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

/// A client; nothing is asked yet. Without a file: KUBECONFIG, `~/.kube/config` or what a pod has; `context` is one of the
/// file's, else its current one.
pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> anyhow::Result<Client> {
    // kube's TLS takes the process default; it is set already when this is called twice.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = match kubeconfig {
        Some(file) => {
            let kubeconfig = Kubeconfig::read_from(file).with_context(|| file.display().to_string())?;
            Config::from_custom_kubeconfig(kubeconfig, &options).await?
        }
        None if context.is_some() => Config::from_kubeconfig(&options).await?,
        // It tells its causes itself; a chain would tell them again.
        None => Config::infer().await.map_err(|error| anyhow::anyhow!("no cluster; give --kubeconfig: {error}"))?,
    };
    Ok(Client::try_from(config)?)
}
