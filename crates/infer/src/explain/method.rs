//! The methods and their settings.

use super::ExplainError;

/// How a heat map is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Channels of a module weighted by their mean gradient (Selvaraju et al., "Grad-CAM", ICCV 2017).
    GradCam,
    /// As Grad-CAM, places with a positive gradient weighted more (Chattopadhay et al., "Grad-CAM++", WACV 2018).
    GradCamPlusPlus,
    /// Activation times gradient, place by place (Draelos and Carin, "Use HiResCAM instead of Grad-CAM", 2020).
    HiResCam,
    /// Gradients on the way from a grey image to this one (Sundararajan et al., "Axiomatic Attribution for Deep
    /// Networks", ICML 2017).
    IntegratedGradients {
        /// Images on the way, at least 1.
        steps: usize,
    },
    /// What the logit loses where a grey square covers the image (Zeiler and Fergus, "Visualizing and Understanding
    /// Convolutional Networks", ECCV 2014).
    Occlusion {
        /// Side of the square in pixels of the network's input, at least 1.
        patch: usize,
        /// From one square to the next, in pixels, at least 1 and at most `patch`, so that none is left out.
        stride: usize,
    },
}

impl Method {
    /// The names that [`Method::named`] knows.
    pub const NAMES: [&'static str; 5] = ["grad-cam", "grad-cam++", "hires-cam", "integrated-gradients", "occlusion"];

    /// A method by name with its default settings at an image size: 64 steps; squares of an eighth of the side, every
    /// half a square.
    pub fn named(name: &str, image_size: usize) -> Option<Method> {
        let patch = (image_size / 8).max(1);
        Some(match name {
            "grad-cam" => Method::GradCam,
            "grad-cam++" => Method::GradCamPlusPlus,
            "hires-cam" => Method::HiResCam,
            "integrated-gradients" => Method::IntegratedGradients { steps: 64 },
            "occlusion" => Method::Occlusion { patch, stride: (patch / 2).max(1) },
            _ => return None,
        })
    }

    /// Its name, one of [`Method::NAMES`].
    pub fn name(self) -> &'static str {
        match self {
            Method::GradCam => "grad-cam",
            Method::GradCamPlusPlus => "grad-cam++",
            Method::HiResCam => "hires-cam",
            Method::IntegratedGradients { .. } => "integrated-gradients",
            Method::Occlusion { .. } => "occlusion",
        }
    }

    /// Whether it explains by the values of a module; the others look at the image and the logits alone.
    pub fn takes_module(self) -> bool {
        matches!(self, Method::GradCam | Method::GradCamPlusPlus | Method::HiResCam)
    }

    pub(super) fn check(self, image_size: usize) -> Result<(), ExplainError> {
        let within = |setting, found: usize, largest: usize| match found {
            1.. if found <= largest => Ok(()),
            _ => Err(ExplainError::Setting { setting, found, expected: format!("a number from 1 to {largest}") }),
        };
        match self {
            Method::GradCam | Method::GradCamPlusPlus | Method::HiResCam => Ok(()),
            Method::IntegratedGradients { steps } => within("steps", steps, 100_000),
            Method::Occlusion { patch, stride } => {
                within("patch", patch, image_size)?;
                within("stride", stride, patch)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_method_that_passes_its_own_check() {
        for name in Method::NAMES {
            for image_size in [1, 32, 224] {
                let method = Method::named(name, image_size).expect("a listed name");
                assert_eq!(method.name(), name);
                assert_eq!(method.check(image_size), Ok(()));
            }
        }
        assert_eq!(Method::named("gradcam", 224), None);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for method in [
            Method::IntegratedGradients { steps: 0 },
            Method::Occlusion { patch: 0, stride: 1 },
            Method::Occlusion { patch: 65, stride: 1 },
            Method::Occlusion { patch: 8, stride: 0 },
            Method::Occlusion { patch: 8, stride: 9 },
        ] {
            assert!(matches!(method.check(64), Err(ExplainError::Setting { .. })), "{method:?}");
        }
    }
}
