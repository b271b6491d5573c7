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
    let (name, options) =
        args.split_first().ok_or_else(|| run::usage("what to measure is missing: viewers, fleet or edge"))?;
    let run = match *name {
        "viewers" => viewers,
        "fleet" => fleet,
        "edge" => edge::bench,
        other => return Err(run::usage(format!("unknown measurement {other:?}; there are viewers, fleet and edge"))),
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
        for wrong in [&["viewer"][..], &[]] {
            let error = parse(wrong).err().expect("there is none of this name").to_string();
            assert!(error.contains("viewers"), "{error}");
        }
    }
}
