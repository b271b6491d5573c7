//! `cargo xtask bench`: measurements for the documentation. They take long, so no test runs them.

use anyhow::Result;

use crate::{
    edge, engine, media,
    run::{self, cargo, program},
    setup::{self, Need},
};

/// One measurement: how it is run with the rest of the command line.
pub(crate) struct Bench<'a> {
    run: fn(&[&str]) -> Result<()>,
    options: Vec<&'a str>,
}

/// The measurement of this command line.
///
/// # Errors
/// If there is none of this name.
pub(crate) fn parse<'a>(args: &[&'a str]) -> Result<Bench<'a>> {
    let (name, options) = args
        .split_first()
        .ok_or_else(|| run::usage("what to measure is missing: viewers, fleet, edge, signaling or webrtc"))?;
    let run = match *name {
        "viewers" => viewers,
        "fleet" => fleet,
        "edge" => edge::bench,
        "signaling" => signaling,
        "webrtc" => webrtc,
        other => {
            let known = "viewers, fleet, edge, signaling and webrtc";
            return Err(run::usage(format!("unknown measurement {other:?}; there are {known}")));
        }
    };
    Ok(Bench { run, options: options.to_vec() })
}

impl Bench<'_> {
    /// Measures.
    ///
    /// # Errors
    /// If something cannot be built or a measurement fails.
    pub(crate) fn run(&self) -> Result<()> {
        (self.run)(&self.options)
    }
}

/// Real viewers in Chromium: plain hls.js, p2p-media-loader and Marea in turn.
fn viewers(options: &[&str]) -> Result<()> {
    setup::ensure(Need::Test)?;
    if !options.contains(&"--report") {
        media::make(&media::recipes(&["demo"])?)?;
        // Before the seeder, which embeds it; and the seeder as users run it.
        engine::build()?;
        run::check(&mut cargo(["build", "--release", "-p", "marea-seeder"]))?;
    }
    let mut node = program("node", ["tests/bench/viewers.mjs"]);
    run::check(node.args(options))
}

/// The tracker that ours is measured beside; npm's is among the packages.
const AQUATIC: &str = "0.9.0";

/// Our signaling beside other trackers, under load.
fn signaling(options: &[&str]) -> Result<()> {
    setup::ensure(Need::Test)?;
    run::check(&mut cargo(["build", "--release", "-p", "marea-signaling"]))?;
    let root = run::target().join("tools/aquatic");
    if !root.join("bin/aquatic_ws").exists() {
        eprintln!("building aquatic_ws {AQUATIC}");
        let mut install = cargo(["install", "--locked", "--quiet", "aquatic_ws", "--version", AQUATIC]);
        // Its metrics do not compile any more, and would cost it time.
        install.args(["--no-default-features", "--features", "mimalloc"]);
        run::check(install.arg("--root").arg(&root).arg("--target-dir").arg(root.join("build")))?;
    }
    let mut node = program("node", ["tests/bench/signaling.mjs"]);
    run::check(node.args(options))
}

/// The library that ours is measured beside; it is not among the packages, which the tests need.
const NODE_DATACHANNEL: &str = "0.33.4";

/// The seeder beside other senders over WebRTC.
fn webrtc(options: &[&str]) -> Result<()> {
    setup::ensure(Need::Test)?;
    if !options.contains(&"--report") {
        // Before the seeder, which embeds it; and the seeder as users run it.
        engine::build()?;
        run::check(&mut cargo(["build", "--release", "-p", "marea-seeder"]))?;
        let build = ["build", "--release", "-p", "marea-tests", "--features", "bench-webrtc", "--bin", "marea-webrtc"];
        run::check(&mut cargo(build))?;
        let root = run::target().join("tools/node-datachannel");
        if !root.join("node_modules/.package-lock.json").exists() {
            eprintln!("installing node-datachannel {NODE_DATACHANNEL}");
            // Its library comes as a package of its own, so no script has to run.
            let mut npm = program("npm", ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]);
            npm.arg("--prefix").arg(&root).arg(format!("node-datachannel@{NODE_DATACHANNEL}"));
            run::check_quietly(&mut npm)?;
        }
    }
    let mut node = program("node", ["tests/bench/webrtc.mjs"]);
    run::check(node.args(options))
}

/// Thousands of viewers in virtual time.
fn fleet(options: &[&str]) -> Result<()> {
    setup::ensure(Need::Build)?;
    let build =
        ["run", "-q", "-p", "marea-tests", "--no-default-features", "--profile", "fleet", "--bin", "marea-fleet"];
    let mut simulator = cargo(build);
    run::check(simulator.arg("--").args(options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_measurements_are_refused_with_what_there_is() {
        assert!(parse(&["viewers", "--runs", "1"]).is_ok());
        assert!(parse(&["fleet", "live"]).is_ok());
        assert!(parse(&["webrtc", "--only", "idle"]).is_ok());
        for wrong in [&["viewer"][..], &[]] {
            let error = parse(wrong).err().expect("there is none of this name").to_string();
            assert!(error.contains("viewers"), "{error}");
        }
    }
}
