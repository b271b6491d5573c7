//! The commands of this repository: `cargo xtask demo`, `cargo xtask test` and what they are made of.
//!
//! Each command first sees to it that its tools are there ([`setup`]), so that both work on a fresh machine.

#![forbid(unsafe_code)]

mod bench;
mod demo;
mod dist;
mod edge;
mod engine;
mod layouts;
mod media;
mod packager;
mod run;
mod setup;
mod snip;
mod soak;
mod stamp;
mod test;

use std::process::ExitCode;

use anyhow::Result;

const HELP: &str = "\
Usage: cargo xtask COMMAND

  demo [--port N] [--no-open]   set up, build and start the demo, and print its URL
  test [STAGE...]               set up and run all checks and tests, or only these stages
  build                         build the browser engine into target/engine
  bench viewers [OPTION...]     measure plain hls.js, p2p-media-loader and Marea side by side (docs/benchmarks.md)
  bench edge [OPTION...]        measure the seeder beside nginx; --only plain|tls, --runs N, --report
  bench signaling [OPTION...]   measure signaling beside other trackers; --only load,paced,idle,restart, --runs N
  bench webrtc [OPTION...]      measure the seeder beside other WebRTC senders; --only native,chromium,idle,crowd, --report
  bench fleet [SCENARIO...]     simulate thousands of viewers; --list shows the scenarios, --help the options
  soak [--minutes N] [--peers N]   viewers come and go for half an hour, and nothing may be left of them
  dist                          build what is shipped into target/dist: programs, engine, npm package, checksums
  media [NAME...]               encode the footage of the demo and the tests into target/media
  help                          this text
";

/// What went wrong on the command line itself.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        ["build"] => build(),
        ["dist"] => setup::ensure(setup::Need::Build).and_then(|()| dist::run()),
        ["media", names @ ..] => with_args(media::recipes(names), |recipes| {
            setup::ensure(setup::Need::Media)?;
            media::make(&recipes)
        }),
        ["demo", options @ ..] => with_args(demo::Options::parse(options), |options| demo::run(&options)),
        ["soak", options @ ..] => soak::run(options),
        ["bench", args @ ..] => with_args(bench::parse(args), |bench| bench.run()),
        ["test", names @ ..] => with_args(test::stages(names), |stages| test::run(&stages)),
        [command, ..] => Err(run::usage(format!("unknown command {command:?}"))),
        [] => Err(run::usage("a command is missing")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<run::Usage>() => {
            eprint!("error: {error}\n\n{HELP}");
            ExitCode::from(USAGE)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn with_args<T>(parsed: Result<T>, act: impl FnOnce(T) -> Result<()>) -> Result<()> {
    act(parsed?)
}

fn build() -> Result<()> {
    setup::ensure(setup::Need::Build)?;
    engine::build()?.print();
    Ok(())
}
