//! `marea-signaling`: see the library.

mod mint;

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
};

use anyhow::Context;
use clap::ArgMatches;
use marea_signaling::{
    config::Config,
    defaults::LAYERS,
    layered::{ConfigError, Values},
    server::Server,
    service::Signaling,
    tls::TlsError,
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let matches = clap::Command::new("marea-signaling")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Matches the viewers of a video and relays their WebRTC handshakes; answers STUN")
        .after_help(
            "A flag beats its environment variable (MAREA_SIGNALING_LISTEN for --listen), that beats the TOML file, that \
             the default. SIGTERM drains and ends, SIGHUP reads public-url, trusted-proxy, allow-origin, tokens \
             what viewers are asked, certificate and key again. \
             RUST_LOG sets what is logged to stderr.",
        )
        .args(LAYERS.args())
        .subcommands(mint::commands())
        .args_conflicts_with_subcommands(true)
        .get_matches();
    if let Some((name, matches)) = matches.subcommand() {
        return match mint::run(name, matches) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("marea-signaling: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    let (values, config) = match read(&matches) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("marea-signaling: {error}");
            return ExitCode::from(2);
        }
    };
    if values.print {
        print!("{}", values.to_toml());
        return ExitCode::SUCCESS;
    }
    if values.check {
        eprintln!("marea-signaling: the configuration is valid");
        return ExitCode::SUCCESS;
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    match run(&matches, &config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("marea-signaling: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read(matches: &ArgMatches) -> Result<(Values, Config), ConfigError> {
    let values = LAYERS.load(matches, std::env::vars_os())?;
    let config = Config::from_values(&values)?;
    Ok((values, config))
}

#[tokio::main]
async fn run(matches: &ArgMatches, config: &Config) -> anyhow::Result<()> {
    raise_file_limit();
    let server = Server::bind(config).await?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    let signaling = server.signaling().clone();
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let reload_tls = server.tls_reloader();
    if let Some(address) = server.stun_addr() {
        tracing::info!(%address, "answering STUN");
    }
    if let Some(address) = server.admin_addr() {
        tracing::info!(%address, "metrics and health");
    }
    let mut stdout = std::io::stdout();
    writeln!(stdout, "listening on {scheme}://{}", server.local_addr()?)
        .and_then(|()| stdout.flush())
        .context("stdout")?;
    let shutdown = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => reload(matches, config, &signaling, &reload_tls),
            }
        }
    };
    server.run(shutdown).await;
    Ok(())
}

/// SIGHUP. What is wrong is said, and changes nothing.
fn reload(
    matches: &ArgMatches,
    old: &Config,
    signaling: &Signaling,
    reload_tls: &impl Fn(&Config) -> Result<(), TlsError>,
) {
    match read(matches) {
        Ok((_, new)) => {
            if (new.listen, new.udp, new.admin_listen) != (old.listen, old.udp, old.admin_listen) {
                tracing::warn!("listen, udp and admin-listen change with a restart only");
            }
            if let Err(error) = reload_tls(&new) {
                tracing::error!(%error, "the certificate was not read again");
            }
            signaling.set_policy(new.policy);
            tracing::info!("configuration read again");
        }
        Err(error) => tracing::error!(%error, "the configuration is wrong and was not read again"),
    }
}

/// Each client is a file descriptor, and the usual soft limit of 1024 is few.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
