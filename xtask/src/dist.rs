//! `cargo xtask dist`: what is shipped, in `target/dist`.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest as _, Sha256, Sha384};

use crate::{
    engine,
    run::{self, cargo, program},
};

/// The programs.
const PROGRAMS: [&str; 2] = ["marea-seeder", "marea-signaling"];
/// What turns TLS on, which the demo does without.
const FEATURES: &str = "marea-seeder/tls";
/// The script of the npm package, and what lies beside it.
const MODULE: &str = "marea.js";
/// What pages load.
const ENGINE: [&str; 3] = ["marea.js", "marea.wasm", "marea-hls.js"];
/// Hashes for `integrity` attributes.
const INTEGRITY: &str = "integrity.json";
const CHECKSUMS: &str = "SHA256SUMS";

/// Builds everything into `target/dist`, which is there whole or as it was.
///
/// # Errors
/// The step that fails.
pub(crate) fn run() -> Result<()> {
    let sizes = engine::build()?;
    sizes.print();
    sizes.check_budget()?;
    let mut build = cargo(["build", "--release", "--features", FEATURES]);
    build.args(PROGRAMS.iter().flat_map(|name| ["-p", name]));
    run::check(&mut build)?;

    let (dist, part) = (run::target().join("dist"), run::target().join("dist.part"));
    run::empty_folder(&part)?;
    for name in PROGRAMS {
        copy(&run::target().join("release").join(name), &part.join(name))?;
    }
    for name in ENGINE {
        copy(&engine::folder().join(name), &part.join(name))?;
    }
    npm(&part.join("npm"))?;
    let integrity: Vec<String> = ENGINE
        .iter()
        .map(|name| {
            let hash = BASE64.encode(&Sha384::digest(run::read(&part.join(name))?));
            Ok(format!("  {name:?}: \"sha384-{hash}\""))
        })
        .collect::<Result<_>>()?;
    write(&part.join(INTEGRITY), &format!("{{\n{}\n}}\n", integrity.join(",\n")))?;
    let sums = checksums(&part)?;
    write(&part.join(CHECKSUMS), &sums)?;
    run::replace_folder(&part, &dist)?;
    eprintln!("{} files in {}: check them there by sha256sum -c {CHECKSUMS}", sums.lines().count(), dist.display());
    Ok(())
}

/// The npm package, tried out in Node: an import does nothing and does not fail.
fn npm(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} could not be made", folder.display()))?;
    copy(&engine::folder().join("marea.esm.js"), &folder.join(MODULE))?;
    for name in &ENGINE[1..] {
        copy(&engine::folder().join(name), &folder.join(name))?;
    }
    let source = run::root().join("engine-wasm/web/npm");
    copy(&source.join("marea.d.ts"), &folder.join("marea.d.ts"))?;
    copy(&source.join("README.md"), &folder.join("README.md"))?;
    for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&run::root().join(licence), &folder.join(licence))?;
    }
    let text = String::from_utf8(run::read(&source.join("package.json"))?).context("package.json is no text")?;
    write(&folder.join("package.json"), &text.replace("0.0.0", env!("CARGO_PKG_VERSION")))?;

    let try_it = "const before = Object.keys(globalThis).length; const { attach, version, sessions, setConsent } = await import('./marea.js'); \
                  const whole = [attach, setConsent].every((it) => typeof it === 'function') && Array.isArray(sessions); \
                  if (!whole || before !== Object.keys(globalThis).length) throw new Error('the module is not as it should be'); \
                  console.log(version);";
    let output = program("node", ["--input-type=module", "-e", try_it]).current_dir(folder).output();
    let output = output.context("node could not be run")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || said.trim() != env!("CARGO_PKG_VERSION") {
        bail!("the npm package cannot be imported: {said}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// `sha256sum`'s lines of all files below `folder`, in the order of their names.
fn checksums(folder: &Path) -> Result<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).with_context(|| format!("{} could not be read", next.display()))? {
            let path = entry?.path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    let mut lines = String::new();
    for path in found {
        let name = path.strip_prefix(folder)?.to_str().context("a file name is no text")?;
        writeln!(lines, "{}  {name}", HEXLOWER.encode(&Sha256::digest(run::read(&path)?)))?;
    }
    Ok(lines)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).map(drop).with_context(|| format!("{} could not be copied to {}", from.display(), to.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{} could not be written", path.display()))
}
