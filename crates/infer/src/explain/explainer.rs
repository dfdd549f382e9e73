//! One network compiled for one method, and what it says of an image.

use super::{ExplainError, HeatMap, Method, grad_cam, grad_cam_plus_plus, hires_cam, integrated_gradients, occlusion};
use crate::compiled::Compiled;
use crate::predict::BATCH;
use roentgen_data::{Augment, Image, Transform};
use roentgen_nn::loss::softmax;
use roentgen_nn::{
    Arithmetic, CompileRequest, Engine, EngineError, FeatureShape, FreezePlan, Gradients, Mode, Network, Op,
    ParameterSet, ParameterStore, ValueId,
};
use roentgen_run::predictions::largest;

/// What speaks for a class, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Index of the class that is explained.
    pub class: usize,
    /// One logit a class.
    pub logits: Vec<f32>,
    /// One probability a class.
    pub probabilities: Vec<f32>,
    /// Where in the image.
    pub map: HeatMap,
    /// How well the map adds up; of integrated gradients alone.
    pub completeness: Option<Completeness>,
}

/// Integrated gradients add up to what the logit gained on the way from the grey image (Sundararajan et al. 2017,
/// proposition 1). With finitely many steps they do so nearly: the difference says whether the steps sufficed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Completeness {
    /// The image's logit less the grey image's.
    pub gained: f64,
    /// The sum of the map.
    pub attributed: f64,
}

/// A network compiled for one method. Parameters stay outside, as with [`crate::Predictor`].
pub struct Explainer {
    pub(super) compiled: Compiled,
    method: Method,
    /// The network's input.
    pub(super) image: ValueId,
    /// What a class activation map reads, and that value's shape.
    tapped: Option<(ValueId, FeatureShape)>,
    /// No parameter is trained.
    no_parameters: Gradients,
    module: Option<String>,
    transform: Transform,
}

impl Explainer {
    /// Compiles a network for a method. `module` is what a class activation map is made of, by torchvision's name; by
    /// default the last value with rows and columns before global pooling. The other methods take none.
    ///
    /// # Errors
    /// For a module that is unknown, has no place in the image or is not asked for, a setting out of range, or where the
    /// memory does not suffice.
    pub fn new(
        engine: &dyn Engine,
        network: &Network,
        method: Method,
        module: Option<&str>,
        arithmetic: Arithmetic,
        memory_limit_bytes: Option<usize>,
    ) -> Result<Explainer, ExplainError> {
        method.check(network.image_size())?;
        let tapped = match (method.takes_module(), module) {
            (true, _) => Some(tapped(network, module)?),
            (false, None) => None,
            (false, Some(module)) => {
                return Err(ExplainError::TakesNoModule { method: method.name(), module: module.into() });
            }
        };
        let plan = FreezePlan::frozen(network);
        let largest_batch = if tapped.is_some() { 1 } else { BATCH };
        let mut request = CompileRequest::whole(network, &plan, Mode::Evaluate, largest_batch);
        request.arithmetic = arithmetic;
        request.memory_limit_bytes = memory_limit_bytes;
        match method {
            Method::Occlusion { .. } => {}
            Method::IntegratedGradients { .. } => request.gradient_taps = vec![network.input()],
            Method::GradCam | Method::GradCamPlusPlus | Method::HiResCam => {
                request.taps = tapped.iter().map(|(value, _)| *value).collect();
                request.gradient_taps = request.taps.clone();
            }
        }
        Ok(Explainer {
            compiled: Compiled::new(engine, request)?,
            method,
            image: network.input(),
            tapped,
            no_parameters: Gradients::new(network, &plan),
            module: tapped.map(|(value, _)| module.unwrap_or(&network.value(value).name).to_owned()),
            transform: Transform { image_size: network.image_size(), augment: Augment::None },
        })
    }

    /// The module whose values are read, for a class activation map.
    pub fn module(&self) -> Option<&str> {
        self.module.as_deref()
    }

    /// Says what in an image speaks for a class, by default the predicted one.
    ///
    /// # Errors
    /// For a class that the network does not have.
    pub fn explain(
        &mut self,
        store: &mut ParameterStore,
        image: &Image,
        class: Option<usize>,
    ) -> Result<Explanation, ExplainError> {
        let mut tensor = vec![0.0; self.transform.tensor_len()];
        self.transform.apply(image, None, &mut tensor);
        self.explain_tensor(store, &tensor, class)
    }

    /// As [`Explainer::explain`], of an image that is already the network's input, `[3, S, S]`, normalised.
    ///
    /// # Errors
    /// For a class that the network does not have, or a tensor of another length.
    pub fn explain_tensor(
        &mut self,
        store: &mut ParameterStore,
        image: &[f32],
        class: Option<usize>,
    ) -> Result<Explanation, ExplainError> {
        let logits = self.compiled.logits(store, ParameterSet::Live, image)?;
        let classes = logits.len();
        let class = class.unwrap_or_else(|| largest(&logits));
        if class >= classes {
            return Err(ExplainError::UnknownClass { found: class, classes });
        }
        let size = self.transform.image_size;
        let over_input = |values| HeatMap { height: size, width: size, values, image_size: size };
        let mut completeness = None;
        let map = match (self.method, self.tapped) {
            (Method::IntegratedGradients { steps }, _) => {
                let (values, checked) = integrated_gradients::map(self, store, image, class, steps)?;
                completeness = Some(checked);
                over_input(values)
            }
            (Method::Occlusion { patch, stride }, _) => {
                over_input(occlusion::map(&mut self.compiled, store, image, (class, logits[class]), patch, stride)?)
            }
            (method, Some((value, shape))) => {
                self.backward(store, class, 1)?;
                let (mut activation, mut gradient) = (Vec::new(), Vec::new());
                self.compiled.program.read(value, &mut activation)?;
                self.compiled.program.read_gradient(value, &mut gradient)?;
                let make = match method {
                    Method::GradCamPlusPlus => grad_cam_plus_plus::map,
                    Method::HiResCam => hires_cam::map,
                    _ => grad_cam::map,
                };
                let values = make(&activation, &gradient, shape.positions());
                HeatMap { height: shape.height, width: shape.width, values, image_size: size }
            }
            (_, None) => unreachable!("a class activation map has its module from the constructor"),
        };
        let probabilities = softmax(&logits).into_iter().map(|p| p as f32).collect();
        Ok(Explanation { class, logits, probabilities, map, completeness })
    }

    /// Propagates the slope of one class's logit back through the last forward pass, for each of its `count` images.
    pub(super) fn backward(&mut self, store: &ParameterStore, class: usize, count: usize) -> Result<(), EngineError> {
        let classes = self.compiled.classes;
        let mut slope = vec![0.0; count * classes];
        slope.iter_mut().skip(class).step_by(classes).for_each(|slope| *slope = 1.0);
        let program = &mut self.compiled.program;
        program.backward(store, ParameterSet::Live, &slope, &mut self.no_parameters, false)
    }
}

/// The value that a class activation map reads, and its shape.
fn tapped(network: &Network, module: Option<&str>) -> Result<(ValueId, FeatureShape), ExplainError> {
    let value = match module {
        Some(module) => network.module_output(module)?,
        None => before_pooling(network),
    };
    let found = network.value(value);
    if found.shape.positions() == 1 {
        return Err(ExplainError::NoMap {
            module: module.unwrap_or(&found.name).into(),
            shape: found.shape,
            image_size: network.image_size(),
        });
    }
    Ok((value, found.shape))
}

/// What goes into the global pooling: `layer4` of a ResNet, `features` of a VGG.
fn before_pooling(network: &Network) -> ValueId {
    let is_pooling = |id: &ValueId| matches!(network.value(*id).op, Op::AdaptiveAvgPool2d { .. });
    network.ids().rev().find(is_pooling).map_or(network.input(), |pooling| network.value(pooling).inputs[0])
}
