//! Files that a configuration names, read whole. A named pipe waits until somebody writes into it, and a device may never end: they are
//! refused, or a check would wait with them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

/// The largest file, in bytes: more than a configuration, a key or a certificate ever has.
const SIZE_MAX: u64 = 16_777_216;

/// Reads a file of at most [`SIZE_MAX`] bytes.
///
/// # Errors
/// It cannot be read, is larger, or is no file: the text says so.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    check(path)?;
    let mut content = Vec::new();
    File::open(path)?.take(SIZE_MAX + 1).read_to_end(&mut content)?;
    match content.len() as u64 > SIZE_MAX {
        true => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {SIZE_MAX} bytes, the most that is read"),
        )),
        false => Ok(content),
    }
}

/// The same of a file with text in UTF-8.
///
/// # Errors
/// As [`read`], or it is not UTF-8.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let text = String::from_utf8(read(path)?);
    text.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
}

/// Whether this is a file that ends, or a pipe that a shell has opened, as for `<(…)`.
///
/// # Errors
/// It is something else, or is not there.
pub(crate) fn check(path: &Path) -> io::Result<()> {
    let kind = fs::metadata(path)?.file_type();
    let is_opened = ["/dev/fd", "/dev/stdin", "/proc/self/fd"].iter().any(|opened| path.starts_with(opened));
    let what = match () {
        () if kind.is_fifo() && !is_opened => "a named pipe",
        () if kind.is_char_device() || kind.is_block_device() => "a device",
        () if kind.is_socket() => "a socket",
        () => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, and only files are read")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_ends_is_read() {
        let folder = std::env::temp_dir().join(format!("fanfare-file-{:016x}", getrandom::u64().unwrap()));
        fs::create_dir(&folder).unwrap();
        let [file, large, pipe, socket] = ["file", "large", "pipe", "socket"].map(|name| folder.join(name));
        fs::write(&file, "text").unwrap();
        File::create(&large).unwrap().set_len(SIZE_MAX + 1).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(read_text(&file).unwrap(), "text");
        for (path, part) in [
            (large.as_path(), "more than 16777216 bytes"),
            (&pipe, "a named pipe, and only files"),
            (&socket, "a socket, and only files"),
            (Path::new("/dev/zero"), "a device, and only files"),
            (&folder, "directory"),
            (&folder.join("absent"), "No such file"),
        ] {
            let error = read(path).unwrap_err().to_string();
            assert!(error.contains(part), "{}: {error}", path.display());
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
