use super::*;

#[test]
fn a_wrong_setting_takes_its_default_and_the_others_count() {
    let place = Position { file: "f".into(), line: 10, column: 5 };
    let text = "\
accessLogFile: /dev/stdout
accessLogEncoding: XML
pathNormalization:
  normalization: MERGE_SLASHES
connectTimeout: 5
enablePrometheusMerge: true
rootNamspace: x
meshMTLS: {minProtocolVersion: TLSV1_3}
defaultConfig:
  discoveryAddress: istiod:15012
  gatewayTopology: {numTrustedProxies: 2}
";
    let (config, diagnostics) = MeshConfig::read(text, Some(&place));
    assert_eq!(config.access_log_file.as_deref(), Some("/dev/stdout"));
    assert_eq!(config.access_log_encoding, None);
    assert_eq!(config.path_normalization.unwrap().normalization, Some(NormalizationType::MergeSlashes));
    assert_eq!(config.default_config.unwrap().gateway_topology.unwrap().num_trusted_proxies, Some(2));
    assert!(config.mesh_mtls.is_some());
    let found: Vec<_> = diagnostics
        .iter()
        .map(|d| {
            let position = d.position.as_ref().unwrap();
            (d.code, d.field.as_str(), position.line, position.column)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("MESH0003", "data.mesh.accessLogEncoding", 11, 24),
            ("MESH0003", "data.mesh.connectTimeout", 14, 21),
            ("MESH0004", "data.mesh.rootNamspace", 16, 5),
        ]
    );
}

#[test]
fn no_text_is_all_defaults() {
    assert_eq!(MeshConfig::read("", None), (MeshConfig::default(), Vec::new()));
    let (config, diagnostics) = MeshConfig::read("a: [", None);
    assert_eq!(config, MeshConfig::default());
    assert_eq!(diagnostics[0].code, "MESH0120");
    let (config, diagnostics) = MeshConfig::read("[a]", None);
    assert_eq!(config, MeshConfig::default());
    assert_eq!(diagnostics[0].code, "MESH0003");
}
