//! `meshctl inject`: objects of files with the sidecars that the webhook would add. Documents without pods, and pods that stay
//! as they are, come out as they went in.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::exit::{self, Failure};
use crate::inject::{Decision, Outcome, Settings, inject_object};

#[derive(Clone, Debug, Args)]
pub struct InjectArgs {
    /// Files with objects in YAML or JSON; `-` is standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE", required = true, action = clap::ArgAction::Append)]
    files: Vec<PathBuf>,
    /// Of objects that do not say theirs.
    #[arg(short, long, value_name = "NS", default_value = "default")]
    namespace: String,
    /// Image of the sidecars [default: that of an installation without `--set`]
    #[arg(long, value_name = "IMAGE")]
    sidecar_image: Option<String>,
    /// Whether the sidecar is an init container that stays, for Kubernetes 1.29 or later; otherwise it is a container.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true",
        require_equals = true, action = clap::ArgAction::Set)]
    native_sidecar: bool,
}

pub fn run(args: &InjectArgs) -> anyhow::Result<u8> {
    let settings = Settings { image: args.sidecar_image.clone(), native: args.native_sidecar, ..Settings::default() };
    let mut written = Written::default();
    for file in &args.files {
        let text = read(file).map_err(|error| Failure::BadData(format!("{}: {error}", file.display())))?;
        written
            .add(&text, &args.namespace, &settings)
            .map_err(|error| Failure::BadData(format!("{}: {error}", file.display())))?;
    }
    written.notes.iter().for_each(|note| eprintln!("meshctl: {note}"));
    super::print(&written.text)?;
    Ok(exit::OK)
}

fn read(file: &Path) -> std::io::Result<String> {
    if file.as_os_str() != "-" {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).map(|_| text)
}

/// What comes out.
#[derive(Debug, Default)]
struct Written {
    text: String,
    /// Why pods stay as they are, and what was asked for in vain.
    notes: Vec<String>,
}

impl Written {
    fn add(&mut self, text: &str, namespace: &str, settings: &Settings) -> anyhow::Result<()> {
        for document in documents(text) {
            let mut object: Value = serde_saphyr::from_str(&document)?;
            if object.is_null() {
                continue;
            }
            let outcomes = inject_object(&mut object, namespace, settings)?;
            let changed = outcomes.iter().any(|outcome| outcome.decision == Decision::Inject);
            outcomes.iter().for_each(|outcome| self.note(outcome));
            let text = if changed { serde_saphyr::to_string(&object)? } else { document };
            let _ = write!(self.text, "---\n{}\n", text.trim_end());
        }
        Ok(())
    }

    fn note(&mut self, outcome: &Outcome) {
        if let Decision::Leave(reason) = &outcome.decision {
            self.notes.push(format!("{} stays as it is: {reason}", outcome.object));
        }
        self.notes.extend(outcome.warnings.iter().map(|warning| format!("{}: {warning}", outcome.object)));
    }
}

/// Each as it is written, without the line that begins it: no scalar can have such a line.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        let begins = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t']));
        match begins {
            Some(rest) if rest.trim().is_empty() => documents.push(String::new()),
            Some(rest) => documents.push(format!("{}\n", rest.trim())),
            None => documents.iter_mut().last().into_iter().for_each(|last| {
                last.push_str(line);
                last.push('\n');
            }),
        }
    }
    documents.retain(|document| !document.trim().is_empty());
    documents
}

#[cfg(test)]
#[path = "inject_tests.rs"]
mod tests;
