//! `meshgate check`: reads objects as `run` would, and says what is wrong with them, for people or for programs.

use std::io::{IsTerminal as _, Write as _};
use std::time::SystemTime;

use mesh_core::analyze::analyze;
use mesh_core::compile::compile;
use mesh_core::diag::{self, Diagnostic, Verdict};
use mesh_core::model::ResourceSet;

use crate::exit;
use crate::source::{FilesOptions, load};
use crate::tls::certs::{CertificateTable, OrderedCertificates};

/// Reads, prints, and yields the exit code.
pub fn run(files: FilesOptions, json: bool) -> anyhow::Result<u8> {
    let (diagnostics, objects) = findings(files)?;
    let mut stdout = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut stdout, &diag::report(&diagnostics))?;
        writeln!(stdout)?;
    } else {
        let color = stdout.is_terminal();
        stdout.write_all(diag::text(&diagnostics, objects, color).as_bytes())?;
    }
    Ok(exit_code(&diagnostics))
}

/// Everything that `run` would find out without opening a socket, and the number of objects.
fn findings(files: FilesOptions) -> anyhow::Result<(Vec<Diagnostic>, usize)> {
    let loaded = load(files);
    let configuration = &loaded.configuration;
    let mut diagnostics = configuration.diagnostics.clone();
    let compiled = compile(&configuration.set, None, 1);
    analyze(loaded.world(), &configuration.set, &compiled.snapshot, None, &mut diagnostics);
    diagnostics.extend(compiled.diagnostics);
    diagnostics.extend(certificates(&configuration.set)?);
    configuration.locate(&mut diagnostics);
    diag::arrange(&mut diagnostics);
    Ok((diagnostics, configuration.objects.as_ref().map_or(0, |objects| objects.len())))
}

/// Of secrets. Files that a server names are the gateway's, and need not be here.
fn certificates(set: &ResourceSet) -> anyhow::Result<Vec<Diagnostic>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let table = runtime.block_on(CertificateTable::build(
        set,
        &OrderedCertificates::new(),
        &CertificateTable::default(),
        SystemTime::now(),
    ));
    let of_files = |diagnostic: &Diagnostic| {
        diagnostic.code == diag::CERTIFICATE_UNUSABLE.id && diagnostic.field.starts_with("spec.servers[")
    };
    Ok(table.1.into_iter().filter(|diagnostic| !of_files(diagnostic)).collect())
}

fn exit_code(diagnostics: &[Diagnostic]) -> u8 {
    match diag::verdict(diagnostics) {
        Verdict::Fine => exit::OK,
        Verdict::BadData => exit::BAD_DATA,
        Verdict::Problems => exit::FOUND_PROBLEMS,
    }
}
