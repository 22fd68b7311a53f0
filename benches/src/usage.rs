//! What a process takes of the machine, as the kernel counts it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// In MB. Pages of a program that several processes run are in `resident` of each of them, and once in the sum of `shared_out`.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// RSS: with pages that others have, too.
    pub resident: f64,
    /// PSS: pages that several have, divided by their number.
    pub shared_out: f64,
    /// Pages of nobody else.
    pub private: f64,
    /// Of `resident`: heaps, stacks, and data that was written; the rest are pages of files, of the program above all.
    pub anonymous: f64,
}

fn of(pid: u32, name: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(name)
}

/// Resident, shared out, private: proc_pid_smaps(5).
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let text = std::fs::read_to_string(of(pid, "smaps_rollup"))?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let kib: f64 = line.and_then(|line| line.split_whitespace().next()).context("a field")?.parse()?;
        anyhow::Ok(kib * 1024.0 / 1e6)
    };
    Ok(Memory {
        resident: field("Rss")?,
        shared_out: field("Pss")?,
        private: field("Private_Clean")? + field("Private_Dirty")?,
        anonymous: field("Anonymous")?,
    })
}

/// Processor time so far, in seconds. proc_pid_stat(5): utime and stime, in hundredths of a second.
pub fn seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(of(pid, "stat"))?;
    let fields = stat.rsplit_once(") ").map(|(_, fields)| fields).unwrap_or_default();
    let mut times = fields.split(' ').skip(11).take(2).map(str::parse::<f64>);
    let (user, system) = (times.next().context("utime")??, times.next().context("stime")??);
    Ok((user + system) / 100.0)
}
