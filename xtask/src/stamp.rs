//! Steps that are skipped while what they read is unchanged.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::run;

/// What a step reads, hashed as it is named.
#[derive(Clone, Default)]
pub(crate) struct Inputs(Sha256);

impl Inputs {
    /// A text, such as options of a program.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.0.update((text.len() as u64).to_le_bytes());
        self.0.update(text);
        self
    }

    /// A file, or all files below a folder in the order of their names.
    ///
    /// # Errors
    /// If something cannot be read.
    pub(crate) fn path(mut self, path: &Path) -> Result<Self> {
        if path.is_dir() {
            let mut entries = fs::read_dir(path)
                .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
                .with_context(|| format!("{} could not be read", path.display()))?
                .into_iter()
                .map(|entry| entry.path())
                .collect::<Vec<PathBuf>>();
            entries.sort();
            for entry in entries {
                self = self.path(&entry)?;
            }
            return Ok(self);
        }
        let bytes = run::read(path)?;
        self = self.text(&path.to_string_lossy());
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(&bytes);
        Ok(self)
    }

    fn digest(self) -> String {
        HEXLOWER.encode(&self.0.finalize())
    }
}

/// Runs `step` unless it ran to its end with these inputs before and all `outputs` are there. Returns whether it ran.
///
/// # Errors
/// Those of `step`, which then runs again next time.
pub(crate) fn fresh(
    name: &str,
    inputs: Inputs,
    outputs: &[PathBuf],
    step: impl FnOnce() -> Result<()>,
) -> Result<bool> {
    let stamp = run::target().join("stamps").join(name);
    let digest = inputs.digest();
    let known = fs::read_to_string(&stamp).is_ok_and(|old| old == digest);
    if known && outputs.iter().all(|output| output.exists()) {
        return Ok(false);
    }
    // A step that is cut off has left nothing that may be trusted.
    let _ = fs::remove_file(&stamp);
    step()?;
    run::write_if_changed(&stamp, digest.as_bytes())?;
    Ok(true)
}
