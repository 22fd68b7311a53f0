//! DestinationRules that nobody can use, and what is lost where several are for one host.

use std::collections::HashMap;
use std::sync::Arc;

use super::Context;
use crate::api::DestinationRule;
use crate::diag;
use crate::model::HostPattern;
use crate::world::{Cell, Entry, hostname};

/// What is to be said about the rules of a namespace for a host as it is written, oldest first.
pub(super) fn destination_rules(context: &mut Context<'_>, namespace: &str, host: &str) {
    let index = context.world.index();
    let rules: Vec<&Arc<Entry<DestinationRule>>> = index.rules.of(namespace, host).collect();
    let means_any = match hostname::pattern(host) {
        HostPattern::Exact(host) => Cell::Host(host),
        _ => Cell::Hosts,
    };
    context.reads.note(means_any);
    let known = index.registry.any_matches(host);
    let service = index.registry.find(host, namespace, namespace);
    for entry in &rules {
        if !known {
            let message = format!("no Service or ServiceEntry is called `{host}`; the rule has no effect");
            context.findings.report_host(diag::RULE_HOST_UNKNOWN, entry, "spec.host", message, host);
        }
        if let Some(service) = service {
            context.subsets(entry, service);
        }
    }
    merged_rules(context, &rules);
}

/// Of rules that are merged, what is lost: subsets whose name is taken, and a second traffic policy.
fn merged_rules(context: &mut Context<'_>, rules: &[&Arc<Entry<DestinationRule>>]) {
    let mut subsets: HashMap<&str, &Entry<DestinationRule>> = HashMap::new();
    let mut policy: Option<&Entry<DestinationRule>> = None;
    for entry in rules {
        for subset in &entry.spec.subsets {
            if let Some(first) = subsets.get(subset.name.as_str()) {
                let message =
                    format!("subset `{}` is defined in {} already; that one counts", subset.name, first.reference);
                let field = format!("spec.subsets[{}].name", subset.index);
                context.findings.report(diag::SUBSET_DUPLICATE, entry, &field, message, None);
            } else {
                subsets.insert(&subset.name, entry);
            }
        }
        match policy {
            Some(first) if entry.spec.traffic_policy.is_some() => {
                let message = format!("{} has a traffic policy for this host; this one has no effect", first.reference);
                let help = "put everything about a host in one DestinationRule".to_owned();
                context.findings.report(diag::RULE_IGNORED, entry, "spec.trafficPolicy", message, Some(help));
            }
            None if entry.spec.traffic_policy.is_some() => policy = Some(entry),
            _ => {}
        }
    }
}
