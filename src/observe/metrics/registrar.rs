//! Registration of metrics, with the prefix `bowshock_`.

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// Buckets of durations in seconds; Galaxy's requests take from a millisecond to minutes.
const SECONDS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Creates and registers metrics. Their names are constants: an invalid one shows in every test.
pub(super) struct Registrar(pub(super) Registry);

impl Registrar {
    pub(super) fn register<C: Collector + Clone + 'static>(&self, created: prometheus::Result<C>) -> C {
        #[expect(clippy::expect_used, reason = "constant names; any mistake fails the first start")]
        let collector = created.expect("a valid metric");
        #[expect(clippy::expect_used, reason = "constant names; any mistake fails the first start")]
        self.0.register(Box::new(collector.clone())).expect("a new metric");
        collector
    }

    pub(super) fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(format!("bowshock_{name}"), help))
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(format!("bowshock_{name}"), help), labels))
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(format!("bowshock_{name}"), help))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(format!("bowshock_{name}"), help), labels))
    }

    pub(super) fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        let options = HistogramOpts::new(format!("bowshock_{name}"), help).buckets(SECONDS.into());
        self.register(HistogramVec::new(options, labels))
    }
}
