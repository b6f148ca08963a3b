//! What latencies are summed up to.

/// Latencies in seconds, the shortest first.
#[derive(Debug)]
pub struct Figures {
    sorted: Vec<f64>,
}

impl Figures {
    /// Of latencies in any order.
    pub fn of(mut latencies: Vec<f64>) -> Self {
        latencies.sort_by(f64::total_cmp);
        Self { sorted: latencies }
    }

    /// The mean; not a number when there are none.
    #[allow(dead_code, reason = "not every bench asks")]
    pub fn mean(&self) -> f64 {
        self.sorted.iter().sum::<f64>() / self.sorted.len() as f64
    }

    /// The shortest latency that at least `percent` of a hundred do not reach; not a number when there are none.
    ///
    /// Just one request of a hundred is a slow one, so it matters which side of the gap p99 is taken from: with more
    /// and more requests it tends to this one.
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.sorted.len() * percent / 100).min(self.sorted.len().saturating_sub(1));
        self.sorted.get(rank).copied().unwrap_or(f64::NAN)
    }

    pub fn p99(&self) -> f64 {
        self.percentile(99)
    }
}
