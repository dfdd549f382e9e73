//! A weight file in either of PyTorch's formats, or as safetensors.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use roentgen_nn::weights::StateDict;

/// The reader takes a path: a file that each execution writes anew. With TMPDIR=/dev/shm it never reaches a disk.
fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let (_, path) = tempfile::NamedTempFile::new().and_then(|file| Ok(file.keep()?)).expect("a file can be made");
        path
    })
}

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(file(), bytes).expect("the file can be written");
    if let Ok(state) = StateDict::open(file()) {
        for (name, tensor) in &state.tensors {
            assert_eq!(tensor.values.len(), tensor.shape.iter().product::<usize>(), "{name}");
        }
    }
});
