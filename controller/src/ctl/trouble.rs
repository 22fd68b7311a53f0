//! What went wrong, for people: once, and in a line. Errors of libraries tell their causes themselves, and a chain of them tells
//! each again.

use anyhow::anyhow;
use http::StatusCode;
use kube::client::UpgradeConnectionError;

use crate::kube::Unreachable;

/// What the API server says, or why it says nothing.
pub fn said(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) if status.code == 401 => unauthorized(),
        // The client's own word for what is no answer of an API server: a page of something in between, mostly. An API server itself
        // says so that it has no kind of a group.
        kube::Error::Api(status) if status.reason == "Failed to parse error data" && status.code != 404 => {
            anyhow!("what answers ({}) is no API server; is the address in the kubeconfig right?", status.code)
        }
        kube::Error::Api(status) => {
            let lines: Vec<&str> = status.message.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            anyhow!("the API server: {}", lines.join("; "))
        }
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => match status {
            StatusCode::UNAUTHORIZED => unauthorized(),
            StatusCode::FORBIDDEN => {
                anyhow!("the API server: {status}: it takes the right `create` on `pods/portforward`")
            }
            _ => anyhow!("the API server: {status}"),
        },
        kube::Error::Service(error) => match error.downcast::<Unreachable>() {
            Ok(unreachable) => anyhow::Error::new(*unreachable),
            Err(error) => anyhow!(error).context("cannot ask the API server"),
        },
        error => anyhow::Error::new(error).context("cannot ask the API server"),
    }
}

fn unauthorized() -> anyhow::Error {
    anyhow!(
        "the API server does not accept the credentials of the kubeconfig (401 Unauthorized); they may have expired"
    )
}

/// The error and its causes, each only if the one before does not end with it.
#[must_use]
pub fn in_full(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
#[path = "trouble_tests.rs"]
mod tests;
