//! A scripted peer for end-to-end tests: prints what it sees as one JSON object a line, until it is killed.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use marea_swarm::wire::PeerKind;
use marea_tests::native::{Library, Options, Peer, Script};

/// A scripted Marea peer over real WebRTC: honest, or lying as its script says.
#[derive(Parser)]
struct Cli {
    /// WebSocket URL of signaling, such as ws://127.0.0.1:8080/signal.
    #[arg(long)]
    signaling: String,
    /// Video id; by default VIDEO of the playlists' tags.
    #[arg(long)]
    video: Option<String>,
    /// Playlist, or folder with playlists, whose files it serves or compares with.
    #[arg(long)]
    media: PathBuf,
    /// How it behaves.
    #[arg(long, value_enum, default_value = "honest")]
    script: Script,
    /// Holds nothing at first, fetches every object from peers and compares it with its file.
    #[arg(long, value_enum)]
    fetch: Option<Fetch>,
    /// Origin header for signaling.
    #[arg(long)]
    origin_header: Option<String>,
    /// Local address to bind. Browsers hide theirs, so they must be able to reach this one.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// What it says it is.
    #[arg(long, value_enum, default_value = "viewer")]
    kind: Kind,
    /// Neighbours asked of signaling.
    #[arg(long, default_value_t = 10)]
    want: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fetch {
    /// Every object.
    All,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Viewer,
    Mirror,
    Edge,
}

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let cli = Cli::parse();
    let library = Library::load(&cli.media)?;
    let video = cli.video.or_else(|| library.video().map(str::to_owned));
    let options = Options {
        signaling: cli.signaling,
        video: video.context("the playlists carry no tag: name the video with --video")?,
        kind: match cli.kind {
            Kind::Viewer => PeerKind::Viewer,
            Kind::Mirror => PeerKind::Mirror,
            Kind::Edge => PeerKind::Edge,
        },
        script: cli.script,
        fetch: cli.fetch.is_some(),
        origin: cli.origin_header,
        address: cli.address,
        want: cli.want,
    };
    let mut peer = Peer::start(options, library);
    while let Some(event) = peer.event().await {
        // Whoever reads may be gone: then nobody needs this peer.
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&event)?)?;
    }
    Ok(())
}
