//! VirtualServices of the mesh for one host: sidecars follow the oldest alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::VirtualService;
use crate::diag::{self, Code, Diagnostic};
use crate::world::{Entry, ExportTo, MESH, World, hostname};

type Rules<'w> = Vec<(&'w Arc<Entry<VirtualService>>, ExportTo)>;

pub(super) fn mesh_hosts(world: &World, said: &[Diagnostic]) -> Vec<Diagnostic> {
    let default = &world.mesh().config.default_virtual_service_export_to;
    let mut hosts: BTreeMap<String, Rules<'_>> = BTreeMap::new();
    for entry in world.virtual_services() {
        let gateways = &entry.spec.gateways;
        if !gateways.is_empty() && !gateways.iter().any(|gateway| gateway == MESH) {
            continue;
        }
        for host in &entry.spec.hosts {
            let listed = entry.spec.export_to.iter().map(String::as_str);
            let export_to = ExportTo::read(listed, default, entry.namespace());
            hosts.entry(hostname::expand(host, entry.namespace())).or_default().push((entry, export_to));
        }
    }
    let mut found = Vec::new();
    let mut say = |code: Code, entry: &Entry<VirtualService>, message: String| {
        let is_known = said.iter().any(|one| one.code == code.id && one.object.as_ref() == Some(&entry.reference));
        if is_known {
            return;
        }
        let field = "spec.hosts";
        let help = "sidecars follow the oldest VirtualService of a host; put the rules of the host into one";
        let diagnostic = Diagnostic::new(code, message).object(&entry.reference).at(entry.position(field));
        found.push(diagnostic.field(field.to_owned()).help(help));
    };
    for (host, mut all) in hosts {
        all.sort_by(|(a, _), (b, _)| a.age().cmp(&b.age()));
        for (number, (entry, export_to)) in all.iter().enumerate() {
            let meets = |other: &&(&Arc<Entry<VirtualService>>, ExportTo)| {
                other.0.reference != entry.reference && other.1.meets(export_to)
            };
            if let Some((older, _)) = all.iter().take(number).find(meets) {
                let message =
                    format!("{} has host `{host}` in the mesh already; this one has no effect there", older.reference);
                say(diag::HOST_TAKEN, entry, message);
            } else if let Some((younger, _)) = all.iter().skip(number + 1).find(meets) {
                let message = format!(
                    "{} is for host `{host}` of the mesh, too; this one is older and counts",
                    younger.reference
                );
                say(diag::HOST_CONTESTED, entry, message);
            }
        }
    }
    found
}
