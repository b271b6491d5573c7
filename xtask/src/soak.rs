//! `cargo xtask soak`: what takes too long for the tests. Viewers come and go for half an hour, and nothing may be left of them.

use anyhow::Result;

use crate::{
    engine, media,
    run::{self, cargo, program},
    setup::{self, Need},
};

/// Runs it; `options` are `--minutes N` and `--peers N`.
///
/// # Errors
/// If something cannot be built, or something leaked.
pub(crate) fn run(options: &[&str]) -> Result<()> {
    for pair in options.chunks(2) {
        match pair {
            ["--minutes" | "--peers", value] if value.parse::<f64>().is_ok_and(|value| value > 0.0) => {}
            other => return Err(run::usage(format!("{other:?}: soak takes --minutes N and --peers N"))),
        }
    }
    setup::ensure(Need::Test)?;
    media::make(&media::recipes(&["light"])?)?;
    // Before the seeder, which embeds it.
    engine::build()?;
    run::check(&mut cargo(["build", "-p", "marea-seeder", "-p", "marea-tests"]))?;
    let programs = run::target().join("debug");
    let mut soak = program(&programs.join("marea-soak").to_string_lossy(), ["--programs"]);
    soak.arg(&programs).arg("--media").arg(run::target().join("media/light/groups"));
    run::check(soak.args(options))
}
