//! On which ports and in which networks there are services: what must be known before any service is. It changes seldom, as services
//! share ports, and their addresses are taken from a few blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{ExportTo, Protocol, Service, Source};

/// Addresses of Kubernetes' Services are taken from blocks that are theirs, and count as a block of this size: of IPv4 and of IPv6.
const BLOCKS: (u8, u8) = (16, 64);

/// A namespace that may see the services that are counted; none: all may.
type Viewer = Option<Arc<str>>;

/// See the module. With numbers of services.
#[derive(Clone, Debug, Default)]
pub struct Extent {
    ports: BTreeMap<(Viewer, u16), usize>,
    networks: BTreeMap<(Viewer, IpNet), usize>,
    /// Hosts by address.
    hosts: BTreeMap<(IpAddr, Arc<str>), usize>,
}

impl Extent {
    /// Ports on which services that the namespace sees are called in HTTP, whatever the address.
    pub fn http_ports(&self, namespace: &str) -> BTreeSet<u16> {
        seen(&self.ports, namespace, 0)
    }

    /// Where they have addresses.
    pub fn networks(&self, namespace: &str) -> BTreeSet<IpNet> {
        seen(&self.networks, namespace, IpNet::default())
    }

    /// Hosts of services that have this address.
    pub fn hosts_at(&self, address: IpAddr) -> impl Iterator<Item = &Arc<str>> {
        let all = self.hosts.range((address, Arc::from(""))..).map(|(key, _)| key);
        all.take_while(move |(at, _)| *at == address).map(|(_, host)| host)
    }

    /// Counts these services instead of those. Whether it is another extent.
    pub(super) fn exchange(&mut self, old: &[Arc<Service>], new: &[Arc<Service>]) -> bool {
        let ports = exchange(&mut self.ports, ports(old), ports(new));
        exchange(&mut self.hosts, hosts(old), hosts(new));
        exchange(&mut self.networks, blocks(old), blocks(new)) | ports
    }
}

/// What everybody sees, and what the namespace does. `first` comes before all others.
fn seen<T: Ord + Copy>(counts: &BTreeMap<(Viewer, T), usize>, namespace: &str, first: T) -> BTreeSet<T> {
    let of = |viewer: Viewer| {
        let from = (viewer.clone(), first);
        counts.range(from..).map(|(key, _)| key).take_while(move |(at, _)| *at == viewer).map(|(_, item)| *item)
    };
    of(None).chain(of(Some(namespace.into()))).collect()
}

fn viewers(service: &Service) -> Vec<Viewer> {
    match &service.export_to {
        ExportTo::All => vec![None],
        ExportTo::Namespaces(namespaces) => namespaces.iter().cloned().map(Some).collect(),
    }
}

fn ports(services: &[Arc<Service>]) -> impl Iterator<Item = (Viewer, u16)> {
    services.iter().flat_map(|service| {
        // Where nobody says what is spoken, an address tells whom it is spoken to.
        let by_name = !service.is_headless() && service.networks().is_empty();
        let is_http = move |protocol: Protocol| protocol.is_http() || protocol == Protocol::Auto && by_name;
        let ports = service.ports.iter().filter(move |port| is_http(port.protocol)).map(|port| port.number);
        ports.flat_map(|port| viewers(service).into_iter().map(move |viewer| (viewer, port)))
    })
}

fn blocks(services: &[Arc<Service>]) -> impl Iterator<Item = (Viewer, IpNet)> {
    services.iter().flat_map(|service| {
        // A block that somebody writes is no address of a service, and may be half of the world.
        let is_kubernetes = service.sources.iter().any(|source| matches!(source, Source::Kubernetes(_)));
        let block = move |address: IpAddr| if is_kubernetes { block(address) } else { IpNet::from(address) };
        let blocks = service.addresses().map(block);
        blocks.flat_map(|block| viewers(service).into_iter().map(move |viewer| (viewer, block)))
    })
}

fn hosts(services: &[Arc<Service>]) -> impl Iterator<Item = (IpAddr, Arc<str>)> {
    services.iter().flat_map(|service| service.addresses().map(|address| (address, Arc::clone(&service.host))))
}

fn block(address: IpAddr) -> IpNet {
    let size = if address.is_ipv4() { BLOCKS.0 } else { BLOCKS.1 };
    IpNet::new(address, size).map_or(IpNet::from(address), |block| block.trunc())
}

fn exchange<T: Ord + Clone>(
    counts: &mut BTreeMap<T, usize>,
    old: impl Iterator<Item = T>,
    new: impl Iterator<Item = T>,
) -> bool {
    let (mut came, mut went) = (false, false);
    for item in new {
        let count = counts.entry(item).or_default();
        came |= *count == 0;
        *count += 1;
    }
    for item in old {
        if let Some(count) = counts.get_mut(&item) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&item);
                went = true;
            }
        }
    }
    came || went
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::api;
    use crate::world::World;

    fn service(name: &str, address: &str, port: u16) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: {address}, ports: [{{name: http, port: {port}}}]}}\n---\n"
        )
    }

    fn extent(world: &World) -> (Vec<u16>, Vec<String>) {
        let extent = world.index().registry.extent();
        let networks = extent.networks("default").iter().map(ToString::to_string).collect();
        (extent.http_ports("default").into_iter().collect(), networks)
    }

    #[test]
    fn it_grows_and_shrinks_with_the_services() {
        let objects = |text: &str| api::parse("", text, "default").objects;
        let mut world = World::from_objects(objects(&(service("a", "10.96.1.1", 80) + &service("b", "10.96.2.2", 80))));
        let alone = (vec![80], vec!["10.96.0.0/16".to_owned()]);
        assert_eq!(extent(&world), alone);
        world.apply(objects(&service("c", "10.97.0.1", 9080)));
        let both = vec!["10.96.0.0/16".to_owned(), "10.97.0.0/16".to_owned()];
        assert_eq!(extent(&world), (vec![80, 9080], both));
        let gone = objects(&service("c", "10.97.0.1", 9080)).pop().unwrap().object_ref();
        world.remove(&[gone]);
        assert_eq!(extent(&world), alone);
    }

    #[test]
    fn what_a_namespace_does_not_see_is_not_there() {
        let hidden = service("a", "10.96.1.1", 80)
            .replace("name: a", "name: a, annotations: {networking.istio.io/exportTo: other}");
        let world = World::from_objects(api::parse("", &hidden, "default").objects);
        assert_eq!(extent(&world), (vec![], vec![]));
        assert_eq!(world.index().registry.extent().http_ports("other"), [80].into());
    }

    #[test]
    fn only_ports_of_http_count_and_no_blocks_that_somebody_writes() {
        let text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec: {hosts: [a.example], addresses: [192.0.2.0/24, 'fd00::1'], ports: [{number: 1, name: a, protocol: TCP}, {number: 2, name: b, protocol: HTTP}], resolution: STATIC}\n";
        let world = World::from_objects(api::parse("", text, "default").objects);
        assert_eq!(extent(&world), (vec![2], vec!["fd00::1/128".to_owned()]));
    }
}
