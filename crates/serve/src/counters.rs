//! What `/metrics` tells, in Prometheus' text format (version 0.0.4).

use axum::http::StatusCode;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Upper bounds of the histogram of request times, in seconds.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of the histogram of batches, in images.
const IMAGES: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];

/// Counts values up to each bound.
#[derive(Default)]
struct Histogram {
    /// One count a bound, and the last for what is above all.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    fn add(&mut self, bounds: &[f64], value: f64) {
        self.counts.resize(bounds.len() + 1, 0);
        self.counts[bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len())] += 1;
        self.sum += value;
    }

    fn write(&self, text: &mut String, name: &str, labels: &str, bounds: &[f64]) {
        let mut total = 0;
        let ends = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let comma = if labels.is_empty() { "" } else { "," };
        for (end, count) in ends.zip(&self.counts) {
            total += count;
            line(text, format_args!("{name}_bucket{{{labels}{comma}le=\"{end}\"}} {total}"));
        }
        line(text, format_args!("{name}_sum{{{labels}}} {}", self.sum));
        line(text, format_args!("{name}_count{{{labels}}} {total}"));
    }
}

#[derive(Default)]
struct Tables {
    /// By route and status.
    requests: BTreeMap<(&'static str, u16), u64>,
    /// By route.
    seconds: BTreeMap<&'static str, Histogram>,
    /// By model and kind of work: images, and the seconds that the inference thread took for them.
    work: BTreeMap<(String, &'static str), (u64, f64)>,
    batches: Histogram,
    /// Images that went through a decoder, and the seconds that it took.
    decoded: (u64, f64),
}

/// Everything that is counted. Names of models are labels; nothing of a request is kept.
#[derive(Default)]
pub(crate) struct Counters {
    tables: Mutex<Tables>,
    /// Open connections.
    pub(crate) connections: AtomicI64,
    /// Reloads that went well.
    pub(crate) reloads: AtomicU64,
}

/// What is true now.
pub(crate) struct Gauges {
    /// Images in the server.
    pub(crate) images: usize,
    /// Bytes of bodies in the server, in whole blocks.
    pub(crate) body_bytes: usize,
    /// Images that are being decoded, and those of them that nobody can wait for any more.
    pub(crate) decoding: usize,
    pub(crate) overdue: usize,
    /// Name, architecture and hash of each model.
    pub(crate) models: Vec<[String; 3]>,
}

impl Counters {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Sums are whole whatever panicked beside them.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn answered(&self, route: &'static str, status: StatusCode, took: Duration) {
        let mut tables = self.tables();
        *tables.requests.entry((route, status.as_u16())).or_default() += 1;
        tables.seconds.entry(route).or_default().add(&SECONDS, took.as_secs_f64());
    }

    pub(crate) fn decoded(&self, took: Duration) {
        let mut tables = self.tables();
        let (images, seconds) = &mut tables.decoded;
        *images += 1;
        *seconds += took.as_secs_f64();
    }

    pub(crate) fn predicted(&self, model: &str, images: usize, took: Duration) {
        let mut tables = self.tables();
        tables.add_work(model, "predict", images, took);
        tables.batches.add(&IMAGES, images as f64);
    }

    pub(crate) fn explained(&self, model: &str, took: Duration) {
        self.tables().add_work(model, "explain", 1, took);
    }

    /// The whole page.
    pub(crate) fn text(&self, gauges: &Gauges) -> String {
        let mut text = String::new();
        let out = &mut text;
        let tables = self.tables();
        head(out, "roentgen_model_info", "gauge", "The models that are served.");
        for [name, architecture, sha256] in &gauges.models {
            let labels = format!("model=\"{name}\",architecture=\"{architecture}\",weights_sha256=\"{sha256}\"");
            line(out, format_args!("roentgen_model_info{{{labels}}} 1"));
        }
        head(out, "roentgen_requests_total", "counter", "Requests by route and status.");
        for ((route, status), count) in &tables.requests {
            line(out, format_args!("roentgen_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}"));
        }
        head(out, "roentgen_request_seconds", "histogram", "Time from the head of a request to its answer.");
        for (route, histogram) in &tables.seconds {
            histogram.write(out, "roentgen_request_seconds", &format!("route=\"{route}\""), &SECONDS);
        }
        head(out, "roentgen_images_total", "counter", "Images that went through a network.");
        for ((model, work), (images, _)) in &tables.work {
            line(out, format_args!("roentgen_images_total{{model=\"{model}\",work=\"{work}\"}} {images}"));
        }
        head(out, "roentgen_compute_seconds_total", "counter", "Time of the inference thread.");
        for ((model, work), (_, seconds)) in &tables.work {
            line(out, format_args!("roentgen_compute_seconds_total{{model=\"{model}\",work=\"{work}\"}} {seconds}"));
        }
        head(out, "roentgen_images_decoded_total", "counter", "Images that were decoded, or could not be.");
        line(out, format_args!("roentgen_images_decoded_total {}", tables.decoded.0));
        head(out, "roentgen_decode_seconds_total", "counter", "Time of the threads that decode images.");
        line(out, format_args!("roentgen_decode_seconds_total {}", tables.decoded.1));
        head(out, "roentgen_batch_images", "histogram", "Images of a batch of predictions.");
        tables.batches.write(out, "roentgen_batch_images", "", &IMAGES);
        head(out, "roentgen_reloads_total", "counter", "Times that the models were read anew.");
        line(out, format_args!("roentgen_reloads_total {}", self.reloads.load(Ordering::Relaxed)));
        head(out, "roentgen_connections", "gauge", "Open connections.");
        line(out, format_args!("roentgen_connections {}", self.connections.load(Ordering::Relaxed)));
        head(out, "roentgen_images_waiting", "gauge", "Images that wait or are worked on.");
        line(out, format_args!("roentgen_images_waiting {}", gauges.images));
        head(out, "roentgen_body_bytes", "gauge", "Memory that the bodies of requests in progress take.");
        line(out, format_args!("roentgen_body_bytes {}", gauges.body_bytes));
        head(out, "roentgen_images_decoding", "gauge", "Images that are being decoded, waited for or not.");
        line(out, format_args!("roentgen_images_decoding {}", gauges.decoding));
        head(out, "roentgen_decoders_overdue", "gauge", "Decoders at one image for longer than a request may take.");
        line(out, format_args!("roentgen_decoders_overdue {}", gauges.overdue));
        if let Some(bytes) = resident_bytes() {
            head(out, "process_resident_memory_bytes", "gauge", "Resident memory of the process.");
            line(out, format_args!("process_resident_memory_bytes {bytes}"));
        }
        text
    }
}

impl Tables {
    fn add_work(&mut self, model: &str, work: &'static str, images: usize, took: Duration) {
        let (count, seconds) = self.work.entry((model.to_owned(), work)).or_default();
        *count += images as u64;
        *seconds += took.as_secs_f64();
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(text, format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(text, "{what}").expect("a string takes all that is written to it");
}

/// `None` where the system does not say as Linux does.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib: u64 = status.lines().find(|line| line.starts_with("VmRSS:"))?.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_count_what_lies_below_them() {
        let mut histogram = Histogram::default();
        [1.0, 2.0, 3.0, 99.0].iter().for_each(|value| histogram.add(&[1.0, 4.0], *value));
        let mut text = String::new();
        histogram.write(&mut text, "x", "", &[1.0, 4.0]);
        assert_eq!(
            text,
            "x_bucket{le=\"1\"} 1\nx_bucket{le=\"4\"} 3\nx_bucket{le=\"+Inf\"} 4\nx_sum{} 105\nx_count{} 4\n"
        );
    }

    #[test]
    fn counts_stand_under_their_labels() {
        let counters = Counters::default();
        counters.answered("/v1/predict", StatusCode::OK, Duration::from_millis(20));
        counters.answered("/v1/predict", StatusCode::OK, Duration::from_millis(30));
        counters.predicted("a", 3, Duration::from_secs(1));
        let gauges = Gauges {
            images: 5,
            body_bytes: 0,
            decoding: 2,
            overdue: 1,
            models: vec![["a".into(), "resnet18".into(), "ff".into()]],
        };
        let text = counters.text(&gauges);
        for expected in [
            "roentgen_requests_total{route=\"/v1/predict\",status=\"200\"} 2",
            "roentgen_request_seconds_bucket{route=\"/v1/predict\",le=\"0.025\"} 1",
            "roentgen_request_seconds_count{route=\"/v1/predict\"} 2",
            "roentgen_images_total{model=\"a\",work=\"predict\"} 3",
            "roentgen_batch_images_bucket{le=\"4\"} 1",
            "roentgen_images_waiting 5",
            "roentgen_images_decoding 2",
            "roentgen_decoders_overdue 1",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected} is not in\n{text}");
        }
    }
}
