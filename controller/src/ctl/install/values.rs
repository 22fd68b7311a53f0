//! `--set path=value`: the few things of an installation that differ from cluster to cluster. Whatever else is to be different
//! is a matter of a kustomization of one's own on top of `deploy/profiles`.

use std::fmt::Write as _;
use std::str::FromStr;

use ipnet::IpNet;
use kube::ResourceExt;
use kube::api::DynamicObject;
use mesh_acme::{parse_directory, parse_email, parse_profile};
use mesh_core::world::hostname::nearest;
use serde_json::{Map, Value, json};

use super::namespaces;
use crate::ctl::exit::Failure;
use crate::ctl::manifests::{NAMESPACE, Profile, kind, of_acme, of_gateway_namespace};
use crate::inject::is_quantity;
use crate::options::Namespaces;

/// Deployment of the controller.
pub(super) const CONTROLLER: &str = "meshgate-controller";
const GATEWAY: &str = "istio-ingressgateway";
/// Role of each namespace in which gateways run that are not in the controller's.
const GATEWAY_SECRETS: &str = "meshgate-gateway-secrets";
/// Role of each namespace in which certificates are kept that the controller orders.
const ORDERS: &str = "meshgate-acme";

/// What a value may be.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// A part of an image's name.
    Image,
    /// A whole number, at least so much.
    Count(u32),
    /// One of these words.
    Word(&'static [&'static str]),
    /// An amount of CPU or memory.
    Quantity,
    /// Names of namespaces, with commas between.
    Namespaces,
    /// Ranges of addresses, with commas between.
    Ranges,
    /// An e-mail address.
    Email,
    /// Of a CA: a name that is known, or a URL.
    Directory,
    /// One that a CA offers.
    Profile,
    /// Of an object in the controller's namespace.
    ObjectName,
    /// What others call something.
    Id,
}

/// What it changes.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The image of every container, and of sidecars, made of what it was and the value.
    Image(fn(&str, &str) -> String),
    /// When images are pulled, also those of sidecars.
    PullPolicy,
    /// A variable of a Deployment's container.
    Variable(&'static str, &'static str),
    /// A field of an object: kind, name, path.
    Field(&'static str, &'static str, &'static [&'static str]),
    /// A field of the container of a Deployment.
    Container(&'static str, &'static [&'static str]),
    /// So many gateways whatever the load is.
    GatewayReplicas,
    /// Rights to the secrets of these namespaces, of which the controller is told.
    GatewayNamespaces,
    /// A variable of the controller, with which it orders certificates; the rights to write them.
    Acme(&'static str),
    /// A variable of the controller that means something only where it orders.
    AcmeDetail(&'static str),
    /// The same, for a file: a key of a ConfigMap or a Secret.
    AcmeFile(&'static File),
}

/// A file of the controller that an object in its namespace has.
#[derive(Debug)]
struct File {
    /// What the controller is told of it by.
    variable: &'static str,
    /// Name of the volume, and of the folder.
    volume: &'static str,
    /// How a volume calls the object, and where it names it.
    source: (&'static str, &'static str),
    key: &'static str,
}

const ACME_CA: File =
    File { variable: "MESHGATE_ACME_CA", volume: "acme-ca", source: ("configMap", "name"), key: "ca.crt" };
const ACME_EAB: File =
    File { variable: "MESHGATE_ACME_EAB_KEY", volume: "acme-eab", source: ("secret", "secretName"), key: "hmac" };
const MOUNTS: &str = "/etc/meshgate";

struct Setting {
    path: &'static str,
    form: Form,
    place: Place,
    about: &'static str,
}

const fn setting(path: &'static str, form: Form, place: Place, about: &'static str) -> Setting {
    Setting { path, form, place, about }
}

const fn container(path: &'static str, deployment: &'static str, at: &'static [&'static str]) -> Setting {
    setting(path, Form::Quantity, Place::Container(deployment, at), "")
}

/// Variables by which the controller knows what sidecars are made of.
const SIDECAR_IMAGE: &str = "SIDECAR_IMAGE";
const SIDECAR_PULL_POLICY: &str = "SIDECAR_PULL_POLICY";
/// Of gateways: `meshgate run --proxy-protocol-from`.
const PROXY_PROTOCOL_FROM: &str = "MESHGATE_PROXY_PROTOCOL_FROM";
const SCALER: &str = "HorizontalPodAutoscaler";

#[rustfmt::skip]
const SETTINGS: &[Setting] = &[
    setting("hub", Form::Image, Place::Image(of_hub), "where images come from [default: meshgate]"),
    setting("tag", Form::Image, Place::Image(of_tag), "which version of them [default: that of meshctl]"),
    setting("imagePullPolicy", Form::Word(&["IfNotPresent", "Always", "Never"]), Place::PullPolicy, "IfNotPresent, Always or Never"),
    setting("controller.replicas", Form::Count(0), Place::Field("Deployment", CONTROLLER, &["spec", "replicas"]), "[default: 1]"),
    container("controller.resources.requests.cpu", CONTROLLER, &["resources", "requests", "cpu"]),
    container("controller.resources.requests.memory", CONTROLLER, &["resources", "requests", "memory"]),
    container("controller.resources.limits.cpu", CONTROLLER, &["resources", "limits", "cpu"]),
    container("controller.resources.limits.memory", CONTROLLER, &["resources", "limits", "memory"]),
    setting("sidecar.image", Form::Image, Place::Variable(CONTROLLER, SIDECAR_IMAGE), "of sidecars [default: meshgate/sidecar, with hub and tag]"),
    setting("acme.email", Form::Email, Place::Acme("MESHGATE_ACME_EMAIL"), "for the account at the CA that certificates are ordered from; with this or acme.directory the controller orders, and may write all secrets of its namespace and of gateway.namespaces"),
    setting("acme.directory", Form::Directory, Place::Acme("MESHGATE_ACME_DIRECTORY"), "letsencrypt, letsencrypt-staging, or the URL of a CA's directory [default: letsencrypt, with acme.email]"),
    setting("acme.profile", Form::Profile, Place::AcmeDetail("MESHGATE_ACME_PROFILE"), "kind of certificate, of those that the CA offers (Let's Encrypt: classic, tlsserver, shortlived) [default: the CA's choice]"),
    setting("acme.caConfigMap", Form::ObjectName, Place::AcmeFile(&ACME_CA), "ConfigMap in meshgate-system whose key ca.crt has the certificates (PEM) that the directory's own may come from [default: those of the system]"),
    setting("acme.eabKid", Form::Id, Place::AcmeDetail("MESHGATE_ACME_EAB_KID"), "id of the account elsewhere that the CA wants to be named (external account binding)"),
    setting("acme.eabSecret", Form::ObjectName, Place::AcmeFile(&ACME_EAB), "Secret in meshgate-system whose key hmac has the key of that account, base64"),
    setting("gateway.namespaces", Form::Namespaces, Place::GatewayNamespaces, "further namespaces in which gateways run, with commas between: the controller may read all secrets there [default: those that are installed]"),
    setting("gateway.replicas", Form::Count(0), Place::GatewayReplicas, "so many, whatever the load is; leaves the autoscaler out"),
    setting("gateway.autoscale.min", Form::Count(1), Place::Field(SCALER, GATEWAY, &["spec", "minReplicas"]), "[default: 1]"),
    setting("gateway.autoscale.max", Form::Count(1), Place::Field(SCALER, GATEWAY, &["spec", "maxReplicas"]), "[default: 5]"),
    setting("gateway.service.type", Form::Word(&["LoadBalancer", "NodePort", "ClusterIP"]), Place::Field("Service", GATEWAY, &["spec", "type"]), "LoadBalancer, NodePort or ClusterIP"),
    setting("gateway.service.externalTrafficPolicy", Form::Word(&["Cluster", "Local"]), Place::Field("Service", GATEWAY, &["spec", "externalTrafficPolicy"]), "Cluster, or Local to see the addresses of clients"),
    setting("gateway.proxyProtocolFrom", Form::Ranges, Place::Variable(GATEWAY, PROXY_PROTOCOL_FROM), "ranges of the load balancers that say by the PROXY protocol who the client is, with commas between; nobody else is believed"),
    container("gateway.resources.requests.cpu", GATEWAY, &["resources", "requests", "cpu"]),
    container("gateway.resources.requests.memory", GATEWAY, &["resources", "requests", "memory"]),
    container("gateway.resources.limits.cpu", GATEWAY, &["resources", "limits", "cpu"]),
    container("gateway.resources.limits.memory", GATEWAY, &["resources", "limits", "memory"]),
];

/// For `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = "A value of the installation, as PATH=VALUE; may be given several times:".to_owned();
    for setting in SETTINGS {
        let _ = write!(text, "\n  {}", setting.path);
        if !setting.about.is_empty() {
            let _ = write!(text, ": {}", setting.about);
        }
    }
    text
}

/// One `--set`, checked.
#[derive(Clone, Debug)]
pub struct Set {
    path: &'static str,
    place: Place,
    value: Value,
}

impl FromStr for Set {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Set, Failure> {
        let Some((path, value)) = text.split_once('=') else {
            return Err(Failure::Usage(format!("`{text}` is not PATH=VALUE")));
        };
        let paths = SETTINGS.iter().map(|setting| setting.path);
        let Some(setting) = SETTINGS.iter().find(|setting| setting.path == path) else {
            let hint = match nearest(path, paths.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", paths.collect::<Vec<_>>().join(", ")),
            };
            return Err(Failure::Usage(format!("there is no value `{path}`; {hint}")));
        };
        let value =
            setting.form.read(value).map_err(|wanted| Failure::Usage(format!("{path}: `{value}` is not {wanted}")))?;
        Ok(Set { path: setting.path, place: setting.place, value })
    }
}

impl Form {
    /// Or what it should be.
    fn read(self, text: &str) -> Result<Value, String> {
        match self {
            Form::Image => {
                let fits = |c: char| c.is_ascii_alphanumeric() || "._-/:@".contains(c);
                let ok = !text.is_empty() && text.chars().all(fits) && !text.ends_with(['/', ':']);
                ok.then(|| text.into()).ok_or_else(|| "a part of an image's name".to_owned())
            }
            Form::Count(least) => {
                // Kubernetes counts replicas in 32 bits with a sign.
                let number = text.parse::<i32>().ok().and_then(|number| u32::try_from(number).ok());
                let number = number.filter(|number| *number >= least);
                number.map(Value::from).ok_or_else(|| format!("a number from {least}"))
            }
            Form::Word(words) => {
                words.contains(&text).then(|| text.into()).ok_or_else(|| format!("one of {}", words.join(", ")))
            }
            Form::Quantity => {
                is_quantity(text).then(|| text.into()).ok_or_else(|| "an amount such as 500m, 1.5 or 128Mi".to_owned())
            }
            Form::Email => parse_email(text).map(Value::from).map_err(|_| "an e-mail address".to_owned()),
            Form::Directory => match parse_directory(text) {
                Ok(_) => Ok(text.into()),
                Err(_) => Err("letsencrypt, letsencrypt-staging or a URL".to_owned()),
            },
            Form::Profile => {
                parse_profile(text).map(Value::from).map_err(|_| "the name of a profile, such as shortlived".to_owned())
            }
            Form::ObjectName => {
                let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
                let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
                let ok = text.len() <= 253
                    && text.chars().all(fits)
                    && ends(text.chars().next())
                    && ends(text.chars().next_back());
                ok.then(|| text.into()).ok_or_else(|| "the name of an object, such as acme-ca".to_owned())
            }
            Form::Id => {
                let ok = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
                ok.then(|| text.into()).ok_or_else(|| "an id: one word".to_owned())
            }
            Form::Namespaces => {
                let names = text.parse::<Namespaces>().map(|Namespaces(names)| names.into());
                names.map_err(|_| "namespaces such as istio-ingress,default".to_owned())
            }
            Form::Ranges => {
                let ok = text.split(',').all(|range| range.parse::<IpNet>().is_ok());
                ok.then(|| text.into()).ok_or_else(|| "ranges such as 10.0.0.0/8,fd00::/8".to_owned())
            }
        }
    }
}

/// Puts the values into the objects of a profile. What an object of another profile would need is an error.
pub fn put(sets: &[Set], profile: Profile, objects: &mut Vec<DynamicObject>) -> Result<(), Failure> {
    if let Some(fixed) = sets.iter().find(|set| matches!(set.place, Place::GatewayReplicas)) {
        if let Some(scaled) = sets.iter().find(|set| matches!(set.place, Place::Field(SCALER, ..))) {
            return Err(Failure::Usage(format!("{} and {} exclude each other", fixed.path, scaled.path)));
        }
        objects.retain(|object| kind(object) != SCALER);
    }
    for set in sets {
        set.put(objects)
            .map_err(|missing| Failure::Usage(format!("{}: profile {} has no {missing}", set.path, profile.name())))?;
    }
    details_of_orders(sets)?;
    if sets.iter().any(|set| matches!(set.place, Place::Acme(_))) {
        rights_to_order(objects).map_err(|error| Failure::Usage(format!("{error:#}")))?;
    }
    bounds(objects)
}

/// What would be without effect is not put.
fn details_of_orders(sets: &[Set]) -> Result<(), Failure> {
    let is_given = |path: &str| sets.iter().any(|set| set.path == path);
    let orders = sets.iter().any(|set| matches!(set.place, Place::Acme(_)));
    let mut details = sets.iter().filter(|set| matches!(set.place, Place::AcmeDetail(_) | Place::AcmeFile(_)));
    if let Some(detail) = details.find(|_| !orders) {
        let path = detail.path;
        return Err(Failure::Usage(format!("{path}: nothing is ordered without acme.email or acme.directory")));
    }
    for (given, other) in [("acme.eabKid", "acme.eabSecret"), ("acme.eabSecret", "acme.eabKid")] {
        if is_given(given) && !is_given(other) {
            return Err(Failure::Usage(format!("{given} needs {other}, too")));
        }
    }
    Ok(())
}

/// Who orders certificates writes them, wherever it reads those of gateways.
pub(super) fn rights_to_order(objects: &mut Vec<DynamicObject>) -> anyhow::Result<()> {
    let roles = |name: &str| -> Vec<String> {
        let named = objects.iter().filter(|object| kind(object) == "Role" && object.name_any() == name);
        named.filter_map(ResourceExt::namespace).collect()
    };
    let (there, mut wanted) = (roles(ORDERS), roles(GATEWAY_SECRETS));
    wanted.insert(0, NAMESPACE.to_owned());
    for namespace in wanted.iter().filter(|namespace| !there.contains(namespace)) {
        objects.extend(of_acme(namespace)?);
    }
    Ok(())
}

/// Whether the controller is to order certificates.
pub(super) fn is_to_order(objects: &[DynamicObject]) -> bool {
    objects.iter().any(|object| kind(object) == "Role" && object.name_any() == ORDERS)
}

/// What the controller is started with.
pub(super) fn put_arguments(objects: &mut [DynamicObject], arguments: &[String]) -> Result<(), String> {
    for container in containers(find(objects, "Deployment", CONTROLLER)?) {
        assign(container, &["args"], &Value::from(arguments));
    }
    Ok(())
}

impl Set {
    /// Whether it says in which namespaces gateways run.
    #[must_use]
    pub fn is_gateway_namespaces(&self) -> bool {
        matches!(self.place, Place::GatewayNamespaces)
    }

    /// Or the object that it would need.
    fn put(&self, objects: &mut Vec<DynamicObject>) -> Result<(), String> {
        match self.place {
            Place::GatewayNamespaces => {
                let names: Vec<&str> = self.value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                if let Some(argument) = namespaces::argument(&self.value) {
                    put_arguments(objects, &[argument])?;
                }
                for name in names.into_iter().filter(|name| *name != NAMESPACE) {
                    objects.extend(of_gateway_namespace(name).map_err(|error| error.to_string())?);
                }
            }
            Place::Image(made) => {
                for container in objects.iter_mut().flat_map(containers) {
                    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
                    let image = made(&text(container.get("image")), &text(Some(&self.value)));
                    assign(container, &["image"], &image.into());
                }
                let deployment = find(objects, "Deployment", CONTROLLER)?;
                for variable in containers(deployment).filter_map(|container| variable(container, SIDECAR_IMAGE)) {
                    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
                    let image = made(&text(variable.get("value")), &text(Some(&self.value)));
                    assign(variable, &["value"], &image.into());
                }
            }
            Place::PullPolicy => {
                for container in objects.iter_mut().flat_map(containers) {
                    assign(container, &["imagePullPolicy"], &self.value);
                }
                self.tell(objects, CONTROLLER, SIDECAR_PULL_POLICY)?;
            }
            Place::Variable(deployment, name) => self.tell(objects, deployment, name)?,
            Place::Acme(name) | Place::AcmeDetail(name) => self.tell(objects, CONTROLLER, name)?,
            Place::AcmeFile(file) => self.mount(objects, file)?,
            Place::Field(kind, name, path) => assign(&mut find(objects, kind, name)?.data, path, &self.value),
            Place::GatewayReplicas => {
                assign(&mut find(objects, "Deployment", GATEWAY)?.data, &["spec", "replicas"], &self.value);
            }
            Place::Container(name, path) => {
                for container in containers(find(objects, "Deployment", name)?) {
                    assign(container, path, &self.value);
                }
            }
        }
        Ok(())
    }

    /// The controller has the file, and is told where.
    fn mount(&self, objects: &mut [DynamicObject], file: &File) -> Result<(), String> {
        let deployment = find(objects, "Deployment", CONTROLLER)?;
        let folder = format!("{MOUNTS}/{}", file.volume);
        for container in containers(deployment) {
            if let Some(variable) = variable(container, file.variable) {
                assign(variable, &["value"], &format!("{folder}/{}", file.key).into());
            }
            let mount = json!({ "name": file.volume, "mountPath": folder, "readOnly": true });
            put_named(container, "volumeMounts", mount);
        }
        let (kind, name) = file.source;
        let volume = json!({ "name": file.volume, kind: { name: self.value } });
        if let Some(pod) = deployment.data.pointer_mut("/spec/template/spec") {
            put_named(pod, "volumes", volume);
        }
        Ok(())
    }

    fn tell(&self, objects: &mut [DynamicObject], deployment: &str, name: &str) -> Result<(), String> {
        for container in containers(find(objects, "Deployment", deployment)?) {
            if let Some(variable) = variable(container, name) {
                assign(variable, &["value"], &self.value);
            }
        }
        Ok(())
    }
}

fn of_hub(image: &str, hub: &str) -> String {
    let name = image.rsplit_once('/').map_or(image, |(_, name)| name);
    format!("{hub}/{name}")
}

fn of_tag(image: &str, tag: &str) -> String {
    let path = image.rsplit_once(':').map_or(image, |(path, _)| path);
    format!("{path}:{tag}")
}

/// `max` below `min` is refused by the API server too, but only when the rest is installed.
fn bounds(objects: &[DynamicObject]) -> Result<(), Failure> {
    for object in objects.iter().filter(|object| kind(object) == SCALER) {
        let number = |path: &str| object.data.pointer(path).and_then(Value::as_i64).unwrap_or_default();
        let (min, max) = (number("/spec/minReplicas"), number("/spec/maxReplicas"));
        if max < min {
            return Err(Failure::Usage(format!(
                "gateway.autoscale.max={max} is less than gateway.autoscale.min={min}"
            )));
        }
    }
    Ok(())
}

fn find<'o>(objects: &'o mut [DynamicObject], wanted: &str, name: &str) -> Result<&'o mut DynamicObject, String> {
    let found = objects.iter_mut().find(|object| kind(object) == wanted && object.name_any() == name);
    found.ok_or_else(|| format!("{wanted} {name}"))
}

/// Of a Deployment; other objects have none.
fn containers(deployment: &mut DynamicObject) -> impl Iterator<Item = &mut Value> {
    let list = deployment.data.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// Of a container's environment; made if it is not there.
fn variable<'c>(container: &'c mut Value, name: &str) -> Option<&'c mut Value> {
    let list = container.as_object_mut()?.entry("env").or_insert_with(|| json!([])).as_array_mut()?;
    let at = list.iter().position(|variable| variable.get("name").and_then(Value::as_str) == Some(name));
    let at = at.unwrap_or_else(|| {
        list.push(json!({ "name": name, "value": "" }));
        list.len() - 1
    });
    list.get_mut(at)
}

/// Into a list whose elements have names; made if it is not there.
fn put_named(owner: &mut Value, list: &str, element: Value) {
    let Some(map) = owner.as_object_mut() else { return };
    let Some(list) = map.entry(list).or_insert_with(|| json!([])).as_array_mut() else { return };
    list.retain(|other| other.get("name") != element.get("name"));
    list.push(element);
}

/// Makes the mappings on the way.
fn assign(target: &mut Value, path: &[&str], value: &Value) {
    let mut place = target;
    for key in path {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        let Value::Object(map) = place else { return };
        place = map.entry(*key).or_insert(Value::Null);
    }
    *place = value.clone();
}

#[cfg(test)]
#[path = "values_tests.rs"]
mod tests;
