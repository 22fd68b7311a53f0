use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use super::*;

type Labels = BTreeMap<String, String>;

/// One of each is told apart.
const NAMESPACE_SAYS: [Option<&str>; 3] = [None, Some("enabled"), Some("disabled")];
const REVISIONS: [Option<&str>; 3] = [None, Some("default"), Some("canary")];
const POD_SAYS: [Option<&str>; 4] = [None, Some("true"), Some("false"), Some("maybe")];

fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Labels {
    pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect()
}

fn pod(labels: &Labels, annotations: &Labels) -> Pod {
    Pod::read(&json!({ "metadata": { "labels": labels, "annotations": annotations }, "spec": {} })).unwrap()
}

/// What a row says, in a word.
fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Inject => "inject",
        Decision::Leave(Reason::PodSaysNo(_)) => "pod says no",
        Decision::Leave(Reason::NamespaceSaysNo(..)) => "namespace says no",
        Decision::Leave(Reason::OtherRevision(_)) => "other revision",
        Decision::Leave(Reason::NotAsked) => "-",
        Decision::Leave(_) => "never",
    }
}

#[test]
fn the_table() {
    let mut table = String::new();
    for (says, revision) in [
        (None, None),
        (Some("enabled"), None),
        (Some("disabled"), None),
        (None, Some("default")),
        (None, Some("canary")),
    ] {
        let of_namespace = labels([(NAMESPACE_LABEL, says), (REVISION_LABEL, revision)]);
        let name = of_namespace.iter().map(|(label, value)| format!("{label}={value}")).collect::<String>();
        for pod_revision in [None, Some("default"), Some("canary")] {
            let row = POD_SAYS.map(|says| {
                let pod = pod(&labels([(POD_LABEL, says), (REVISION_LABEL, pod_revision)]), &Labels::new());
                word(&decide(Namespace { name: "shop", labels: Some(&of_namespace) }, &pod, &Selection::default()))
            });
            let [nothing, yes, no, maybe] = row;
            let pod_revision = pod_revision.unwrap_or("-");
            table.push_str(&format!("{name:<24} rev={pod_revision:<8} {nothing:<18} {yes:<18} {no:<12} {maybe}\n"));
        }
    }
    insta::assert_snapshot!(table, @r#"
                             rev=-        -                  inject             pod says no  -
                             rev=default  inject             inject             pod says no  inject
                             rev=canary   other revision     other revision     pod says no  other revision
    istio-injection=enabled  rev=-        inject             inject             pod says no  inject
    istio-injection=enabled  rev=default  inject             inject             pod says no  inject
    istio-injection=enabled  rev=canary   inject             inject             pod says no  inject
    istio-injection=disabled rev=-        namespace says no  namespace says no  pod says no  namespace says no
    istio-injection=disabled rev=default  namespace says no  namespace says no  pod says no  namespace says no
    istio-injection=disabled rev=canary   namespace says no  namespace says no  pod says no  namespace says no
    istio.io/rev=default     rev=-        inject             inject             pod says no  inject
    istio.io/rev=default     rev=default  inject             inject             pod says no  inject
    istio.io/rev=default     rev=canary   inject             inject             pod says no  inject
    istio.io/rev=canary      rev=-        namespace says no  namespace says no  pod says no  namespace says no
    istio.io/rev=canary      rev=default  namespace says no  namespace says no  pod says no  namespace says no
    istio.io/rev=canary      rev=canary   namespace says no  namespace says no  pod says no  namespace says no
    "#);
}

#[test]
fn the_annotation_counts_where_there_is_no_label() {
    let of_namespace = labels([(NAMESPACE_LABEL, Some("enabled"))]);
    let decided = |label: Option<&str>, annotation: &str| {
        let pod = pod(&labels([(POD_LABEL, label)]), &labels([(POD_LABEL, Some(annotation))]));
        decide(Namespace { name: "shop", labels: Some(&of_namespace) }, &pod, &Selection::default())
    };
    assert_eq!(decided(None, "false"), Decision::Leave(Reason::PodSaysNo("annotation")));
    assert_eq!(decided(Some("true"), "false"), Decision::Inject);
    assert_eq!(decided(Some("false"), "true"), Decision::Leave(Reason::PodSaysNo("label")));
    assert_eq!(decided(None, "whatever"), Decision::Inject);
}

#[test]
fn some_are_never_injected() {
    let decided = |namespace: &str, pod: Value| {
        let pod = Pod::read(&pod).unwrap();
        let of_namespace = labels([(NAMESPACE_LABEL, Some("enabled"))]);
        [None, Some(&of_namespace)]
            .map(|labels| decide(Namespace { name: namespace, labels }, &pod, &Selection::default()))
    };
    let yes = json!({ POD_LABEL: "true" });
    let host = decided("shop", json!({ "metadata": { "labels": yes }, "spec": { "hostNetwork": true } }));
    assert_eq!(host, [Decision::Leave(Reason::HostNetwork), Decision::Leave(Reason::HostNetwork)]);
    let done = decided("shop", json!({ "metadata": { "labels": yes, "annotations": { STATUS: "{}" } } }));
    assert_eq!(done, [Decision::Leave(Reason::AlreadyInjected), Decision::Leave(Reason::AlreadyInjected)]);
    for namespace in NEVER {
        let system = decided(namespace, json!({ "metadata": { "labels": yes } }));
        let never = Decision::Leave(Reason::Namespace((*namespace).to_owned()));
        assert_eq!(system, [never.clone(), never]);
    }
}

fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let selector = selector.unwrap();
    assert!(selector.match_labels.is_none());
    selector.match_expressions.iter().flatten().all(|wanted| {
        let value = labels.get(&wanted.key);
        let among = value.is_some_and(|value| wanted.values.iter().flatten().any(|known| known == value));
        match wanted.operator.as_str() {
            "In" => among,
            "NotIn" => !among,
            "DoesNotExist" => value.is_none(),
            other => panic!("{other}"),
        }
    })
}

/// The API server selects what the table says, and no pod twice.
#[test]
fn the_configuration_selects_as_the_table_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/base/injection.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let configuration: Value = serde_saphyr::from_str(&text).unwrap();
    let configuration: MutatingWebhookConfiguration = serde_json::from_value(configuration).unwrap();
    let webhooks = configuration.webhooks.unwrap();
    assert_eq!(webhooks.len(), 4);
    for (name, says, revision) in ["shop", "kube-system", "meshgate-system"]
        .iter()
        .flat_map(|name| NAMESPACE_SAYS.map(|says| REVISIONS.map(|revision| (*name, says, revision))).concat())
    {
        let mut of_namespace = labels([(NAMESPACE_LABEL, says), (REVISION_LABEL, revision)]);
        let decided_by = of_namespace.clone();
        of_namespace.insert("kubernetes.io/metadata.name".to_owned(), name.to_owned());
        for (says, revision) in POD_SAYS.iter().flat_map(|says| REVISIONS.map(|revision| (*says, revision))) {
            let of_pod = labels([(POD_LABEL, says), (REVISION_LABEL, revision)]);
            let asked = webhooks.iter().filter(|webhook| {
                selects(webhook.namespace_selector.as_ref(), &of_namespace)
                    && selects(webhook.object_selector.as_ref(), &of_pod)
            });
            let asked = asked.count();
            let namespace = Namespace { name, labels: Some(&decided_by) };
            let decision = decide(namespace, &pod(&of_pod, &Labels::new()), &Selection::default());
            let expected = usize::from(decision == Decision::Inject);
            assert_eq!(asked, expected, "{of_namespace:?} {of_pod:?} {decision:?}");
        }
    }
    for webhook in &webhooks {
        let never = webhook.namespace_selector.as_ref().unwrap().match_expressions.iter().flatten();
        let never = never.filter(|wanted| wanted.key == "kubernetes.io/metadata.name");
        let never: Vec<String> = never.flat_map(|wanted| wanted.values.clone().unwrap()).collect();
        assert_eq!(never, NEVER);
    }
}

/// A pod in a namespace that asks for sidecars, and what the injector's settings say of it.
#[test]
fn the_injectors_settings_speak_where_the_pod_does_not() {
    let of_namespace = labels([(NAMESPACE_LABEL, Some("enabled"))]);
    let decided = |settings: &str, of_pod: &[(&str, Option<&str>)], annotation: Option<&str>| {
        let annotations = labels([(POD_LABEL, annotation)]);
        let pod = pod(&labels(of_pod.iter().copied()), &annotations);
        let selection = Selection::read(settings).unwrap();
        decide(Namespace { name: "shop", labels: Some(&of_namespace) }, &pod, &selection)
    };
    let never =
        "neverInjectSelector: [{ matchLabels: { job: a } }, { matchExpressions: [{ key: batch, operator: Exists }] }]";
    let by_second = Decision::Leave(Reason::NeverSelected(1));
    assert_eq!(decided(never, &[("batch", Some(""))], None), by_second);
    assert_eq!(decided(never, &[("app", Some("web"))], None), Decision::Inject);
    // The pod's own word is stronger; what is no word does not count.
    assert_eq!(decided(never, &[("batch", Some("")), (POD_LABEL, Some("true"))], None), Decision::Inject);
    assert_eq!(decided(never, &[("batch", Some(""))], Some("true")), Decision::Inject);
    assert_eq!(decided(never, &[("batch", Some("")), (POD_LABEL, Some("maybe"))], Some("true")), by_second);
    let disabled = "{ policy: disabled, alwaysInjectSelector: [{ matchLabels: { app: web } }, {}] }";
    assert_eq!(decided(disabled, &[("app", Some("web"))], None), Decision::Inject);
    assert_eq!(
        decided(disabled, &[("app", Some("web"))], Some("false")),
        Decision::Leave(Reason::PodSaysNo("annotation"))
    );
    assert_eq!(decided(disabled, &[("app", Some("db"))], None), Decision::Leave(Reason::PolicyDisabled));
    assert_eq!(decided(disabled, &[("app", Some("db")), (POD_LABEL, Some("true"))], None), Decision::Inject);
    let both =
        "{ neverInjectSelector: [{ matchLabels: { job: a } }], alwaysInjectSelector: [{ matchLabels: { job: a } }] }";
    assert_eq!(decided(both, &[("job", Some("a"))], None), Decision::Leave(Reason::NeverSelected(0)));
}

/// Istio's own rows, where they are at hand.
#[test]
fn the_rows_of_others() {
    let Some(folder) = std::env::var_os("MESHGATE_CASES") else {
        return eprintln!("skipped: MESHGATE_CASES is not set");
    };
    let text = std::fs::read_to_string(Path::new(&folder).join("inject/required.yaml")).unwrap();
    let rows: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
    assert!(!rows.is_empty());
    for row in &rows {
        let map = |key: &str| row.get(key).map(|map| serde_json::from_value(map.clone()).unwrap()).unwrap_or_default();
        let (of_pod, annotations): (Labels, Labels) = (map("labels"), map("annotations"));
        // A row may write a selector as one label that has to be there.
        let selectors = |key: &str| {
            let list = row.get(key).and_then(Value::as_array).cloned().unwrap_or_default().into_iter();
            let whole = |one: Value| match one.get("selector") {
                Some(label) => json!({ "matchExpressions": [{ "key": label, "operator": "Exists" }] }),
                None => one,
            };
            list.map(whole).collect::<Vec<_>>()
        };
        let settings = json!({
            "policy": row["policy"],
            "alwaysInjectSelector": selectors("alwaysInjectSelector"),
            "neverInjectSelector": selectors("neverInjectSelector"),
        });
        // The API server has selected them all.
        let namespace = Namespace { name: row["namespace"].as_str().unwrap(), labels: None };
        let selection = Selection::read(&settings.to_string()).unwrap();
        let injected = decide(namespace, &pod(&of_pod, &annotations), &selection) == Decision::Inject;
        assert_eq!(Some(injected), row["inject"].as_bool(), "{}", row["id"]);
    }
}
