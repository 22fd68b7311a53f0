//! Pages of the program that only its start needed, or a change: reading flags, building tables, parsing certificates. Half of the
//! resident memory of an idle sidecar is that, and there is one beside every workload. They are given back once it serves, when
//! no more changes come, and now and then; what is needed after all comes again from the file.

use std::ops::Range;
use std::path::Path;

/// To be called when the process has started, and when it has nothing new to do. What cannot be given back stays.
pub fn give_back_code() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let Ok(program) = std::fs::read_link("/proc/self/exe") else { return };
    for range in code(&maps, &program) {
        if let Err(error) = give_back(&range) {
            tracing::debug!(%error, "pages of the program stay resident");
        }
    }
}

/// Where the program's code is mapped, and its constants, which come first in the file, by `/proc/self/maps` (proc_pid_maps(5)). Nothing
/// else is safe to give back: other data may have been written to, even where it is readable only by now (relocations).
fn code(maps: &str, program: &Path) -> Vec<Range<usize>> {
    let of_line = |line: &str| -> Option<(bool, Range<usize>)> {
        let mut words = line.split_ascii_whitespace();
        let (addresses, permissions, offset) = (words.next()?, words.next()?, words.next()?);
        let path = words.nth(2)?;
        let is_constant = permissions == "r-xp" || (permissions == "r--p" && offset.bytes().all(|digit| digit == b'0'));
        if !is_constant || Path::new(path) != program {
            return None;
        }
        let (from, to) = addresses.split_once('-')?;
        let range = usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?;
        Some((permissions == "r-xp", range))
    };
    let found: Vec<(bool, Range<usize>)> = maps.lines().filter_map(of_line).collect();
    // Others may map the file, too, to read in it, and unmap it at any time.
    let is_loaded = |range: &Range<usize>| found.iter().any(|(is_code, code)| *is_code && code.start == range.end);
    found.iter().filter(|(is_code, range)| *is_code || is_loaded(range)).map(|(_, range)| range.clone()).collect()
}

#[allow(unsafe_code, reason = "there is no other way to ask the kernel for this")]
fn give_back(range: &Range<usize>) -> rustix::io::Result<()> {
    use rustix::mm::{Advice, madvise};
    let address = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: the range is a mapping of the program's own file, by the kernel's word of a moment ago, and mappings of the program are
    // never moved. It is its first segment (headers, constants) or its code, which are never writable. So no page of it differs from
    // the file, and one that is dropped is read again when somebody touches it (madvise(2), MADV_DONTNEED).
    unsafe { madvise(address, range.len(), Advice::LinuxDontNeed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code_is_given_back() {
        let maps = "\
1000-2000 r--p 00000000 fe:00 1 /bin/app
2000-5000 r-xp 00001000 fe:00 1 /bin/app
5000-5800 r--p 00004000 fe:00 1 /bin/app
5800-6000 rw-p 00004800 fe:00 1 /bin/app
6000-7000 rwxp 00004000 fe:00 1 /bin/app
7000-8000 r-xp 00000000 fe:00 2 /lib/libc.so.6
b000-f000 r--p 00000000 fe:00 1 /bin/app
8000-9000 r-xp 00000000 00:00 0 [vdso]
9000-a000 rw-p 00000000 00:00 0
nonsense
";
        let found = code(maps, Path::new("/bin/app"));
        assert_eq!(found, [0x1000..0x2000, 0x2000..0x5000]);
    }

    #[test]
    fn the_process_goes_on() {
        let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        assert!(!code(&std::fs::read_to_string("/proc/self/maps").unwrap_or_default(), &program).is_empty());
        give_back_code();
        assert_eq!(format!("{:?}", "still".parse::<u8>().is_err()), "true");
    }
}
