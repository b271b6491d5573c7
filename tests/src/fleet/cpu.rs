//! The CPU of a machine on which several browsers' viewers start at once, as in `bench viewers`: everybody at home has one of
//! their own, and there the page's times are what they are.

/// A machine and what a viewer asks of it, in milliseconds of one core unless said otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    /// Cores, shared fairly; each viewer uses at most one.
    pub cores: f64,
    /// To open a browser context and the page in it, before the viewer presses play.
    pub open: f64,
    /// From there to the first picture.
    pub start: f64,
    /// What the browser's first page takes beyond that: its programs and fonts are cold.
    pub cold: f64,
    /// The same with Marea: scripts, wasm, the first links.
    pub start_shared: f64,
    /// After that, until the player has filled its buffer.
    pub settle: f64,
    /// Share of a core that playing takes.
    pub play: f64,
}

/// What becomes of one viewer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Start {
    /// When play is pressed, in milliseconds.
    pub at: f64,
    /// How many times longer than alone all takes from there to the first picture.
    pub slowed: f64,
}

/// What comes after opening, starting and filling the buffer.
const SETTLED: usize = 3;

/// Length of a step, in milliseconds.
const STEP: f64 = 1.0;

impl Cpu {
    /// When viewers who come at these times press play, and how slow their starts are.
    pub fn starts(&self, joins: &[f64], shared: bool) -> Vec<Start> {
        let start = if shared { self.start_shared } else { self.start };
        let mut viewers: Vec<(usize, f64)> = vec![(0, 0.0); joins.len()];
        let mut starts = vec![Start { at: 0.0, slowed: 0.0 }; joins.len()];
        let mut now = 0.0;
        while viewers.iter().any(|&(phase, _)| phase < 2) {
            let here = |at: &usize| joins[*at] <= now;
            let wish = |phase: usize| if phase < SETTLED { 1.0 } else { self.play };
            let wished: f64 = (0..joins.len()).filter(here).map(|at| wish(viewers[at].0)).sum();
            let share = (self.cores / wished).min(1.0);
            for at in (0..joins.len()).filter(here) {
                let (phase, done) = &mut viewers[at];
                if *phase == SETTLED {
                    continue;
                }
                *done += share * STEP;
                let cold = if at == 0 { self.cold } else { 0.0 };
                if *done < [self.open, start + cold, self.settle][*phase] {
                    continue;
                }
                match *phase {
                    0 => starts[at].at = now,
                    1 => starts[at].slowed = ((now - starts[at].at) / start).max(1.0),
                    _ => {}
                }
                (*phase, *done) = (*phase + 1, 0.0);
            }
            now += STEP;
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Cpu =
        Cpu { cores: 2.0, open: 500.0, start: 300.0, cold: 0.0, start_shared: 400.0, settle: 1000.0, play: 0.1 };

    #[test]
    fn a_viewer_alone_is_not_slowed_and_a_crowd_is() {
        let alone = CPU.starts(&[0.0, 60_000.0], false);
        assert!(alone.iter().all(|start| start.slowed < 1.02), "{alone:?}");
        assert!((alone[1].at - 60_500.0).abs() < 5.0, "{alone:?}");
        let crowd = CPU.starts(&[0.0; 8], false);
        // Eight on two cores.
        assert!(crowd.iter().all(|start| (3.9..4.1).contains(&start.slowed)), "{crowd:?}");
    }

    #[test]
    fn the_first_page_is_cold_and_those_who_play_take_time_from_newcomers() {
        let starts = Cpu { cold: 150.0, ..CPU }.starts(&[0.0, 60_000.0], false);
        assert!((1.48..1.52).contains(&starts[0].slowed) && starts[1].slowed < 1.02, "{starts:?}");
        let mut joins = vec![0.0; 15];
        joins.push(60_000.0);
        // Fifteen that take a core and a half between them.
        let late = CPU.starts(&joins, false)[15];
        assert!((1.0..1.3).contains(&late.slowed), "{late:?}");
        let busy = Cpu { play: 0.3, ..CPU }.starts(&joins, false)[15];
        assert!(busy.slowed > 1.5 * late.slowed, "{busy:?} against {late:?}");
    }
}
