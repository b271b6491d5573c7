//! Delta updates (RFC 8216bis §6.2.5.1): a long live playlist without what its reader already has.

use marea_swarm::{playlist::MediaPlaylist, tags::PREFIX};

use crate::config::{DELTA_SEGMENTS, SKIP_BOUNDARY};

/// Least `EXT-X-VERSION` of a playlist with `EXT-X-SKIP` (RFC 8216bis §8).
const SKIP_VERSION: u64 = 9;

/// Our tag of an init section.
const MAP_TAG: &str = "#EXT-X-MAREA-MAP:";

const SERVER_CONTROL: &str = "#EXT-X-SERVER-CONTROL:";

/// Tags that speak of the whole playlist, wherever they stand. Delta updates keep them; of date ranges all, since we do not
/// offer to skip those.
const PLAYLIST_TAGS: [&str; 16] = [
    "#EXTM3U",
    "#EXT-X-TARGETDURATION",
    "#EXT-X-MEDIA-SEQUENCE",
    "#EXT-X-DISCONTINUITY-SEQUENCE",
    "#EXT-X-PLAYLIST-TYPE",
    "#EXT-X-ALLOW-CACHE",
    "#EXT-X-INDEPENDENT-SEGMENTS",
    "#EXT-X-START",
    "#EXT-X-DEFINE",
    "#EXT-X-SERVER-CONTROL",
    "#EXT-X-PART-INF",
    "#EXT-X-DATERANGE",
    "#EXT-X-RENDITION-REPORT",
    "#EXT-X-PRELOAD-HINT",
    "#EXT-X-ENDLIST",
    PREFIX,
];

/// Adds `CAN-SKIP-UNTIL` to the tagged `text` of a live playlist that lists `shown` segments of `list`, and makes the delta
/// update of it. None if it is too short to be worth one.
pub(crate) fn offer(text: &str, list: &MediaPlaylist, shown: usize) -> Option<(String, String)> {
    if list.ended || list.skipped > 0 || shown <= DELTA_SEGMENTS {
        return None;
    }
    let target = (list.target_duration_ms / 1_000.0).ceil().max(1.0);
    let (whole, until) = with_control(text, SKIP_BOUNDARY * target);
    let skipped = skippable(list, shown, until * 1_000.0);
    (skipped > 0).then(|| {
        let delta = update(&whole, list, skipped);
        (whole, delta)
    })
}

/// `text` with `CAN-SKIP-UNTIL` of `seconds` in its `EXT-X-SERVER-CONTROL`, of which there is one at most; and what the text
/// says then, which may be what it said before.
fn with_control(text: &str, seconds: f64) -> (String, f64) {
    let mut out = String::with_capacity(text.len() + 64);
    let present = text.lines().find_map(|line| line.strip_prefix(SERVER_CONTROL));
    let stated = present.and_then(|list| {
        let (_, value) = list.split_once("CAN-SKIP-UNTIL=")?;
        value.split(',').next()?.trim().parse::<f64>().ok().filter(|stated| stated.is_finite())
    });
    if let Some(stated) = stated {
        return (text.to_owned(), stated.max(seconds));
    }
    let mut done = false;
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches(['\r', '\n']);
        let ending = &line[body.len()..];
        match present {
            Some(_) if !done && body.starts_with(SERVER_CONTROL) => {
                out.extend([body.trim_end(), &format!(",CAN-SKIP-UNTIL={seconds}"), ending]);
                done = true;
            }
            // Right before our own tag, which stands at the top.
            None if !done && body.starts_with(PREFIX) => {
                out.extend([&format!("{SERVER_CONTROL}CAN-SKIP-UNTIL={seconds}"), ending, line]);
                done = true;
            }
            _ => out.push_str(line),
        }
    }
    (out, seconds)
}

/// How many of the first `shown` segments end at least `until_ms` before the last of them does.
fn skippable(list: &MediaPlaylist, shown: usize, until_ms: f64) -> usize {
    let mut behind = 0.0;
    let recent = list.segments[..shown].iter().rev().take_while(|segment| {
        let recent = behind < until_ms;
        behind += segment.duration_ms;
        recent
    });
    shown - recent.count()
}

/// `KEYFORMAT` and line of each key.
type Keys<'a> = Vec<(&'a str, &'a str)>;

/// What still holds after the segments that are left out: hls.js takes no key over from them (1.7.4).
#[derive(Default)]
struct InForce<'a> {
    keys: Keys<'a>,
    /// The init section with our tag before it, and the keys that held there.
    map: Option<(Vec<&'a str>, Keys<'a>)>,
    map_tag: Option<&'a str>,
}

impl<'a> InForce<'a> {
    fn read(&mut self, line: &'a str) {
        if let Some(list) = line.strip_prefix("#EXT-X-KEY:") {
            if list.contains("METHOD=NONE") {
                self.keys.clear();
            } else {
                let format = list.split_once("KEYFORMAT=\"").and_then(|(_, rest)| rest.split('"').next());
                let format = format.unwrap_or("identity");
                self.keys.retain(|(known, _)| *known != format);
                self.keys.push((format, line));
            }
        } else if line.starts_with("#EXT-X-MAP:") {
            let lines = self.map_tag.take().into_iter().chain([line]).collect();
            self.map = Some((lines, self.keys.clone()));
        } else if line.starts_with(MAP_TAG) {
            self.map_tag = Some(line);
        }
    }

    fn write(self, out: &mut String) {
        let mut keys = Keys::new();
        if let Some((lines, map_keys)) = self.map {
            out.extend(map_keys.iter().map(|(_, line)| *line));
            out.extend(lines);
            keys = map_keys;
        }
        if self.keys == keys {
            return;
        }
        out.extend((!keys.is_empty()).then_some("#EXT-X-KEY:METHOD=NONE\n"));
        out.extend(self.keys.iter().map(|(_, line)| *line));
    }
}

/// `text` without its first `skipped` segments and all that speaks of them alone.
fn update(text: &str, list: &MediaPlaylist, skipped: usize) -> String {
    let mut out = String::with_capacity(text.len() / 4);
    let mut in_force = InForce::default();
    let mut segments = 0;
    let mut lines = text.split_inclusive('\n');
    let version = text.lines().find_map(|line| line.strip_prefix("#EXT-X-VERSION:")?.trim().parse().ok());
    for line in lines.by_ref() {
        if !line.starts_with('#') {
            segments += usize::from(!line.trim().is_empty());
            if segments == skipped {
                break;
            }
            continue;
        }
        let name = line.split([':', '\r', '\n']).next().unwrap_or(line);
        if name.trim_start_matches('\u{feff}') == "#EXTM3U" {
            out.push_str(line);
            out.push_str(&format!("#EXT-X-VERSION:{}\n", SKIP_VERSION.max(version.unwrap_or(0))));
        } else if PLAYLIST_TAGS.contains(&name) {
            out.push_str(line);
        } else {
            in_force.read(line);
        }
    }
    out.push_str(&format!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n"));
    in_force.write(&mut out);
    let mut first = true;
    for line in lines {
        let relative = first && line.starts_with("#EXT-X-BYTERANGE:") && !line.contains('@');
        let range = list.segments.get(skipped).and_then(|segment| segment.locator.range);
        match range.filter(|_| relative) {
            // It went on where the one before ended, which is not here any more.
            Some(range) => out.push_str(&format!("{}@{}\n", line.trim_end(), range.start)),
            None => out.push_str(line),
        }
        first &= line.starts_with('#') || line.trim().is_empty();
    }
    out
}
