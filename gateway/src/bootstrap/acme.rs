//! Flags of who orders certificates.

use std::path::PathBuf;

use clap::Args;
use mesh_acme::{Binding, Directory, Options, parse_directory, parse_email, parse_profile};

use crate::acme::AcmeOptions;

/// See the module.
#[derive(Clone, Debug, Args)]
pub struct AcmeArgs {
    /// E-mail address for the account at the CA (ACME)
    #[arg(long, value_name = "ADDRESS", env = "MESHGATE_ACME_EMAIL", value_parser = parse_email)]
    pub email: Option<String>,
    /// Who is asked for certificates: `letsencrypt`, `letsencrypt-staging`, or the URL of a directory. To order is to agree to the terms of the CA.
    #[arg(long, value_name = "URL", env = "MESHGATE_ACME_DIRECTORY", default_value = "letsencrypt", value_parser = parse_directory)]
    pub acme_directory: Directory,
    /// Kind of certificate, of those that the CA offers (Let's Encrypt: classic, tlsserver, shortlived) [default: the CA's choice]
    #[arg(long, value_name = "NAME", env = "MESHGATE_ACME_PROFILE", value_parser = parse_profile)]
    pub acme_profile: Option<String>,
    /// Certificates (PEM) that the directory's own may come from [default: those of the system]
    #[arg(long, value_name = "FILE", env = "MESHGATE_ACME_CA")]
    pub acme_ca: Option<PathBuf>,
    /// Where accounts and certificates are kept; several processes may share it
    /// [default: $STATE_DIRECTORY/acme, $XDG_DATA_HOME/meshgate/acme, ~/.local/share/meshgate/acme]
    #[arg(long, value_name = "DIR", env = "MESHGATE_ACME_STORAGE")]
    pub acme_storage: Option<PathBuf>,
    /// Id of the account elsewhere that the CA wants to be named (external account binding)
    #[arg(long, value_name = "ID", env = "MESHGATE_ACME_EAB_KID", requires = "acme_eab_key")]
    pub acme_eab_kid: Option<String>,
    /// File with the HMAC key of that account, base64
    #[arg(long, value_name = "FILE", env = "MESHGATE_ACME_EAB_KEY", requires = "acme_eab_kid")]
    pub acme_eab_key: Option<PathBuf>,
}

impl AcmeArgs {
    #[must_use]
    pub fn options(&self) -> AcmeOptions {
        let binding = self.acme_eab_kid.clone().zip(self.acme_eab_key.clone());
        let ca = Options {
            directory: self.acme_directory.url.clone(),
            own_directory: self.acme_directory.own,
            ca: self.acme_ca.clone(),
            email: self.email.clone(),
            profile: self.acme_profile.clone(),
            binding: binding.map(|(id, key)| Binding { id, key }),
        };
        let storage = self.acme_storage.clone();
        AcmeOptions { ca, storage: storage.unwrap_or_else(|| default_storage(|name| std::env::var(name).ok())) }
    }
}

/// systemd's, else the user's, else the machine's.
fn default_storage(env: impl Fn(&str) -> Option<String>) -> PathBuf {
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(state) = set("STATE_DIRECTORY") {
        return state.join("acme");
    }
    let home = || set("HOME").map(|home| home.join(".local/share"));
    set("XDG_DATA_HOME").or_else(home).unwrap_or_else(|| "/var/lib".into()).join("meshgate/acme")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_is_where_the_system_keeps_such_things() {
        let env = |pairs: &'static [(&str, &str)]| {
            default_storage(move |name| {
                pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(env(&[("STATE_DIRECTORY", "/var/lib/mg"), ("HOME", "/root")]), PathBuf::from("/var/lib/mg/acme"));
        assert_eq!(env(&[("HOME", "/home/a")]), PathBuf::from("/home/a/.local/share/meshgate/acme"));
        assert_eq!(env(&[("XDG_DATA_HOME", "/d"), ("HOME", "/h")]), PathBuf::from("/d/meshgate/acme"));
        assert_eq!(env(&[]), PathBuf::from("/var/lib/meshgate/acme"));
    }
}
