//! Builds the browser's engine into `target/engine`: what `marea.js`, `marea.wasm` and `marea-hls.js` are made of.
//!
//! Rust to wasm (`cargo`), its JavaScript glue (wasm-bindgen as a library, so that its version is Cargo's business), a
//! smaller wasm (binaryen), and one script per entry (esbuild). Each step is skipped while its inputs are unchanged.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use data_encoding::BASE64;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha384};
use wasm_bindgen_cli_support::Bindgen;

use crate::{
    run,
    setup::WASM_TARGET,
    snip,
    stamp::{self, Inputs},
};

/// Most bytes that a page may load before it can share (`marea.js` and `marea.wasm`, gzip): little more than they
/// are, so that any growth is somebody's decision. The goal is 75,000 (docs/architecture.md).
const BUDGET: usize = 119_600;

/// WebAssembly features that rustc uses today and every browser with WebRTC data channels has had for years.
const WASM_FEATURES: [&str; 6] = [
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// How eagerly LLVM inlines. Rust's `z` (5) leaves too many calls, its `s` (75) far too few (measured: 2 kB gzip less than
/// with either).
const INLINE: &str = "-Cllvm-args=--inline-threshold=12";

/// One script that esbuild makes.
struct Bundle {
    entry: &'static str,
    output: &'static str,
    format: &'static str,
}

const BUNDLES: [Bundle; 3] = [
    Bundle { entry: "marea.ts", output: "marea.js", format: "iife" },
    Bundle { entry: "marea.ts", output: "marea.esm.js", format: "esm" },
    Bundle { entry: "marea-hls.ts", output: "marea-hls.js", format: "iife" },
];

/// Sizes of what was built.
pub(crate) struct Sizes(Vec<(String, usize, usize)>);

impl Sizes {
    fn of(names: &[&str]) -> Result<Self> {
        let sizes = names.iter().map(|name| {
            let bytes = run::read(&folder().join(name))?;
            let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
            gzip.write_all(&bytes)?;
            Ok(((*name).to_owned(), bytes.len(), gzip.finish()?.len()))
        });
        Ok(Self(sizes.collect::<Result<_>>()?))
    }

    /// Prints a line per file.
    pub(crate) fn print(&self) {
        for (name, bytes, gzip) in &self.0 {
            eprintln!("  {name:14} {:7.1} kB   {:6.1} kB gzip", *bytes as f64 / 1e3, *gzip as f64 / 1e3);
        }
    }

    /// Checks the budget of what every page loads.
    ///
    /// # Errors
    /// If it is exceeded, with the figures.
    pub(crate) fn check_budget(&self) -> Result<()> {
        let gzip: usize =
            self.0.iter().filter(|(name, ..)| name == "marea.js" || name == "marea.wasm").map(|(.., gzip)| gzip).sum();
        if gzip > BUDGET {
            bail!("marea.js and marea.wasm are {gzip} bytes gzip, the budget is {BUDGET}");
        }
        eprintln!("  {gzip} of {BUDGET} bytes gzip");
        Ok(())
    }
}

/// Where the engine is.
pub(crate) fn folder() -> PathBuf {
    run::target().join("engine")
}

/// Builds everything that is not up to date.
///
/// # Errors
/// The first step that fails, by name.
pub(crate) fn build() -> Result<Sizes> {
    let pkg = folder().join("pkg");
    let glue = pkg.join("marea_engine.js");
    bind("engine", &[], &pkg)?;

    let wasm = folder().join("marea.wasm");
    let raw = pkg.join("marea_engine_bg.wasm");
    // Inlining makes the file smaller but what is sent larger (measured: 94 against 90 kB gzip).
    let mut options =
        vec!["-Oz", "--skip-pass=inlining-optimizing", "--strip-debug", "--strip-producers", "--strip-target-features"];
    options.extend(WASM_FEATURES);
    let inputs = Inputs::default().text(&options.join(" ")).path(&raw)?.path(&lock())?;
    stamp::fresh("wasm-opt", inputs, std::slice::from_ref(&wasm), || {
        eprintln!("shrinking marea.wasm");
        let part = folder().join("marea.wasm.opt");
        let mut command = run::npm_program("wasm-opt", &options);
        command.arg(&raw).arg("-o").arg(&part);
        run::check_quietly(&mut command)?;
        run::write_if_changed(&wasm, &run::read(&part)?)?;
        std::fs::remove_file(&part).context("target/engine/marea.wasm.opt could not be removed")
    })?;

    let integrity = format!("sha384-{}", BASE64.encode(&Sha384::digest(run::read(&wasm)?)));
    for bundle in &BUNDLES {
        bundle.make(&glue, &integrity)?;
    }
    Sizes::of(&["marea.js", "marea.wasm", "marea-hls.js", "marea.esm.js"])
}

/// Builds an engine with `selfTest()` into `target/engine-self-test`, otherwise as it ships. Returns the folder.
///
/// # Errors
/// The step that fails.
pub(crate) fn build_self_test() -> Result<PathBuf> {
    let pkg = run::target().join("engine-self-test");
    bind("engine-self-test", &["--features", "self-test"], &pkg)?;
    Ok(pkg)
}

/// Compiles the Rust side and makes its JavaScript glue in `pkg`.
fn bind(name: &str, features: &[&str], pkg: &Path) -> Result<()> {
    let mut cargo = run::cargo(["build", "-p", "marea-engine", "--target", WASM_TARGET, "--profile", "engine"]);
    // A folder per set of features: Cargo gives both the same file name.
    let folder = run::target().join(format!("wasm-{name}"));
    cargo.args(features).arg("--target-dir").arg(&folder).env("CARGO_ENCODED_RUSTFLAGS", rust_flags()?);
    run::check(&mut cargo)?;

    let built = folder.join(WASM_TARGET).join("engine/marea_engine.wasm");
    let outputs = [pkg.join("marea_engine.js"), pkg.join("marea_engine_bg.wasm")];
    stamp::fresh(name, Inputs::default().path(&built)?, &outputs, || {
        eprintln!("binding {name} to JavaScript");
        let part = pkg.with_extension("part");
        Bindgen::new()
            .input_bytes("marea_engine", snip::panics(&run::read(&built)?)?)
            .out_name("marea_engine")
            .web(true)
            .and_then(|bindgen| {
                bindgen.typescript(true).remove_name_section(true).remove_producers_section(true).generate(&part)
            })
            .context("wasm-bindgen failed")?;
        for entry in std::fs::read_dir(&part).context("wasm-bindgen wrote nothing")? {
            let path = entry?.path();
            let file = path.file_name().context("wasm-bindgen wrote something without a name")?;
            run::write_if_changed(&pkg.join(file), &run::read(&path)?)?;
        }
        std::fs::remove_dir_all(&part).context("the temporary folder of wasm-bindgen could not be removed")
    })?;
    Ok(())
}

/// Flags for rustc: [`INLINE`], and what keeps this machine's folders out of the panic messages, so that the engine is the
/// same wherever it is built.
fn rust_flags() -> Result<String> {
    let sysroot = run::sysroot()?;
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(|| home.join(".cargo"), PathBuf::from);
    Ok([(sysroot.as_path(), "rust"), (&cargo_home, "cargo"), (run::root(), ".")]
        .map(|(path, name)| format!("--remap-path-prefix={}={name}", path.display()))
        .into_iter()
        .chain([INLINE.to_owned()])
        .collect::<Vec<_>>()
        // Cargo's separator, so that a path may hold spaces.
        .join("\u{1f}"))
}

impl Bundle {
    fn make(&self, glue: &Path, integrity: &str) -> Result<()> {
        let source = run::root().join("engine-wasm/web/src");
        let entry = source.join(self.entry);
        if !entry.exists() {
            bail!("{} is missing", entry.display());
        }
        let output = folder().join(self.output);
        let options = [
            "--bundle".to_owned(),
            "--minify".into(),
            format!("--format={}", self.format),
            // Two years old: what has all wasm features above and `requestVideoFrameCallback`.
            "--target=es2022".into(),
            "--charset=utf8".into(),
            "--legal-comments=none".into(),
            "--log-level=warning".into(),
            format!("--define:__MAREA_VERSION__={:?}", env!("CARGO_PKG_VERSION")),
            format!("--define:__MAREA_WASM_SRI__={integrity:?}"),
            format!("--alias:#engine={}", glue.display()),
        ]
        .into_iter()
        // A script tag knows itself by `document.currentScript`.
        .chain((self.format == "iife").then(|| "--define:import.meta.url=undefined".into()))
        .collect::<Vec<String>>();

        let inputs = Inputs::default().text(&options.join(" ")).path(&source)?.path(glue)?.path(&lock())?;
        stamp::fresh(self.output, inputs, std::slice::from_ref(&output), || {
            eprintln!("bundling {}", self.output);
            let part = folder().join(format!("{}.bundled", self.output));
            let mut command = run::npm_program("esbuild", &options);
            command.arg(&entry).arg(format!("--outfile={}", part.display()));
            run::check_quietly(&mut command)?;
            run::write_if_changed(&output, &run::read(&part)?)?;
            std::fs::remove_file(&part).with_context(|| format!("{} could not be removed", part.display()))
        })?;
        Ok(())
    }
}

/// The versions of the npm tools.
fn lock() -> PathBuf {
    run::root().join("package-lock.json")
}
