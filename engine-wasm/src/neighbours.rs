//! Candidate filters of the neighbours that are being met: candidates in a description and those that trickle in count
//! together, so the filter lives as long as the connection.

use marea_swarm::sdp::{CandidateFilter, check_sdp};

/// Filters by the page's number of the connection. There are a dozen or two.
#[derive(Debug, Default)]
pub(crate) struct Neighbours(Vec<(u32, CandidateFilter)>);

impl Neighbours {
    pub(crate) fn check_sdp(&mut self, peer: u32, near: bool, sdp: &str) -> Option<String> {
        check_sdp(sdp).ok()?;
        Some(self.filter(peer, near).filter_sdp(sdp))
    }

    pub(crate) fn check_candidate(&mut self, peer: u32, near: bool, candidate: &str) -> bool {
        self.filter(peer, near).allow(candidate)
    }

    pub(crate) fn forget(&mut self, peer: u32) {
        self.0.retain(|(known, _)| *known != peer);
    }

    fn filter(&mut self, peer: u32, near: bool) -> &mut CandidateFilter {
        let index = self.0.iter().position(|(known, _)| *known == peer).unwrap_or_else(|| {
            self.0.push((peer, CandidateFilter::new(near)));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }
}
