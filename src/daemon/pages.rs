//! Gives back the memory of program text that the idle daemon does not run.
//!
//! The start touches most of the program: files are read, the engine asked, the bus joined. Each
//! touch makes the kernel map the 64 KiB around it, and what is mapped stays so for as long as
//! there is no shortage. An idle daemon runs a small part of that. This module unmaps the rest: the
//! pages stay in the page cache for as long as the kernel likes, and what runs again is mapped again
//! without a read from disk while it is there.
//!
//! It must never touch memory that the process can write or has written. It holds the crate's only
//! unsafe code.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;

/// Unmaps the pages of files that the process has mapped and never wrote to. Returns how many bytes
/// of address space that was; nothing, where the kernel does not say what is mapped.
pub fn give_back() -> usize {
    let Ok(smaps) = File::open("/proc/self/smaps") else {
        return 0;
    };
    let mut given = 0;
    for range in clean(BufReader::new(smaps)) {
        if drop_pages(&range) {
            given += range.len();
        }
    }
    given
}

/// Where a file is mapped, private, without the right to write and without a page that was ever
/// written to: such a page (relocated constants are of them) is anonymous, in memory or swapped out.
fn clean(smaps: impl BufRead) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut mapping = None;
    for line in smaps.lines() {
        let Ok(line) = line else { break };
        if let Some(kib) = line.strip_prefix("Anonymous:") {
            mapping = mapping.filter(|_| kib.trim() == "0 kB");
        } else if let Some(kib) = line.strip_prefix("Swap:") {
            // It comes after the line above; a record without it says too little.
            found.extend(mapping.take().filter(|_| kib.trim() == "0 kB"));
        } else if line.starts_with(|c: char| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
            mapping = mapped_file(&line);
        }
    }
    found
}

/// The addresses of a mapping's first line, as `proc_pid_maps(5)` has it, if it is of a file, private, and not writable.
fn mapped_file(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let kept = matches!(fields.next()?, "r--p" | "r-xp");
    let inode = fields.nth(2)?;
    // Without a file it is the kernel's own: the vDSO and its data.
    (kept && inode != "0")
        .then_some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

/// Drops the pages of a mapping that [`clean`] has found.
#[expect(unsafe_code, reason = "no safe function gives pages back")]
fn drop_pages(range: &Range<usize>) -> bool {
    let start = std::ptr::without_provenance_mut(range.start);
    // SAFETY: the mapping is of a file, private, not writable, and none of its pages was ever
    // written to, be it in memory or swapped out: the kernel said so, and nothing in this process maps, unmaps or protects memory
    // of files while it runs. So each page is a copy of the file's, and is read from there again
    // when it is touched; the bytes at each address stay what they are. Under memory pressure the
    // kernel does the same to such pages at any time.
    unsafe { rustix::mm::madvise(start, range.len(), rustix::mm::Advice::LinuxDontNeed) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55d0c0a00000-55d0c0a01000 r--p 00000000 fe:00 1234                       /usr/bin/monopod
Size:                  4 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd mr mw me sd
55d0c0a01000-55d0c0de7000 r-xp 00001000 fe:00 1234                       /usr/bin/monopod
Anonymous:             0 kB
Swap:                  0 kB
55d0c0e67000-55d0c0e87000 r--p 00467000 fe:00 1234                       /usr/bin/monopod
Anonymous:           128 kB
Swap:                  0 kB
55d0c0e87000-55d0c0e88000 r--p 00487000 fe:00 1234                       /usr/bin/monopod
Anonymous:             0 kB
Swap:                  4 kB
55d0c0e88000-55d0c0e89000 r--p 00487000 fe:00 1234                       /usr/bin/monopod
Anonymous:             0 kB
55d0c0e89000-55d0c0e8b000 rw-p 00487000 fe:00 1234                       /usr/bin/monopod
Anonymous:             0 kB
Swap:                  0 kB
55d0c1a00000-55d0c1a02000 rw-p 00000000 00:00 0                          [heap]
Anonymous:             8 kB
Swap:                  0 kB
7f2331c00000-7f2331c01000 r--p 00000000 00:00 0
Anonymous:             0 kB
Swap:                  0 kB
7f2331c10000-7f2331c11000 r--s 00000000 fe:00 77                         /run/shared
Anonymous:             0 kB
Swap:                  0 kB
7f2331c41000-7f2331c43000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
Swap:                  0 kB
";

    #[test]
    fn only_clean_pages_of_files() {
        assert_eq!(
            clean(SMAPS.as_bytes()),
            [
                0x55d0_c0a0_0000..0x55d0_c0a0_1000,
                0x55d0_c0a0_1000..0x55d0_c0de_7000
            ]
        );
    }

    #[test]
    fn torn_lines_name_nothing() {
        for text in [
            "",
            "5",
            "55-66",
            "55-66 r-xp",
            "zz-66 r-xp 0 fe:00 1",
            "5a-66 r-xp 0 fe:00",
        ] {
            let text = format!("{text}\nAnonymous: 0 kB\nSwap: 0 kB\n");
            assert_eq!(clean(text.as_bytes()), [], "{text}");
        }
    }

    #[test]
    fn the_program_runs_on() {
        static CONSTANT: [u8; 64] = [7; 64];
        assert!(give_back() > 0);
        assert_eq!(
            CONSTANT.iter().map(|byte| u32::from(*byte)).sum::<u32>(),
            448
        );
        assert!(give_back() > 0);
    }
}
