//! `doctor`: looks at a page, a playlist or a site as a viewer's browser would, and says what to change.
//! `docs/doctor.md` lists the checks.

mod client;
mod csp;
pub(crate) mod dial;
mod headers;
mod html;
mod media;
mod page;
mod playlist;
mod report;
mod signaling;
mod stun;

use std::{collections::BTreeSet, time::Duration};

use http::{Method, StatusCode, header};
use marea_swarm::ids::MAX_PLAYLIST_SIZE;
use url::Url;

pub use client::DoctorError;
pub use report::{Finding, Report, Verdict};

use client::{Client, Reply};

use crate::{
    sign::PublicKey,
    well_known::{self, Document},
};

/// Whom a playlist is looked at for if nobody says: any page of another site.
const STRANGER: &str = "https://viewer.example";

/// How to look.
#[derive(Clone, Debug)]
pub struct Checkup {
    /// Origin of the page that plays a playlist, such as `https://www.example`. A page is its own; some other site's if none.
    pub origin: Option<String>,
    /// How long a socket to signaling has to stay open with nothing said.
    pub idle: Duration,
}

/// Looks at `url`: a page with the script tag, a playlist, or a site (its `/`).
///
/// # Errors
/// [`DoctorError`] if there is nothing to look at; all else is in the report.
pub async fn doctor(url: &Url, checkup: &Checkup) -> Result<Report, DoctorError> {
    let origin = checkup.origin.clone().unwrap_or_else(|| STRANGER.to_owned());
    let mut visit = Visit {
        report: Report::new(url),
        client: Client::new(origin),
        idle: checkup.idle,
        page: None,
        pinned: Vec::new(),
        known: Vec::new(),
        videos: BTreeSet::new(),
        sockets: BTreeSet::new(),
    };
    let first = visit.client.text(url, MAX_PLAYLIST_SIZE).await?;
    if first.status != StatusCode::OK {
        return Err(DoctorError::Status { url: first.url, status: first.status });
    }
    headers::clock(&mut visit.report, &first);
    if first.text().trim_start_matches('\u{feff}').starts_with("#EXTM3U") {
        visit.video(first, Vec::new()).await;
    } else if first.is_type("text/html") {
        visit.page(&first, checkup.origin.is_none()).await;
    } else if first.url.path() == "/" {
        visit.site(&first.url).await;
    } else {
        return Err(DoctorError::Unknown { url: first.url });
    }
    Ok(visit.report)
}

/// One visit: what was found, and what later checks need of earlier ones.
struct Visit {
    report: Report,
    client: Client,
    idle: Duration,
    /// The page that was asked for, if one was.
    page: Option<Url>,
    /// Keys that the page pins.
    pinned: Vec<PublicKey>,
    /// Keys that the site names.
    known: Vec<PublicKey>,
    /// Playlists that were looked at.
    videos: BTreeSet<Url>,
    /// Signaling servers that were looked at, with the video asked for.
    sockets: BTreeSet<(String, Option<String>)>,
}

impl Visit {
    /// A multivariant or media playlist with all that it names. `signaling` is what the page says of it.
    async fn video(&mut self, first: Reply, mut signaling: Vec<String>) {
        if !self.videos.insert(first.url.clone()) {
            return;
        }
        self.keys_of(&first.url).await;
        let own = socket_of(&first.url);
        let Some(found) = self.playlists(first).await else { return };
        // The order in which the engine tries them (design C2).
        signaling.extend(found.signaling);
        if signaling.is_empty() {
            signaling.extend(own);
        }
        for url in signaling {
            self.signaling(&url, found.video.as_deref()).await;
        }
    }

    /// A site without a page: the engine, its keys, signaling, and the videos that it lists.
    async fn site(&mut self, url: &Url) {
        let Ok(script) = url.join("/marea.js") else { return };
        self.engine(&script).await;
        let listed = self.keys_of(url).await;
        if listed.is_empty() {
            let says = "the site lists no videos: give the URL of a page or of a playlist to have one looked at";
            self.report.note("videos", url, says);
            if let Some(socket) = socket_of(url) {
                self.signaling(&socket, None).await;
            }
        }
        for path in listed.iter().take(MOST_VIDEOS) {
            let Ok(playlist) = url.join(path) else { continue };
            if let Some(reply) = self.fetch("video", &playlist).await {
                self.video(reply, Vec::new()).await;
            }
        }
        if listed.len() > MOST_VIDEOS {
            let says = format!("looked at {MOST_VIDEOS} of the {} videos that the site lists", listed.len());
            self.report.note("videos", url, says);
        }
    }

    /// Reads `/.well-known/marea` of the site of `url`: the keys, and the videos if it lists them.
    async fn keys_of(&mut self, url: &Url) -> Vec<String> {
        let Ok(place) = url.join(well_known::PATH) else { return Vec::new() };
        let Ok(reply) = self.client.text(&place, MAX_PLAYLIST_SIZE).await else { return Vec::new() };
        // A site need not have one.
        let Ok(document) = serde_json::from_slice::<Document>(&reply.body) else { return Vec::new() };
        self.known.extend(document.keys.iter().map(|key| key.key));
        document.videos.unwrap_or_default()
    }

    /// A text that must be there; what is wrong is reported.
    async fn fetch(&mut self, check: &'static str, url: &Url) -> Option<Reply> {
        self.mixed(url);
        match self.client.text(url, MAX_PLAYLIST_SIZE).await {
            Ok(reply) if reply.status == StatusCode::OK => Some(reply),
            Ok(reply) => {
                let says = format!("answered with {}", reply.status);
                self.report.change(check, url, says, "put the file there, or mend the URL that names it");
                None
            }
            Err(error) => {
                self.report.change(check, url, error.to_string(), "let viewers reach this server");
                None
            }
        }
    }

    /// `marea.js` and the `marea.wasm` beside it.
    async fn engine(&mut self, script: &Url) {
        let files = [(script.clone(), "text/javascript", "javascript")];
        let wasm = script.join("marea.wasm").map(|url| (url, "application/wasm", "wasm"));
        for (url, media_type, part) in files.into_iter().chain(wasm) {
            let Some(reply) = self.fetch("engine", &url).await else { continue };
            headers::cors(&mut self.report, "engine", &reply, self.client.origin());
            let sent = reply.header(&header::CONTENT_TYPE);
            if sent.contains(part) {
                self.report.fine("engine", &url, format!("is there, as {sent}"));
            } else {
                let remedy = format!("send Content-Type: {media_type}");
                self.report.change("engine", &url, format!("has the content type {sent:?}"), remedy);
            }
        }
    }

    /// Browsers load nothing insecure into a secure page.
    fn mixed(&mut self, url: &Url) {
        let Some(page) = &self.page else { return };
        if is_mixed(page, url) {
            let remedy = "serve it over TLS and name it by https: (signaling by wss:)";
            self.report.change("mixed-content", url, "is blocked by browsers: the page is https:, this is not", remedy);
        }
    }

    /// What a browser asks before requests with headers of their own.
    async fn preflight(&mut self, url: &Url) {
        if client::is_of(url, self.client.origin()) {
            return;
        }
        let asked = [
            (header::ACCESS_CONTROL_REQUEST_METHOD, "GET".to_owned()),
            (header::ACCESS_CONTROL_REQUEST_HEADERS, "range".to_owned()),
        ];
        match self.client.ask(&Method::OPTIONS, url, &asked, MAX_PLAYLIST_SIZE).await {
            Ok(reply) => headers::preflight(&mut self.report, &reply, self.client.origin()),
            Err(error) => {
                self.report.change("preflight", url, error.to_string(), "answer OPTIONS with 204 and CORS headers");
            }
        }
    }
}

/// Most videos of a site that are looked at.
const MOST_VIDEOS: usize = 5;

/// Where the engine looks for signaling if nothing names it: `/signal` of the playlist's own server.
fn socket_of(url: &Url) -> Option<String> {
    let mut socket = url.join("/signal").ok()?;
    socket.set_scheme(if url.scheme() == "https" { "wss" } else { "ws" }).ok()?;
    Some(socket.into())
}

/// Whether browsers refuse to load `url` into `page`. What is on the viewer's own machine counts as secure.
fn is_mixed(page: &Url, url: &Url) -> bool {
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    page.scheme() == "https" && matches!(url.scheme(), "http" | "ws") && !local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn insecure_parts_of_a_secure_page_are_mixed_content() {
        let mixed = |page: &str, url: &str| is_mixed(&page.parse().unwrap(), &url.parse().unwrap());
        assert!(mixed("https://www.example/", "http://edge.example/marea.js"));
        assert!(mixed("https://www.example/", "ws://edge.example/signal"));
        assert!(!mixed("https://www.example/", "wss://edge.example/signal"));
        assert!(!mixed("https://www.example/", "http://127.0.0.1:8080/marea.js"));
        assert!(!mixed("http://www.example/", "http://edge.example/marea.js"));
    }
}
