//! The process runner: a real `meshgate` that reads the objects from files.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use mesh_core::testing::Case;
use serde_json::Value;

use super::backends::Backends;
use super::front::{AccessLog, Front, finding};
use super::verdict::{self, Finding};
use super::{Outcome, config};
use crate::ports;
use crate::process::{self, Meshgate};

/// So long after a change its effect may be waited for.
const LIVE_DEADLINE: Duration = Duration::from_secs(10);

pub async fn run(case: &Case) -> anyhow::Result<Outcome> {
    let mut running = Running::start(case).await?;
    let mut outcome = Outcome::default();
    if let Some(expected) = &case.diagnostics {
        verdict::check_findings(expected, &running.findings(case)?, &mut outcome);
    }
    let mut changed = false;
    for (index, step) in case.steps.iter().enumerate() {
        if let Some(text) = &step.apply {
            running.files.write(text, &running.backends.addresses)?;
            changed = true;
        }
        for name in &step.delete {
            running.files.remove(name)?;
            changed = true;
        }
        if let Some(request) = &step.request {
            let at = format!("steps[{index}]");
            let expect = step.expect.clone().unwrap_or_default();
            let end = Instant::now() + LIVE_DEADLINE;
            let verdict = loop {
                let mut verdict = Outcome::default();
                running.front().ask(&at, request, &expect, &mut verdict).await?;
                // The gateway says nothing when a file is live; that its effect shows is what is waited for.
                if verdict.failures.is_empty() || !changed || Instant::now() > end {
                    break verdict;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            changed = false;
            outcome.add(verdict);
        }
    }
    if !outcome.failures.is_empty() {
        outcome.failures.push(format!("--- log of meshgate:\n{}", running.meshgate.log()));
    }
    Ok(outcome)
}

struct Running {
    meshgate: Meshgate,
    backends: Backends,
    files: Files,
    log: AccessLog,
}

/// The configuration folder: one file per object, so that one can be replaced.
struct Files {
    folder: tempfile::TempDir,
    /// Where the listeners are.
    ip: IpAddr,
    written: u32,
}

impl Running {
    async fn start(case: &Case) -> anyhow::Result<Running> {
        let backends = Backends::start(case, || Ok(ports::loopback())).await?;
        let mut files = Files { folder: tempfile::tempdir()?, ip: ports::loopback(), written: 0 };
        for service in config::services(case, &backends.addresses) {
            files.write(&service.to_string(), &backends.addresses)?;
        }
        files.write(&case.config, &backends.addresses)?;
        let log = AccessLog::new(files.folder.path().join("access.log"));
        let labels = config::labels(&case.proxy);
        let config = files.config();
        let mut arguments = [
            "-f",
            &config.to_string_lossy(),
            "--workers",
            "1",
            "--drain-seconds",
            "1",
            "--namespace",
            &case.proxy.namespace,
            "--labels",
            &labels,
        ]
        .map(str::to_owned)
        .to_vec();
        if !case.proxy.locality.is_empty() {
            arguments.extend(["--locality".to_owned(), case.proxy.locality.clone()]);
        }
        arguments.extend(log.arguments());
        let meshgate = tokio::task::spawn_blocking(move || Meshgate::start(arguments)).await??;
        Ok(Running { meshgate, backends, files, log })
    }

    fn front(&self) -> Front<'_> {
        Front { meshgate: &self.meshgate, ip: self.files.ip, log: &self.log, backends: &self.backends }
    }

    /// What `meshgate check` says of the configuration as it is written in the case.
    fn findings(&self, case: &Case) -> anyhow::Result<Vec<Finding>> {
        let folder = tempfile::tempdir()?;
        let addresses = &self.backends.addresses;
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        for (index, service) in config::services(case, addresses).iter().enumerate() {
            write(&format!("service-{index}.yaml"), &service.to_string())?;
        }
        write("config.yaml", &config::fill(&case.config, addresses)?)?;
        let path = folder.path().to_string_lossy().into_owned();
        let labels = config::labels(&case.proxy);
        let arguments = ["check", "-f", &path, "-o", "json", "--namespace", &case.proxy.namespace, "--labels", &labels];
        let output = process::run_to_end(arguments)?;
        let report: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("`meshgate check -o json`: {}", String::from_utf8_lossy(&output.stderr)))?;
        let list = report.get("diagnostics").and_then(Value::as_array).context("no `diagnostics`")?;
        Ok(list.iter().map(finding).collect())
    }
}

impl Files {
    fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// Objects in files of their own, bound to this runner's address; text that is no YAML stays as it is.
    fn write(&mut self, text: &str, addresses: &config::Addresses) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.config())?;
        let text = config::fill(text, addresses)?;
        let Some(documents) = config::documents(&text) else {
            self.written += 1;
            return self.replace(&format!("text-{}.yaml", self.written), &text);
        };
        for mut document in documents {
            config::bind(&mut document, self.ip);
            let name = config::name_of(&document).map(|name| name.replace('/', "_"));
            self.written += 1;
            let name = name.unwrap_or_else(|| format!("unnamed-{}", self.written));
            self.replace(&format!("{name}.yaml"), &document.to_string())?;
        }
        Ok(())
    }

    /// Never half a file: beside it, then over it.
    fn replace(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let beside = self.folder.path().join("next");
        std::fs::write(&beside, text)?;
        Ok(std::fs::rename(beside, self.config().join(name))?)
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        let path = self.config().join(format!("{}.yaml", name.replace('/', "_")));
        std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }
}
