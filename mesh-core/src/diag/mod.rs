//! Diagnostics: one shape for what is wrong or doubtful, shared by log, status, webhook, CLI and NACK. A leaf.

mod codes;
mod report;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use codes::*;
pub use report::{Finding, Report, Verdict, arrange, report, text, verdict};

use crate::object::{ObjectRef, Position};

/// How bad it is. An error has lost something of what the user asked for; a warning loses nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Error,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// A stable code with its usual severity. All of them are in `codes.rs`; a code is never reused for another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    /// `MESH0012`
    pub id: &'static str,
    pub severity: Severity,
    /// `DESTINATION_HOST_UNKNOWN`
    pub name: &'static str,
    /// One line: what this code means in general.
    pub title: &'static str,
}

/// One finding about a user's object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Diagnostic {
    /// `MESH0012`
    pub code: &'static str,
    pub severity: Severity,
    pub object: Option<ObjectRef>,
    /// Path inside the object, for example `spec.http[0].route[1].destination.host`; empty for the object as a whole.
    pub field: String,
    pub position: Option<Position>,
    /// What is wrong, with the offending value.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code.id,
            severity: code.severity,
            object: None,
            field: String::new(),
            position: None,
            message: message.into(),
            help: None,
        }
    }

    #[must_use]
    pub fn object(mut self, object: &ObjectRef) -> Self {
        self.object = Some(object.clone());
        self
    }

    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }

    #[must_use]
    pub fn at(mut self, position: Option<Position>) -> Self {
        self.position = position;
        self
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// `error[MESH0012] VirtualService/default/a spec.http[0]: message (file:line:column); help`
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.severity.as_str(), self.code)?;
        if let Some(object) = &self.object {
            write!(f, " {object}")?;
        }
        if !self.field.is_empty() {
            write!(f, " {}", self.field)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(position) = &self.position {
            write!(f, " ({position})")?;
        }
        if let Some(help) = &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}
