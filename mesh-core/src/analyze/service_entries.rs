//! ServiceEntries that say different things about one port of one host: the first one's protocol counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::api::{Protocol, ServiceEntry};
use crate::diag::{self, Diagnostic};
use crate::object::ObjectRef;
use crate::world::{Entry, ExportTo, World};

/// Where a port is written.
struct Written<'w> {
    entry: &'w Arc<Entry<ServiceEntry>>,
    /// Of the port.
    index: usize,
    protocol: Protocol,
    /// Who sees it.
    export_to: Arc<ExportTo>,
}

impl Written<'_> {
    /// Whether it says something else than `other`, and somebody sees both.
    fn contradicts(&self, other: &Written<'_>) -> bool {
        self.protocol != other.protocol
            && self.entry.reference != other.entry.reference
            && self.export_to.meets(&other.export_to)
    }
}

pub(super) fn protocols(world: &World, about: Option<&ObjectRef>) -> Vec<Diagnostic> {
    let mut ports: BTreeMap<(String, u32), Vec<Written<'_>>> = BTreeMap::new();
    let default = &world.mesh().config.default_service_export_to;
    for entry in world.objects().service_entries.values() {
        let listed = entry.spec.export_to.iter().map(String::as_str);
        let export_to = Arc::new(ExportTo::read(listed, default, &entry.reference.namespace));
        for host in &entry.spec.hosts {
            for (index, port) in entry.spec.ports.iter().enumerate() {
                let Some(protocol) = port.protocol else { continue };
                let key = (host.to_ascii_lowercase(), port.number);
                let export_to = Arc::clone(&export_to);
                ports.entry(key).or_default().push(Written { entry, index, protocol, export_to });
            }
        }
    }
    let mut found = Vec::new();
    for ((host, number), all) in &ports {
        for written in all {
            let entry = written.entry;
            let other = all.iter().find(|other| written.contradicts(other));
            let is_asked = about.is_none_or(|about| *about == entry.reference);
            let Some(other) = other.filter(|_| is_asked) else { continue };
            let message = format!(
                "{} says that port {number} of `{host}` speaks {}, this that it speaks {}",
                other.entry.reference,
                other.protocol.as_str(),
                written.protocol.as_str()
            );
            let field = format!("spec.ports[{}].protocol", written.index);
            found.push(
                Diagnostic::new(diag::PROTOCOL_CONFLICT, message)
                    .object(&entry.reference)
                    .at(entry.position(&field))
                    .field(field)
                    .help("which of them counts depends on their age and on who asks: let them agree"),
            );
        }
    }
    found
}
