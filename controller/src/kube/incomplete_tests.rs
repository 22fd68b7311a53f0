use mesh_core::api::parse;

use super::*;

fn rule(host: &str) -> ApiObject {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a, namespace: x}}\n\
         spec: {{hosts: [{host}], http: [{{directResponse: {{status: 200}}}}]}}\n"
    );
    parse("", &text, "x").objects.remove(0)
}

fn host(world: &World) -> Option<String> {
    world.virtual_service("x", "a").map(|entry| entry.spec.hosts[0].clone())
}

/// Puts a version into the world on trial, and says whether it lacks something.
fn turn(incomplete: &mut Incomplete, world: &mut World, new: Option<ApiObject>, fails: bool, now: Instant) {
    let mut apply: BTreeMap<_, _> = new.into_iter().map(|object| (object.object_ref(), object)).collect();
    let trials = incomplete.try_again(&mut apply, world, now);
    world.apply(apply.into_values().collect());
    let failed = if fails { trials.keys().cloned().collect() } else { BTreeSet::new() };
    incomplete.take_back(&failed, trials, world, now);
}

#[test]
fn the_version_in_force_stays_until_the_new_one_is_complete() {
    let (mut incomplete, mut world, now) = (Incomplete::default(), World::default(), Instant::now());
    turn(&mut incomplete, &mut world, Some(rule("one.example")), false, now);
    turn(&mut incomplete, &mut world, Some(rule("two.example")), true, now);
    assert_eq!(host(&world).as_deref(), Some("one.example"));
    let observed = Observed::from_iter([(rule("x").object_ref(), 2)]);
    assert!(incomplete.in_force(&observed).is_empty());
    assert!(incomplete.waiting().eq([&rule("x").object_ref()]));
    turn(&mut incomplete, &mut world, None, false, now);
    assert_eq!(host(&world).as_deref(), Some("two.example"));
    assert_eq!((incomplete.due(), incomplete.in_force(&observed).len()), (None, 1));
}

#[test]
fn what_stays_incomplete_is_in_force_in_the_end() {
    let (mut incomplete, mut world, now) = (Incomplete::default(), World::default(), Instant::now());
    turn(&mut incomplete, &mut world, Some(rule("one.example")), true, now);
    assert_eq!(host(&world), None);
    // Another version does not start the time anew.
    turn(&mut incomplete, &mut world, Some(rule("two.example")), true, now + PATIENCE / 2);
    assert_eq!((host(&world), incomplete.due()), (None, Some(now + PATIENCE)));
    turn(&mut incomplete, &mut world, None, true, now + PATIENCE);
    assert_eq!(host(&world).as_deref(), Some("two.example"));
    assert_eq!(incomplete.due(), None);
}

#[test]
fn a_version_of_what_is_deleted_never_comes() {
    let (mut incomplete, mut world, now) = (Incomplete::default(), World::default(), Instant::now());
    turn(&mut incomplete, &mut world, Some(rule("one.example")), true, now);
    incomplete.forget(&rule("one.example").object_ref());
    turn(&mut incomplete, &mut world, None, false, now + PATIENCE);
    assert_eq!(host(&world), None);
}
