//! The demo: an edge ([`marea_seeder`], with signaling in it) and, on an origin of its own as in real life, the page that
//! plays its video and shows where the bytes come from.

#![forbid(unsafe_code)]

mod page;

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use marea_seeder::{Config, Seeder};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use page::Page;

/// Where the page is if nothing is asked for and nobody else is there.
const DEFAULT_PORT: u16 = 4400;

/// Folder of the video below the root.
const VIDEO: &str = "bigbuckbunny";

/// Serves a video, signaling, and the page that shows what happens.
#[derive(Debug, Parser)]
struct Options {
    /// Folder that holds the video's folder, as `cargo xtask media demo` makes it.
    #[arg(long)]
    root: PathBuf,
    /// Port of the page; 0 takes a free one. Without it 4400, or a free one if that is taken.
    #[arg(long)]
    port: Option<u16>,
    /// Opens the page in the browser.
    #[arg(long)]
    open: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let options = Options::parse();
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(std::io::stderr).init();
    let playlist = options.root.join(VIDEO).join("master.m3u8");
    if !playlist.is_file() {
        bail!("{} is missing; it is made by: cargo xtask media demo", playlist.display());
    }

    // Loopback only: a demo has no business on anybody's network.
    let seeder = Seeder::bind(Config::new(&options.root, (Ipv4Addr::LOCALHOST, 0).into())).await?;
    let edge = seeder.local_addr();
    let listener = listen(options.port).await?;
    let address = listener.local_addr().context("the page has no address")?;
    let page = Page::new(edge);

    writeln!(std::io::stdout(), "listening on http://{address}").context("stdout is closed")?;
    eprintln!(
        "\n  Marea is running.\n\n  The page    http://{address}/\n  The edge    http://{edge}/videos/{VIDEO}/master.m3u8\n  \
         Its figures http://{edge}/metrics\n\n  Ctrl-C ends it.\n"
    );
    if options.open {
        open(address);
    }

    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        ended().await;
        let _ = stop.send(true);
    });
    let mut page_stopping = stopping.clone();
    let mut edge_stopping = stopping;
    tokio::join!(
        page.run(listener, async move {
            let _ = page_stopping.wait_for(|stop| *stop).await;
        }),
        seeder.run(async move {
            let _ = edge_stopping.wait_for(|stop| *stop).await;
        }),
    );
    Ok(())
}

async fn listen(port: Option<u16>) -> Result<TcpListener> {
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if port.is_none()
        && let Ok(listener) = TcpListener::bind(at(DEFAULT_PORT)).await
    {
        return Ok(listener);
    }
    let port = port.unwrap_or(0);
    TcpListener::bind(at(port))
        .await
        .with_context(|| format!("port {port} cannot be had; choose another with --port, or 0 for any"))
}

/// Shows the page, if there is a desktop to show it on; the address is printed anyway.
fn open(address: SocketAddr) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let _ = Command::new(opener)
        .arg(format!("http://{address}/"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}

/// Returns when somebody wants us to end: Ctrl-C or SIGTERM.
async fn ended() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
