//! What came of one load.

use crate::peer::Peer;

/// A line of the table.
pub struct Row {
    pub title: &'static str,
    pub unit: String,
    sum_up: SumUp,
    /// The less the better, so servers are compared.
    compares: bool,
    samples: Vec<Sample>,
}

/// What becomes of the figures of all rounds.
#[derive(Clone, Copy)]
enum SumUp {
    Median,
    Total,
}

/// What one server needed in each round.
struct Sample {
    peer: Peer,
    figures: Vec<f64>,
}

/// What a server needs, as a multiple of what the fastest peer needs.
pub struct Ratio {
    /// Of the ratios of single rounds: what both need was measured within seconds, so that what disturbs the machine for
    /// longer disturbs both.
    pub median: f64,
    /// Between these lie half of the rounds, if there are several.
    pub middle_half: Option<[f64; 2]>,
}

impl Row {
    /// For what servers need of something.
    pub fn costs(title: &'static str, unit: impl Into<String>, peers: &[Peer]) -> Self {
        let samples = peers.iter().map(|&peer| Sample { peer, figures: Vec::new() }).collect();
        Self { title, unit: unit.into(), sum_up: SumUp::Median, compares: true, samples }
    }

    /// For what should not happen.
    pub fn failures(title: &'static str, unit: impl Into<String>, peers: &[Peer]) -> Self {
        Self { sum_up: SumUp::Total, compares: false, ..Self::costs(title, unit, peers) }
    }

    /// For what tells how far other rows can be trusted.
    pub fn remark(title: &'static str, unit: impl Into<String>, peers: &[Peer]) -> Self {
        Self { compares: false, ..Self::costs(title, unit, peers) }
    }

    /// Adds the figure of one more round.
    pub fn add(&mut self, peer: Peer, figure: f64) {
        let of_peer = self.samples.iter_mut().find(|sample| sample.peer == peer);
        of_peer.into_iter().for_each(|sample| sample.figures.push(figure));
    }

    /// What all rounds say; `None` when the server cannot do this.
    pub fn figure(&self, peer: Peer) -> Option<f64> {
        let figures = self.figures(peer)?;
        Some(match self.sum_up {
            SumUp::Median => median(figures),
            SumUp::Total => figures.iter().sum(),
        })
    }

    /// The server that needs least, ourselves aside.
    pub fn fastest_peer(&self) -> Option<Peer> {
        let peers = self.samples.iter().filter(|sample| sample.peer != Peer::Bowshock);
        let fastest = peers.min_by(|a, b| median(&a.figures).total_cmp(&median(&b.figures)))?;
        self.compares.then_some(fastest.peer)
    }

    /// `None` when the server cannot do this, or there is nothing to compare.
    pub fn ratio(&self, peer: Peer) -> Option<Ratio> {
        let (own, least) = (self.figures(peer)?, self.figures(self.fastest_peer()?)?);
        let rounds = sorted(own.iter().zip(least).map(|(own, least)| own / least).collect());
        let quarter = rounds.len() / 4;
        let middle_half = (rounds.len() > 1).then(|| [rounds[quarter], rounds[rounds.len() - 1 - quarter]]);
        Some(Ratio { median: median(&rounds), middle_half })
    }

    fn figures(&self, peer: Peer) -> Option<&[f64]> {
        Some(&self.samples.iter().find(|sample| sample.peer == peer)?.figures)
    }
}

/// Not a number when there are none.
fn median(figures: &[f64]) -> f64 {
    let sorted = sorted(figures.to_vec());
    let [low, high] = [sorted.len().saturating_sub(1) / 2, sorted.len() / 2];
    let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
    f64::midpoint(at(low), at(high))
}

fn sorted(mut figures: Vec<f64>) -> Vec<f64> {
    figures.sort_by(f64::total_cmp);
    figures
}
