//! `cargo xtask arch`: the walls of the house. Reads the sources and fails on an import that a wall forbids, a file that is
//! too long, or a folder at the top level that does not belong there. `cargo xtask fields`: the table of fields and their proofs.

mod fields;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Nothing below `room` may mention one of `forbidden`.
struct Wall {
    room: &'static str,
    forbidden: &'static [&'static str],
    why: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        room: "mesh-core/src",
        forbidden: &[
            "std::fs",
            "std::net::Tcp",
            "std::net::Udp",
            "std::thread",
            "std::env",
            "SystemTime::now",
            "Instant::now",
        ],
        why: "mesh-core is pure: no sockets, tasks, files, clock, kube, pingora",
    },
    Wall { room: "mesh-core/src/object.rs", forbidden: &["crate::"], why: "object is a leaf" },
    Wall { room: "mesh-core/src/attribute.rs", forbidden: &["crate::"], why: "attribute is a leaf" },
    Wall { room: "mesh-core/src/re2.rs", forbidden: &["crate::"], why: "re2 is a leaf" },
    Wall {
        room: "mesh-core/src/diag",
        forbidden: &[
            "crate::api",
            "crate::world",
            "crate::translate",
            "crate::model",
            "crate::compile",
            "crate::snapshot",
            "crate::lb",
        ],
        why: "diag is a leaf",
    },
    Wall {
        room: "mesh-core/src/api",
        forbidden: &[
            "crate::world",
            "crate::translate",
            "crate::model",
            "crate::compile",
            "crate::snapshot",
            "crate::lb",
        ],
        why: "api is syntax only",
    },
    Wall {
        room: "mesh-core/src/world",
        forbidden: &["crate::translate", "crate::compile", "crate::snapshot", "crate::lb"],
        why: "world holds objects; meaning is given by translate",
    },
    Wall {
        room: "mesh-core/src/translate",
        forbidden: &["crate::compile", "crate::snapshot", "crate::lb"],
        why: "translate ends at the model",
    },
    Wall {
        room: "mesh-core/src/model",
        forbidden: &[
            "crate::api",
            "crate::world",
            "crate::translate",
            "crate::compile",
            "crate::snapshot",
            "crate::lb",
        ],
        why: "the model does not know the users' API nor the tables",
    },
    Wall {
        room: "mesh-core/src/compile",
        forbidden: &["crate::api", "crate::world", "crate::translate"],
        why: "compile reads the model only",
    },
    Wall {
        room: "mesh-core/src/snapshot",
        forbidden: &["crate::api", "crate::world", "crate::translate"],
        why: "the read path knows the model only",
    },
    Wall {
        room: "mesh-core/src/reach",
        forbidden: &["crate::api", "crate::world", "crate::translate", "crate::compile", "crate::analyze", "crate::lb"],
        why: "which requests a predicate means is a question about the model",
    },
    Wall {
        room: "mesh-core/src/analyze",
        forbidden: &["crate::wire", "crate::lb"],
        why: "analyze asks the tables that serve; it does not serve",
    },
    Wall {
        room: "mesh-core/src/lb",
        forbidden: &["crate::api", "crate::world", "crate::translate", "crate::compile"],
        why: "lb picks endpoints, nothing else",
    },
    Wall {
        room: "mesh-core/src/wire",
        forbidden: &[
            "crate::api",
            "crate::world",
            "crate::translate",
            "crate::compile",
            "crate::snapshot",
            "crate::lb",
        ],
        why: "what travels is the model",
    },
    Wall {
        room: "mesh-core/acme/src",
        forbidden: &[
            "kube::",
            "k8s_openapi",
            "pingora",
            "tonic",
            "gateway::",
            "controller::",
            "mesh_core::api",
            "mesh_core::world",
            "mesh_core::translate",
            "mesh_core::snapshot",
        ],
        why: "who asks a CA knows neither who wants the certificates nor where they are kept",
    },
    Wall {
        room: "gateway/src",
        forbidden: &["kube::", "k8s_openapi"],
        why: "the gateway knows neither Kubernetes nor the controller",
    },
    Wall {
        room: "gateway/src/http",
        forbidden: &[
            "crate::app",
            "crate::bootstrap",
            "crate::sidecar",
            "crate::source",
            "crate::store",
            "crate::admin",
            "mesh_core::api",
            "mesh_core::world",
            "mesh_core::translate",
        ],
        why: "the engine serves tables; it does not know where they come from",
    },
    Wall {
        room: "gateway/src/upstream",
        forbidden: &[
            "crate::app",
            "crate::bootstrap",
            "crate::sidecar",
            "crate::source",
            "crate::store",
            "crate::admin",
            "mesh_core::api",
            "mesh_core::world",
            "mesh_core::translate",
        ],
        why: "pools know destinations and endpoints only",
    },
    Wall {
        room: "gateway/src/listen",
        forbidden: &[
            "crate::app",
            "crate::bootstrap",
            "crate::sidecar",
            "crate::source",
            "crate::store",
            "crate::admin",
            "crate::upstream",
            "mesh_core::api",
            "mesh_core::world",
            "mesh_core::translate",
        ],
        why: "listeners accept; what is served is the engine's",
    },
    Wall {
        room: "gateway/src/observe",
        forbidden: &[
            "crate::app",
            "crate::bootstrap",
            "crate::sidecar",
            "crate::source",
            "crate::store",
            "crate::http",
            "mesh_core::api",
            "mesh_core::world",
        ],
        why: "observe records what it is told",
    },
];

/// Only the files that know every room may import these.
const APP_ONLY: &[&str] = &["crate::app", "crate::bootstrap"];
const APP_FILES: &[&str] = &[
    "gateway/src/app.rs",
    "gateway/src/bootstrap.rs",
    // The other verb of the command line.
    "gateway/src/check.rs",
    "gateway/src/lib.rs",
    "gateway/src/bin/meshgate.rs",
    "gateway/src/bin/meshgate_sidecar.rs",
];

const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "gateway",
    "mesh-core",
    "controller",
    "deploy",
    "benches",
    "tests",
    "rustfmt.toml",
    "clippy.toml",
    "deny.toml",
    "target",
];

/// Crates that a crate may not depend on, outside of its tests.
const FOREIGN: &[(&str, &[&str])] = &[
    ("mesh-core", &["kube", "k8s-openapi", "pingora", "tonic", "tokio", "gateway", "controller", "hyper", "notify"]),
    ("mesh-core/acme", &["kube", "k8s-openapi", "pingora", "tonic", "gateway", "controller"]),
    ("gateway", &["kube", "k8s-openapi", "controller"]),
    ("controller", &["pingora", "gateway"]),
];

const GROUPS: &[&str] = &["use crate::{", "use mesh_core::{"];

const BANNED: &[&str] = &["ring", "openssl-sys", "native-tls", "boring-sys"];

/// Source files stay under this; tests in `*_tests.rs` and `tests/` may be longer.
const MAX_LINES: usize = 640;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("arch") => arch(),
        Some("fields") => table_of_fields(std::env::args().nth(2).as_deref() == Some("--check")),
        _ => {
            eprintln!("usage: cargo xtask arch | fields [--check]");
            ExitCode::from(64)
        }
    }
}

/// Writes the table, or looks whether it is what it should be.
fn table_of_fields(check: bool) -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join(fields::FILE);
    let (table, without) = match fields::table(&root) {
        Ok(found) => found,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!("fields: {} without a case", without.len());
    if !check {
        without.iter().for_each(|field| eprintln!("{field}: no case sets it"));
    }
    let is_same = std::fs::read_to_string(&path).is_ok_and(|text| text == table);
    if check && !is_same {
        eprintln!("{} is not what it should be: run `cargo xtask fields`", fields::FILE);
    }
    if !check && let Err(error) = std::fs::write(&path, &table) {
        eprintln!("{}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    if is_same || !check { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arch() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut findings = BTreeSet::new();
    top_level(&root, &mut findings);
    banned_crates(&root, &mut findings);
    foreign_crates(&root, &mut findings);
    for file in ["mesh-core", "gateway", "controller", "tests/src", "benches"]
        .iter()
        .flat_map(|room| rust_files(&root.join(room)))
    {
        let name = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        match std::fs::read_to_string(&file) {
            Ok(text) => check_file(&name, &text, &mut findings),
            Err(error) => {
                findings.insert(format!("{name}: {error}"));
            }
        }
    }
    for finding in &findings {
        eprintln!("{finding}");
    }
    if findings.is_empty() {
        println!("arch: all walls stand");
        ExitCode::SUCCESS
    } else {
        eprintln!("arch: {} findings", findings.len());
        ExitCode::FAILURE
    }
}

fn top_level(root: &Path, findings: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && !TOP_LEVEL.contains(&name.as_str()) {
            findings.insert(format!("{name}: does not belong at the top level"));
        }
    }
}

fn foreign_crates(root: &Path, findings: &mut BTreeSet<String>) {
    for (member, foreign) in FOREIGN {
        let manifest = std::fs::read_to_string(root.join(member).join("Cargo.toml")).unwrap_or_default();
        let dependencies = manifest
            .lines()
            .skip_while(|line| *line != "[dependencies]")
            .skip(1)
            .take_while(|line| !line.starts_with('['))
            .filter_map(|line| line.split([' ', '=', '.']).next());
        for name in dependencies {
            if foreign.iter().any(|word| name == *word || name.starts_with(&format!("{word}-"))) {
                findings.insert(format!("{member}/Cargo.toml: `{name}` does not belong in {member}"));
            }
        }
    }
}

/// The crates that `deny.toml` denies, so that it holds where cargo-deny is not installed.
fn banned_crates(root: &Path, findings: &mut BTreeSet<String>) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = std::process::Command::new(cargo)
        .args(["tree", "--locked", "--workspace", "--prefix", "none", "--edges", "normal,build", "--target", "all"])
        .current_dir(root)
        .output();
    match tree {
        Ok(tree) if tree.status.success() => {
            let text = String::from_utf8_lossy(&tree.stdout).into_owned();
            for name in text.lines().filter_map(|line| line.split(' ').next()).filter(|name| BANNED.contains(name)) {
                findings.insert(format!("`{name}` is in the tree; aws-lc-rs is the one crypto provider"));
            }
        }
        Ok(tree) => {
            findings.insert(format!("cargo tree: {}", String::from_utf8_lossy(&tree.stderr).trim()));
        }
        Err(error) => {
            findings.insert(format!("cargo tree: {error}"));
        }
    }
}

fn check_file(name: &str, text: &str, findings: &mut BTreeSet<String>) {
    let is_test = name.ends_with("_tests.rs") || name.contains("/tests/") || name.contains("/testing/");
    let lines = text.lines().count();
    if !is_test && lines > MAX_LINES {
        findings.insert(format!("{name}: {lines} lines; a room may be missing (at most {MAX_LINES})"));
    }
    if is_test {
        return;
    }
    let code = code(text);
    // A group would hide from the walls what it imports.
    let walled = WALLS.iter().any(|wall| name.starts_with(wall.room));
    for (number, _) in code.iter().filter(|(_, line)| walled && GROUPS.iter().any(|group| line.contains(group))) {
        findings.insert(format!("{name}:{}: name the room in each import: `use crate::room::Thing;`", number + 1));
    }
    for wall in WALLS.iter().filter(|wall| name.starts_with(wall.room)) {
        for word in wall.forbidden {
            for (number, _) in code.iter().filter(|(_, line)| mentions(line, word)) {
                findings.insert(format!("{name}:{}: mentions `{word}`; {}", number + 1, wall.why));
            }
        }
    }
    if name.starts_with("gateway/src") && !APP_FILES.contains(&name) {
        for word in APP_ONLY {
            for (number, _) in code.iter().filter(|(_, line)| mentions(line, word)) {
                findings.insert(format!("{name}:{}: mentions `{word}`; nothing imports the app", number + 1));
            }
        }
    }
}

/// Lines that are neither comments nor tests.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut code = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.starts_with("#[cfg(test)]") {
            // One item: a module in another file, or a body up to the brace in the first column.
            let ends = |line: &str| line.starts_with('}') || line.ends_with(';') && !line.starts_with([' ', '#']);
            lines.by_ref().find(|(_, line)| ends(line));
        } else if !line.trim_start().starts_with("//") {
            code.push((number, line));
        }
    }
    code
}

/// `word` stands in `line` and is not the tail of a longer name.
fn mentions(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            && (word.ends_with(':')
                || !line[at + word.len()..].chars().next().is_some_and(|c| c.is_alphanumeric() || c == '_'))
    })
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return files };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target" && name != "fuzz") {
                files.extend(rust_files(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_import_is_found() {
        let mut findings = BTreeSet::new();
        check_file("mesh-core/src/model/x.rs", "use crate::api::Gateway;\nuse std::fs::File;\n", &mut findings);
        assert_eq!(findings.len(), 2, "{findings:?}");
        // Who asks a CA needs sockets.
        check_file("mesh-core/acme/src/x.rs", "use kube::Client;\nuse tokio::net::TcpStream;\n", &mut findings);
        assert_eq!(findings.len(), 3, "{findings:?}");
    }

    #[test]
    fn what_stands_behind_tests_is_looked_at_too() {
        let mut findings = BTreeSet::new();
        let text = "#[cfg(test)]\nmod a;\nuse std::fs;\n#[cfg(test)]\n#[path = \"b.rs\"]\nmod b;\nuse crate::api;\n\
                    #[cfg(test)]\nmod tests {\n    use std::env;\n    fn f() {\n    }\n}\nuse crate::{api, object};\n";
        check_file("mesh-core/src/model/x.rs", text, &mut findings);
        let lines: Vec<_> = findings.iter().map(|finding| finding.split(':').nth(1).unwrap()).collect();
        assert_eq!(lines, ["14", "3", "7"], "{findings:?}");
    }

    #[test]
    fn comments_tests_and_longer_names_are_not() {
        let mut findings = BTreeSet::new();
        check_file("mesh-core/src/model/x.rs", "// std::fs\nuse mystd::fs;\nstruct api;\n", &mut findings);
        check_file("mesh-core/src/api/gateway_tests.rs", "use std::fs;", &mut findings);
        assert!(findings.is_empty(), "{findings:?}");
    }
}
