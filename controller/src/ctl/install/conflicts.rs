//! What others have set otherwise, found before anything is changed: all of it, for whoever decides about it must see all of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context as _;
use kube::Client;
use kube::api::DynamicObject;

use super::apply::{Clash, Clashes, Manner, Outcome, apply};
use crate::ctl::manifests::{Name, PART_OF};
use crate::ctl::trouble::said;

/// So many fields of one manager are told.
const FEW: usize = 4;

/// Definitions that somebody else made are brought to our version and stay his: without our label, `uninstall` does not take
/// them. Those that there are.
pub async fn leave_theirs(client: &Client, objects: &mut [DynamicObject]) -> anyhow::Result<Vec<Name>> {
    let mut theirs = Vec::new();
    for object in objects {
        let name = Name::of(object)?;
        if !name.is("CustomResourceDefinition") {
            continue;
        }
        let there =
            name.api(client).get_metadata_opt(&name.name).await.map_err(said).with_context(|| name.to_string())?;
        let Some(there) = there else { continue };
        let label = there.metadata.labels.as_ref().and_then(|labels| labels.get(PART_OF.0));
        if label.is_none_or(|label| label != PART_OF.1) {
            without_label(object);
            theirs.push(name);
        }
    }
    Ok(theirs)
}

fn without_label(object: &mut DynamicObject) {
    if let Some(labels) = &mut object.metadata.labels {
        labels.remove(PART_OF.0);
    }
}

/// Asks the API server what it would do with each object, and changes nothing. An error names all conflicts, or is what it says
/// of the first object that it would refuse.
pub async fn check(client: &Client, objects: &[DynamicObject]) -> anyhow::Result<()> {
    let manner = Manner { dry_run: true, force: false };
    let mut absent: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for object in objects {
        let name = Name::of(object)?;
        // In a namespace that is not there yet the API server can check nothing, and nobody has set anything.
        if name.namespace.as_ref().is_some_and(|namespace| absent.contains(namespace)) {
            continue;
        }
        match apply(client, object, manner).await {
            Ok(Outcome::Created) if name.is("Namespace") => absent.push(name.name),
            Ok(_) => {}
            Err(error) => match error.downcast::<Clashes>() {
                Ok(Clashes(clashes)) => found.push((name, clashes)),
                Err(error) => return Err(error),
            },
        }
    }
    anyhow::ensure!(found.is_empty(), "{}", told(&found));
    Ok(())
}

/// By object and manager, and what could be done.
fn told(found: &[(Name, Vec<Clash>)]) -> String {
    let mut text = "somebody else has set what is to be set; nothing was changed:\n".to_owned();
    for (name, clashes) in found {
        let mut managers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for clash in clashes {
            managers.entry(&clash.manager).or_default().push(&clash.field);
        }
        for (manager, fields) in managers {
            let few = fields.iter().take(FEW).copied().collect::<Vec<_>>().join(", ");
            let more = fields.len().saturating_sub(FEW);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let _ = writeln!(text, "    {name}: {manager} has set {few}{more}");
        }
    }
    text.push_str("--force-conflicts sets these fields and takes them over.");
    if found.iter().any(|(name, _)| name.is("CustomResourceDefinition")) {
        text.push_str(
            " Definitions then have Meshgate's schemas, which are made of Istio's fields; objects stay as they are. `uninstall` leaves \
             such definitions, as they are then, for it did not make them.",
        );
    }
    text
}

#[cfg(test)]
#[path = "conflicts_tests.rs"]
mod tests;
