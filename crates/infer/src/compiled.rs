//! A network compiled from the image to the logits in evaluation mode: what predicting and explaining run.

use roentgen_nn::{CompileRequest, Draws, Engine, EngineError, ParameterSet, ParameterStore, Program, ValueId};

/// A program with the largest batch that memory allows.
pub(crate) struct Compiled {
    pub(crate) program: Box<dyn Program>,
    /// Images that the program takes at once.
    pub(crate) batch: usize,
    pub(crate) classes: usize,
    /// Elements of an image's tensor, `3 * S * S`.
    image_len: usize,
    output: ValueId,
}

impl Compiled {
    /// Compiles a request from the image to the logits for its largest batch, or for the largest half of a half of it that
    /// keeps the memory limit: no result depends on it.
    ///
    /// # Errors
    /// Where one image is too many, or a tap cannot be read.
    pub(crate) fn new(engine: &dyn Engine, mut request: CompileRequest<'_>) -> Result<Compiled, EngineError> {
        let network = request.network;
        let program = loop {
            match engine.compile(&request) {
                Err(EngineError::Memory { .. }) if request.largest_batch > 1 => {
                    request.largest_batch /= 2;
                    request.single_pass = false;
                }
                other => break other?,
            }
        };
        Ok(Compiled {
            program,
            batch: request.largest_batch,
            classes: network.classes(),
            image_len: network.value(network.input()).shape.elements(),
            output: network.output(),
        })
    }

    /// Logits `[N, K]` of normalised images `[N, 3, S, S]`, at most a batch.
    pub(crate) fn logits(
        &mut self,
        store: &mut ParameterStore,
        set: ParameterSet,
        images: &[f32],
    ) -> Result<Vec<f32>, EngineError> {
        let count = images.len() / self.image_len;
        // Nothing is drawn in evaluation mode.
        let draws = Draws { seed: 0, epoch: 0, rows: &vec![0; count] };
        self.program.forward(store, set, &[images], count, draws)?;
        let mut logits = Vec::new();
        self.program.read(self.output, &mut logits)?;
        Ok(logits)
    }
}
