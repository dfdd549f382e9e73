//! What of a run's training recipe differs from plain training, in words.

use roentgen_run::Config;
use roentgen_run::config::{Sampler, Schedule};

/// Name and text of each thing that differs; none for the defaults.
pub(crate) fn recipe(config: &Config) -> Vec<(&'static str, String)> {
    let training = &config.training;
    let mut rows = Vec::new();
    for later in &config.freeze.unfreeze_at {
        rows.push(("Trained too", format!("{} from epoch {} on", later.names.join(", "), later.epoch)));
    }
    let schedule = match training.schedule {
        Schedule::Constant {} => None,
        Schedule::Step { every_epochs, factor } => Some(format!("times {factor} every {every_epochs} epochs")),
        Schedule::Cosine { minimal_rate } => Some(format!("along half a cosine down to {minimal_rate}")),
        Schedule::OneCycle(cycle) => Some(format!(
            "one cycle: up from the rate divided by {}, highest after {} of the steps; momentum from {} down to {} and back",
            cycle.div_factor, cycle.pct_start, cycle.max_momentum, cycle.base_momentum
        )),
    };
    rows.extend(schedule.map(|text| ("Learning rate over the run", text)));
    if training.warmup_epochs > 0.0 {
        rows.push(("Warm-up", format!("{} epochs, linear", training.warmup_epochs)));
    }
    let rates: Vec<String> = training.learning_rates.iter().map(|(name, rate)| format!("{name} {rate}")).collect();
    if !rates.is_empty() {
        rows.push(("Learning rates of their own", rates.join(", ")));
    }
    if config.data.sampler == Sampler::Balanced {
        rows.push(("Sampler", "with replacement, every class as often".into()));
    }
    rows.extend(training.clip_norm.map(|norm| ("Largest norm of the gradients", norm.to_string())));
    rows.extend(training.average_decay.map(|decay| ("Averaged weights", format!("decay {decay}"))));
    rows.extend(training.patience.map(|epochs| ("Patience", format!("{epochs} epochs"))));
    rows
}

/// What is trained on, class weights apart.
pub(crate) fn loss(config: &Config) -> String {
    match (config.training.label_smoothing, config.training.focal_gamma) {
        (0.0, 0.0) => "cross-entropy".into(),
        (0.0, gamma) => format!("focal loss with gamma {gamma} (validation: cross-entropy)"),
        (share, _) => format!("cross-entropy with label smoothing {share} (validation: without)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roentgen_run::config::Unfreezing;

    #[test]
    fn plain_training_says_nothing_and_everything_else_is_said() {
        let mut config = Config::default();
        assert!(recipe(&config).is_empty() && loss(&config) == "cross-entropy");
        config.freeze.unfreeze_at = vec![Unfreezing { epoch: 3, names: vec!["layer4".into()] }];
        config.training.schedule = Schedule::Cosine { minimal_rate: 1e-5 };
        config.training.warmup_epochs = 0.5;
        config.training.learning_rates = [("head".to_owned(), 0.01)].into();
        config.data.sampler = Sampler::Balanced;
        config.training.clip_norm = Some(1.0);
        config.training.average_decay = Some(0.99);
        config.training.patience = Some(2);
        config.training.focal_gamma = 2.0;
        let text = recipe(&config).iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>();
        for words in [
            "layer4 from epoch 3 on",
            "down to 0.00001",
            "0.5 epochs",
            "head 0.01",
            "every class",
            ": 1\n",
            "0.99",
            "2 epochs",
        ] {
            assert!(text.contains(words), "{words} is not in\n{text}");
        }
        assert!(loss(&config).contains("focal loss with gamma 2"));
    }
}
