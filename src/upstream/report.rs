//! Load reports of servers in response headers: a number of requests (`X-Load: 3`), or the text format of ORCA
//! (`endpoint-load-metrics: TEXT application_utilization=0.7`, as in gRPC and Envoy).

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

/// Header of ORCA reports.
const ORCA: &str = "endpoint-load-metrics";

/// Time for which a report counts. A server that is avoided sends no further reports, and must not be avoided for
/// ever.
const VALID_FOR: Duration = Duration::from_secs(10);

/// Upper bound of a reported value: larger ones make no difference, and this one is safe to multiply.
const MOST: f64 = 1_000_000.0;

/// Load reported by a server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LoadReport {
    at: Instant,
    load: Load,
}

/// A load, in hundredths.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Load {
    /// Hundredths of a request.
    Requests(u64),
    /// Hundredths of the server's capacity.
    Utilization(u64),
}

impl LoadReport {
    /// Parses a header of a response; `None` if the value is not understood.
    pub(super) fn read(name: &HeaderName, value: &HeaderValue, now: Instant) -> Option<Self> {
        let text = value.to_str().ok()?.trim();
        let load = if name == ORCA {
            utilization(text).map(Load::Utilization)
        } else {
            number(text).map(Load::Requests)
        };
        load.map(|load| Self { at: now, load })
    }

    /// Load to add to the requests in flight, in hundredths of a request. Full utilization counts as `max_requests`,
    /// if that is known.
    pub(super) fn load(self, now: Instant, max_requests: Option<usize>) -> u64 {
        if now.saturating_duration_since(self.at) >= VALID_FOR {
            return 0;
        }
        match self.load {
            Load::Requests(hundredths) => hundredths,
            Load::Utilization(hundredths) => hundredths * max_requests.unwrap_or(1) as u64,
        }
    }
}

/// Parses a decimal number into hundredths.
fn number(text: &str) -> Option<u64> {
    let number: f64 = text.parse().ok()?;
    // Excludes negative values and those too large for the type.
    (0.0..=MOST).contains(&number).then(|| (number * 100.0).round() as u64)
}

/// The application's own utilization if reported, otherwise that of the CPU.
fn utilization(text: &str) -> Option<u64> {
    let (form, metrics) = text.split_once(' ')?;
    if !form.eq_ignore_ascii_case("TEXT") {
        return None;
    }
    let metric = |wanted: &str| {
        let mut pairs = metrics.split(',').filter_map(|pair| pair.split_once('='));
        pairs.find(|(name, _)| name.trim() == wanted).and_then(|(_, value)| number(value.trim()))
    };
    metric("application_utilization").or_else(|| metric("cpu_utilization"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(name: &'static str, value: &'static str, max_requests: Option<usize>) -> Option<u64> {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static(value));
        let now = Instant::now();
        LoadReport::read(&name, &value, now).map(|report| report.load(now, max_requests))
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(load("x-load", "3", None), Some(300));
        assert_eq!(load("x-load", " 0.25 ", Some(4)), Some(25));
        assert_eq!(load(ORCA, "TEXT cpu_utilization=0.5, mem_utilization=0.9", Some(4)), Some(200));
        assert_eq!(load(ORCA, "TEXT cpu_utilization=0.5,application_utilization=0.75", None), Some(75));
    }

    #[test]
    fn nonsense_is_no_report() {
        for bad in ["", "many", "-1", "NaN", "inf", "1e300"] {
            assert_eq!(load("x-load", bad, None), None, "{bad}");
        }
        for bad in ["", "TEXT", "TEXT mem_utilization=1", "JSON {\"cpu_utilization\": 1}", "0.5"] {
            assert_eq!(load(ORCA, bad, None), None, "{bad}");
        }
    }

    #[test]
    fn a_report_is_forgotten() {
        let now = Instant::now();
        let report = LoadReport { at: now, load: Load::Requests(500) };
        assert_eq!(report.load(now + Duration::from_secs(9), None), 500);
        assert_eq!(report.load(now + Duration::from_secs(10), None), 0);
    }
}
