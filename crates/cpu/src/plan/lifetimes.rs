//! From when to when values and gradients hold something that is still to be read.

use super::gradients::Reach;
use super::{GradientWrite, Step};
use crate::memory::Lifetime;
use crate::stage::Kind;
use roentgen_nn::{BatchNormMode, CompileRequest, ValueId};

pub(super) fn value_lifetime(
    request: &CompileRequest<'_>,
    steps: &[Step],
    storage: &[ValueId],
    id: ValueId,
    backward_of: impl Fn(usize) -> usize,
    end: usize,
) -> Option<Lifetime> {
    let is_entry = request.entries.contains(&id);
    let made = steps.iter().position(|step| step.stage.output == id);
    let first = if is_entry { 0 } else { made? };
    let mut last = first;
    for (index, step) in steps.iter().enumerate() {
        if step.stage.inputs.contains(&id) {
            last = last.max(index);
            if step.backward && step.reads_input_backward() && step.stage.inputs[0] == id {
                last = last.max(backward_of(index));
            }
        }
        if step.stage.output == id && step.backward && step.reads_output_backward() {
            last = last.max(backward_of(index));
        }
    }
    let read_by_caller = request.outputs.iter().chain(&request.taps).any(|read| storage[read.index()] == id);
    Some(Lifetime { len: 0, first, last: if read_by_caller { end } else { last } })
}

impl Step {
    /// Whether backward looks at the first input again.
    fn reads_input_backward(&self) -> bool {
        self.passes_relu
            || match self.stage.kind {
                Kind::Convolution { .. } | Kind::Linear { .. } => self.trains_weight,
                Kind::BatchNorm { .. } => {
                    self.trains_weight || self.trains_bias || self.batch_norm == Some(BatchNormMode::Batch)
                }
                Kind::MaxPool { .. } => true,
                _ => false,
            }
    }

    /// Whether backward looks at the output again.
    fn reads_output_backward(&self) -> bool {
        self.stage.relu && !self.relu_passed || matches!(self.stage.kind, Kind::MaxPool { .. })
    }
}

/// Groups of values whose gradients share memory, with the time from the first write to the last read.
pub(super) fn gradient_lifetimes(
    steps: &[Step],
    reach: &Reach,
    request: &CompileRequest<'_>,
    storage: &[ValueId],
    backward_of: impl Fn(usize) -> usize,
) -> Vec<(Vec<ValueId>, Lifetime)> {
    let mut groups: Vec<(Vec<ValueId>, Lifetime)> = Vec::new();
    let mut extend = |member: ValueId, joins: Option<ValueId>, time: usize| {
        let known = groups.iter().position(|(ids, _)| ids.contains(&member) || joins.is_some_and(|j| ids.contains(&j)));
        match known {
            Some(index) => {
                let (ids, life) = &mut groups[index];
                if !ids.contains(&member) {
                    ids.push(member);
                }
                life.first = life.first.min(time);
                life.last = life.last.max(time);
            }
            None => groups.push((vec![member], Lifetime { len: 0, first: time, last: time })),
        }
    };
    if let [output] = request.outputs[..] {
        let output = storage[output.index()];
        if reach.has_gradient(output) {
            extend(output, None, steps.len());
        }
    }
    for (index, step) in steps.iter().enumerate().rev().filter(|(_, step)| step.backward) {
        let time = backward_of(index);
        extend(step.stage.output, None, time);
        for (input, write) in step.stage.inputs.iter().zip(&step.input_gradients) {
            match write {
                Some(GradientWrite::InPlace) => extend(*input, Some(step.stage.output), time),
                Some(_) => extend(*input, None, time),
                None => {}
            }
        }
    }
    // The gradient of an entry is read when all of backward is done.
    for tap in request.gradient_taps.iter().map(|tap| storage[tap.index()]) {
        if request.entries.contains(&tap) {
            extend(tap, None, 2 * steps.len());
        }
    }
    groups
}
