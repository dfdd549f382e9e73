//! What was measured, as columns for the eye.

use super::{Layer, Report, Speed};

/// The whole answer, with its line ends.
pub fn text(report: &Report) -> String {
    let mut text = format!(
        "{}, batches of {} at {size} x {size} px, training {}, {}: {} on {} threads{}\n\n",
        report.arch,
        report.batch_size,
        report.unfreeze,
        report.precision,
        report.instruction_set,
        report.threads,
        if report.exact { ", convolutions computed directly" } else { "" },
        size = report.image_size,
    );
    text += "               images/s      best   GFLOP/s   of ceiling   program MiB\n";
    for (name, speed) in [("forward", &report.forward), ("training step", &report.train_step)] {
        text += &speed_line(name, speed, report.ceiling_gflops);
    }
    text += &format!("\nceiling: {:.0} GFLOP/s of f32 multiply-adds", report.ceiling_gflops);
    if let Some(megabytes) = report.peak_rss_mb {
        text += &format!("; peak memory of the process: {megabytes:.0} MB");
    }
    text += "\nGFLOP/s count a convolution's direct work, whatever the algorithm\n";
    for (name, layers, speed) in
        [("training step", &report.layers, &report.train_step), ("forward", &report.forward_layers, &report.forward)]
    {
        if let Some(layers) = layers {
            let whole_ms = 1e3 * report.batch_size as f64 / speed.images_per_s;
            text += &format!("\n{name}, {whole_ms:.1} ms:\n{}\n{}", stages(layers), kinds(layers));
        }
    }
    text
}

fn speed_line(name: &str, speed: &Speed, ceiling_gflops: f64) -> String {
    format!(
        "{name:13}  {:>8.1}  {:>8.1}  {:>8.0}  {:>9.0} %  {:>12.1}\n",
        speed.images_per_s,
        speed.best_images_per_s,
        speed.gflops,
        100.0 * speed.gflops / ceiling_gflops,
        speed.plan_bytes as f64 / f64::from(1 << 20),
    )
}

/// One line a stage, and what is left of the pass.
fn stages(layers: &[Layer]) -> String {
    let width =
        |of: fn(&Layer) -> &String, least: usize| layers.iter().map(|l| of(l).len()).max().unwrap_or(0).max(least);
    // The last line has a long name.
    let rest = "everything else";
    let (name, kind) = (width(|l| &l.name, rest.len()), width(|l| &l.kind, "kind".len()));
    let output = width(|l| &l.output, "output".len());
    let mut text = format!(
        "{:name$}  {:kind$}  {:>output$}    GFLOP  forward ms  backward ms  GFLOP/s  share\n",
        "stage", "kind", "output"
    );
    let mut accounted_ms = 0.0;
    for layer in layers {
        accounted_ms += layer.forward_ms + layer.backward_ms;
        let blank_where_none = |value: f64, width: usize, digits: usize| {
            if layer.gflop > 0.0 { format!("{value:width$.digits$}") } else { " ".repeat(width) }
        };
        text += &format!(
            "{:name$}  {:kind$}  {:>output$}  {}  {:>10.2}  {}  {}  {:>3.0} %\n",
            layer.name,
            layer.kind,
            layer.output,
            blank_where_none(layer.gflop, 7, 2),
            layer.forward_ms,
            if layer.backward_ms > 0.0 { format!("{:>11.2}", layer.backward_ms) } else { " ".repeat(11) },
            blank_where_none(layer.gflops, 7, 0),
            100.0 * layer.share,
        );
    }
    // Copies at the seam, the loss, the optimizer: what the shares leave.
    let left: f64 = 1.0 - layers.iter().map(|layer| layer.share).sum::<f64>();
    let left_ms = accounted_ms * left / (1.0 - left);
    let gap = name + kind + output + 4 + 9;
    text += &format!("{rest:gap$}  {left_ms:>10.2}  {:>11}  {:>7}  {:>3.0} %\n", "", "", 100.0 * left);
    text
}

/// The same, summed over the stages of a kind, the largest share first.
fn kinds(layers: &[Layer]) -> String {
    let mut sums: Vec<(&str, f64, f64)> = Vec::new();
    for layer in layers {
        // What is fused behind an operation takes little beside it.
        let main = layer.kind.split(" + ").next().unwrap_or(&layer.kind);
        match sums.iter_mut().find(|(kind, ..)| *kind == main) {
            Some((_, ms, share)) => {
                *ms += layer.forward_ms + layer.backward_ms;
                *share += layer.share;
            }
            None => sums.push((main, layer.forward_ms + layer.backward_ms, layer.share)),
        }
    }
    sums.sort_by(|a, b| b.1.total_cmp(&a.1));
    let line =
        |(kind, ms, share): &(&str, f64, f64)| format!("all {kind:13}  {ms:>9.2} ms  {:>3.0} %\n", 100.0 * share);
    sums.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, kind: &str, gflop: f64, [forward_ms, backward_ms]: [f64; 2]) -> Layer {
        let ms = forward_ms + backward_ms;
        let gflops = 1e3 * gflop / ms;
        Layer {
            name: name.into(),
            kind: kind.into(),
            output: "64x8x8".into(),
            gflop,
            forward_ms,
            backward_ms,
            gflops,
            share: ms / 200.0,
        }
    }

    #[test]
    fn a_report_reads_well() {
        let speed = |images_per_s: f64, gflops: f64| Speed {
            images_per_s,
            best_images_per_s: 1.1 * images_per_s,
            gflops,
            plan_bytes: 3 << 20,
        };
        let report = Report {
            arch: "resnet18".into(),
            precision: "f32",
            batch_size: 4,
            image_size: 32,
            unfreeze: "layer4,head".into(),
            threads: 2,
            instruction_set: "avx2".into(),
            exact: false,
            forward: speed(80.0, 150.0),
            train_step: speed(20.0, 120.0),
            peak_rss_mb: Some(123.4),
            ceiling_gflops: 200.0,
            layers: Some(vec![
                layer("conv1", "convolution + relu", 12.0, [40.0, 60.0]),
                layer("bn1", "batch norm", 0.0, [10.0, 0.0]),
                layer("conv2", "convolution", 3.0, [20.0, 30.0]),
            ]),
            forward_layers: None,
        };
        let expected = "\
resnet18, batches of 4 at 32 x 32 px, training layer4,head, f32: avx2 on 2 threads

               images/s      best   GFLOP/s   of ceiling   program MiB
forward            80.0      88.0       150         75 %           3.0
training step      20.0      22.0       120         60 %           3.0

ceiling: 200 GFLOP/s of f32 multiply-adds; peak memory of the process: 123 MB
GFLOP/s count a convolution's direct work, whatever the algorithm

training step, 200.0 ms:
stage            kind                output    GFLOP  forward ms  backward ms  GFLOP/s  share
conv1            convolution + relu  64x8x8    12.00       40.00        60.00      120   50 %
bn1              batch norm          64x8x8                10.00                          5 %
conv2            convolution         64x8x8     3.00       20.00        30.00       60   25 %
everything else                                            40.00                         20 %

all convolution       150.00 ms   75 %
all batch norm         10.00 ms    5 %
";
        assert_eq!(text(&report), expected);
    }
}
