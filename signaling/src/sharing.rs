//! What the site asks of its viewers, per video: share, ask first, or not at all; for all or for a part of them.

use std::{
    collections::{HashMap, HashSet},
    str::FromStr,
};

use serde::Serialize;

use crate::ids::AnnounceId;

/// `p2p` in the `policy` of `joined`. The strictest of this, the page and the viewer wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// Share.
    #[default]
    On,
    /// Share once the viewer said yes.
    Ask,
    /// Do not share.
    Off,
}

/// How a video, or every video, is shared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoRule {
    /// For those who take part.
    pub sharing: Sharing,
    /// How many viewers take part, 0 to 1; the others are told `off`.
    pub part: f64,
}

impl Default for VideoRule {
    fn default() -> Self {
        Self { sharing: Sharing::On, part: 1.0 }
    }
}

impl VideoRule {
    /// Both at once.
    fn and(self, other: Self) -> Self {
        Self { sharing: self.sharing.max(other.sharing), part: self.part.min(other.part) }
    }
}

/// A text that is no [`Sharing`] or [`VideoRule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Neither of the three.
    #[error("expected on, ask or off")]
    Sharing,
    /// Not even a percentage.
    #[error("expected ID=on, ID=ask, ID=off or ID=25%, where ID is what `marea-signaling announce-id VIDEO` prints")]
    Rule,
}

impl FromStr for Sharing {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        match text {
            "on" => Ok(Self::On),
            "ask" => Ok(Self::Ask),
            "off" => Ok(Self::Off),
            _ => Err(RuleError::Sharing),
        }
    }
}

/// `ID=on|ask|off|25%`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NamedRule(pub(crate) AnnounceId, pub(crate) VideoRule);

impl FromStr for NamedRule {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let (id, rule) = text.split_once('=').ok_or(RuleError::Rule)?;
        let rule = match rule.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse::<u8>().ok().filter(|percent| *percent <= 100).ok_or(RuleError::Rule)?;
                VideoRule { part: f64::from(percent) / 100.0, ..VideoRule::default() }
            }
            None => VideoRule { sharing: rule.parse().map_err(|_| RuleError::Rule)?, ..VideoRule::default() },
        };
        Ok(Self(id.parse().map_err(|_| RuleError::Rule)?, rule))
    }
}

/// How all videos are shared.
#[derive(Clone, Debug, Default)]
pub struct SharingRules {
    /// Every video.
    pub all: VideoRule,
    /// Single ones; the strictest of this and [`Self::all`] counts.
    pub videos: HashMap<AnnounceId, VideoRule>,
    /// Those that may not be shared any more: their viewers are told `revoked`.
    pub revoked: HashSet<AnnounceId>,
}

impl SharingRules {
    /// What a peer is told. `draw` is its own number in `[0, 1)`, the same each time, so that who takes part stays so as
    /// the part grows; mirrors and edges are at 0.
    pub(crate) fn of(&self, video: &AnnounceId, draw: f64) -> Sharing {
        let rule = self.videos.get(video).copied().unwrap_or_default().and(self.all);
        if self.revoked.contains(video) || draw >= rule.part { Sharing::Off } else { rule.sharing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: AnnounceId = AnnounceId([1; 32]);

    fn rule(text: &str) -> VideoRule {
        format!("{VIDEO}={text}").parse::<NamedRule>().unwrap().1
    }

    #[test]
    fn the_strictest_rule_counts() {
        let rules = |all: VideoRule, one: &str| SharingRules {
            all,
            videos: [(VIDEO, rule(one))].into(),
            revoked: HashSet::new(),
        };
        let on = VideoRule::default();
        for (all, one, draw, expected) in [
            (on, "on", 0.99, Sharing::On),
            (on, "ask", 0.0, Sharing::Ask),
            (on, "off", 0.0, Sharing::Off),
            (VideoRule { sharing: Sharing::Off, part: 1.0 }, "on", 0.0, Sharing::Off),
            (VideoRule { sharing: Sharing::Ask, part: 1.0 }, "25%", 0.24, Sharing::Ask),
            (on, "25%", 0.25, Sharing::Off),
            (on, "0%", 0.0, Sharing::Off),
            (VideoRule { part: 0.1, ..on }, "100%", 0.1, Sharing::Off),
        ] {
            assert_eq!(rules(all, one).of(&VIDEO, draw), expected, "{all:?} {one} {draw}");
            let other = rules(all, one).of(&AnnounceId([2; 32]), 0.0);
            assert_eq!(other, all.sharing);
        }
        let revoked = SharingRules { revoked: [VIDEO].into(), ..SharingRules::default() };
        assert_eq!(revoked.of(&VIDEO, 0.0), Sharing::Off);
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for wrong in ["", "on", "=on", "x=on"] {
            assert_eq!(wrong.parse::<NamedRule>(), Err(RuleError::Rule), "{wrong}");
        }
        for wrong in ["", "maybe", "101%", "-1%", "%", "1.5%"] {
            assert_eq!(format!("{VIDEO}={wrong}").parse::<NamedRule>(), Err(RuleError::Rule), "{wrong}");
        }
        assert_eq!("maybe".parse::<Sharing>(), Err(RuleError::Sharing));
    }
}
