//! One metric: what is known of it without a value, and how its values are written.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::event::Count;
use crate::figures::{Counted, Histogram};

/// A metric. Its name and its labels are an interface: dashboards and alerts are made of them.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    advice: &'static str,
}

/// What the values of a metric mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// It grows as long as the process lives.
    Counter,
    /// It stands where things stand.
    Gauge,
    /// How long things took, in buckets of seconds.
    Histogram,
}

impl Kind {
    /// Its name, as Prometheus has it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// How long something of your own takes, for a [histogram](Family::histogram). Cheap to use from many threads.
#[derive(Debug, Default)]
pub struct Timings(Histogram<AtomicU64>);

impl Timings {
    /// None yet, in buckets from a millisecond to ten seconds.
    pub fn new() -> Self {
        Timings::default()
    }

    /// Something took so long.
    pub fn observe(&self, took: Duration) {
        self.0.observe(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

impl Family {
    /// A counter; its name ends in `_total`.
    pub const fn counter(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        advice: &'static str,
    ) -> Self {
        Family { name, kind: Kind::Counter, labels, help, advice }
    }

    /// A gauge.
    pub const fn gauge(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        advice: &'static str,
    ) -> Self {
        Family { name, kind: Kind::Gauge, labels, help, advice }
    }

    /// A histogram of seconds.
    pub const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        advice: &'static str,
    ) -> Self {
        Family { name, kind: Kind::Histogram, labels, help, advice }
    }

    /// Its name, as queries have it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// What its values mean.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The names of its labels.
    pub fn labels(&self) -> &'static [&'static str] {
        self.labels
    }

    /// What it counts.
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        self.advice
    }

    /// Writes it, with the samples that `tell` gives.
    ///
    /// # Errors
    /// The writer's.
    pub fn encode(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        tell: impl FnOnce(&mut Samples<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let (kind, name) = match self.kind {
            // The encoder adds the suffix.
            Kind::Counter => (MetricType::Counter, self.name.strip_suffix("_total").unwrap_or(self.name)),
            Kind::Gauge => (MetricType::Gauge, self.name),
            Kind::Histogram => (MetricType::Histogram, self.name),
        };
        let encoder = encoder.encode_descriptor(name, self.help, None, kind)?;
        tell(&mut Samples { encoder, labels: self.labels })
    }
}

/// Where the values of a metric go. Labels are given by their values, in the order of the metric's.
#[derive(Debug)]
pub struct Samples<'e> {
    encoder: MetricEncoder<'e>,
    labels: &'static [&'static str],
}

impl Samples<'_> {
    /// How often something has happened.
    ///
    /// # Errors
    /// The writer's.
    pub fn counter(&mut self, labels: &[&str], value: u64) -> fmt::Result {
        self.with(labels, |encoder| encoder.encode_counter::<NoLabelSet, _, u64>(&value, None))
    }

    /// How long something has lasted in all.
    ///
    /// # Errors
    /// The writer's.
    pub fn counter_of_seconds(&mut self, labels: &[&str], value: f64) -> fmt::Result {
        self.with(labels, |encoder| encoder.encode_counter::<NoLabelSet, _, u64>(&value, None))
    }

    /// Where something stands.
    ///
    /// # Errors
    /// The writer's.
    pub fn gauge(&mut self, labels: &[&str], value: f64) -> fmt::Result {
        self.with(labels, |encoder| encoder.encode_gauge(&value))
    }

    /// How long things took.
    ///
    /// # Errors
    /// The writer's.
    pub fn timings(&mut self, labels: &[&str], timings: &Timings) -> fmt::Result {
        self.histograms(labels, [&timings.0])
    }

    /// What histograms have counted together.
    pub(super) fn histograms<'h, C: Count + 'h>(
        &mut self,
        labels: &[&str],
        histograms: impl IntoIterator<Item = &'h Histogram<C>>,
    ) -> fmt::Result {
        let mut counted = Counted::default();
        histograms.into_iter().for_each(|histogram| counted.add(histogram));
        let (sum_s, count) = (counted.sum_s, counted.count());
        self.with(labels, |encoder| encoder.encode_histogram::<NoLabelSet>(sum_s, count, &counted.buckets, None))
    }

    fn with(&mut self, labels: &[&str], encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result) -> fmt::Result {
        debug_assert_eq!(labels.len(), self.labels.len(), "each label has a value");
        if labels.is_empty() {
            return encode(&mut self.encoder);
        }
        let labels: Vec<_> = self.labels.iter().copied().zip(labels.iter().copied()).collect();
        encode(&mut self.encoder.encode_family(&labels)?)
    }
}
