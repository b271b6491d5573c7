//! Which renditions a film gets. Pure: sizes in, sizes out.

use super::probe::{Probed, Video};

/// Length of a segment, in seconds: short enough to start soon, long enough for several pieces.
pub(super) const SEGMENT: f64 = 4.0;
/// Longest gap between key frames of a source that is copied, in seconds: longer segments start slowly.
const LONGEST_COPIED: f64 = 6.0;
/// Heights and bits per second at up to 30 frames per second.
const RUNGS: [(u32, u64); 7] = [
    (2160, 14_000_000),
    (1440, 8_000_000),
    (1080, 4_500_000),
    (720, 2_500_000),
    (480, 1_200_000),
    (360, 700_000),
    (240, 350_000),
];
/// More frames per second than this take more bits.
const FAST_FPS: f64 = 40.0;
/// So many more, in percent.
const FAST_PERCENT: u64 = 150;
/// The next lower rung is at most this part of the height above it: closer ones are not told apart.
const STEP: f64 = 0.85;
/// Bits of a picture grow with its height to this power: twice the height is four times the pixels and not quite as many
/// bits.
const SIZE_POWER: f64 = 1.5;
/// Fewest bits per second: below, blocks are all that is seen.
const LEAST: u64 = 150_000;
/// Most cuts of a copy: they are named on ffmpeg's command line.
const MAX_CUTS: usize = 8_000;
/// The rung that is there first.
const QUICK: u32 = 360;

/// One rendition of the picture.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rung {
    /// For instance `720p`: the shorter side.
    pub(super) name: String,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bits per second to aim at; none where the source is copied.
    pub(super) bitrate: Option<u64>,
}

/// What is to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// Best first.
    pub(super) video: Vec<Rung>,
    /// Where segments begin, in seconds: the same in all renditions.
    pub(super) cuts: Vec<f64>,
    /// Position of the rung that is made first.
    quick: usize,
}

impl Plan {
    /// The quick one, then the best, then downwards.
    pub(super) fn in_order_of_work(&self) -> impl Iterator<Item = &Rung> {
        let rest = self.video.iter().enumerate().filter(|(index, _)| *index != self.quick).map(|(_, rung)| rung);
        self.video.get(self.quick).into_iter().chain(rest)
    }
}

/// Plans a ladder: never larger than the source.
///
/// # Errors
/// In plain words, what is wrong with the source.
pub(super) fn plan(source: &Probed) -> Result<Plan, String> {
    let video = &source.video;
    let short = video.width.min(video.height);
    if short < 16 {
        return Err(format!("its picture of {} × {} is too small", video.width, video.height));
    }
    let copied = cuts_of_copy(video);
    let mut rungs = Vec::new();
    let mut above = None;
    let top = short.min(RUNGS[0].0);
    for side in std::iter::once(top).chain(RUNGS.iter().map(|rung| rung.0)) {
        let fits = above.is_none_or(|above: u32| f64::from(side) <= f64::from(above) * STEP);
        if side > top || !fits {
            continue;
        }
        above = Some(side);
        let scale = f64::from(side) / f64::from(short);
        let even = |length: u32| ((f64::from(length) * scale / 2.0).round() as u32).max(1) * 2;
        let copy = side == short && copied.is_some();
        let (width, height) = if copy { (video.width, video.height) } else { (even(video.width), even(video.height)) };
        let bitrate = (!copy).then(|| bitrate(side, video));
        rungs.push(Rung { name: format!("{side}p"), width, height, bitrate });
    }
    let quick = if copied.is_some() {
        0
    } else {
        rungs.iter().position(|rung| rung.width.min(rung.height) <= QUICK).unwrap_or(0)
    };
    let even = || (0..).map(|index| f64::from(index) * SEGMENT).take_while(|start| *start < source.duration).collect();
    Ok(Plan { video: rungs, cuts: copied.unwrap_or_else(even), quick })
}

/// Where segments of a copy begin; none if it cannot be copied: another codec than every browser plays, key frames too
/// far apart, or a picture that is to be turned.
fn cuts_of_copy(video: &Video) -> Option<Vec<f64>> {
    let plays = video.codec == "h264" && matches!(video.pixels.as_str(), "yuv420p" | "yuvj420p");
    if !plays || !video.upright || video.interlaced || video.width.min(video.height) > RUNGS[0].0 {
        return None;
    }
    // As ffmpeg cuts: at the first key frame at or after each multiple of the length.
    let mut cuts = vec![*video.keys.first().filter(|first| first.abs() < 0.001)?];
    let mut last = 0.0;
    for &key in video.keys.iter().skip(1) {
        if key - last > LONGEST_COPIED {
            return None;
        }
        last = key;
        if key + 0.001 >= SEGMENT * cuts.len() as f64 {
            cuts.push(key);
        }
    }
    Some(cuts).filter(|cuts| cuts.len() <= MAX_CUTS)
}

/// Bits per second for a picture whose shorter side is `side`. A source of few bits has no more to give: a smaller
/// picture of it takes fewer still.
fn bitrate(side: u32, video: &Video) -> u64 {
    let usual = RUNGS.iter().rev().find(|rung| rung.0 >= side).map_or(RUNGS[0].1, |rung| rung.1);
    let usual = if video.fps > FAST_FPS { usual * FAST_PERCENT / 100 } else { usual };
    let scale = f64::from(side) / f64::from(video.width.min(video.height));
    let of_source = |source: u64| (source as f64 * scale.powf(SIZE_POWER)) as u64;
    video.bitrate.map_or(usual, |source| usual.min(of_source(source).max(LEAST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(width: u32, height: u32) -> Probed {
        let video = Video {
            index: 0,
            codec: "hevc".into(),
            pixels: "yuv420p".into(),
            width,
            height,
            fps: 25.0,
            interlaced: false,
            upright: true,
            bitrate: None,
            keys: vec![0.0, 2.0, 4.0, 6.0, 8.0],
        };
        Probed { duration: 10.0, video, audio: Vec::new(), subtitles: Vec::new() }
    }

    fn names(source: &Probed) -> Vec<String> {
        plan(source).expect("a plan").video.into_iter().map(|rung| rung.name).collect()
    }

    #[test]
    fn no_rung_is_larger_than_the_source() {
        assert_eq!(names(&source(1280, 720)), ["720p", "480p", "360p", "240p"]);
        assert_eq!(names(&source(640, 272)), ["272p"]);
        assert_eq!(names(&source(320, 180)), ["180p"]);
        assert_eq!(names(&source(1024, 544)), ["544p", "360p", "240p"]);
        assert_eq!(names(&source(7680, 4320))[0], "2160p");
    }

    #[test]
    fn portrait_films_are_measured_by_their_shorter_side() {
        let plan = plan(&source(1080, 1920)).expect("a plan");
        assert_eq!(
            plan.video.iter().map(|rung| (rung.width, rung.height)).collect::<Vec<_>>()[..2],
            [(1080, 1920), (720, 1280)]
        );
    }

    #[test]
    fn sizes_are_even() {
        for rung in plan(&source(1279, 719)).expect("a plan").video {
            assert_eq!((rung.width % 2, rung.height % 2), (0, 0), "{}", rung.name);
        }
    }

    #[test]
    fn h264_with_close_key_frames_is_copied_and_cuts_the_others() {
        let mut film = source(1280, 720);
        film.video.codec = "h264".into();
        film.video.keys = vec![0.0, 3.0, 4.5, 8.0, 9.0];
        let copied = plan(&film).expect("a plan");
        assert_eq!(copied.video[0].bitrate, None);
        assert_eq!(copied.cuts, [0.0, 4.5, 8.0]);
        assert_eq!(copied.in_order_of_work().next().map(|rung| rung.name.as_str()), Some("720p"));

        film.video.keys = vec![0.0, 9.5];
        let encoded = plan(&film).expect("a plan");
        assert!(encoded.video[0].bitrate.is_some());
        assert_eq!(encoded.cuts, [0.0, 4.0, 8.0]);
        assert_eq!(encoded.in_order_of_work().next().map(|rung| rung.name.as_str()), Some("360p"));
    }

    #[test]
    fn a_source_of_few_bits_is_not_blown_up() {
        let mut film = source(1920, 1080);
        film.video.bitrate = Some(900_000);
        let rates: Vec<u64> = plan(&film).expect("a plan").video.iter().filter_map(|rung| rung.bitrate).collect();
        assert_eq!(rates.len(), 5);
        assert_eq!(rates[0], 900_000);
        assert!(rates.windows(2).all(|pair| pair[1] < pair[0]), "{rates:?}");
    }
}
