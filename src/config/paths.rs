//! Paths that a configuration names, and checks that they exist.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{
    diagnostic::{Problem, show},
    read::Value,
};

/// Reads an absolute path without `..`; a relative one is reported with a suggestion below `home`.
pub fn absolute(text: &str, home: &str) -> Result<PathBuf, Problem> {
    shape(text, home)?;
    Ok(trimmed(text).into())
}

/// Refuses a path that is not absolute, also with `{names}` in it.
pub fn shape(text: &str, home: &str) -> Result<(), Problem> {
    if !text.starts_with('/') {
        let bare = text.trim_start_matches("./").trim_start_matches("~/");
        return Err(Problem::new(format!("the path {} is not absolute", show(text)), "must start with `/`")
            .help(format!("write the whole path, for example `{:?}`", format!("{home}/{bare}"))));
    }
    if text.split('/').any(|segment| segment == "..") {
        return Err(Problem::new(
            format!("the path {} has `..` in it", show(text)),
            "write the path without `..`",
        ));
    }
    if text.contains('\0') {
        return Err(Problem::new(
            format!("the path {} has a zero byte in it", show(text)),
            "no path has that",
        ));
    }
    Ok(())
}

/// A path without trailing slashes, which have no meaning.
pub fn trimmed(text: &str) -> &str {
    match text.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// Notes an error when `path` is not a directory.
pub fn need_directory(value: Value<'_>, path: &Path) {
    need(value, path, value.context.system.directory(path));
}

/// Notes an error when `path` does not exist.
pub fn need_something(value: Value<'_>, path: &Path) {
    need(value, path, value.context.system.exists(path));
}

/// Notes an error when no files can be written into the directory `path`.
pub fn need_writable(value: Value<'_>, path: &Path) {
    need(value, path, value.context.system.writable(path));
}

/// Notes an error when the CA certificates at `path` cannot be used.
pub fn need_authorities(value: Value<'_>, path: &Path) {
    if let Err(reason) = value.context.system.authorities(path) {
        value.error(Problem::new(reason, "cannot be used"));
    }
}

/// Notes an error when the directory of `path` does not exist, so that no file can be created there.
pub fn need_parent(value: Value<'_>, path: &Path) {
    if let Some(parent) = path.parent() {
        need_directory(value, parent);
    }
}

fn need(value: Value<'_>, path: &Path, answer: io::Result<()>) {
    if let Err(error) = answer {
        unusable(value, path, &error);
    }
}

/// The text file that `text` names, with its path. What keeps it from being read is noted.
pub fn file(value: Value<'_>, text: &str) -> Option<(PathBuf, String)> {
    let path = value.parse(text, |text| absolute(text, "/etc/bowshock"))?;
    let read = value.context.system.read(&path);
    let text = read.map_err(|error| unusable(value, &path, &error)).ok()?;
    Some((path, text))
}

/// Notes that `path` cannot be used, and why.
pub fn unusable(value: Value<'_>, path: &Path, error: &io::Error) {
    value.error(unusable_problem(path, error));
}

/// Why `path` cannot be used.
pub fn unusable_problem(path: &Path, error: &io::Error) -> Problem {
    let shown = show(&path.to_string_lossy());
    match error.kind() {
        io::ErrorKind::NotFound => Problem::new(format!("{shown} does not exist"), "not on this machine")
            .help(format!("create it, mount it, or correct the path: `ls -ld {}`", path.display())),
        io::ErrorKind::NotADirectory => {
            Problem::new(format!("{shown} is not a directory"), "must be a directory")
                .help("write the directory that contains it")
        }
        io::ErrorKind::PermissionDenied => Problem::new(
            format!("{shown} is not accessible to this user"),
            "permission denied",
        )
        .help(format!(
            "allow it with `chmod o+x` or `setfacl` on the directories above; `namei -l {}` shows which",
            path.display()
        )),
        _ => Problem::new(format!("{shown} cannot be used: {error}"), "the system refuses"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_absolute_paths() {
        assert_eq!(absolute("/srv/x//", "").unwrap(), Path::new("/srv/x"));
        assert_eq!(absolute("/", "").unwrap(), Path::new("/"));
        for bad in ["", "srv", "./srv", "/srv/../etc", "/a\0b"] {
            assert!(absolute(bad, "").is_err(), "{bad:?}");
        }
    }
}
