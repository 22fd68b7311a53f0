use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::api::{ApiObject, parse};
use crate::world::World;

/// `age`: none is of a file.
fn entry(namespace: &str, name: &str, age: Option<u32>, spec: &str) -> ApiObject {
    let created = age.map(|age| format!(", creationTimestamp: '2026-01-01T00:00:{age:02}Z'")).unwrap_or_default();
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: {namespace}{created}}}\nspec: {{{spec}}}\n"
    );
    parse("", &text, "default").objects.remove(0)
}

fn dns(host: &str) -> String {
    format!("hosts: ['{host}'], resolution: DNS, ports: [{{number: 5432, name: tcp, protocol: TCP}}]")
}

fn addresses(world: &World, host: &str, namespace: &str) -> Option<Vec<String>> {
    let index = world.index();
    let found = index.automatic.of(index.registry.of_namespace(host, namespace)?)?;
    Some(found.iter().map(ToString::to_string).collect())
}

#[test]
fn who_has_none_and_wants_one_has_one() {
    let static_ = "hosts: [static.example], resolution: STATIC, endpoints: [{address: 10.0.0.1}], ports: [{number: 80, name: http}]";
    let own = "hosts: [own.example], addresses: [10.9.0.1], resolution: STATIC, endpoints: [{address: 10.0.0.1}], ports: [{number: 80, name: http}]";
    let wild =
        "hosts: ['*.example'], resolution: STATIC, endpoints: [{address: 10.0.0.1}], ports: [{number: 80, name: http}]";
    let mut out = entry("a", "out", None, &dns("out.example"));
    out.meta.labels.insert("networking.istio.io/enable-autoallocate-ip".to_owned(), "False".to_owned());
    let world = World::from_objects(vec![
        entry("a", "dns", None, &dns("dns.example")),
        entry("b", "dns", None, &dns("DNS.example")),
        entry("a", "static", None, static_),
        entry("a", "own", None, own),
        entry("a", "none", None, "hosts: [none.example], ports: [{number: 80, name: http}]"),
        entry("a", "wild", None, wild),
        entry(
            "a",
            "udp",
            None,
            "hosts: [udp.example], resolution: DNS, ports: [{number: 80, name: udp, protocol: UDP}]",
        ),
        out,
    ]);
    // They are part of what users see and firewalls know: they never change.
    assert_eq!(addresses(&world, "dns.example", "a").unwrap(), ["240.240.88.29", "2001:2::f0f0:581d"]);
    assert_eq!(addresses(&world, "dns.example", "b").unwrap(), ["240.240.109.156", "2001:2::f0f0:6d9c"]);
    assert!(addresses(&world, "static.example", "a").is_some());
    for host in ["own.example", "none.example", "*.example", "udp.example", "out.example"] {
        assert_eq!(addresses(&world, host, "a"), None, "{host}");
    }
}

#[test]
fn a_service_of_several_entries_has_one_address_or_its_own() {
    let second = "hosts: [dns.example], addresses: [10.9.0.1], resolution: STATIC, endpoints: [{address: 10.0.0.1}], ports: [{number: 81, name: http}]";
    let mut world = World::from_objects(vec![
        entry("a", "dns", None, &dns("dns.example")),
        entry("a", "more", None, &dns("dns.example")),
    ]);
    let first = addresses(&world, "dns.example", "a");
    assert!(first.is_some());
    world.apply(vec![entry("a", "more", None, second)]);
    assert_eq!(addresses(&world, "dns.example", "a"), None);
    world.remove(&[crate::object::ObjectRef::new("ServiceEntry", "a", "more")]);
    assert_eq!(addresses(&world, "dns.example", "a"), first);
}

/// Hosts that hash to the same place, of all places.
fn colliding(count: usize) -> Vec<String> {
    let mut by_place: HashMap<u32, Vec<String>> = HashMap::new();
    for number in 0_u32.. {
        let host = format!("h{number}.example");
        let owner = Owner { created: None, name: (host.as_str().into(), "a".into()) };
        let same = by_place.entry(owner.hash() % PLACES).or_default();
        same.push(host);
        if same.len() == count {
            return std::mem::take(same);
        }
    }
    Vec::new()
}

#[test]
fn who_comes_later_moves_nobody_and_is_told_when_he_moves() {
    let hosts = colliding(3);
    let [a, b, c] = [&hosts[0], &hosts[1], &hosts[2]];
    let object = |host: &str, age: u32| entry("a", host, Some(age), &dns(host));
    let mut world = World::from_objects(vec![object(a, 1)]);
    let first = addresses(&world, a, "a");
    world.apply(vec![object(c, 3), object(b, 2)]);
    let [second, third] = [b, c].map(|host| addresses(&world, host, "a"));
    assert_eq!(addresses(&world, a, "a"), first);
    assert!(second.is_some() && third.is_some() && second != third && second != first && third != first);
    // The second goes: the third takes its place, and whoever looked at it has to look again.
    let before = world.generation();
    world.remove(&[crate::object::ObjectRef::new("ServiceEntry", "a", b)]);
    assert_eq!(addresses(&world, c, "a"), second);
    let cells: Vec<_> = world.changes_since(before).unwrap().cloned().collect();
    assert!(cells.contains(&crate::world::Cell::Host(c.as_str().into())), "{cells:?}");
    assert!(!cells.contains(&crate::world::Cell::Host(a.as_str().into())), "{cells:?}");
}

proptest! {
    /// Against a walk in the order of age, with few places, so that they meet, and sometimes have none.
    #[test]
    fn whatever_comes_and_goes_the_outcome_is_that_of_who_is_there(
        changes in prop::collection::vec((0_u32..12, any::<bool>()), 1..60),
    ) {
        const COUNT: u32 = 8;
        let objects: BTreeMap<u32, ApiObject> =
            (0..12).map(|n| (n, entry("a", &format!("e{n}"), (!u32::is_multiple_of(n, 3)).then_some(n / 2), &dns(&format!("h{n}.example"))))).collect();
        let mut table = AutomaticAddresses::with_places(COUNT);
        let mut there: BTreeMap<u32, Arc<Service>> = BTreeMap::new();
        for (number, comes) in changes {
            let host: Arc<str> = format!("h{number}.example").into();
            if comes {
                let world = World::from_objects(vec![objects[&number].clone()]);
                there.insert(number, world.index().registry.of_namespace(&host, "a").unwrap().clone());
            } else {
                there.remove(&number);
            }
            let before = table.places.clone();
            let services: Vec<_> = there.get(&number).cloned().into_iter().collect();
            let moved = table.update(&host, &services);
            let mut expected: BTreeMap<u32, Arc<Owner>> = BTreeMap::new();
            for owner in there.values().map(|service| Owner::of(service)).collect::<BTreeSet<_>>() {
                let mut way = (0..COUNT).map(|step| (owner.hash() % COUNT + step) % COUNT);
                if let Some(place) = way.find(|place| !expected.contains_key(place)) {
                    expected.insert(place, owner);
                }
            }
            prop_assert_eq!(table.owners.clone().into_iter().collect::<BTreeMap<_, _>>(), expected);
            prop_assert_eq!(table.places.len(), table.owners.len());
            prop_assert_eq!(table.waiting.len() + table.owners.len(), there.len());
            for name in before.keys().chain(table.places.keys()) {
                if before.get(name) != table.places.get(name) && name.0 != host {
                    prop_assert!(moved.contains(&name.0), "{} moved and nobody was told", name.0);
                }
            }
        }
    }
}
