//! Playlists of the origin with their tags: what is known of the objects they name, and what is fetched to be known.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    sync::{Arc, Mutex, atomic::Ordering},
    time::{Duration, Instant},
};

use data_encoding::BASE64URL_NOPAD;
use http::{Request, header};
use hyper::body::Incoming;
use marea_swarm::{
    ids::MAX_OBJECT_SIZE,
    playlist::Playlist,
    tags::{MareaTag, ObjectTag, Tag},
};
use tokio::{task::spawn_blocking, time::timeout};
use url::Url;

use super::{Got, Key, Object, Origin, Settled, lock, mark, millis, refs, rules::Life};
use crate::{
    answer::{Answer, Representation, Source, set},
    catalogue::{Built, Listed, folder},
    compose::{State, compose, finish, sealed},
    config::{
        LATE_SEGMENT, LIVE_HASH_WAIT, MISSING_AGE, NEGATIVE_AGE, ORIGIN_AHEAD, ORIGIN_PLAYLISTS, PENDING_REUSE,
        SIGNATURE_LIFE_TARGETS, VOD_PLAYLIST_AGE,
    },
    files,
    index::{self, Indexed, Item},
    metrics::{Cache, Kind},
    service::{wants_skip, withdrawn},
    sign::{self, Stamp},
};

/// What is known of a playlist between two readings.
#[derive(Default)]
struct Entry {
    /// The object that it was built of, how many objects had changed by then, and what was built.
    built: Option<(Arc<Object>, u64, Arc<Built>)>,
    listed: Option<Arc<Listed>>,
}

/// What could not be fetched.
struct Missing {
    since: Instant,
    last: Instant,
}

#[derive(Default)]
pub(super) struct Lists {
    entries: Mutex<HashMap<String, Entry>>,
    /// Media playlist to the multivariant ones that name it, all as paths.
    parents: Mutex<HashMap<String, BTreeSet<String>>>,
    /// What is fetched ahead, or waits for it.
    ahead: Mutex<HashSet<Key>>,
    missing: Mutex<HashMap<Key, Missing>>,
}

impl Lists {
    /// Notes that `key` is going to be fetched; false if it is already.
    pub(super) fn begin(&self, key: &Key) -> bool {
        lock(&self.ahead).insert(key.clone())
    }

    /// Notes how that went.
    pub(super) fn end(&self, key: &Key, fetched: bool) {
        lock(&self.ahead).remove(key);
        let mut missing = lock(&self.missing);
        if fetched {
            missing.remove(key);
            return;
        }
        let now = Instant::now();
        if missing.len() >= ORIGIN_PLAYLISTS {
            missing.retain(|_, missing| missing.last.elapsed() < MISSING_AGE);
        }
        missing.entry(key.clone()).or_insert(Missing { since: now, last: now }).last = now;
    }

    /// The first multivariant playlist that names `rel`, else itself.
    fn main(&self, rel: &str) -> String {
        let parents = lock(&self.parents);
        parents.get(rel).and_then(BTreeSet::first).map_or(rel, String::as_str).to_owned()
    }

    fn adopt(&self, main: &str, children: &[String]) {
        let mut parents = lock(&self.parents);
        if parents.len() >= ORIGIN_PLAYLISTS {
            parents.clear();
        }
        for child in children {
            parents.entry(child.clone()).or_default().insert(main.to_owned());
        }
    }
}

impl Origin {
    /// Answers a GET or HEAD for the playlist `target`, whose path is `rel`.
    pub(super) async fn playlist(
        self: &Arc<Self>,
        request: &Request<Incoming>,
        rel: &str,
        target: String,
        signaling: Option<&str>,
    ) -> Answer {
        let asked = index::target(rel, request.uri().query());
        let key = Key { target, span: None };
        let (got, cache) = match self.acquire(&key).await {
            Ok(got) => got,
            Err(settled) => return self.refused(request, rel, &asked, settled).await,
        };
        let object = match got {
            Got::Object(object) => object,
            Got::Coming(fill, _) => match fill.whole().await {
                Ok(object) => object,
                Err(settled) => return self.refused(request, rel, &asked, settled).await,
            },
        };
        let built = match self.tagged(&key, rel, &object, signaling).await {
            Ok(built) => built,
            Err(error) => return super::failed(&error.to_string()),
        };
        // Its folder has its id by now.
        if self.library.is_revoked(rel) {
            return withdrawn();
        }
        let skip = wants_skip(request.uri().query().unwrap_or(""));
        let text = built.delta.as_ref().filter(|_| skip).unwrap_or(&built.whole);
        let max_age = if cache == Cache::stale { 1 } else { built.max_age };
        let representation = Representation {
            source: Source::Packed(text.packed.clone()),
            media_type: files::media_type("a.m3u8"),
            etag: text.etag.clone(),
            last_modified: None,
            cache_control: format!("public, max-age={max_age}"),
            kind: Kind::playlist,
            cache,
        };
        let mut answer = representation.answer(request.method(), request.headers());
        mark(answer.response.headers_mut(), cache, 0);
        if cache == Cache::stale {
            set(answer.response.headers_mut(), header::WARNING, "110 - \"Response is Stale\"");
        }
        answer
    }

    /// The playlist with its tags. On live it waits a moment for the hashes of the newest segments; VOD never waits.
    async fn tagged(
        self: &Arc<Self>,
        key: &Key,
        rel: &str,
        object: &Arc<Object>,
        signaling: Option<&str>,
    ) -> io::Result<Arc<Built>> {
        // From before it is built: what comes in between is not missed.
        let mut done = self.done.subscribe();
        let waiting = timeout(LIVE_HASH_WAIT, async {
            loop {
                done.mark_unchanged();
                let built = self.build(key, rel, object, signaling).await?;
                if !built.held_back || built.pending.is_empty() || done.changed().await.is_err() {
                    return Ok(built);
                }
            }
        });
        match waiting.await {
            Ok(built) => built,
            Err(_) => self.build(key, rel, object, signaling).await,
        }
    }

    async fn build(
        self: &Arc<Self>,
        key: &Key,
        rel: &str,
        object: &Arc<Object>,
        signaling: Option<&str>,
    ) -> io::Result<Arc<Built>> {
        if let Some(built) = self.reusable(key, object, signaling) {
            return Ok(built);
        }
        let (origin, key, rel, object) = (Arc::clone(self), key.clone(), rel.to_owned(), Arc::clone(object));
        let signaling = signaling.map(str::to_owned);
        let build = move || origin.build_now(&key, &rel, &object, signaling);
        let (built, wanted) = spawn_blocking(build).await.map_err(io::Error::other)??;
        wanted.into_iter().for_each(|key| self.fetch_ahead(key));
        Ok(built)
    }

    fn reusable(&self, key: &Key, object: &Arc<Object>, signaling: Option<&str>) -> Option<Arc<Built>> {
        let signer = self.library.signer();
        let entries = lock(&self.lists.entries);
        let (source, changes, built) = entries.get(&key.target)?.built.as_ref()?;
        let settled = built.pending.is_empty() && !built.absent || built.at.elapsed() < PENDING_REUSE;
        let usable = settled && (!built.held_back || built.pending.is_empty());
        let same = Arc::ptr_eq(source, object) && *changes == self.changes.load(Ordering::Relaxed);
        let fits = built.signaling.as_deref() == signaling && built.is_signed_by(signer.as_ref());
        (usable && same && fits).then(|| Arc::clone(built))
    }

    /// Reads, tags and signs; gives what should be fetched next, too. Blocks on the disk.
    fn build_now(
        &self,
        key: &Key,
        rel: &str,
        object: &Arc<Object>,
        signaling: Option<String>,
    ) -> io::Result<(Arc<Built>, Vec<Key>)> {
        let changes = self.changes.load(Ordering::Relaxed);
        let text = String::from_utf8(object.read()?).map_err(|_| io::Error::other("it is no text"))?;
        let from = Url::parse(&object.head.url).map_err(io::Error::other)?;
        let moved = refs::rewrite(&text, &from, &key.target, self.upstream.base());
        let tag = text.lines().find_map(|line| match Tag::parse(line.trim()) {
            Some(Ok(Tag::Marea(tag))) => Some(tag),
            _ => None,
        });
        if tag.is_some_and(|tag| tag.complete) {
            // The origin tags by itself. What it signed is as it is, or worth nothing.
            let text = if sign::split(&text).is_some() { text } else { moved };
            return Ok((Arc::new(finish(text, signaling, VOD_PLAYLIST_AGE)), Vec::new()));
        }
        let Some(indexed) = index::index(&moved, rel, &self.site) else {
            // None that we understand: a player may still make something of it.
            return Ok((Arc::new(finish(moved, signaling, 1)), Vec::new()));
        };
        set_life(object, &indexed.playlist);
        let path = |target: &str| target.split('?').next().unwrap_or("").to_owned();
        let own = path(&key.target);
        if let Playlist::Multivariant(_) = &indexed.playlist {
            let children: Vec<String> = index::children(&indexed.playlist, &self.site);
            self.names.set(&key.target, &children.iter().map(|child| named(child)).collect::<Vec<_>>());
            self.lists.adopt(&own, &children.iter().map(|child| path(child)).collect::<Vec<_>>());
        }
        let main = self.lists.main(&own);
        let decoded = |path: &str| files::relative(path).unwrap_or_else(|| path.to_owned());
        let (main, rel) = (decoded(&main), decoded(&own));
        let derived = || self.derive(folder(&main));
        let carried = indexed.video.clone().filter(|video| crate::video::is_usable(video));
        let video = self.library.video_in(folder(&main), || carried.unwrap_or_else(derived));
        let signer = self.library.signer();
        let (name, life) = (sign::name(&main, &rel), sign::life(&indexed.playlist));
        let stamp = signer.as_ref().map(|signer| Stamp::new(signer, &video, &name, life));
        if let Some(stamp) = &stamp {
            self.library.note(stamp.seq);
        }
        let head = MareaTag { video: video.clone(), signaling, complete: true };
        let (mut built, wanted) = match &indexed.playlist {
            Playlist::Multivariant(_) => {
                let signaling = head.signaling.clone();
                let text = index::insert(&indexed.text, head, Vec::new(), usize::MAX);
                (finish(sealed(stamp.as_ref(), text), signaling, VOD_PLAYLIST_AGE), Vec::new())
            }
            Playlist::Media(_) => self.build_media(key, &indexed, head, stamp.as_ref()),
        };
        built.signed = stamp.map(|stamp| (stamp.signer.public(), built.at + life / 2));
        let built = Arc::new(built);
        let mut entries = lock(&self.lists.entries);
        if entries.len() >= ORIGIN_PLAYLISTS {
            entries.clear();
        }
        let entry = entries.entry(key.target.clone()).or_default();
        entry.listed.clone_from(&built.listed);
        entry.built = Some((Arc::clone(object), changes, Arc::clone(&built)));
        Ok((built, wanted))
    }

    fn build_media(
        &self,
        key: &Key,
        indexed: &Indexed,
        head: MareaTag,
        stamp: Option<&Stamp<'_>>,
    ) -> (Built, Vec<Key>) {
        let Playlist::Media(list) = &indexed.playlist else { return (finish(String::new(), None, 1), Vec::new()) };
        let items = index::items(list, &self.site);
        self.names.set(&key.target, &items);
        let before = lock(&self.lists.entries).get(&key.target).and_then(|entry| entry.listed.clone());
        let end = list.media_sequence.saturating_add(list.segments.len() as u64);
        // Another run of an encoder: nothing of it was listed.
        let restarted = |before: &Arc<Listed>| list.media_sequence < before.first || end < before.end;
        let before = before.map(|before| if restarted(&before) { Arc::default() } else { before });
        let late = if list.ended { 0.0 } else { LATE_SEGMENT * list.target_duration_ms };
        let late = Duration::from_secs_f64(late / 1_000.0);
        let ats = self.list_offsets(&items);
        let states: Vec<State> = items.iter().map(|item| self.state_of(item, &ats, late)).collect();
        let built = compose(indexed, list, (&items, &states), before.as_deref(), head, stamp);
        let waiting = items.iter().zip(&states).filter(|(_, state)| **state == State::Pending);
        let waiting: Vec<Key> = waiting.map(|(item, _)| key_of(item)).collect();
        // On live the newest are waited for; what is watched from its start is fetched from there.
        let wanted = if list.ended {
            waiting.into_iter().take(ORIGIN_AHEAD).collect()
        } else {
            waiting.into_iter().rev().take(ORIGIN_AHEAD).collect()
        };
        (built, wanted)
    }

    /// Where the piece lists of byte ranges begin, for each file that has some.
    fn list_offsets(&self, items: &[Item]) -> HashMap<String, BTreeMap<(u64, u64), u64>> {
        let files: BTreeSet<&String> = items.iter().filter(|item| item.span.is_some()).map(|item| &item.file).collect();
        let offsets = files.into_iter().map(|file| (file.clone(), self.names.list_offsets(file)));
        offsets.collect()
    }

    fn state_of(&self, item: &Item, ats: &HashMap<String, BTreeMap<(u64, u64), u64>>, late: Duration) -> State {
        let key = key_of(item);
        if let Some(hashed) = self.store.hashed(&key) {
            let usable = hashed.size > 0 && hashed.size <= MAX_OBJECT_SIZE;
            let at = item.span.and_then(|span| ats.get(&item.file)?.get(&span).copied());
            let at = at.filter(|_| !hashed.list.is_empty());
            return State::Hashed(usable.then_some(ObjectTag { size: hashed.size, root: hashed.root, at }));
        }
        if lock(&self.lists.ahead).contains(&key) {
            return State::Pending;
        }
        match lock(&self.lists.missing).get(&key) {
            None => State::Pending,
            Some(missing) if missing.since.elapsed() < late && missing.last.elapsed() < NEGATIVE_AGE => State::Late,
            Some(missing) if missing.since.elapsed() >= late && missing.last.elapsed() < MISSING_AGE => State::Unusable,
            Some(_) => State::Pending,
        }
    }

    /// The id of the video in `folder`: as good as random to everybody who does not have the secret, and the same for
    /// everyone who has it.
    fn derive(&self, folder: &str) -> String {
        let text = format!("{}\n{folder}", self.upstream.base());
        BASE64URL_NOPAD.encode(&blake3::keyed_hash(&self.secret, text.as_bytes()).as_bytes()[..16])
    }

    /// Reads the playlists of earlier runs, so that their videos may be joined and their queries mean something. Blocks.
    pub(crate) fn learn(&self) {
        let mut keys = self.store.keys();
        keys.retain(|key| key.span.is_none() && files::is_playlist(key.target.split('?').next().unwrap_or("")));
        // Twice: what names others may come after them.
        for key in keys.iter().chain(&keys) {
            let Some(object) = self.store.get(key) else { continue };
            let Some(rel) = files::relative(key.target.split('?').next().unwrap_or("")) else { continue };
            if let Err(error) = self.build_now(key, &rel, &object, None) {
                tracing::debug!(%error, "a playlist of the cache cannot be read");
            }
        }
    }
}

fn key_of(item: &Item) -> Key {
    Key { target: item.file.clone(), span: item.span }
}

/// A playlist as something that is named.
fn named(target: &str) -> Item {
    let kind = marea_swarm::tags::ObjectKind::Segment;
    Item { kind, line: 0, file: target.to_owned(), span: None, segment: None }
}

/// How long a playlist counts, now that it is known what it is.
fn set_life(object: &Object, playlist: &Playlist) {
    let target = match playlist {
        Playlist::Media(list) if !list.ended => Some(list.target_duration_ms.max(1_000.0) as u64),
        _ => None,
    };
    object.set_life(|life| match target {
        // Players ask for it once in a target duration, and what is old is of no use to them.
        Some(target) => Life {
            fresh: life.fresh.min(target / 2),
            revalidate: life.revalidate.min(target / 2),
            on_error: life.on_error.min(target.saturating_mul(SIGNATURE_LIFE_TARGETS as u64)),
            ..life
        },
        None if !life.stated => Life { fresh: millis(Duration::from_secs(VOD_PLAYLIST_AGE)), ..life },
        None => life,
    });
}

impl Settled {
    /// For a log.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Failed(reason) => reason.to_string(),
            Self::Status(status) => status.to_string(),
            Self::Private => "it is for one client only".to_owned(),
            Self::NotModified => "not modified".to_owned(),
        }
    }
}
