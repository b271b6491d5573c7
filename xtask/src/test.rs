//! `cargo xtask test`: every check and test, in stages that stop at the first failure.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    engine, media,
    run::{self, cargo, npm_program, program},
    setup::{self, Need, WASM_TARGET},
};

/// One stage; cheap ones come first.
pub(crate) struct Stage {
    name: &'static str,
    run: fn(&mut Counts) -> Result<()>,
}

const STAGES: [Stage; 10] = [
    Stage { name: "fmt", run: fmt },
    Stage { name: "prettier", run: prettier },
    Stage { name: "engine", run: build_engine },
    Stage { name: "types", run: types },
    Stage { name: "web", run: web },
    Stage { name: "clippy", run: clippy },
    Stage { name: "clippy-wasm", run: clippy_wasm },
    Stage { name: "native", run: native },
    Stage { name: "vectors", run: vectors },
    Stage { name: "e2e", run: e2e },
];

/// What the tests need beside the defaults; always the same, else all is built anew between stages.
const FEATURES: [&str; 2] = ["--features", "marea-seeder/tls"];

/// TypeScript projects: JavaScript with checked comments counts.
const PROJECTS: [&str; 4] = ["engine-wasm/web", "demo/web", "tests/e2e", "tests/bench"];

/// What prettier looks after.
const PRETTY: [&str; 6] = ["engine-wasm/web", "demo/web", "tests/e2e", "tests/bench", "xtask", "package.json"];

/// Tests as their runners counted them.
#[derive(Clone, Copy, Default)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
    /// Browser scenarios that failed at first; those that did so twice are among the failed.
    repeated: u64,
}

/// The stages of these names, in their order; all if there is none.
///
/// # Errors
/// If a name is unknown.
pub(crate) fn stages(names: &[&str]) -> Result<Vec<&'static Stage>> {
    if let Some(name) = names.iter().find(|name| STAGES.iter().all(|stage| stage.name != **name)) {
        let known: Vec<&str> = STAGES.iter().map(|stage| stage.name).collect();
        return Err(run::usage(format!("unknown stage {name:?}; there is {}", known.join(", "))));
    }
    Ok(STAGES.iter().filter(|stage| names.is_empty() || names.contains(&stage.name)).collect())
}

/// Runs stages until one fails.
///
/// # Errors
/// That of the stage that failed.
pub(crate) fn run(stages: &[&Stage]) -> Result<()> {
    let begin = Instant::now();
    let mut counts = Counts::default();
    let mut times: Vec<(&str, Duration)> = Vec::new();
    let mut timed = |name: &'static str, work: &mut dyn FnMut() -> Result<()>| {
        eprintln!("\n== {name}");
        let begin = Instant::now();
        let result = work();
        let time = begin.elapsed();
        eprintln!("== {name}: {} in {:.1} s", if result.is_ok() { "ok" } else { "FAILED" }, time.as_secs_f64());
        times.push((name, time));
        result.with_context(|| format!("stage {name}"))
    };
    let mut result = timed("set-up", &mut || setup::ensure(Need::Test));
    for stage in stages {
        if result.is_err() {
            break;
        }
        result = timed(stage.name, &mut || (stage.run)(&mut counts));
    }
    let times: Vec<String> = times.iter().map(|(name, time)| format!("{name} {:.0} s", time.as_secs_f64())).collect();
    let Counts { passed, failed, skipped, repeated } = counts;
    eprintln!("\n{}, in all {:.0} s", times.join(", "), begin.elapsed().as_secs_f64());
    eprintln!("{passed} passed, {failed} failed, {skipped} skipped, {repeated} needed a second attempt");
    result
}

fn fmt(_: &mut Counts) -> Result<()> {
    run::check(&mut cargo(["fmt", "--all", "--check"]))
}

fn prettier(_: &mut Counts) -> Result<()> {
    let mut command = npm_program("prettier", ["--check", "--log-level=warn"]);
    command.args(PRETTY.map(|path| {
        if path.contains('.') { path.to_owned() } else { format!("{path}/**/*.{{ts,js,mjs,css,html,json}}") }
    }));
    run::check(&mut command)
}

fn build_engine(_: &mut Counts) -> Result<()> {
    let sizes = engine::build()?;
    sizes.print();
    sizes.check_budget()
}

fn types(_: &mut Counts) -> Result<()> {
    for project in PROJECTS {
        run::check(&mut npm_program("tsc", ["--noEmit", "-p", project]))?;
    }
    Ok(())
}

/// The TypeScript unit tests, bundled so that any Node.js runs them.
fn web(counts: &mut Counts) -> Result<()> {
    let folder = run::root().join("engine-wasm/web/test");
    let mut tests: Vec<PathBuf> = fs::read_dir(&folder)
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .with_context(|| format!("{} could not be read", folder.display()))?
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(".test.ts"))
        .collect();
    tests.sort();
    if tests.is_empty() {
        bail!("there is no *.test.ts in {}", folder.display());
    }
    let out = run::target().join("web-test");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("{} could not be removed", out.display()))?;
    }
    let mut bundle = npm_program("esbuild", ["--bundle", "--platform=node", "--format=esm", "--log-level=warning"]);
    bundle.args(["--target=node18", "--sourcemap=inline", "--out-extension:.js=.mjs"]);
    bundle.args(["--define:__MAREA_VERSION__=\"test\"", "--define:__MAREA_WASM_SRI__=\"\""]);
    bundle.arg(format!("--alias:#engine={}", engine::folder().join("pkg/marea_engine.js").display()));
    bundle.arg(format!("--outdir={}", out.display())).args(&tests);
    run::check(&mut bundle)?;
    let mut node = program("node", ["--enable-source-maps", "--test", "--test-reporter=spec"]);
    // The ruler of the benchmarks is held to a few known lengths, too.
    node.arg(&out).arg("tests/bench/bench.test.mjs");
    counted(&mut node, counts)
}

fn clippy(_: &mut Counts) -> Result<()> {
    run::check(cargo(["clippy", "--all-targets"]).args(FEATURES).args(["--", "-D", "warnings"]))
}

fn clippy_wasm(_: &mut Counts) -> Result<()> {
    let options = ["clippy", "-p", "marea-engine", "--all-features", "--target", WASM_TARGET, "--", "-D", "warnings"];
    run::check(&mut cargo(options))
}

fn native(counts: &mut Counts) -> Result<()> {
    counted(cargo(["test", "--no-fail-fast"]).args(FEATURES), counts)
}

/// The core's golden vectors as wasm in a real browser.
fn vectors(counts: &mut Counts) -> Result<()> {
    let folder = engine::build_self_test()?;
    let mut node = program("node", ["xtask/vectors.mjs"]);
    node.arg(folder);
    run::check(&mut node)?;
    counts.passed += 1;
    Ok(())
}

fn e2e(counts: &mut Counts) -> Result<()> {
    media::make(&media::recipes(&["vod60", "live", "light", "shaka"])?)?;
    engine::build()?;
    // All default members, as in `native`: naming packages would select other features and build all anew.
    run::check(cargo(["build"]).args(FEATURES))?;
    counted(&mut program("node", ["tests/e2e/run.mjs"]), counts)
}

/// Runs tests, shows what they say, and adds up what their runner counted.
fn counted(command: &mut Command, counts: &mut Counts) -> Result<()> {
    let line = run::line(command);
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("`{line}` could not be started"))?;
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.context("the output of tests could not be read")?;
            println!("{line}");
            counts.read(&line);
        }
    }
    let status = child.wait().with_context(|| format!("`{line}` could not be waited for"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

impl Counts {
    /// Reads a line of Cargo's ("test result: ok. 3 passed; 0 failed; 1 ignored; …") or Node's summary ("# pass 3",
    /// "ℹ fail 0").
    fn read(&mut self, line: &str) {
        if line.starts_with("SECOND ATTEMPT: ") {
            self.repeated += 1;
        } else if let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|line| line.split_once(". ")) {
            for part in counts.split("; ") {
                match part.split_once(' ') {
                    Some((number, "passed")) => self.passed += number.parse().unwrap_or(0),
                    Some((number, "failed")) => self.failed += number.parse().unwrap_or(0),
                    Some((number, "ignored")) => self.skipped += number.parse().unwrap_or(0),
                    _ => {}
                }
            }
        } else if let Some(rest) = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ ")) {
            match rest.split_once(' ') {
                Some(("pass", number)) => self.passed += number.parse().unwrap_or(0),
                Some(("fail", number)) => self.failed += number.parse().unwrap_or(0),
                Some(("skipped", number)) => self.skipped += number.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_both_runners() {
        let mut counts = Counts::default();
        for line in [
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s",
            "# pass 4",
            "ℹ fail 2",
            "ℹ skipped 1",
            "SECOND ATTEMPT: a film plays: Error: waited in vain",
            "# Subtest: passes",
            "test wire::frames ... ok",
        ] {
            counts.read(line);
        }
        assert_eq!((counts.passed, counts.failed, counts.skipped, counts.repeated), (9, 3, 2, 1));
    }

    #[test]
    fn stages_keep_their_order_and_unknown_ones_are_refused() {
        let names: Vec<&str> = stages(&["native", "fmt"]).expect("both exist").iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["fmt", "native"]);
        assert!(stages(&["fnt"]).is_err());
    }
}
