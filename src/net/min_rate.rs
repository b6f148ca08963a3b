//! Minimum rate of a client (`min_rate`). A client that sends or receives a byte from time to time occupies a
//! connection, and perhaps a worker, for ever, without a pause that is long enough for a timeout.

use std::{io, time::Duration};

use tokio::time::Instant;

/// Waiting time after which the rate is checked.
const SPAN: Duration = Duration::from_secs(30);

/// Rate of one direction of a connection. Only time spent waiting for the client counts: a slow worker or disk is not
/// the client's fault.
#[derive(Debug, Default)]
pub(crate) struct MinRate {
    waiting_since: Option<Instant>,
    waited: Duration,
    bytes: u64,
}

impl MinRate {
    /// Starts waiting for the client.
    pub(crate) fn waits(&mut self) {
        self.waiting_since.get_or_insert_with(Instant::now);
    }

    /// Starts waiting for something else.
    pub(crate) fn waits_for_others(&mut self) {
        self.waiting_since = None;
    }

    /// Records bytes sent or received by the client.
    ///
    /// # Errors
    ///
    /// The client is slower than `least` bytes per second.
    pub(crate) fn moved(&mut self, bytes: u64, least: u64) -> io::Result<()> {
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
        self.bytes += bytes;
        if self.waited < SPAN {
            return Ok(());
        }
        let is_slow = (self.bytes as f64) < least as f64 * self.waited.as_secs_f64();
        *self = Self::default();
        match is_slow {
            true => Err(io::Error::new(io::ErrorKind::TimedOut, "the client is too slow (min_rate)")),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds_until_refused(bytes: u64, every: u64, least: u64) -> Option<u64> {
        let (mut rate, start) = (MinRate::default(), Instant::now());
        for _ in 0..100 {
            rate.waits();
            tokio::time::sleep(Duration::from_secs(every)).await;
            if rate.moved(bytes, least).is_err() {
                return Some(start.elapsed().as_secs());
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slower_is_refused_after_a_while() {
        assert_eq!(seconds_until_refused(1, 1, 500).await, Some(30));
        assert_eq!(seconds_until_refused(4_999, 10, 500).await, Some(30));
        assert_eq!(seconds_until_refused(5_000, 10, 500).await, None);
        assert_eq!(seconds_until_refused(1, 10, 0).await, None, "no least rate");
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_is_not_the_clients_does_not_count() {
        let mut rate = MinRate::default();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            rate.waits();
            tokio::time::sleep(Duration::from_millis(1)).await;
            rate.moved(1, 500).unwrap();
        }
    }
}
