//! The weights of a frozen prefix that several models have in common.

use roentgen_nn::{Network, ParameterSet, ParameterStore, ValueId};

/// The tensors before the cuts of several models of one architecture, gathered from the models that have them frozen:
/// what one program needs to compute for all of them what they compute alike.
pub struct SharedPrefix {
    weights: ParameterStore,
    /// Who gave each tensor.
    from: Vec<Option<usize>>,
}

/// A model that computes something else before its cut than those that were there before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherPrefix {
    /// Index of the first tensor that differs, in shape or in a bit.
    pub tensor: usize,
    /// Number of the model that had it first, in the order in which they came.
    pub other: usize,
}

impl SharedPrefix {
    /// Of no model yet. All models must be of the architecture of this network; their heads may differ.
    pub fn new(network: &Network) -> SharedPrefix {
        let weights = ParameterStore::new(network);
        SharedPrefix { from: vec![None; weights.specs().len()], weights }
    }

    /// Takes what a model has before its `cut` ([`roentgen_nn::FreezePlan::cut`]); `number` is what an error will call it.
    ///
    /// # Errors
    /// Where a tensor is known with other values; then nothing is taken.
    pub fn take(
        &mut self,
        number: usize,
        network: &Network,
        cut: &[ValueId],
        store: &ParameterStore,
    ) -> Result<(), OtherPrefix> {
        let behind = network.tensors_behind(cut);
        let is_same = |tensor: usize| match self.from[tensor] {
            Some(_) => {
                let [one, other] = [&self.weights, store].map(|store| store.tensor(ParameterSet::Live, tensor));
                one.iter().map(|x| x.to_bits()).eq(other.iter().map(|x| x.to_bits()))
            }
            // The network that the weights are laid out for may have another head.
            None => self.weights.specs()[tensor].shape == store.specs()[tensor].shape,
        };
        if let Some(&tensor) = behind.iter().find(|&&tensor| !is_same(tensor)) {
            return Err(OtherPrefix { tensor, other: self.from[tensor].unwrap_or(0) });
        }
        for tensor in behind {
            if self.from[tensor].is_none() {
                self.weights.tensor_mut(tensor).copy_from_slice(store.tensor(ParameterSet::Live, tensor));
                self.from[tensor] = Some(number);
            }
        }
        Ok(())
    }

    /// The weights, of which those behind the cuts are filled.
    pub fn weights(&mut self) -> &mut ParameterStore {
        &mut self.weights
    }

    /// The weights, of which those behind the cuts are filled.
    pub fn into_weights(self) -> ParameterStore {
        self.weights
    }
}
