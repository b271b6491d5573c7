//! Playlists: their headers, tags and signatures, and which segments are worth looking at.

use http::StatusCode;
use marea_swarm::playlist::{self, Locator, MediaPlaylist, ObjectRef, Playlist};
use percent_encoding::percent_decode_str;
use url::Url;

use super::{Visit, client::Reply, headers};
use crate::sign::{self, Expected, PublicKey};

/// What the playlists of one video say together.
pub(super) struct Found {
    pub(super) video: Option<String>,
    pub(super) signaling: Vec<String>,
}

/// Most renditions of a video that are looked at.
const MOST_RENDITIONS: usize = 20;

const ANNOTATE: &str = "run `marea-seeder annotate` over the folder again, then empty the caches in between";

impl Visit {
    /// Looks at `first` and, if it is multivariant, at all that it names. None if it cannot be read.
    pub(super) async fn playlists(&mut self, first: Reply) -> Option<Found> {
        let main = first.url.clone();
        let mut found = Found { video: None, signaling: Vec::new() };
        let children = match self.parsed(&first)? {
            Playlist::Media(list) => {
                self.media_playlist(&first, &list, &main, &mut found).await;
                return Some(found);
            }
            Playlist::Multivariant(list) => {
                self.texts(&first, &main, None, list.tag.as_ref().map(|tag| tag.video.as_str()));
                match (&list.tag, list.tag_error) {
                    (Some(tag), None) => self.tag(&first.url, tag.video.clone(), tag.signaling.clone(), &mut found),
                    (_, Some(error)) => self.report.change("tags", &first.url, error.to_string(), ANNOTATE),
                    // Those of its media playlists count.
                    (None, None) => {}
                }
                let others = list.renditions.into_iter().filter_map(|rendition| rendition.url);
                let mut urls: Vec<String> =
                    list.variants.into_iter().map(|variant| variant.url).chain(others).collect();
                urls.sort();
                urls.dedup();
                urls
            }
        };
        for url in children.iter().take(MOST_RENDITIONS).filter_map(|url| Url::parse(url).ok()) {
            let Some(reply) = self.fetch("playlist", &url).await else { continue };
            match self.parsed(&reply) {
                Some(Playlist::Media(list)) => self.media_playlist(&reply, &list, &main, &mut found).await,
                Some(Playlist::Multivariant(_)) => {
                    let says = "a multivariant playlist is named by another one";
                    self.report.change("playlist", &url, says, "name media playlists (RFC 8216 §4.3.4.2)");
                }
                None => {}
            }
        }
        Some(found)
    }

    fn parsed(&mut self, reply: &Reply) -> Option<Playlist> {
        let resolve = |base: &str, reference: &str| Some(Url::parse(base).ok()?.join(reference).ok()?.to_string());
        match playlist::parse(&reply.text(), reply.url.as_str(), &resolve) {
            Ok(list) => Some(list),
            Err(error) => {
                self.report.change("playlist", &reply.url, error.to_string(), "serve a playlist under this URL");
                None
            }
        }
    }

    /// What any playlist needs. `live` is the target duration in seconds of one that grows.
    fn texts(&mut self, reply: &Reply, main: &Url, live: Option<f64>, video: Option<&str>) {
        headers::cors(&mut self.report, "playlist", reply, self.client.origin());
        headers::playlist_type(&mut self.report, reply);
        headers::playlist_cache(&mut self.report, reply, live);
        headers::playlist_packed(&mut self.report, reply);
        if let Some(video) = video {
            self.signature(reply, main, video);
        }
    }

    /// One `EXT-X-MAREA`, against those before it.
    fn tag(&mut self, url: &Url, video: String, signaling: Option<String>, found: &mut Found) {
        match &found.video {
            Some(known) if *known != video => {
                let says = "its VIDEO is not that of the other playlists of this video: their viewers never meet";
                self.report.change("video-id", url, says, ANNOTATE);
            }
            Some(_) => {}
            None => found.video = Some(video),
        }
        if let Some(signaling) = signaling
            && !found.signaling.contains(&signaling)
        {
            found.signaling.push(signaling);
        }
    }

    async fn media_playlist(&mut self, reply: &Reply, list: &MediaPlaylist, main: &Url, found: &mut Found) {
        let live = (!list.ended).then_some(list.target_duration_ms / 1000.0);
        self.texts(reply, main, live, list.tag.as_ref().map(|tag| tag.video.as_str()));
        let url = &reply.url;
        let media: Vec<_> = list.segments.iter().filter(|segment| !segment.gap).collect();
        match (&list.tag, list.tag_error) {
            (_, Some(error)) => self.report.change("tags", url, error.to_string(), ANNOTATE),
            (None, None) => {
                let remedy = "serve it with `marea-seeder serve`, or run `marea-seeder annotate` over the folder";
                self.report.change("tags", url, "has no EXT-X-MAREA tag, so viewers share nothing of it", remedy);
            }
            (Some(tag), None) => {
                self.tag(url, tag.video.clone(), tag.signaling.clone(), found);
                let bare = media.iter().filter(|segment| segment.object.is_none()).count();
                if !tag.complete {
                    let says = format!("{bare} of {} segments are not hashed yet (COMPLETE=NO)", media.len());
                    self.report.change(
                        "tags",
                        url,
                        says,
                        "wait until the seeder has hashed the video, then look again",
                    );
                } else if list.unusable_tags > 0 {
                    let says = format!("{} tags of its segments cannot be used", list.unusable_tags);
                    self.report.change("tags", url, says, ANNOTATE);
                } else if bare > 0 {
                    let says = format!("{bare} of {} segments have no tag, so they are not shared", media.len());
                    self.report.change("tags", url, says, ANNOTATE);
                } else {
                    self.report.fine("tags", url, format!("all {} segments have one", media.len()));
                }
            }
        }
        // The ends, where edits and live windows move, and one between. The first of a live window may go any moment.
        let all = media.len();
        let picks =
            if list.ended { [0, all / 2, all.saturating_sub(1)] } else { [all / 2, all.saturating_sub(1), all] };
        let mut chosen: Vec<(&Locator, Option<&ObjectRef>)> = Vec::new();
        let maps = list.maps.first().map(|map| (&map.locator, map.object.as_ref()));
        let segments = picks.iter().filter_map(|at| media.get(*at));
        for one in segments.map(|segment| (&segment.locator, segment.object.as_ref())).chain(maps) {
            if !chosen.contains(&one) && !one.0.url.is_empty() {
                chosen.push(one);
            }
        }
        for (index, (locator, object)) in chosen.into_iter().enumerate() {
            self.object(locator, object, index == 0, live.is_some()).await;
        }
    }

    /// The signature, if there is one or the page wants one.
    fn signature(&mut self, reply: &Reply, main: &Url, video: &str) {
        let text = reply.text();
        let signed = sign::split(&text).map(|(_, tag)| tag);
        let url = &reply.url;
        let key = match signed {
            None if self.pinned.is_empty() => return,
            None => {
                let says = "is not signed, but the page pins a key: nothing of it is shared";
                let remedy = "sign it (`annotate --key`, `serve --key`), or take data-public-key off the page";
                return self.report.change("signature", url, says, remedy);
            }
            Some(Err(error)) => return self.report.change("signature", url, error.to_string(), "have it signed again"),
            Some(Ok(tag)) => PublicKey(tag.key),
        };
        let path = |url: &Url| percent_decode_str(url.path()).decode_utf8_lossy().into_owned();
        let name = sign::name(&path(main), &path(url));
        let trusted = if self.pinned.is_empty() { vec![key] } else { self.pinned.clone() };
        let expected = Expected { video, name: &name, keys: &trusted, now: sign::now_ms(), highest: None };
        match sign::verify(&text, &expected) {
            Err(error) => {
                let remedy = "have it signed again with a key that the page pins, and let nothing rewrite playlists";
                self.report.change("signature", url, error.to_string(), remedy);
            }
            Ok(_) if !self.known.is_empty() && !self.known.contains(&key) => {
                let says = format!("is signed by {key}, which /.well-known/marea of the site does not name");
                self.report.change("signature", url, says, "sign with the site's key, or publish this one");
            }
            Ok(_) => self.report.fine("signature", url, format!("fits, by {key}")),
        }
    }

    /// A 404 of a live segment that has left the window is none.
    pub(super) fn vanished(status: StatusCode, live: bool) -> bool {
        live && matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
    }
}
