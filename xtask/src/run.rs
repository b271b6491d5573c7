//! Paths, and programs run to their end.

use std::{
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Error, Result, bail};

/// The repository.
pub(crate) fn root() -> &'static Path {
    // `xtask/` lies in the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}

/// Everything that is made goes here, whatever `CARGO_TARGET_DIR` says: the seeder embeds the engine from this folder.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// A wrong command line.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// An error that ends with the help text and exit code 2.
pub(crate) fn usage(message: impl Into<String>) -> Error {
    Error::new(Usage(message.into()))
}

/// A program in the root of the repository.
pub(crate) fn program<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(name);
    command.args(args).current_dir(root()).env("CARGO_TARGET_DIR", target());
    command
}

/// Cargo with the toolchain that built this program.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = program(&cargo, args);
    // What `cargo run` told this program about itself is not meant for the next one.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// The folder of the Rust toolchain.
///
/// # Errors
/// If `rustc` cannot be asked.
pub(crate) fn sysroot() -> Result<PathBuf> {
    let output = program("rustc", ["--print", "sysroot"]).output().context("`rustc` could not be started")?;
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

/// A program of the npm packages.
pub(crate) fn npm_program<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Command {
    program(&root().join("node_modules/.bin").join(name).to_string_lossy(), args)
}

/// The command as a person would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    if let Some(first) = words.first_mut() {
        let path = Path::new(first.as_str());
        if let Some(name) = path.file_name() {
            *first = name.to_string_lossy().into_owned();
        }
    }
    words
        .into_iter()
        .map(|word| if word.is_empty() || word.contains([' ', '*', ';', '\'']) { format!("{word:?}") } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command to its end, its output on ours.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub(crate) fn check(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command.status().with_context(|| format!("`{line}` could not be started"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs a command to its end and shows its output only if it fails.
///
/// # Errors
/// If it cannot be started or does not succeed.
pub(crate) fn check_quietly(command: &mut Command) -> Result<()> {
    let line = line(command);
    let output = command.output().with_context(|| format!("`{line}` could not be started"))?;
    if !output.status.success() {
        eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("`{line}` failed ({})", output.status);
    }
    Ok(())
}

/// Writes a file in one step, and not at all if it holds these bytes already: others look at its time of change.
///
/// # Errors
/// Those of the file system, with the path.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().context("a file needs a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("{} could not be made", folder.display()))?;
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    fs::write(&part, bytes)
        .and_then(|()| fs::rename(&part, path))
        .with_context(|| format!("{} could not be written", path.display()))
}

/// Reads a file.
///
/// # Errors
/// Those of the file system, with the path.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} could not be read", path.display()))
}

/// Makes a folder, and empties it if it is there.
///
/// # Errors
/// Those of the file system, with the path.
pub(crate) fn empty_folder(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("{} could not be removed", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("{} could not be made", path.display()))
}

/// Puts the folder `part`, now complete, in the place of `path`.
///
/// # Errors
/// Those of the file system, with the path.
pub(crate) fn replace_folder(part: &Path, path: &Path) -> Result<()> {
    empty_folder(path)?;
    fs::rename(part, path).with_context(|| format!("{} could not be made", path.display()))
}
