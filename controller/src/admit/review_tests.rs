use super::*;

fn request(change: impl Fn(&mut Value)) -> Request {
    let mut request = json!({
        "uid": "u-1",
        "kind": { "group": "networking.istio.io", "version": "v1", "kind": "Gateway" },
        "namespace": "shop",
        "operation": "UPDATE",
        "object": { "metadata": { "name": "a" }, "spec": { "selector": { "a": "b" } } },
        "oldObject": { "metadata": { "name": "a" }, "spec": {} },
        "dryRun": false,
    });
    change(&mut request);
    let review: Review =
        serde_json::from_value(json!({ "apiVersion": "admission.k8s.io/v1", "request": request })).unwrap();
    review.request
}

#[test]
fn only_what_changes_an_object_is_judged() {
    assert!(request(|_| {}).is_judged());
    assert!(request(|request| request["operation"] = "CREATE".into()).is_judged());
    assert!(!request(|request| request["operation"] = "DELETE".into()).is_judged());
    assert!(!request(|request| request["subResource"] = "status".into()).is_judged());
    assert!(!request(|request| request["kind"]["group"] = "".into()).is_judged());
    assert!(!request(|request| request["oldObject"]["spec"] = request["object"]["spec"].clone()).is_judged());
    let ending =
        |request: &mut Value| request["object"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    assert!(!request(ending).is_judged());
}

#[test]
fn a_denial_tells_all_that_is_wrong() {
    let verdict = Verdict { denied: vec!["a: b".to_owned(), "c: d".to_owned()], warnings: vec!["w".to_owned()] };
    let answer = answer("u-1", &verdict);
    assert_eq!(answer["response"]["uid"], "u-1");
    assert_eq!(answer["response"]["allowed"], false);
    assert_eq!(answer["response"]["status"]["message"], "a: b\nc: d");
    assert_eq!(answer["response"]["warnings"], json!(["w"]));
}

#[test]
fn warnings_are_bounded() {
    let verdict = Verdict { denied: Vec::new(), warnings: vec!["ö".repeat(300); 100] };
    let answer = answer("u", &verdict);
    assert_eq!(answer["response"]["allowed"], true);
    let warnings = answer["response"]["warnings"].as_array().unwrap();
    assert!(warnings.iter().all(|warning| warning.as_str().unwrap().len() <= 256));
    assert!(warnings.iter().map(|warning| warning.as_str().unwrap().len()).sum::<usize>() < 4096);
    assert!(warnings.last().unwrap().as_str().unwrap().starts_with("and "));
}
