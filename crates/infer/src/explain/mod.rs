//! Why does a model say so? Heat maps over an image, for one class.
//!
//! [`Explainer`] compiles a network for one [`Method`]; [`Explainer::explain`] gives an [`Explanation`] with its
//! [`HeatMap`]. Whatever is frozen, a map can be made: gradients are taken of values, not of parameters.
//!
//! Every method explains the class's *logit*, the score before the softmax, as the papers do: a probability near 1 has
//! hardly any slope. A map is kept raw, with its sign. What is drawn and judged is its positive part, the evidence *for*
//! the class ([`HeatMap::evidence_over`]); for Grad-CAM and Grad-CAM++ that is the ReLU that ends their formulas.
//!
//! A map is a claim. [`Curves`] ask the model whether it is true, [`LungField`] asks whether it lies where it should.

mod curves;
mod error;
mod explainer;
mod grad_cam;
mod grad_cam_plus_plus;
mod heat_map;
mod hires_cam;
mod integrated_gradients;
mod lung_field;
mod method;
mod occlusion;

pub use curves::Curves;
pub use error::ExplainError;
pub use explainer::{Completeness, Explainer, Explanation};
pub use heat_map::HeatMap;
pub use lung_field::{LungField, LungShare};
pub use method::Method;
