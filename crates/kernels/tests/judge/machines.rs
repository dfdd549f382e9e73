//! Runs a kernel on every instruction set of this processor and on several numbers of threads.

use roentgen_kernels::{Compute, Isa};

/// Calls `kernel` on every instruction set, each with 1, 2, 3 and 5 threads, and gives the result for each instruction
/// set. Panics where the number of threads changes a bit.
#[track_caller]
pub fn on_every_machine(kernel: impl Fn(&Compute) -> Vec<f32>) -> Vec<(Isa, Vec<f32>)> {
    let available = Isa::ALL.into_iter().filter(|isa| isa.is_available());
    available
        .map(|isa| {
            let run = |threads| kernel(&Compute::with_isa(threads, isa).expect("the processor has this set"));
            let result = run(1);
            for threads in [2, 3, 5] {
                assert_same_bits(&format!("{} on {threads} threads", isa.name()), &run(threads), &result);
            }
            (isa, result)
        })
        .collect()
}

/// Panics where two results differ in a single bit.
#[track_caller]
pub fn assert_same_bits(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    for (i, (f, e)) in found.iter().zip(expected).enumerate() {
        assert!(f.to_bits() == e.to_bits(), "{what}: value {i} is {f:e}, expected the very bits of {e:e}");
    }
}

/// A buffer to be overwritten: what is left of it in a result is a NaN.
pub fn unwritten(length: usize) -> Vec<f32> {
    vec![f32::NAN; length]
}
