//! What was found out about DestinationRules, whoever they are for.

use std::collections::HashMap;
use std::sync::Arc;

use super::findings::Said;
use super::readers::{Readers, Unit};
use super::{Context, checks};

/// By namespace and host as it is written.
#[derive(Debug, Default)]
pub(super) struct RuleChecks(HashMap<(Arc<str>, Arc<str>), Vec<Said>>);

impl RuleChecks {
    /// Looks again at the rules of a namespace for a host. Whether anything else is to be said now.
    pub fn check(
        &mut self,
        context: &mut Context<'_>,
        readers: &mut Readers,
        namespace: &Arc<str>,
        host: &Arc<str>,
    ) -> bool {
        let unit = Unit::Rules(Arc::clone(namespace), Arc::clone(host));
        let key = (Arc::clone(namespace), Arc::clone(host));
        let before = self.0.remove(&key).unwrap_or_default();
        if context.world.index().rules.of(namespace, host).next().is_none() {
            readers.forget(&unit);
            return !before.is_empty();
        }
        checks::destination_rules(context, namespace, host);
        readers.set(&unit, std::mem::take(&mut context.reads));
        let findings = context.findings.take();
        let changed = before != findings;
        self.0.insert(key, findings);
        changed
    }

    pub fn findings(&self) -> impl Iterator<Item = &Said> {
        self.0.values().flatten()
    }
}
