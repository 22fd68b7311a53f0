use crate::api::parse;

fn fields(kind: &str, spec: &str) -> Vec<String> {
    let text = format!("apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec:\n{spec}");
    let parsed = parse("f", &text, "default");
    let found = parsed.diagnostics.iter().filter(|d| d.code == "MESH0005" || d.message.contains("has no effect, as"));
    found.map(|d| format!("{} {}", d.field, d.position.as_ref().map_or(0, |p| p.line))).collect()
}

#[test]
fn each_kind_of_field_is_reported_once_at_its_first_place() {
    let spec = "  servers:
  - {port: {number: 80, name: a, protocol: HTTP}, hosts: ['*']}
  - port: {number: 81, name: b, protocol: HTTP}
    hosts: ['*']
    default_endpoint: '127.0.0.1:80'
  - port: {number: 82, name: c, protocol: HTTP}
    hosts: ['*']
    defaultEndpoint: '127.0.0.1:80'
    tls: {minProtocolVersion: TLSV1_1}
";
    assert_eq!(
        fields("Gateway", spec),
        ["spec.servers[1].defaultEndpoint 9", "spec.servers[2].tls.minProtocolVersion 13"]
    );
}

#[test]
fn what_is_built_is_not_reported() {
    let spec = "  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: a, protocol: HTTP}, hosts: [a.example], tls: {httpsRedirect: true}}
  - port: {number: 443, name: b, protocol: HTTPS}
    hosts: ['*']
    bind: 0.0.0.0
    tls: {mode: SIMPLE, credentialNames: [a, b], minProtocolVersion: TLSV1_3}
";
    assert_eq!(fields("Gateway", spec), Vec::<String>::new());
}
