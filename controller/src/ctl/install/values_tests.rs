#![allow(clippy::unwrap_used)]
use serde_json::Value;

use super::*;
use crate::ctl::install::apply::changes;
use crate::ctl::manifests::{Name, manifests};

fn parse(sets: &[&str]) -> Vec<Set> {
    sets.iter().map(|set| set.parse().unwrap()).collect()
}

/// What the values change in the objects of a profile.
fn changed(profile: Profile, sets: &[&str]) -> String {
    let before = manifests(profile).unwrap();
    let mut after = before.clone();
    put(&parse(sets), profile, &mut after).unwrap();
    let mut lines = Vec::new();
    let is_new =
        |object: &&DynamicObject| !before.iter().any(|old| Name::of(old).unwrap() == Name::of(object).unwrap());
    lines.extend(after.iter().filter(is_new).map(|object| format!("{} is added", Name::of(object).unwrap())));
    for object in &before {
        let name = Name::of(object).unwrap();
        match after.iter().find(|other| Name::of(other).unwrap() == name) {
            None => lines.push(format!("{name} is left out")),
            Some(other) => {
                let value = |object: &DynamicObject| serde_json::to_value(object).unwrap();
                lines.extend(changes(&value(object), &value(other)).iter().map(|field| format!("{name} {field}")));
            }
        }
    }
    lines.join("\n")
}

fn refused(text: &str) -> String {
    text.parse::<Set>().unwrap_err().to_string()
}

fn unfit(profile: Profile, sets: &[&str]) -> String {
    put(&parse(sets), profile, &mut manifests(profile).unwrap()).unwrap_err().to_string()
}

#[test]
fn values_change_what_they_name() {
    insta::assert_snapshot!(changed(Profile::Default, &["hub=registry.test:5000/mesh", "tag=0.2.0"]), @r"
    Deployment/meshgate-system/meshgate-controller spec.template.spec.containers[0].image: meshgate/controller:0.1.0 -> registry.test:5000/mesh/controller:0.2.0
    Deployment/meshgate-system/meshgate-controller spec.template.spec.containers[0].env[2].value: meshgate/sidecar:0.1.0 -> registry.test:5000/mesh/sidecar:0.2.0
    Deployment/meshgate-system/istio-ingressgateway spec.template.spec.containers[0].image: meshgate/meshgate:0.1.0 -> registry.test:5000/mesh/meshgate:0.2.0
    ");
    insta::assert_snapshot!(changed(Profile::Minimal, &["imagePullPolicy=Never", "controller.replicas=2"]), @r#"
    Deployment/meshgate-system/meshgate-controller spec.replicas: 1 -> 2
    Deployment/meshgate-system/meshgate-controller spec.template.spec.containers[0].env[3]: (none) -> {"name":"SIDECAR_PULL_POLICY","value":"Never"}
    Deployment/meshgate-system/meshgate-controller spec.template.spec.containers[0].imagePullPolicy: (none) -> Never
    "#);
    insta::assert_snapshot!(changed(Profile::Default, &["gateway.autoscale.min=2", "gateway.autoscale.max=9"]), @r"
    HorizontalPodAutoscaler/meshgate-system/istio-ingressgateway spec.minReplicas: 1 -> 2
    HorizontalPodAutoscaler/meshgate-system/istio-ingressgateway spec.maxReplicas: 5 -> 9
    ");
    insta::assert_snapshot!(changed(Profile::Default, &["gateway.proxyProtocolFrom=10.0.0.0/8,fd00::/8"]), @r#"Deployment/meshgate-system/istio-ingressgateway spec.template.spec.containers[0].env[3]: (none) -> {"name":"MESHGATE_PROXY_PROTOCOL_FROM","value":"10.0.0.0/8,f..."#);
    insta::assert_snapshot!(refused("gateway.proxyProtocolFrom=10.0.0.1"), @"gateway.proxyProtocolFrom: `10.0.0.1` is not ranges such as 10.0.0.0/8,fd00::/8");
    insta::assert_snapshot!(changed(Profile::Default, &["gateway.replicas=3"]), @r"
    Deployment/meshgate-system/istio-ingressgateway spec.replicas: (none) -> 3
    HorizontalPodAutoscaler/meshgate-system/istio-ingressgateway is left out
    ");
    insta::assert_snapshot!(changed(Profile::Minimal, &["gateway.namespaces=istio-ingress,meshgate-system"]), @r#"
    Role/istio-ingress/meshgate-gateway-secrets is added
    RoleBinding/istio-ingress/meshgate-gateway-secrets is added
    Deployment/meshgate-system/meshgate-controller spec.template.spec.containers[0].args: (none) -> ["--gateway-namespaces=istio-ingress,meshgate-system"]
    "#);
    assert_eq!(changed(Profile::Minimal, &["gateway.namespaces="]), "");
    insta::assert_snapshot!(changed(Profile::Minimal, &["acme.email=a@b.example", "gateway.namespaces=istio-ingress"]), @r#"
    Role/istio-ingress/meshgate-gateway-secrets is added
    RoleBinding/istio-ingress/meshgate-gateway-secrets is added
    Role/meshgate-system/meshgate-acme is added
    RoleBinding/meshgate-system/meshgate-acme is added
    Role/istio-ingress/meshgate-acme is added
    RoleBinding/istio-ingress/meshgate-acme is added
    Deployment/meshgate-system/meshgate-controller spec.template.spec.containers[0].env[3]: (none) -> {"name":"MESHGATE_ACME_EMAIL","value":"a@b.example"}
    Deployment/meshgate-system/meshgate-controller spec.template.spec.containers[0].args: (none) -> ["--gateway-namespaces=istio-ingress"]
    "#);
    let private = ["acme.directory=https://ca.internal/dir", "acme.caConfigMap=our-ca"];
    insta::assert_snapshot!(changed(Profile::Minimal, &private), @r#"
    Role/meshgate-system/meshgate-acme is added
    RoleBinding/meshgate-system/meshgate-acme is added
    Deployment/meshgate-system/meshgate-controller spec.template.spec.containers[0].env[3]: (none) -> {"name":"MESHGATE_ACME_DIRECTORY","value":"https://ca.intern...
    Deployment/meshgate-system/meshgate-controller spec.template.spec.containers[0].env[4]: (none) -> {"name":"MESHGATE_ACME_CA","value":"/etc/meshgate/acme-ca/ca...
    Deployment/meshgate-system/meshgate-controller spec.template.spec.containers[0].volumeMounts: (none) -> [{"name":"acme-ca","mountPath":"/etc/meshgate/acme-ca","read...
    Deployment/meshgate-system/meshgate-controller spec.template.spec.volumes: (none) -> [{"name":"acme-ca","configMap":{"name":"our-ca"}}]
    "#);
    insta::assert_snapshot!(changed(Profile::Demo, &["gateway.service.type=NodePort", "gateway.service.externalTrafficPolicy=Local"]), @r"
    Service/meshgate-system/istio-ingressgateway spec.type: LoadBalancer -> NodePort
    Service/meshgate-system/istio-ingressgateway spec.externalTrafficPolicy: (none) -> Local
    ");
    insta::assert_snapshot!(changed(Profile::Demo, &["gateway.resources.limits.memory=128Mi", "controller.resources.requests.cpu=1.5"]), @r#"
    Deployment/meshgate-system/meshgate-controller spec.template.spec.containers[0].resources.requests.cpu: 100m -> 1.5
    Deployment/meshgate-system/istio-ingressgateway spec.template.spec.containers[0].resources.limits: (none) -> {"memory":"128Mi"}
    "#);
}

/// Each of them reaches something in the profile that has it all.
#[test]
fn every_value_has_a_place() {
    for setting in SETTINGS {
        let value = match setting.form {
            Form::Image => "other",
            Form::Count(_) => "4",
            Form::Word(words) => words.last().unwrap(),
            Form::Quantity => "7Mi",
            Form::Namespaces => "istio-ingress",
            Form::Ranges => "10.0.0.0/8",
            Form::Email => "a@b.example",
            Form::Directory => "letsencrypt-staging",
            Form::Profile => "shortlived",
            Form::ObjectName => "an-object",
            Form::Id => "kid-1",
        };
        let set = format!("{}={value}", setting.path);
        let others: &[&str] = match setting.path {
            "acme.eabKid" | "acme.eabSecret" => {
                &["acme.email=a@b.example", "acme.eabKid=other", "acme.eabSecret=other"]
            }
            path if path.starts_with("acme.") => &["acme.email=c@d.example"],
            _ => &[],
        };
        let with: Vec<&str> = others.iter().copied().chain([set.as_str()]).collect();
        assert_ne!(changed(Profile::Default, &with), changed(Profile::Default, others), "{set}");
    }
}

#[test]
fn mistakes_are_named() {
    let lines = [
        refused("gateway.replica=2"),
        refused("nothing"),
        refused("gateway.replicas=-1"),
        refused("gateway.autoscale.min=0"),
        refused("gateway.service.type=Loadbalancer"),
        refused("controller.resources.limits.cpu=much"),
        refused("hub=a b"),
        refused("gateway.namespaces=istio ingress"),
        refused("gateway.namespaces=*"),
        refused("acme.email=nobody"),
        refused("acme.directory=letsencript"),
        refused("acme.profile=two words"),
        refused("acme.caConfigMap=CA"),
        refused("acme.eabKid="),
        unfit(Profile::Minimal, &["acme.profile=shortlived"]),
        unfit(Profile::Minimal, &["acme.email=a@b.example", "acme.eabKid=kid-1"]),
        unfit(Profile::Minimal, &["gateway.replicas=2"]),
        unfit(Profile::Demo, &["gateway.autoscale.max=2"]),
        unfit(Profile::Default, &["gateway.replicas=2", "gateway.autoscale.max=2"]),
        unfit(Profile::Default, &["gateway.autoscale.min=6"]),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r"
    there is no value `gateway.replica`; did you mean `gateway.replicas`?
    `nothing` is not PATH=VALUE
    gateway.replicas: `-1` is not a number from 0
    gateway.autoscale.min: `0` is not a number from 1
    gateway.service.type: `Loadbalancer` is not one of LoadBalancer, NodePort, ClusterIP
    controller.resources.limits.cpu: `much` is not an amount such as 500m, 1.5 or 128Mi
    hub: `a b` is not a part of an image's name
    gateway.namespaces: `istio ingress` is not namespaces such as istio-ingress,default
    gateway.namespaces: `*` is not namespaces such as istio-ingress,default
    acme.email: `nobody` is not an e-mail address
    acme.directory: `letsencript` is not letsencrypt, letsencrypt-staging or a URL
    acme.profile: `two words` is not the name of a profile, such as shortlived
    acme.caConfigMap: `CA` is not the name of an object, such as acme-ca
    acme.eabKid: `` is not an id: one word
    acme.profile: nothing is ordered without acme.email or acme.directory
    acme.eabKid needs acme.eabSecret, too
    gateway.replicas: profile minimal has no Deployment istio-ingressgateway
    gateway.autoscale.max: profile demo has no HorizontalPodAutoscaler istio-ingressgateway
    gateway.replicas and gateway.autoscale.max exclude each other
    gateway.autoscale.max=5 is less than gateway.autoscale.min=6
    ");
    assert!(refused("xyz=1").contains("there are hub, tag, "));
}

#[test]
fn images_keep_the_port_of_their_registry() {
    let mut objects = manifests(Profile::Minimal).unwrap();
    put(&parse(&["hub=a.test:5000/x"]), Profile::Minimal, &mut objects).unwrap();
    put(&parse(&["tag=2"]), Profile::Minimal, &mut objects).unwrap();
    let deployment = objects.iter_mut().find(|object| kind(object) == "Deployment").unwrap();
    let images: Vec<Value> = containers(deployment).map(|container| container["image"].clone()).collect();
    assert_eq!(images, ["a.test:5000/x/controller:2"]);
}
