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

/// Where the program's code is mapped, by `/proc/self/maps` (proc_pid_maps(5)). Nothing else is safe to give back: data may have been
/// written to.
fn code(maps: &str, program: &Path) -> Vec<Range<usize>> {
    let of_line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (addresses, permissions) = (words.next()?, words.next()?);
        let path = words.nth(3)?;
        if permissions != "r-xp" || Path::new(path) != program {
            return None;
        }
        let (from, to) = addresses.split_once('-')?;
        Some(usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?)
    };
    maps.lines().filter_map(of_line).collect()
}

#[allow(unsafe_code, reason = "there is no other way to ask the kernel for this")]
fn give_back(range: &Range<usize>) -> rustix::io::Result<()> {
    use rustix::mm::{Advice, madvise};
    let address = std::ptr::with_exposed_provenance_mut(range.start);
    // SAFETY: the range is a mapping of the program's own file that is readable and executable only, by the kernel's word of a moment
    // ago, and mappings of the program are never moved. So no page of it differs from the file, and one that is dropped is read again
    // when somebody touches it (madvise(2), MADV_DONTNEED).
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
5000-6000 rw-p 00004000 fe:00 1 /bin/app
6000-7000 rwxp 00004000 fe:00 1 /bin/app
7000-8000 r-xp 00000000 fe:00 2 /lib/libc.so.6
8000-9000 r-xp 00000000 00:00 0 [vdso]
9000-a000 rw-p 00000000 00:00 0
nonsense
";
        let found = code(maps, Path::new("/bin/app"));
        assert_eq!((found.len(), found.first()), (1, Some(&(0x2000..0x5000))));
    }

    #[test]
    fn the_process_goes_on() {
        let program = std::fs::read_link("/proc/self/exe").unwrap_or_default();
        assert!(!code(&std::fs::read_to_string("/proc/self/maps").unwrap_or_default(), &program).is_empty());
        give_back_code();
        assert_eq!(format!("{:?}", "still".parse::<u8>().is_err()), "true");
    }
}
