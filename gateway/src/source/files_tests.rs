use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

fn service_entry(name: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec:\n  \
         hosts: [{name}.example]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: DNS\n---\n"
    )
}

fn options(paths: &[&Path]) -> FilesOptions {
    FilesOptions {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        text: None,
        default_namespace: "default".to_owned(),
        proxy: ProxyInfo::edge("test", "istio-system", [("istio".to_owned(), "ingressgateway".to_owned())].into()),
    }
}

struct Watched {
    files: Files,
    updates: UnboundedReceiver<Update>,
    /// Names of objects in force.
    names: Vec<String>,
    diagnostics: Vec<Diagnostic>,
    /// All that was ever in force, one entry per update.
    history: Vec<Vec<String>>,
}

impl Watched {
    fn start(paths: &[&Path]) -> Watched {
        let loaded = load(options(paths));
        let (send, updates) = unbounded_channel();
        let mut watched = Watched {
            names: Vec::new(),
            diagnostics: Vec::new(),
            history: Vec::new(),
            updates,
            files: Files { signals: mpsc::channel().0 },
        };
        watched.take(loaded.configuration.clone());
        watched.files = Files::watch(loaded, send).unwrap();
        watched
    }

    fn take(&mut self, configuration: Configuration) {
        self.names = configuration
            .objects
            .iter()
            .flat_map(|objects| objects.iter())
            .map(|object| object.name.to_string())
            .collect();
        self.names.sort();
        self.diagnostics = configuration.diagnostics;
        self.history.push(self.names.clone());
    }

    async fn until(&mut self, names: &[&str]) {
        let waited = tokio::time::timeout(DEADLINE, async {
            while self.names != names {
                match self.updates.recv().await.unwrap() {
                    Update::Configuration(configuration) => self.take(*configuration),
                    Update::Endpoints(_) | Update::Place(_) | Update::Ordered(_) | Update::Barrier(_) => {}
                }
            }
        });
        assert!(waited.await.is_ok(), "{names:?} never came: {:?}", self.history);
    }
}

/// A selector that forgets the gateway's own namespace does not take its ports away.
#[test]
fn the_gateways_namespace_is_always_looked_at() {
    let text = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'discoverySelectors: [{matchLabels: {mesh: in}}]'}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: NAME, namespace: NAME}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: PORT, name: http, protocol: HTTP}, hosts: ['*/*']}]}
";
    let gateway = |name: &str, port: &str| text.replace("NAME", name).replace("PORT", port);
    let both = gateway("edge", "8080") + "---\n" + gateway("other", "8081").split_once("---\n").unwrap().1;
    let labels = [("istio".to_owned(), "ingressgateway".to_owned())].into();
    let options = FilesOptions {
        text: Some(("test.yaml".to_owned(), both)),
        proxy: ProxyInfo::edge("test", "edge", labels),
        ..options(&[])
    };
    let ports: Vec<u16> = load(options).configuration.set.listeners.values().map(|listener| listener.port).collect();
    assert_eq!(ports, [8080]);
}

#[tokio::test]
async fn files_come_change_and_go() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    fs::write(base.join("a.yaml"), service_entry("a")).unwrap();
    let mut watched = Watched::start(&[base]);
    watched.until(&["a"]).await;
    fs::write(base.join("b.yaml"), service_entry("b")).unwrap();
    watched.until(&["a", "b"]).await;
    fs::write(base.join("a.yaml"), service_entry("a") + &service_entry("c")).unwrap();
    watched.until(&["a", "b", "c"]).await;
    fs::create_dir(base.join("sub")).unwrap();
    fs::write(base.join("sub/d.json"), r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"d"}}"#).unwrap();
    watched.until(&["a", "b", "c", "d"]).await;
    fs::remove_file(base.join("a.yaml")).unwrap();
    watched.until(&["b", "d"]).await;
    fs::remove_dir_all(base.join("sub")).unwrap();
    watched.until(&["b"]).await;
}

#[tokio::test]
async fn an_editor_that_renames_over_and_one_that_moves_away_first() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    fs::write(base.join("a.yaml"), service_entry("a")).unwrap();
    let mut watched = Watched::start(&[&base.join("a.yaml")]);
    fs::write(base.join(".a.yaml.tmp"), service_entry("b")).unwrap();
    fs::rename(base.join(".a.yaml.tmp"), base.join("a.yaml")).unwrap();
    watched.until(&["b"]).await;
    fs::rename(base.join("a.yaml"), base.join("a.yaml~")).unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    fs::write(base.join("a.yaml"), service_entry("c")).unwrap();
    watched.until(&["c"]).await;
    assert!(!watched.history.iter().any(Vec::is_empty), "{:?}", watched.history);
}

#[tokio::test]
async fn half_a_file_is_never_in_force() {
    use std::io::Write as _;
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    fs::write(base.join("a.yaml"), service_entry("a") + &service_entry("b")).unwrap();
    let mut watched = Watched::start(&[base]);
    for round in 0..5 {
        // Truncated, then written in two halves, with time between.
        let mut file = fs::File::create(base.join("a.yaml")).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        file.write_all(service_entry("a").as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        file.write_all(service_entry(&format!("b{round}")).as_bytes()).unwrap();
        drop(file);
        watched.until(&["a", &format!("b{round}")]).await;
    }
    assert!(watched.history.iter().all(|names| names.len() == 2), "{:?}", watched.history);
}

#[tokio::test]
async fn a_file_that_stays_empty_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), service_entry("a")).unwrap();
    let mut watched = Watched::start(&[directory.path()]);
    fs::write(directory.path().join("a.yaml"), "").unwrap();
    watched.until(&[]).await;
}

#[tokio::test]
async fn a_mounted_config_map_swaps_its_link() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let version = |name: &str, objects: &str| {
        fs::create_dir(base.join(name)).unwrap();
        fs::write(base.join(name).join("a.yaml"), objects).unwrap();
        symlink(name, base.join("..data_tmp")).unwrap();
        fs::rename(base.join("..data_tmp"), base.join("..data")).unwrap();
    };
    version("..2026_1", &service_entry("a"));
    symlink("..data/a.yaml", base.join("a.yaml")).unwrap();
    let mut watched = Watched::start(&[base]);
    let mut single = Watched::start(&[&base.join("a.yaml")]);
    watched.until(&["a"]).await;
    version("..2026_2", &service_entry("b"));
    fs::remove_dir_all(base.join("..2026_1")).unwrap();
    watched.until(&["b"]).await;
    single.until(&["b"]).await;
    version("..2026_3", &service_entry("c"));
    watched.until(&["c"]).await;
    single.until(&["c"]).await;
    assert!(!watched.history.iter().any(Vec::is_empty), "{:?}", watched.history);
}

#[tokio::test]
async fn broken_then_fixed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, service_entry("a") + &service_entry("b")).unwrap();
    let mut watched = Watched::start(&[directory.path()]);
    fs::write(&path, service_entry("c") + "kind: {unclosed\n").unwrap();
    watched.until(&["a", "b", "c"]).await;
    let position = watched.diagnostics.iter().find_map(|diagnostic| diagnostic.position.clone()).unwrap();
    assert_eq!(&*position.file, path.to_str().unwrap());
    fs::write(&path, service_entry("c")).unwrap();
    watched.until(&["c"]).await;
    assert!(watched.diagnostics.is_empty(), "{:?}", watched.diagnostics);
}

#[tokio::test]
async fn a_reload_reads_what_looks_unchanged_and_says_nothing_if_it_is() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), service_entry("a")).unwrap();
    let mut watched = Watched::start(&[directory.path()]);
    watched.files.reload();
    assert!(tokio::time::timeout(Duration::from_millis(300), watched.updates.recv()).await.is_err());
    fs::write(directory.path().join("a.yaml"), service_entry("b")).unwrap();
    watched.files.reload();
    watched.until(&["b"]).await;
}

#[tokio::test]
async fn a_named_file_that_is_removed_keeps_what_it_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    let other = directory.path().join("b.yaml");
    fs::write(&path, service_entry("a")).unwrap();
    fs::write(&other, service_entry("b")).unwrap();
    let mut watched = Watched::start(&[&path, &other]);
    fs::remove_file(&path).unwrap();
    fs::write(&other, service_entry("c")).unwrap();
    watched.until(&["a", "c"]).await;
    fs::write(&path, service_entry("d")).unwrap();
    watched.until(&["c", "d"]).await;
    assert!(watched.diagnostics.is_empty(), "{:?}", watched.diagnostics);
}

#[tokio::test]
async fn what_is_missing_at_first_is_told_and_taken_when_it_comes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("later");
    let mut watched = Watched::start(&[&path]);
    assert_eq!(watched.diagnostics.len(), 1, "{:?}", watched.diagnostics);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("a.yaml"), service_entry("a")).unwrap();
    watched.until(&["a"]).await;
    assert!(watched.diagnostics.is_empty(), "{:?}", watched.diagnostics);
}

#[tokio::test]
async fn one_of_a_thousand_files_is_live_in_tens_of_milliseconds() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    for number in 0..1_000 {
        fs::write(base.join(format!("{number}.yaml")), service_entry(&format!("s{number}"))).unwrap();
    }
    let mut watched = Watched::start(&[base]);
    assert_eq!(watched.names.len(), 1_000);
    // Until the watch is there.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    fs::write(base.join("7.yaml"), service_entry("changed")).unwrap();
    while !watched.names.contains(&"changed".to_owned()) {
        match tokio::time::timeout(DEADLINE, watched.updates.recv()).await.unwrap().unwrap() {
            Update::Configuration(configuration) => watched.take(*configuration),
            Update::Endpoints(_) | Update::Place(_) | Update::Ordered(_) | Update::Barrier(_) => {}
        }
    }
    // Generous: the machine may be busy, and the build is not optimised.
    assert!(begun.elapsed() < Duration::from_millis(1_000), "{:?}", begun.elapsed());
    println!("one of a thousand files: {:?}", begun.elapsed());
}
