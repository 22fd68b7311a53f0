//! A certificate for trying TLS on this machine: a self-signed one, valid for a month, for `localhost` and whatever else is
//! asked for. Nobody should trust it, and no file of it outlives the quickstart.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rcgen::{CertificateParams, DnType, KeyPair};

const HOUR: Duration = Duration::from_secs(3600);

/// Writes `tls.crt`, `tls.key` and `secret.yaml` (both as a Secret for a Gateway's `credentialName`) into `folder`.
pub fn write(folder: &Path, names: &[String], secret: &str) -> anyhow::Result<()> {
    let (namespace, name) = secret.split_once('/').context("the secret is named NAMESPACE/NAME")?;
    let mut params = CertificateParams::new(names.to_vec())?;
    let common_name = names.first().map_or("localhost", String::as_str);
    let now = SystemTime::now();
    params.not_before = (now - HOUR).into();
    params.not_after = (now + 30 * 24 * HOUR).into();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    let key = key.serialize_pem();
    let indent = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let yaml = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\ntype: kubernetes.io/tls\n\
         stringData:\n  tls.crt: |\n{}  tls.key: |\n{}",
        indent(&certificate),
        indent(&key)
    );
    write_private(&folder.join("tls.key"), &key)?;
    write_private(&folder.join("secret.yaml"), &yaml)?;
    let path = folder.join("tls.crt");
    std::fs::write(&path, certificate).with_context(|| format!("writing {}", path.display()))
}

/// For the owner's eyes only.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("writing {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
