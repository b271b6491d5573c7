//! What was found, for people and for programs.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use url::Url;

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// To be changed.
    Change,
    /// Worth knowing.
    Note,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Name of the check, as in `docs/doctor.md`.
    pub check: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// The URL that was looked at.
    pub at: String,
    /// What was seen.
    pub says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// All that was looked at, in order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was asked for.
    pub url: String,
    /// What was found.
    pub findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(url: &Url) -> Self {
        Self { url: url.to_string(), findings: Vec::new() }
    }

    /// Whether nothing has to be changed.
    pub fn is_fine(&self) -> bool {
        self.changes().next().is_none()
    }

    /// What has to be changed.
    pub fn changes(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Change)
    }

    pub(super) fn fine(&mut self, check: &'static str, at: &(impl ToString + ?Sized), says: impl Into<String>) {
        self.push(check, Verdict::Fine, at.to_string(), says.into(), None);
    }

    pub(super) fn note(&mut self, check: &'static str, at: &(impl ToString + ?Sized), says: impl Into<String>) {
        self.push(check, Verdict::Note, at.to_string(), says.into(), None);
    }

    pub(super) fn change(
        &mut self,
        check: &'static str,
        at: &(impl ToString + ?Sized),
        says: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(check, Verdict::Change, at.to_string(), says.into(), Some(remedy.into()));
    }

    fn push(&mut self, check: &'static str, verdict: Verdict, at: String, says: String, remedy: Option<String>) {
        let finding = Finding { check, verdict, at, says, remedy };
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }
}

impl fmt::Display for Report {
    /// One line for each check that is fine, however often it was made; one, with the remedy below it, for everything else.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times: BTreeMap<&str, usize> = BTreeMap::new();
        for finding in self.findings.iter().filter(|finding| finding.verdict == Verdict::Fine) {
            *times.entry(finding.check).or_default() += 1;
        }
        for Finding { check, verdict, at, says, remedy } in &self.findings {
            let word = match verdict {
                Verdict::Fine => "ok",
                Verdict::Change => "change",
                Verdict::Note => "note",
            };
            let more = match (verdict, times.get(check)) {
                (Verdict::Fine, Some(1)) => String::new(),
                (Verdict::Fine, Some(_)) => match times.remove(check) {
                    Some(times) => format!(" (and {} more)", times - 1),
                    None => String::new(),
                },
                // Told with the first one.
                (Verdict::Fine, None) => continue,
                _ => String::new(),
            };
            writeln!(f, "{word:<7} {check:<16} {at}: {says}{more}")?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:>24} -> {remedy}", "")?;
            }
        }
        match self.changes().count() {
            0 => write!(f, "{}: nothing to change", self.url),
            1 => write!(f, "{}: 1 thing to change", self.url),
            count => write!(f, "{}: {count} things to change", self.url),
        }
    }
}
