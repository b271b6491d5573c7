//! `cargo xtask demo`: from a fresh clone to a page that plays.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    engine, media,
    run::{self, cargo},
    setup::{self, Need},
};

/// What the command line says.
#[derive(Debug)]
pub(crate) struct Options {
    port: Option<u16>,
    open: bool,
}

impl Options {
    /// Reads `[--port N] [--no-open]`.
    ///
    /// # Errors
    /// If there is anything else.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Self> {
        let mut options = Self { port: None, open: true };
        let mut rest = arguments;
        loop {
            rest = match rest {
                [] => return Ok(options),
                ["--no-open", rest @ ..] => {
                    options.open = false;
                    rest
                }
                ["--port", port, rest @ ..] => {
                    let port = port.parse().map_err(|_| run::usage(format!("{port:?} is not a port (0 to 65535)")))?;
                    options.port = Some(port);
                    rest
                }
                [other, ..] => return Err(run::usage(format!("unknown option {other:?} of `demo`"))),
            };
        }
    }
}

/// Sets up, builds, and runs the demo until it is stopped.
///
/// # Errors
/// Whatever stands in the way, with what to do.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure(Need::Demo)?;
    media::make(&media::recipes(&["demo"])?)?;
    // Before the demo: the seeder embeds it.
    engine::build()?;
    run::check(&mut cargo(["build", "-p", "marea-demo"]))?;

    let mut demo = Command::new(run::target().join("debug/marea-demo"));
    demo.arg("--root").arg(run::target().join("media/demo"));
    if let Some(port) = options.port {
        demo.args(["--port", &port.to_string()]);
    }
    if options.open {
        demo.arg("--open");
    }
    // Ctrl-C reaches both; the demo ends in good order and so do we.
    let status = demo.status().context("target/debug/marea-demo could not be started")?;
    if !status.success() {
        anyhow::bail!("the demo ended early ({status})");
    }
    Ok(())
}
