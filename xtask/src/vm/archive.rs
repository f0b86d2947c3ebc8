//! The initramfs: programs with their libraries, as the archive that a kernel unpacks into its first root folder.
//!
//! The format is cpio's "newc": for each file a header of numbers in hexadecimal, its name, its content.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    names: BTreeSet<String>,
}

impl Archive {
    /// The program at `path` under another name, and the libraries it is linked with under their own.
    pub fn program(&mut self, name: &str, path: &Path) -> Result<()> {
        self.file(name, path)?;
        let linked = workspace::stdout(Command::new("ldd").arg(path))?;
        for library in libraries(&linked) {
            self.file(library.trim_start_matches('/'), library.as_ref())?;
        }
        Ok(())
    }

    pub fn folder(&mut self, name: &str) {
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.folder(parent);
        }
        self.entry(name, FOLDER, &[]);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn file(&mut self, name: &str, path: &Path) -> Result<()> {
        let content = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        if let Some((parent, _)) = name.rsplit_once('/') {
            self.folder(parent);
        }
        self.entry(name, PROGRAM, &content);
        Ok(())
    }

    /// Nothing where the name is there already.
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        if !self.names.insert(name.to_owned()) {
            return;
        }
        let size = u32::try_from(content.len()).expect("a program is smaller than 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("a name is short");
        let inode = u32::try_from(self.names.len()).expect("there are few files");
        let (links, owner, time, device) = (1, 0, 0, 0);
        let numbers = [
            inode, mode, owner, owner, links, time, size, device, device, device, device, name_size, 0,
        ];
        self.bytes.extend(b"070701");
        for number in numbers {
            self.bytes.extend(format!("{number:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.align();
        self.bytes.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Out of `ldd`'s lines, `NAME => PATH (ADDRESS)` or `PATH (ADDRESS)`.
fn libraries(linked: &str) -> impl Iterator<Item = &str> {
    linked.split_whitespace().filter(|word| word.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_each_folder_before_its_files_and_each_once() {
        let mut archive = Archive::default();
        archive.file("a/b/one", Path::new("/dev/null")).expect("it can be read");
        archive.file("a/b/two", Path::new("/dev/null")).expect("it can be read");
        archive.entry("a/b/two", PROGRAM, b"once more");
        let bytes = archive.finish();
        let text = String::from_utf8(bytes).expect("text");
        let names: Vec<_> = text
            .split("070701")
            .skip(1)
            .map(|entry| entry[104..].trim_end_matches('\0'))
            .collect();
        assert_eq!(names, ["a", "a/b", "a/b/one", "a/b/two", "TRAILER!!!"]);
    }

    #[test]
    fn header_name_and_content_begin_at_multiples_of_four() {
        let mut archive = Archive::default();
        archive.entry("init", PROGRAM, b"abcde");
        assert_eq!(archive.bytes.len(), 116 + 8);
        assert_eq!(archive.bytes[54..62], *b"00000005");
        assert_eq!(archive.bytes[110..], *b"init\0\0abcde\0\0\0");
    }

    #[test]
    fn libraries_are_the_paths_that_ldd_names() {
        let linked = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/libc.so.6 (0x2)\n\t/lib64/ld.so.2 (0x3)\n";
        assert!(libraries(linked).eq(["/lib/libc.so.6", "/lib64/ld.so.2"]));
    }
}
