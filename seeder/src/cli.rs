//! The command line: which command, and what it is told. `main` only prints what comes back.

use std::{
    env,
    ffi::OsString,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use marea_signaling::layered::ConfigError;
use tokio::signal::unix::{SignalKind, signal};

use marea_seeder::{
    Config, Event, Mode, PackageEvent, Seeder, annotate,
    config::{LAYERS, signaling_url},
    package, revoke,
};

mod doctor;
mod keep_up;
mod keys;
mod mirror;

/// Exit code after a failure.
const FAILURE: u8 = 1;
/// Exit code for a wrong command line or configuration.
const USAGE: u8 = 2;

/// The commands of `marea-seeder`.
fn command() -> Command {
    let serve = Command::new("serve")
        .about("Serve a folder of HLS over HTTP, with verification tags, the engine and signaling")
        .args(LAYERS.args());
    let annotate = Command::new("annotate")
        .about("Write verification tags, piece lists and video ids into a folder, for any web server to serve")
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Folder, with all below it"),
        )
        .arg(signaling_arg())
        .arg(keys::key_arg())
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .help("Change nothing; exit 1 and name what is stale"),
        )
        .arg(
            Arg::new("remove")
                .long("remove")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["check", "signaling", "key"])
                .help("Take out all that was written: playlists are as they were, byte for byte"),
        );
    let package = Command::new("package")
        .about("Make HLS ladders of media files, ready to be served: segments, playlists, tags")
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("Media files that ffmpeg reads"),
        )
        .arg(
            Arg::new("root")
                .long("root")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Where each gets a folder of its own; what `serve --root` is given"),
        )
        .arg(signaling_arg())
        .arg(keys::key_arg());
    Command::new("marea-seeder")
        .version(env!("CARGO_PKG_VERSION"))
        .about("The edge of Marea: serves HLS and tags it for verification")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([
            serve,
            annotate,
            package,
            keys::command(),
            revoke_command(),
            mirror::command(),
            doctor::command(),
        ])
}

fn revoke_command() -> Command {
    let folder = |name| Arg::new(name).long(name).value_name("DIR").value_parser(value_parser!(PathBuf));
    Command::new("revoke")
        .about("Withdraw a video for good: 410 for all of it, viewers stop sharing it, mirrors delete it")
        .arg(
            Arg::new("video").value_name("VIDEO").required(true).help("Its id, or its playlist or folder below --root"),
        )
        .arg(folder("root").required(true).help("As given to `serve`"))
        .arg(folder("state").help("As given to `serve`; STATE_DIRECTORY or .marea in the root if not set"))
        .arg(keys::key_arg().help("Key file to sign it with, so that it counts wherever it comes from"))
}

fn revoke_video(matches: &ArgMatches) -> anyhow::Result<u8> {
    let root: &PathBuf = matches.get_one("root").context("no root was named")?;
    let video: &String = matches.get_one("video").context("no video was named")?;
    let set = || env::var_os("STATE_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from);
    let state = matches.get_one("state").cloned().or_else(set);
    let id = revoke(root, state.as_deref(), video, keys::signer(matches)?.as_ref())?;
    eprintln!("withdrawn: announce id {id}. A running `serve` follows within 30 s, or at once at SIGHUP");
    Ok(0)
}

fn signaling_arg() -> Arg {
    Arg::new("signaling")
        .long("signaling")
        .value_name("URL")
        .value_parser(signaling_url)
        .help("WebSocket URL of the signaling server, written into the playlists. Without it pages have to name one")
}

/// Runs the command in `args` (with the program's name first) and gives its exit code.
///
/// # Errors
/// What went wrong, for people; the exit code is then 1.
pub(crate) fn run(args: impl IntoIterator<Item = OsString>) -> anyhow::Result<u8> {
    let matches = match command().try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => {
            error.print()?;
            return Ok(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    match matches.subcommand() {
        Some(("serve", matches)) => serve(matches),
        Some(("annotate", matches)) => annotate_folder(matches),
        Some(("package", matches)) => package_files(matches),
        Some(("key", matches)) => keys::run(matches),
        Some(("revoke", matches)) => revoke_video(matches),
        Some(("mirror", matches)) => mirror::run(matches),
        Some(("doctor", matches)) => doctor::run(matches),
        _ => Ok(USAGE),
    }
}

fn serve(matches: &ArgMatches) -> anyhow::Result<u8> {
    let usage = |error: &ConfigError| {
        eprintln!("marea-seeder: {error}");
        Ok(USAGE)
    };
    let values = match LAYERS.load(matches, env::vars_os()) {
        Ok(values) => values,
        Err(error) => return usage(&error),
    };
    if values.print {
        print!("{}", values.to_toml());
        return Ok(0);
    }
    let mut config = match Config::from_values(&values) {
        Ok(config) => config,
        Err(error) => return usage(&error),
    };
    if values.check {
        return Ok(0);
    }
    if config.state.is_none() {
        config.state = env::var_os("STATE_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from);
    }
    tokio::runtime::Runtime::new().context("cannot start threads")?.block_on(async {
        // Before the first line on stdout: whoever waits for it may signal at once.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let seeder = Seeder::bind(config).await?;
        let control = seeder.control();
        announce(&seeder)?;
        let reload = async {
            while hangup.recv().await.is_some() {
                let loaded = LAYERS.load(matches, env::vars_os()).and_then(|values| Config::from_values(&values));
                match loaded {
                    Ok(config) => {
                        control.reload(&config);
                        tracing::info!("configuration reloaded");
                    }
                    Err(error) => tracing::error!(%error, "the configuration was not reloaded"),
                }
            }
        };
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
        };
        tokio::select! {
            () = seeder.run(stop) => {}
            () = reload => {}
        }
        Ok(0)
    })
}

fn announce(seeder: &Seeder) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let scheme = if seeder.is_secure() { "https" } else { "http" };
    writeln!(out, "listening on {scheme}://{}", seeder.local_addr())?;
    out.flush()
}

fn annotate_folder(matches: &ArgMatches) -> anyhow::Result<u8> {
    let mode = match (matches.get_flag("check"), matches.get_flag("remove")) {
        (true, _) => Mode::Check,
        (_, true) => Mode::Remove,
        _ => Mode::Write,
    };
    let dir: &PathBuf = matches.get_one("dir").context("no folder was named")?;
    let signer = if mode == Mode::Remove { None } else { keys::signer(matches)? };
    let signaling: Option<&String> = matches.get_one("signaling");
    // One line that is written over on a terminal; in a log only what was done.
    let terminal = io::stderr().is_terminal();
    let counting = AtomicBool::new(false);
    let report = |event: &Event| match event {
        Event::Hashed { .. } if terminal => {
            counting.store(true, Ordering::Relaxed);
            eprint!("\r{event}");
        }
        Event::Hashed { .. } => {}
        _ => {
            if counting.swap(false, Ordering::Relaxed) {
                eprintln!();
            }
            match (mode, event) {
                (Mode::Check, Event::Changed(path)) => eprintln!("{}: stale", path.display()),
                (Mode::Check, Event::Removed(path)) => eprintln!("{}: has to go", path.display()),
                _ => eprintln!("{event}"),
            }
        }
    };
    let summary = annotate(dir, signaling.map(String::as_str), signer.as_ref(), mode, &report)?;
    if counting.load(Ordering::Relaxed) {
        eprintln!();
    }
    let done = if mode == Mode::Check { "stale" } else { "changed" };
    eprintln!("{} playlists, {} files {done}, {} skipped", summary.playlists, summary.changes, summary.skipped);
    Ok(if mode == Mode::Check && summary.changes > 0 { FAILURE } else { 0 })
}

fn package_files(matches: &ArgMatches) -> anyhow::Result<u8> {
    let root: &PathBuf = matches.get_one("root").context("no root was named")?;
    let signer = keys::signer(matches)?;
    let signaling: Option<&String> = matches.get_one("signaling");
    let terminal = io::stderr().is_terminal();
    let counting = AtomicBool::new(false);
    let report = |event: &PackageEvent| match event {
        PackageEvent::Progress { .. } if terminal => {
            counting.store(true, Ordering::Relaxed);
            eprint!("\r{event}\x1b[K");
        }
        PackageEvent::Progress { .. } => {}
        _ => {
            if counting.swap(false, Ordering::Relaxed) {
                eprintln!();
            }
            eprintln!("{event}");
        }
    };
    let mut failed = false;
    for file in matches.get_many::<PathBuf>("file").into_iter().flatten() {
        // One bad file does not keep the others from being packaged.
        if let Err(error) = package(file, root, signaling.map(String::as_str), signer.as_ref(), &report) {
            if counting.swap(false, Ordering::Relaxed) {
                eprintln!();
            }
            eprintln!("marea-seeder: {error}");
            failed = true;
        }
    }
    Ok(if failed { FAILURE } else { 0 })
}
