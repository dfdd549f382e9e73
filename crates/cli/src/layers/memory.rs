//! `roentgen layers --memory`: where a training program keeps everything, when, and what sharing saves.

use super::grouped;
use crate::failure::{Failure, Outcome};
use roentgen_cpu::CpuEngine;
use roentgen_nn::{Arithmetic, BufferContent, CompileRequest, Engine, FreezePlan, MemoryPlan, Mode, Network};
use std::fmt::Write as _;
use std::io::Write as _;

/// More images in a step than anyone trains on, and few enough that no size overflows.
const LARGEST_BATCH: usize = 1 << 16;

/// Size of the picture in characters.
const COLUMNS: usize = 72;
const ROWS: usize = 10;
/// Owners of a buffer that are listed.
const OWNERS_SHOWN: usize = 3;

/// Prints the plan of a training program for batches of `batch_size` images on all cores.
pub fn print(network: &Network, plan: &FreezePlan, batch_size: usize, arithmetic: Arithmetic) -> Outcome {
    if !(1..=LARGEST_BATCH).contains(&batch_size) {
        return Err(Failure::call(format!("--batch-size is {batch_size}; expected from 1 to {LARGEST_BATCH}")));
    }
    let request = CompileRequest { arithmetic, ..CompileRequest::whole(network, plan, Mode::Train, batch_size) };
    let memory = CpuEngine::new(CpuEngine::available_threads())?.memory_plan(&request)?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} at {size} x {size} px, training on {batch_size} images at a time",
        network.architecture(),
        size = network.image_size(),
    )?;
    writeln!(out, "\n{}\n{}\n{}", buffers(&memory), picture(&memory), summary(&memory))?;
    let parameters = network.parameter_count() * size_of::<f32>();
    let trained = 2 * plan.trainable_count(network) * size_of::<f32>();
    writeln!(
        out,
        "\nOn top come the parameters ({} MiB), gradients and momentum of what is trained ({} MiB), and waiting images.",
        mebibytes(parameters).trim_start(),
        mebibytes(trained).trim_start(),
    )?;
    Ok(())
}

/// One line a buffer, in the order in which they come to hold something.
fn buffers(plan: &MemoryPlan) -> String {
    let mut order: Vec<_> = plan.buffers.iter().collect();
    order.sort_by_key(|buffer| (buffer.first, buffer.last, buffer.offset_bytes));
    let rows: Vec<[String; 6]> = order
        .into_iter()
        .map(|buffer| {
            let holds = match buffer.holds {
                BufferContent::Value => "value",
                BufferContent::Gradient => "gradient",
                BufferContent::Mask => "mask",
                BufferContent::KeptGradient => "kept gradient",
            };
            let mut owners = buffer.owners.iter().take(OWNERS_SHOWN).cloned().collect::<Vec<_>>().join(", ");
            if buffer.owners.len() > OWNERS_SHOWN {
                owners += &format!(" and {} more", buffer.owners.len() - OWNERS_SHOWN);
            }
            [
                holds.into(),
                owners,
                mebibytes(buffer.bytes),
                mebibytes(buffer.offset_bytes),
                plan.steps[buffer.first].clone(),
                plan.steps[buffer.last].clone(),
            ]
        })
        .collect();
    let header = ["buffer", "of", "MiB", "at MiB", "from", "to"].map(String::from);
    let width = |column: usize| rows.iter().chain([&header]).map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for [holds, owners, bytes, offset, first, last] in [&header].into_iter().chain(&rows) {
        let line = format!(
            "{holds:0$}  {owners:1$}  {bytes:>2$}  {offset:>3$}  {first:4$}  {last}",
            widths[0], widths[1], widths[2], widths[3], widths[4]
        );
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// How much of the arena holds something, step after step: forward on the left, backward on the right.
fn picture(plan: &MemoryPlan) -> String {
    let steps = plan.steps.len();
    let columns = COLUMNS.min(steps);
    // A column stands for some steps, and is as high as the highest of them.
    let heights: Vec<usize> = (0..columns)
        .map(|column| {
            let steps = column * steps / columns..(column + 1) * steps / columns;
            steps.map(|step| plan.living_bytes(step)).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::from("MiB that hold something, step by step\n");
    for row in (0..ROWS).rev() {
        let label = if row == ROWS - 1 { mebibytes(plan.arena_bytes) } else { String::new() };
        // A cell is filled where more than half of it is held.
        let threshold = (2 * row + 1) * plan.arena_bytes / (2 * ROWS);
        let cells: String = heights.iter().map(|&held| if held > threshold { '#' } else { ' ' }).collect();
        writeln!(text, "{}", format!("{label:>10} |{cells}").trim_end())
            .expect("a string takes all that is written to it");
    }
    let forward = columns / 2;
    text += &format!("{:>10} +{}\n", mebibytes(0), "-".repeat(columns));
    text += &format!("{:>12}{:forward$}backward", "", "forward");
    text
}

fn summary(plan: &MemoryPlan) -> String {
    let most = (0..plan.steps.len()).max_by_key(|&step| (plan.living_bytes(step), std::cmp::Reverse(step)));
    let fullest = most.map_or(String::new(), |step| {
        format!("most of it in use in `{}`: {} MiB", plan.steps[step], mebibytes(plan.living_bytes(step)).trim_start())
    });
    let saved = 100.0 * (1.0 - plan.peak_bytes() as f64 / plan.unshared_bytes().max(1) as f64);
    let mut text = String::new();
    for (name, bytes, note) in [
        ("arena", plan.arena_bytes, fullest),
        ("packed weights", plan.packed_bytes, "and their gradients".into()),
        ("scratch memory", plan.scratch_bytes, "of the kernels on all cores".into()),
        ("peak", plan.peak_bytes(), format!("{} bytes", grouped(plan.peak_bytes()))),
        ("without sharing", plan.unshared_bytes(), format!("sharing saves {saved:.0} %")),
    ] {
        text += &format!("\n{name:15}  {:>9} MiB   {note}", mebibytes(bytes));
    }
    text
}

fn mebibytes(bytes: usize) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_nn::PlannedBuffer;

    const MIB: usize = 1 << 20;

    /// Two values that share a place, and one that lives throughout.
    fn plan() -> MemoryPlan {
        let buffer = |holds, owners: &[&str], mib: usize, offset: usize, first, last| PlannedBuffer {
            holds,
            owners: owners.iter().map(|&name| name.to_owned()).collect(),
            bytes: mib * MIB,
            offset_bytes: offset * MIB,
            first,
            last,
        };
        MemoryPlan {
            steps: ["forward a", "forward b", "backward b", "backward a", "reading the results"]
                .map(String::from)
                .into(),
            buffers: vec![
                buffer(BufferContent::Gradient, &["b", "c", "d", "e"], 6, 4, 2, 3),
                buffer(BufferContent::Value, &["a"], 4, 0, 0, 3),
                buffer(BufferContent::Value, &["b"], 6, 4, 1, 1),
            ],
            arena_bytes: 10 * MIB,
            packed_bytes: 5 * MIB,
            scratch_bytes: 3 * MIB,
        }
    }

    #[test]
    fn buffers_stand_in_the_order_of_their_use() {
        assert_eq!(
            buffers(&plan()),
            "\
buffer    of                  MiB  at MiB  from        to
value     a                   4.0     0.0  forward a   backward a
value     b                   6.0     4.0  forward b   forward b
gradient  b, c, d and 1 more  6.0     4.0  backward b  backward a
"
        );
    }

    #[test]
    fn the_picture_shows_what_is_held() {
        let text = picture(&plan());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + ROWS + 2);
        // Ten MiB in the middle, four at the beginning, nothing at the end.
        assert_eq!(lines[1], "      10.0 | ###");
        assert_eq!(lines[6], "           | ###");
        assert_eq!(lines[7], "           |####");
        assert_eq!(lines[10], "           |####");
        assert_eq!(lines[11], "       0.0 +-----");
    }

    #[test]
    fn the_summary_adds_up() {
        assert_eq!(
            summary(&plan()),
            "
arena                 10.0 MiB   most of it in use in `forward b`: 10.0 MiB
packed weights         5.0 MiB   and their gradients
scratch memory         3.0 MiB   of the kernels on all cores
peak                  18.0 MiB   18,874,368 bytes
without sharing       24.0 MiB   sharing saves 25 %"
        );
    }
}
