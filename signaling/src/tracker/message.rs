//! The messages of WebTorrent's tracker protocol, as the npm package `bittorrent-tracker` speaks it.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::{
    cluster::TrackerOffer,
    defaults,
    message::{Object, object},
};

/// Longest SDP as JSON: line ends are escaped in four bytes instead of two.
const MAX_SDP_TEXT: usize = defaults::MAX_SDP * 3 / 2;

/// An `info_hash` or `peer_id`: 20 bytes, on the wire a string of 20 characters up to U+00FF.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id20(pub [u8; 20]);

impl Id20 {
    fn from_text(text: &str) -> Option<Self> {
        let mut bytes = [0; 20];
        let mut chars = text.chars();
        for byte in &mut bytes {
            *byte = u8::try_from(chars.next()?).ok()?;
        }
        chars.next().is_none().then_some(Self(bytes))
    }
}

impl fmt::Display for Id20 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| fmt::Write::write_char(f, char::from(*byte)))
    }
}

// Ids must not reach a log whole.
impl fmt::Debug for Id20 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id20({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

impl Serialize for Id20 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| char::from(*byte)).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Id20 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        Self::from_text(&text).ok_or_else(|| de::Error::custom("not 20 characters up to U+00FF"))
    }
}

/// What a client says.
#[derive(Clone, Debug)]
pub(super) enum Request<'a> {
    Announce(Announce<'a>),
    Answer(Answer<'a>),
    /// The hashes that were asked for.
    Scrape(Vec<Id20>),
}

#[derive(Clone, Debug)]
pub(super) struct Announce<'a> {
    pub(super) info_hash: Id20,
    pub(super) peer_id: Id20,
    pub(super) event: Event,
    /// Whether it has everything, if it says so.
    pub(super) complete: Option<bool>,
    /// Offers that it would like to be passed on at most.
    pub(super) numwant: Option<u64>,
    pub(super) offers: Vec<Offer<'a>>,
    /// Offers that were none.
    pub(super) wrong_offers: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// `started`, `update`, `paused`, none.
    Here,
    Stopped,
    Completed,
}

#[derive(Clone, Debug)]
pub(super) struct Offer<'a> {
    pub(super) id: OfferId<'a>,
    /// The JSON string, as it came.
    pub(super) sdp: &'a RawValue,
}

#[derive(Clone, Debug)]
pub(super) struct Answer<'a> {
    pub(super) info_hash: Id20,
    pub(super) peer_id: Id20,
    pub(super) to_peer_id: Id20,
    pub(super) id: OfferId<'a>,
    /// The JSON string, as it came.
    pub(super) sdp: &'a RawValue,
}

/// An `offer_id`: any JSON value but null. It is passed on as it came and compared by what it means, since clients may escape it
/// differently.
#[derive(Clone, Debug)]
pub(super) struct OfferId<'a> {
    pub(super) raw: &'a RawValue,
    pub(super) key: Cow<'a, str>,
}

/// A message that was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// What it was about: clients end their socket over a reply without it.
    pub(super) action: Action,
    pub(super) info_hash: Option<Id20>,
    pub(super) reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    Announce,
    Scrape,
}

/// Fields are looked at one by one: a wrong one that does not matter is no reason to refuse the rest.
#[derive(Deserialize)]
struct Raw<'a> {
    #[serde(borrow, default)]
    action: Option<&'a RawValue>,
    #[serde(borrow, default)]
    info_hash: Option<&'a RawValue>,
    #[serde(borrow, default)]
    peer_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    to_peer_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
    #[serde(borrow, default)]
    numwant: Option<&'a RawValue>,
    #[serde(borrow, default)]
    left: Option<&'a RawValue>,
    #[serde(borrow, default)]
    offers: Option<&'a RawValue>,
    #[serde(borrow, default)]
    offer_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    answer: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawOffer<'a> {
    #[serde(borrow)]
    offer: Object<RawDescription<'a>>,
    #[serde(borrow)]
    offer_id: &'a RawValue,
}

#[derive(Deserialize)]
struct RawDescription<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    sdp: &'a RawValue,
}

fn value<T: de::DeserializeOwned>(raw: Option<&RawValue>) -> Option<T> {
    serde_json::from_str(raw?.get()).ok()
}

/// Reads a client's message.
pub(super) fn parse(text: &str) -> Result<Request<'_>, Failure> {
    let fail = |action, info_hash, reason| Failure { action, info_hash, reason };
    let raw: Raw<'_> = object(text).ok_or(fail(Action::Announce, None, "the message is no JSON object"))?;
    let info_hash: Option<Id20> = value(raw.info_hash);
    match value::<String>(raw.action).as_deref() {
        Some("announce") => {}
        Some("scrape") => return scrape(&raw).map_err(|reason| fail(Action::Scrape, info_hash, reason)),
        _ => return Err(fail(Action::Announce, info_hash, "action is neither announce nor scrape")),
    }
    announce(&raw, info_hash).map_err(|reason| fail(Action::Announce, info_hash, reason))
}

fn announce<'a>(raw: &Raw<'a>, info_hash: Option<Id20>) -> Result<Request<'a>, &'static str> {
    let info_hash = info_hash.ok_or("info_hash is not 20 bytes as a binary string")?;
    let peer_id = value(raw.peer_id).ok_or("peer_id is not 20 bytes as a binary string")?;
    if let Some(answer) = raw.answer {
        let to_peer_id = value(raw.to_peer_id).ok_or("to_peer_id is not 20 bytes as a binary string")?;
        let id = raw.offer_id.and_then(offer_id).ok_or("offer_id is missing or too long")?;
        let sdp = object(answer.get()).and_then(|answer| description(&answer, "answer"));
        let sdp = sdp.ok_or("answer is not {type: \"answer\", sdp} or too long")?;
        return Ok(Request::Answer(Answer { info_hash, peer_id, to_peer_id, id, sdp }));
    }
    let event = match raw.event.map(|event| value(Some(event)).unwrap_or("no text".to_owned())).as_deref() {
        None | Some("" | "empty" | "update" | "started" | "paused") => Event::Here,
        Some("stopped") => Event::Stopped,
        Some("completed") => Event::Completed,
        Some(_) => return Err("event is not one of started, stopped, completed, update, paused"),
    };
    let left: Option<f64> = value(raw.left);
    let complete = if event == Event::Completed { Some(true) } else { left.map(|left| left == 0.0) };
    let (offers, wrong_offers) = raw.offers.map(offers).transpose()?.unwrap_or_default();
    let numwant = value(raw.numwant);
    Ok(Request::Announce(Announce { info_hash, peer_id, event, complete, numwant, offers, wrong_offers }))
}

/// The offers of an announce, and how many were none.
fn offers(raw: &RawValue) -> Result<(Vec<Offer<'_>>, usize), &'static str> {
    // All are right, as a rule; else each is read by itself.
    let right = serde_json::from_str::<Vec<Object<RawOffer<'_>>>>(raw.get());
    let read: Vec<Option<Offer<'_>>> = match right {
        Ok(list) => list.into_iter().take(defaults::MAX_TRACKER_OFFERS).map(|raw| offer(&raw.0)).collect(),
        Err(_) => {
            let list: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|_| "offers is no array")?;
            let list = list.into_iter().take(defaults::MAX_TRACKER_OFFERS);
            list.map(|raw| offer(&object(raw.get())?)).collect()
        }
    };
    let all = read.len();
    let offers: Vec<Offer<'_>> = read.into_iter().flatten().collect();
    let wrong = all - offers.len();
    Ok((offers, wrong))
}

fn offer<'a>(raw: &RawOffer<'a>) -> Option<Offer<'a>> {
    Some(Offer { id: offer_id(raw.offer_id)?, sdp: description(&raw.offer.0, "offer")? })
}

/// What another node passes on is read as strictly.
pub(super) fn offer_of(offer: &TrackerOffer) -> Option<Offer<'_>> {
    let sdp = &*offer.sdp;
    (sdp.get().starts_with('"') && sdp.get().len() <= MAX_SDP_TEXT).then_some(())?;
    Some(Offer { id: offer_id(&offer.id)?, sdp })
}

fn offer_id(raw: &RawValue) -> Option<OfferId<'_>> {
    let text = raw.get();
    if text.len() > defaults::MAX_OFFER_ID {
        return None;
    }
    // A string without an escape means what stands there.
    if text.starts_with('"') && !text.contains('\\') {
        return Some(OfferId { raw, key: Cow::Borrowed(text) });
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    (!value.is_null()).then(|| OfferId { raw, key: Cow::Owned(value.to_string()) })
}

fn description<'a>(description: &RawDescription<'a>, kind: &str) -> Option<&'a RawValue> {
    let sdp = description.sdp.get();
    let fits = sdp.starts_with('"') && sdp.len() <= MAX_SDP_TEXT;
    (description.kind == kind && fits).then_some(description.sdp)
}

fn scrape<'a>(raw: &Raw<'a>) -> Result<Request<'a>, &'static str> {
    let Some(asked) = raw.info_hash else { return Err("all swarms at once are not told: name an info_hash") };
    let one = serde_json::from_str::<Id20>(asked.get()).map(|hash| vec![hash]);
    let hashes = one.or_else(|_| serde_json::from_str::<Vec<Id20>>(asked.get()));
    let hashes = hashes.map_err(|_| "info_hash is not 20 bytes as a binary string, nor an array of such")?;
    if hashes.is_empty() || hashes.len() > defaults::MAX_SCRAPE {
        return Err("a scrape names 1 to 64 info hashes");
    }
    Ok(Request::Scrape(hashes))
}

/// How many are in a swarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Numbers {
    pub(super) complete: u32,
    pub(super) incomplete: u32,
    pub(super) downloaded: u32,
}

#[derive(Serialize)]
struct Reply {
    action: Action,
    interval: u32,
    info_hash: Id20,
    complete: u32,
    incomplete: u32,
}

#[derive(Serialize)]
struct Relayed<'a> {
    action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<Typed<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Typed<'a>>,
    offer_id: &'a RawValue,
    peer_id: Id20,
    info_hash: Id20,
}

#[derive(Serialize)]
struct Typed<'a> {
    r#type: &'static str,
    sdp: &'a RawValue,
}

#[derive(Serialize)]
struct Files {
    action: Action,
    files: BTreeMap<Id20, Numbers>,
}

#[derive(Serialize)]
struct Failed {
    action: Action,
    #[serde(rename = "failure reason")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    info_hash: Option<Id20>,
}

fn write(message: &impl Serialize, length: usize) -> Bytes {
    let mut out = Vec::with_capacity(length);
    // Every key above is a string: there is nothing that could fail.
    let _ = serde_json::to_writer(&mut out, message);
    Bytes::from(out)
}

/// About as long as a message without an SDP is.
const SHORT: usize = 256;

/// The answer to an announce.
pub(super) fn reply(info_hash: Id20, interval: u32, numbers: Numbers) -> Bytes {
    let Numbers { complete, incomplete, .. } = numbers;
    write(&Reply { action: Action::Announce, interval, info_hash, complete, incomplete }, SHORT)
}

/// An offer of `peer_id`, to somebody else.
pub(super) fn relayed_offer(info_hash: Id20, peer_id: Id20, offer: &Offer<'_>) -> Bytes {
    let Offer { id, sdp } = offer;
    let typed = Some(Typed { r#type: "offer", sdp });
    let relayed =
        Relayed { action: Action::Announce, offer: typed, answer: None, offer_id: id.raw, peer_id, info_hash };
    write(&relayed, SHORT + sdp.get().len())
}

/// An answer, to who offered.
pub(super) fn relayed_answer(answer: &Answer<'_>) -> Bytes {
    let &Answer { info_hash, peer_id, sdp, .. } = answer;
    let typed = Some(Typed { r#type: "answer", sdp });
    let offer_id = answer.id.raw;
    let relayed = Relayed { action: Action::Announce, offer: None, answer: typed, offer_id, peer_id, info_hash };
    write(&relayed, SHORT + sdp.get().len())
}

/// The answer to a scrape.
pub(super) fn files(files: BTreeMap<Id20, Numbers>) -> Bytes {
    let length = SHORT * (1 + files.len());
    write(&Files { action: Action::Scrape, files }, length)
}

/// A refusal.
pub(super) fn failure(failure: Failure) -> Bytes {
    let Failure { action, info_hash, reason } = failure;
    write(&Failed { action, reason, info_hash }, SHORT)
}
