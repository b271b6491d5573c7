//! `marea-seeder mirror`: copies once, or copies, serves and keeps up.

use std::{env, net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use url::Url;

use marea_seeder::{
    Config, Mirror, MirrorError, MirrorPlan, Outcome, PublicKey, Seeder,
    config::{MIRROR_INTERVAL, byte_size, signaling_url},
};

use super::{FAILURE, announce};

pub(super) fn command() -> Command {
    Command::new("mirror")
        .about("Copy signed videos of another site, check every byte, keep up with it, and serve them while it is away")
        .arg(
            Arg::new("url")
                .value_name("URL")
                .required(true)
                .num_args(1..)
                .value_parser(site_url)
                .help("Playlists (….m3u8), or a site: then all videos that it lists"),
        )
        .arg(
            Arg::new("root")
                .long("root")
                .alias("dir")
                .value_name("DIR")
                .default_value("marea-mirror")
                .value_parser(value_parser!(PathBuf))
                .help("Folder for the copies, which lie in it as at their origin, host first"),
        )
        .arg(
            Arg::new("listen")
                .long("listen")
                .value_name("ADDR")
                .value_parser(value_parser!(SocketAddr))
                .help("Serve the copies at this address, and keep up with the origin. Without it they are made once"),
        )
        .arg(
            Arg::new("signaling")
                .long("signaling")
                .value_name("URL")
                .requires("listen")
                .value_parser(signaling_url)
                .help("Signaling server of these videos. Without it this program is one for them, at /signal"),
        )
        .arg(
            Arg::new("public-key")
                .long("public-key")
                .value_name("KEY")
                .action(ArgAction::Append)
                .value_delimiter(',')
                .value_parser(|text: &str| text.parse::<PublicKey>())
                .help("Keys that are trusted. Without it, those that the site names when it is first met"),
        )
        .arg(
            Arg::new("disk")
                .long("disk")
                .value_name("SIZE")
                .value_parser(byte_size)
                .help("Most bytes of all copies, such as 20gb; a video that does not fit is left out"),
        )
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .conflicts_with("listen")
                .help("Only say what would be copied"),
        )
}

fn site_url(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if url.scheme() == "https" && !cfg!(feature = "tls") => {
            let what = "this program was built without TLS: build it with `--features tls`, or name an http: URL, whose bytes are \
                        checked against the signatures all the same";
            Err(what.to_owned())
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("give a URL such as http://edge.example/videos/tide/master.m3u8".to_owned()),
    }
}

pub(super) fn run(matches: &ArgMatches) -> anyhow::Result<u8> {
    let root: &PathBuf = matches.get_one("root").context("no root was named")?;
    let plan = MirrorPlan {
        urls: matches.get_many("url").into_iter().flatten().cloned().collect(),
        root: root.clone(),
        keys: matches.get_many("public-key").into_iter().flatten().copied().collect(),
        disk: matches.get_one("disk").copied(),
    };
    let mut mirror =
        Mirror::new(plan).with_context(|| format!("{}: it cannot be a mirror's folder", root.display()))?;
    tokio::runtime::Runtime::new().context("cannot start threads")?.block_on(async {
        let Some(listen) = matches.get_one::<SocketAddr>("listen") else {
            let outcomes = if matches.get_flag("dry-run") { mirror.look().await } else { mirror.run().await };
            return Ok(if report(&outcomes) { 0 } else { FAILURE });
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut config = Config::new(root, *listen);
        config.signaling = matches.get_one("signaling").cloned();
        config.verbatim = true;
        config.state = env::var_os("STATE_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from);
        let seeder = Seeder::bind(config).await?;
        let control = seeder.control();
        announce(&seeder)?;
        let keep_up = async {
            loop {
                report(&mirror.run().await);
                control.rescan();
                // SIGHUP: now.
                let _ = timeout(MIRROR_INTERVAL, hangup.recv()).await;
            }
        };
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::select! {
            () = seeder.run(stop) => {}
            () = keep_up => {}
        }
        Ok(0)
    })
}

/// Says what became of each; whether all is well.
fn report(outcomes: &[(Url, Result<Outcome, MirrorError>)]) -> bool {
    for (url, outcome) in outcomes {
        match outcome {
            Ok(outcome) => eprintln!("{url}: {outcome}"),
            Err(error) => eprintln!("marea-seeder: {url}: {error}"),
        }
    }
    outcomes.iter().all(|(_, outcome)| outcome.is_ok())
}
