//! The edge of Marea as a program; see the library for what it does.

mod cli;

use std::{io::IsTerminal, process::ExitCode};

use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match cli::run(std::env::args_os()) {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("marea-seeder: {error:#}");
            ExitCode::FAILURE
        }
    }
}
