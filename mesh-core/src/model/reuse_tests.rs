use super::*;
use crate::object::ObjectRef;

fn host(name: &str, redirect: bool) -> Arc<VirtualHost> {
    Arc::new(VirtualHost {
        host: HostPattern::Exact(name.into()),
        aliases: Vec::new(),
        https_redirect: redirect,
        rules: Vec::new(),
        origin: ObjectRef::new("Gateway", "default", "g"),
    })
}

fn set(hosts: Vec<Arc<VirtualHost>>) -> ResourceSet {
    let key: Key = "http.80".into();
    let routes = RouteSet {
        key: key.clone(),
        virtual_hosts: hosts,
        tcp: Vec::new(),
        origin: ObjectRef::new("Gateway", "default", "g"),
    };
    ResourceSet { routes: Resources::from_iter([(key, Arc::new(routes))]), ..ResourceSet::default() }
}

#[test]
fn equal_route_sets_become_one_allocation() {
    let old = set(vec![host("a", false), host("b", false)]);
    let mut new = set(vec![host("a", false), host("b", false)]);
    new.reuse(&old);
    assert!(Arc::ptr_eq(&old.routes["http.80"], &new.routes["http.80"]));
}

#[test]
fn unchanged_virtual_hosts_are_shared_inside_a_changed_set() {
    let old = set(vec![host("a", false), host("b", false)]);
    let mut new = set(vec![host("a", false), host("b", true), host("c", false)]);
    new.reuse(&old);
    let (old, new) = (&old.routes["http.80"].virtual_hosts, &new.routes["http.80"].virtual_hosts);
    assert!(Arc::ptr_eq(&old[0], &new[0]));
    assert!(!Arc::ptr_eq(&old[1], &new[1]));
    assert!(new[1].https_redirect);
}

#[test]
fn another_order_of_hosts_is_another_set() {
    let old = set(vec![host("a", false), host("b", false)]);
    let mut new = set(vec![host("b", false), host("a", false)]);
    new.reuse(&old);
    assert!(!Arc::ptr_eq(&old.routes["http.80"], &new.routes["http.80"]));
    assert!(Arc::ptr_eq(&old.routes["http.80"].virtual_hosts[0], &new.routes["http.80"].virtual_hosts[1]));
}
