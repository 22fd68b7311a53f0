//! `exportTo`: which namespaces see an object.

use std::collections::BTreeSet;

use super::{Checks, names};

/// `to_nobody`: whether `~` is allowed (ServiceEntry only).
pub(super) fn check(export_to: &[String], to_nobody: bool, checks: &mut Checks<'_>) {
    let mut seen = BTreeSet::new();
    for (index, entry) in export_to.iter().enumerate() {
        let field = format_args!("spec.exportTo[{index}]").to_string();
        let namespace = if entry == "." { checks.namespace.clone() } else { entry.clone() };
        let allowed = match entry.as_str() {
            "." | "*" => true,
            "~" => to_nobody,
            name => names::is_label(name),
        };
        if !allowed {
            let nobody = if to_nobody { ", `~` (nobody)" } else { "" };
            let help = format!("allowed: `.` (this namespace), `*` (all){nobody}, or a namespace's name");
            checks.error(&field, format!("`{entry}` is not a namespace"), &help);
        } else if !seen.insert(namespace) {
            checks.error(&field, format!("`{entry}` names a namespace that is in the list already"), "");
        }
        if matches!(entry.as_str(), "*" | "~") && export_to.len() > 1 {
            checks.error(&field, format!("`{entry}` cannot be combined with other namespaces"), "");
        }
    }
}
