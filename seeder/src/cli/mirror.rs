//! `marea-seeder mirror`: copies once, or copies, serves and keeps up.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use jiff::Zoned;
use marea_signaling::{message::Kind, token::TokenKey};
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use marea_seeder::{
    Config, Hours, Mirror, MirrorError, MirrorPlan, Month, Outcome, Peer, PeerPlan, PublicKey, Seeder,
    config::{byte_size, signaling_url},
};

use super::{FAILURE, announce, keep_up::KeepUp};

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
                .value_parser(signaling_url)
                .help(
                    "Join the swarms of these videos at this signaling server and give viewers pieces over WebRTC, for which no port \
                     has to be open. Without it, and with --listen, this program is signaling for them, at /signal",
                ),
        )
        .arg(
            Arg::new("upload-limit")
                .long("upload-limit")
                .value_name("RATE")
                .requires("signaling")
                .value_parser(rate)
                .help("Most that is sent over WebRTC, such as 5mbps. Without it half of what the line is found to bear"),
        )
        .arg(
            Arg::new("peer-key")
                .long("peer-key")
                .value_name("FILE")
                .requires("signaling")
                .value_parser(|path: &str| TokenKey::read(Path::new(path)))
                .help(
                    "Ed25519 private key in PEM, to show signaling on another machine that this mirror may join: its public key is \
                     listed there as `peer-key`",
                ),
        )
        .arg(
            Arg::new("udp-port")
                .long("udp-port")
                .value_name("PORT")
                .requires("signaling")
                .default_value("0")
                .value_parser(value_parser!(u16))
                .help("UDP port for WebRTC, for a firewall that has to know it; 0 takes a free one"),
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
            Arg::new("monthly")
                .long("monthly")
                .value_name("SIZE")
                .value_parser(byte_size)
                .help(
                    "Most bytes in a calendar month, copied and sent over WebRTC together, such as 200gb; then it rests until the \
                     next, also after a restart. What --listen serves is not counted",
                ),
        )
        .arg(
            Arg::new("hours")
                .long("hours")
                .value_name("HOURS")
                .value_parser(|text: &str| text.parse::<Hours>())
                .help("When it copies and shares, by this machine's clock, such as 22-7; at other times it only serves --listen"),
        )
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["listen", "signaling"])
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

/// Bytes per second: a number with kbps, mbps or gbps (powers of 1,000).
fn rate(text: &str) -> Result<u64, String> {
    let wrong = || "give a rate such as 5mbps or 800kbps".to_owned();
    let bits = text.trim().to_ascii_lowercase();
    let bits = bits.strip_suffix("bps").and_then(|number| byte_size(&format!("{number}b")).ok()).ok_or_else(wrong)?;
    // Less than that brings nobody a film.
    if bits < 64_000 { Err("give at least 64kbps".to_owned()) } else { Ok(bits / 8) }
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
    let listen = matches.get_one::<SocketAddr>("listen");
    let signaling = matches.get_one::<String>("signaling");
    let monthly = matches.get_one("monthly").copied();
    tokio::runtime::Runtime::new().context("cannot start threads")?.block_on(async {
        if listen.is_none() && signaling.is_none() {
            if let Some(hours) = matches.get_one::<Hours>("hours") {
                bail!("--hours {hours} is for a mirror that goes on: add --signaling or --listen");
            }
            if matches.get_flag("dry-run") {
                return Ok(if report(&mirror.look().await) { 0 } else { FAILURE });
            }
            let mut month = Month::open(root, monthly)?;
            mirror.allow(month.left(&Zoned::now()).unwrap_or(u64::MAX));
            let outcomes = mirror.run().await;
            month.add(mirror.fetched(), &Zoned::now());
            month.save()?;
            return Ok(if report(&outcomes) { 0 } else { FAILURE });
        }
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        let seeder = match listen {
            Some(listen) => {
                let mut config = Config::new(root, *listen);
                config.signaling = signaling.cloned();
                config.verbatim = true;
                config.state = env::var_os("STATE_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from);
                let seeder = Seeder::bind(config).await?;
                announce(&seeder)?;
                Some(seeder)
            }
            None => None,
        };
        let keep_up = KeepUp {
            mirror,
            peer: signaling.map(|url| peer(matches, url)).transpose()?,
            control: seeder.as_ref().map(Seeder::control),
            hours: matches.get_one("hours").copied(),
            month: Month::open(root, monthly)?,
        };
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        let serve = async {
            match seeder {
                Some(seeder) => seeder.run(stop).await,
                None => stop.await,
            }
        };
        tokio::select! {
            () = serve => {}
            () = keep_up.run(hangup) => {}
        }
        Ok(0)
    })
}

fn peer(matches: &ArgMatches, signaling: &str) -> anyhow::Result<Peer> {
    let mut plan = PeerPlan::new(Url::parse(signaling).context("the URL of signaling")?, Kind::Mirror);
    plan.upload_limit = matches.get_one("upload-limit").copied();
    plan.key = matches.get_one("peer-key").cloned();
    plan.port = matches.get_one("udp-port").copied().unwrap_or(0);
    Peer::start(plan).context("cannot start a thread for WebRTC")
}

/// Says what became of each; whether all is well.
pub(super) fn report(outcomes: &[(Url, Result<Outcome, MirrorError>)]) -> bool {
    for (url, outcome) in outcomes {
        match outcome {
            Ok(outcome) => eprintln!("{url}: {outcome}"),
            Err(error) => eprintln!("marea-seeder: {url}: {error}"),
        }
    }
    outcomes.iter().all(|(_, outcome)| outcome.is_ok())
}
