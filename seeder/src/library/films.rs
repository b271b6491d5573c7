//! The videos of the folder, as a peer gives them: what of them is hashed, and what of that has changed.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use marea_signaling::AnnounceId;
use marea_swarm::{
    ids::{HashKind, piece_count},
    pieces::{Cv, list_from_bytes},
    playlist::{Locator, MediaPlaylist, ObjectRef, Playlist},
    tags::ObjectTag,
};

use super::Library;
use crate::{
    catalogue::{Lookup, Role},
    config::{EDGE_LOOK, EDGE_LOOK_FILM},
    files::FileKey,
    hasher::Urgency,
    index::Span,
    peer::{Film, Part, TextAt},
    revoked, sign,
};

/// What was seen of the videos last.
#[derive(Default)]
pub(crate) struct Films {
    /// By media playlist.
    seen: HashMap<String, Seen>,
    /// Videos that were told of.
    told: HashSet<String>,
}

struct Seen {
    video: String,
    /// The playlist that names it, else itself.
    main: String,
    key: Option<FileKey>,
    /// All that it names is hashed.
    whole: bool,
    ended: bool,
    at: Instant,
}

impl Seen {
    /// How long it is left alone.
    fn rest(&self) -> Duration {
        match (self.ended, self.whole) {
            (false, _) => EDGE_LOOK,
            (true, false) => EDGE_LOOK_FILM.0,
            (true, true) => EDGE_LOOK_FILM.1,
        }
    }
}

/// What has changed.
pub(crate) enum Change {
    /// A video is new, or has more or other objects.
    Film(Film),
    /// The video of this id is there no more, or was withdrawn.
    Gone(String),
}

/// A file that a playlist names: the tags of its parts, and their piece lists.
struct Hashed {
    path: PathBuf,
    tags: HashMap<Span, ObjectTag>,
    lists: Bytes,
}

impl Library {
    /// What has changed since `films` was looked at last. Looks at the disk.
    pub(crate) fn changes(&self, films: &mut Films) -> Vec<Change> {
        let revoked = revoked::ids(&self.revoked());
        // By video, so that all playlists of one are told together.
        let mut videos: BTreeMap<String, Vec<(String, bool)>> = BTreeMap::new();
        {
            let catalogue = self.read();
            for (rel, entry) in catalogue.playlists() {
                let Role::Media { ended } = entry.role else { continue };
                // What nobody has asked for may have no id yet.
                let Some(video) = catalogue.video(&catalogue.video_folder(rel)) else { continue };
                if !revoked.contains(&AnnounceId::of_video(video)) {
                    videos.entry(video.to_owned()).or_default().push((rel.to_owned(), ended));
                }
            }
        }
        let mut before: HashMap<String, usize> = HashMap::new();
        for seen in films.seen.values() {
            *before.entry(seen.video.clone()).or_default() += 1;
        }
        let mut changes = Vec::new();
        let mut seen = HashMap::new();
        for (video, lists) in &mut videos {
            // The same playlist is the main one whenever it is looked at.
            lists.sort_unstable();
            let as_many = before.get(video) == Some(&lists.len());
            if !as_many || lists.iter().any(|(rel, ended)| self.is_due(films.seen.get_mut(rel), video, rel, *ended)) {
                let film = self.film(video, lists, &mut seen);
                if !film.parts.is_empty() {
                    films.told.insert(video.clone());
                    changes.push(Change::Film(film));
                } else if films.told.remove(video) {
                    changes.push(Change::Gone(video.clone()));
                }
            } else {
                for (rel, _) in lists {
                    seen.extend(films.seen.remove_entry(rel));
                }
            }
        }
        films.seen = seen;
        let gone = films.told.extract_if(|video| !videos.contains_key(video));
        changes.extend(gone.map(Change::Gone));
        changes
    }

    /// Whether a playlist may have changed, or more of what it names may be hashed.
    fn is_due(&self, seen: Option<&mut Seen>, video: &str, rel: &str, ended: bool) -> bool {
        let Some(seen) = seen else { return true };
        if seen.video != video || seen.ended != ended || seen.main != self.read().main(rel) {
            return true;
        }
        if seen.at.elapsed() < seen.rest() {
            return false;
        }
        seen.at = Instant::now();
        !seen.whole || seen.key != self.root.key(rel).ok()
    }

    /// A video with what of it is hashed.
    fn film(&self, video: &str, lists: &[(String, bool)], seen: &mut HashMap<String, Seen>) -> Film {
        let mut film = Film { video: video.to_owned(), lists: Vec::new(), parts: Vec::new(), texts: HashMap::new() };
        for (rel, ended) in lists {
            // What a playlist names is hashed once it was noted: nobody may have asked for it yet.
            let indexed = self.register(rel).ok().flatten();
            let (key, main) = {
                let catalogue = self.read();
                (catalogue.entry(rel).map(|entry| entry.key), catalogue.main(rel).to_owned())
            };
            let served = |rel: &str| TextAt::Served(rel.to_owned());
            if main == *rel {
                // Where others are named by one, that one is the video's main playlist.
                film.texts.entry(String::new()).or_insert_with(|| served(rel));
            } else {
                film.texts.insert(String::new(), served(&main));
                film.texts.insert(sign::name(&main, rel), served(rel));
            }
            let mut whole = true;
            if let Some(Playlist::Media(mut list)) = indexed.map(|indexed| indexed.playlist) {
                whole = self.fill(&mut list, &mut film.parts);
                film.lists.push(list.into());
            }
            let (video, at) = (video.to_owned(), Instant::now());
            seen.insert(rel.clone(), Seen { video, main, key, whole, ended: *ended, at });
        }
        film
    }

    /// Puts what is hashed into a playlist, and where it lies into `parts`; whether that is all.
    fn fill(&self, list: &mut MediaPlaylist, parts: &mut Vec<Part>) -> bool {
        let mut files: HashMap<String, Option<Hashed>> = HashMap::new();
        let (mut whole, ended) = (true, list.ended);
        let mut put = |locator: &Locator, init: bool| {
            let name = self.site.file(&locator.url)?;
            let hashed = files.entry(name).or_insert_with_key(|name| {
                let (hashed, known) = self.hashed(name, ended);
                whole &= known;
                hashed
            });
            let hashed = hashed.as_ref()?;
            let span = locator.range.map(|range| (range.start, range.len));
            let tag = hashed.tags.get(&span)?;
            let part = list_of(tag, &hashed.lists)?;
            let start = span.map_or(0, |(start, _)| start);
            parts.push(Part::new(locator, &hashed.path, (start, tag.size), part, init));
            Some(ObjectRef { root: tag.root, kind: HashKind::Blake3, size: tag.size, list_at: tag.at.unwrap_or(0) })
        };
        for map in &mut list.maps {
            map.object = put(&map.locator, true);
        }
        for segment in list.segments.iter_mut().filter(|segment| !segment.gap) {
            segment.object = put(&segment.locator, false);
            segment.parts.iter_mut().for_each(|part| part.object = put(&part.locator, false));
        }
        list.trailing_parts.iter_mut().for_each(|part| part.object = put(&part.locator, false));
        whole
    }

    /// The hashes of a file, and whether there are no more to be waited for.
    fn hashed(&self, file: &str, ended: bool) -> (Option<Hashed>, bool) {
        match self.look_up(file) {
            Some(Lookup::Hashed(hashes)) => {
                let found = hashes.list().ok().zip(self.root.resolve(file).ok());
                let hashed =
                    found.map(|(lists, path)| Hashed { path, tags: hashes.tags(), lists: lists.unwrap_or_default() });
                (hashed, true)
            }
            Some(Lookup::Pending) => {
                self.hasher.submit(file, if ended { Urgency::Background } else { Urgency::Live });
                (None, false)
            }
            Some(Lookup::Refused) => (None, true),
            // Not there (yet).
            None => (None, ended),
        }
    }
}

/// The hashes of an object's pieces, from the lists of its file.
fn list_of(tag: &ObjectTag, lists: &Bytes) -> Option<Vec<Cv>> {
    let count = piece_count(tag.size) as usize;
    if count == 1 {
        return Some(vec![tag.root.0]);
    }
    let at = usize::try_from(tag.at.unwrap_or(0)).ok()?;
    list_from_bytes(lists.get(at..at.checked_add(count * 32)?)?)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, sync::Arc};

    use super::*;
    use crate::{config::Config, files::Root, metrics::Metrics, sign::Signer};

    const HEAD: &str = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"init.mp4\"\n";

    /// Changes that come within a while, by what they say: id, parts, of them init sections; none if it is gone.
    async fn next(library: &Arc<Library>, films: &mut Films) -> Vec<(String, Option<(usize, usize)>)> {
        for _ in 0..200 {
            // What is looked at rarely is looked at now.
            films.seen.values_mut().for_each(|seen| seen.at -= EDGE_LOOK_FILM.1);
            let changes = library.changes(films);
            if !changes.is_empty() {
                let said = changes.into_iter().map(|change| match change {
                    Change::Film(film) => {
                        let inits = film.parts.iter().filter(|part| part.init).count();
                        let read = film.parts.iter().all(|part| part.piece(0).is_ok());
                        assert!(read, "every part is where it is said to be");
                        (film.video, Some((film.parts.len(), inits)))
                    }
                    Change::Gone(video) => (video, None),
                });
                return said.collect();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing has changed");
    }

    /// As [`next`], until a video has so many parts: hashes come one by one.
    async fn until(library: &Arc<Library>, films: &mut Films, video: &str, parts: (usize, usize)) {
        while next(library, films).await != [(video.to_owned(), Some(parts))] {}
    }

    fn put(root: &Path, name: &str, bytes: &[u8]) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    #[tokio::test]
    async fn films_and_live_are_followed_and_what_is_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (video, end) in [("film", "#EXT-X-ENDLIST\n"), ("live", "")] {
            put(root, &format!("{video}/marea.json"), format!(r#"{{"version":1,"video":"{video}"}}"#).as_bytes());
            put(root, &format!("{video}/init.mp4"), video.as_bytes());
            put(root, &format!("{video}/0.m4s"), &[1; 150_000]);
            put(root, &format!("{video}/list.m3u8"), format!("{HEAD}#EXTINF:2,\n0.m4s\n{end}").as_bytes());
        }
        let config = Config::new(root, ([127, 0, 0, 1], 0).into());
        let announced = marea_signaling::Catalogue::default();
        let metrics = Metrics::new(|_| {});
        let state = root.join(".marea");
        let library = Library::start(Root::new(root).unwrap(), state, &config, metrics, announced, None);
        library.first_scan().await;
        let mut films = Films::default();
        let mut whole = HashSet::new();
        while whole.len() < 2 {
            let now = next(&library, &mut films).await;
            whole.extend(now.into_iter().filter(|(_, parts)| *parts == Some((2, 1))).map(|(video, _)| video));
        }
        put(root, "live/1.m4s", &[2; 1_000]);
        put(root, "live/list.m3u8", format!("{HEAD}#EXTINF:2,\n0.m4s\n#EXTINF:2,\n1.m4s\n").as_bytes());
        until(&library, &mut films, "live", (3, 1)).await;
        fs::remove_dir_all(root.join("film")).unwrap();
        library.rescan();
        assert_eq!(next(&library, &mut films).await, [("film".to_owned(), None)]);
        library.stop();
    }

    #[tokio::test]
    async fn playlists_are_named_as_they_are_signed_and_given_only_signed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        put(root, "film/marea.json", br#"{"version":1,"video":"film"}"#);
        put(root, "film/master.m3u8", b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n720/list.m3u8\n");
        put(root, "film/720/init.mp4", b"init");
        put(root, "film/720/0.m4s", &[1; 1_000]);
        let list = |segments: &str| format!("{HEAD}{segments}").into_bytes();
        put(root, "film/720/list.m3u8", &list("#EXTINF:2,\n0.m4s\n"));
        let config = Config::new(root, ([127, 0, 0, 1], 0).into());
        let (announced, metrics) = (marea_signaling::Catalogue::default(), Metrics::new(|_| {}));
        let state = root.join(".marea");
        let library = Library::start(Root::new(root).unwrap(), state, &config, metrics, announced, None);
        library.first_scan().await;
        let mut films = Films::default();
        let texts = loop {
            films.seen.values_mut().for_each(|seen| seen.at -= EDGE_LOOK_FILM.1);
            if let Some(Change::Film(film)) = library.changes(&mut films).pop() {
                break film.texts;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let at = |name: &str| match &texts[name] {
            TextAt::Served(rel) => rel.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(texts.len(), 2);
        assert_eq!([at(""), at("720/list.m3u8")], ["film/master.m3u8", "film/720/list.m3u8"]);

        assert_eq!(library.signed(&at("")), None, "there is no key");
        let signer = Signer::new(&[7; 32]);
        library.set_signer(Some(signer.clone()));
        let check = |name: &str, highest: Option<u64>| {
            let text = String::from_utf8(library.signed(&at(name)).unwrap().to_vec()).unwrap();
            let (keys, now) = ([signer.public()], sign::now_ms());
            let highest = highest.map(|seq| (keys[0], seq));
            let tag = sign::verify(&text, &sign::Expected { video: "film", name, keys: &keys, now, highest }).unwrap();
            (text, tag.seq)
        };
        check("", None);
        let (text, seq) = check("720/list.m3u8", None);
        assert_eq!(check("720/list.m3u8", Some(seq)), (text.clone(), seq), "it is signed once");
        put(root, "film/720/list.m3u8", &list("#EXTINF:2,\n0.m4s\n#EXT-X-ENDLIST\n"));
        let (later, _) = check("720/list.m3u8", Some(seq + 1));
        assert!(later.contains("#EXT-X-ENDLIST") && !text.contains("#EXT-X-ENDLIST"), "as it is now");
        fs::remove_file(root.join("film/master.m3u8")).unwrap();
        assert_eq!(library.signed("film/master.m3u8"), None);
        library.stop();
    }
}
