use super::*;

fn service_entry(name: &str, host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  \
         hosts: [{host}]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: DNS\n---\n"
    )
}

/// A ServiceEntry that has an error.
fn broken(name: &str) -> String {
    service_entry(name, "x.example").replace("number: 80", "number: many")
}

fn file(path: &str) -> FileName {
    FileName::new(0, path)
}

fn hosts(documents: &Documents) -> Vec<String> {
    let mut hosts: Vec<String> = documents
        .files
        .values()
        .flat_map(|file| file.objects.values().flatten())
        .map(|object| match &object.spec {
            api::Spec::ServiceEntry(entry) => format!("{}={}", object.meta.name, entry.hosts.join(",")),
            _ => object.meta.name.clone(),
        })
        .collect();
    hosts.sort();
    hosts
}

#[test]
fn only_what_changed_is_reported() {
    let mut documents = Documents::new("default");
    assert!(documents.update(&file("a"), &(service_entry("a", "a.example") + &service_entry("b", "b.example"))));
    let changes = documents.take_changes();
    assert_eq!((changes.apply.len(), changes.remove.len()), (2, 0));
    assert!(!documents.update(&file("a"), &(service_entry("a", "a.example") + &service_entry("b", "b.example"))));
    assert!(documents.update(&file("a"), &service_entry("a", "a2.example")));
    let changes = documents.take_changes();
    assert_eq!((changes.apply.len(), changes.remove.len()), (1, 1));
    assert_eq!(&*changes.remove[0].name, "b");
    assert!(documents.remove(&file("a")));
    assert!(!documents.remove(&file("a")));
    assert_eq!(documents.take_changes().remove.len(), 1);
}

#[test]
fn an_object_that_became_bad_keeps_its_last_good_version() {
    let mut documents = Documents::new("default");
    documents.update(&file("a"), &(service_entry("a", "a.example") + &service_entry("b", "b.example")));
    documents.update(&file("a"), &(broken("a") + &service_entry("b", "b2.example")));
    assert_eq!(hosts(&documents), ["a=a.example", "b=b2.example"]);
    let diagnostics = documents.diagnostics();
    let help = diagnostics
        .iter()
        .find_map(|diagnostic| diagnostic.help.as_deref().filter(|help| help.contains("stays in force")));
    assert!(help.is_some(), "{diagnostics:?}");
    documents.update(&file("a"), &(service_entry("a", "a3.example") + &service_entry("b", "b2.example")));
    assert_eq!(hosts(&documents), ["a=a3.example", "b=b2.example"]);
    assert!(documents.diagnostics().is_empty());
}

#[test]
fn a_document_that_is_no_yaml_keeps_what_it_may_have_said() {
    let mut documents = Documents::new("default");
    documents.update(&file("a"), &(service_entry("a", "a.example") + &service_entry("b", "b.example")));
    documents.update(&file("a"), &(service_entry("a", "a2.example") + "kind: [unclosed\n"));
    assert_eq!(hosts(&documents), ["a=a2.example", "b=b.example"]);
    assert!(!documents.diagnostics().is_empty());
}

#[test]
fn the_later_file_counts_and_the_earlier_one_comes_back() {
    let mut documents = Documents::new("default");
    let applied = |documents: &mut Documents| {
        let changes = documents.take_changes();
        let first = changes.apply.first().map(|object| object.spec.clone());
        match first {
            Some(api::Spec::ServiceEntry(entry)) => entry.hosts.first().cloned(),
            _ => None,
        }
    };
    documents.update(&file("a"), &service_entry("x", "a.example"));
    documents.update(&file("b"), &service_entry("x", "b.example"));
    assert_eq!(applied(&mut documents).as_deref(), Some("b.example"));
    assert_eq!(documents.diagnostics().iter().filter(|d| d.code == diag::DUPLICATE_OBJECT.id).count(), 1);
    documents.update(&file("a"), &service_entry("x", "a2.example"));
    assert_eq!(applied(&mut documents).as_deref(), Some("b.example"));
    documents.remove(&file("b"));
    assert_eq!(applied(&mut documents).as_deref(), Some("a2.example"));
    assert!(documents.diagnostics().is_empty());
}

#[test]
fn trouble_with_a_file_is_told_once_and_ends_with_it() {
    let mut documents = Documents::new("default");
    let text = service_entry("a", "a.example");
    documents.update(&file("a"), &text);
    let trouble = || Diagnostic::new(diag::SOURCE_UNREADABLE, "no");
    assert!(documents.trouble(&file("a"), trouble()));
    assert!(!documents.trouble(&file("a"), trouble()));
    assert_eq!(hosts(&documents), ["a=a.example"]);
    assert!(documents.update(&file("a"), &text));
    assert!(documents.diagnostics().is_empty());
}
