//! `roentgen layers`: the freeze plan, dry.

mod memory;

use crate::arguments::{FrozenBn, Layers};
use crate::failure::Outcome;
use crate::resolve;
use roentgen_nn::describe::{LayerRow, layers};
use roentgen_nn::{BatchNormMode, FreezePlan, FrozenBatchNorm, Head, architecture};
use std::io::Write;

/// Runs the command.
pub fn run(arguments: &Layers) -> Outcome {
    let head = Head::Replaced { hidden: arguments.hidden, dropout: 0.5, classes: arguments.classes };
    let network = architecture::build(&arguments.arch, arguments.image_size, head)?;
    let frozen = match arguments.frozen_bn {
        FrozenBn::Eval => FrozenBatchNorm::Stored,
        FrozenBn::Train => FrozenBatchNorm::Batch,
    };
    let plan = FreezePlan::resolve(&network, &arguments.unfreeze, frozen)?;
    if arguments.memory {
        let arithmetic = resolve::arithmetic(arguments.precision, arguments.exact);
        return memory::print(&network, &plan, arguments.batch_size, arithmetic);
    }
    let rows = layers(&network, &plan);
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(5);
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:width$}  {:17}  {:>12}  {:>11}  {:9}  {:10}  backward",
        "layer", "operation", "output", "parameters", "state", "batch norm"
    )?;
    for row in &rows {
        let batch_norm = match row.batch_norm {
            Some(BatchNormMode::Batch) => "train",
            Some(BatchNormMode::Stored) => "eval",
            None => "",
        };
        let backward = if row.reached_by_backward { "yes" } else { "" };
        let line = format!(
            "{:width$}  {:17}  {:>12}  {:>11}  {:9}  {batch_norm:10}  {backward}",
            row.name,
            row.operation,
            row.shape.to_string(),
            if row.parameters > 0 { grouped(row.parameters) } else { String::new() },
            state(row),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    let (trained, all) = (plan.trainable_count(&network), network.parameter_count());
    let share = 100.0 * trained as f64 / all as f64;
    writeln!(out, "\n{} of {} parameters are trained ({share:.1} %)", grouped(trained), grouped(all))?;
    if let Some(deepest) = plan.deepest() {
        let below = rows.iter().filter(|row| !row.reached_by_backward).count();
        let name = &network.value(deepest).name;
        writeln!(
            out,
            "backward goes down to {name}; nothing before it has a gradient ({below} of {} values)",
            rows.len()
        )?;
    }
    if plan.depends_on_batch() {
        writeln!(
            out,
            "a batch norm in training mode looks at the whole batch: batches cannot be cut into micro-batches"
        )?;
    }
    Ok(())
}

fn state(row: &LayerRow) -> &'static str {
    match (row.parameters, row.trainable_parameters) {
        (0, _) => "",
        (_, 0) => "frozen",
        (all, trained) if all == trained => "trainable",
        _ => "in part",
    }
}

/// Digits in groups of three.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn digits_stand_in_groups_of_three() {
        assert_eq!(
            ["0", "999", "1,000", "138,357,544"],
            [0, 999, 1000, 138_357_544].map(grouped).each_ref().map(String::as_str)
        );
    }
}
