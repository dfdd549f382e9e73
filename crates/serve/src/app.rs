//! What all requests share.

use crate::admission::Admission;
use crate::counters::{Counters, Gauges};
use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::worker::SharedEngine;
use crate::{ModelSource, ServeError, Settings};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Mutex, oneshot};

pub(crate) struct App {
    pub(crate) settings: Settings,
    pub(crate) counters: Arc<Counters>,
    pub(crate) admission: Admission,
    engine: SharedEngine,
    sources: Vec<ModelSource>,
    registry: RwLock<Arc<Registry>>,
    /// Held while models are read anew: one after another.
    reloading: Mutex<()>,
}

impl App {
    pub(crate) fn open(
        engine: SharedEngine,
        sources: Vec<ModelSource>,
        settings: Settings,
        decoded_ahead: usize,
    ) -> Result<App, ServeError> {
        let counters = Arc::new(Counters::default());
        let registry = Registry::open(&engine, &sources, &settings, &counters)?;
        let admission = Admission::new(settings.limits, decoded_ahead);
        let registry = RwLock::new(Arc::new(registry));
        Ok(App { settings, counters, admission, engine, sources, registry, reloading: Mutex::new(()) })
    }

    /// The models of this moment.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        // What is behind the lock is replaced as a whole.
        self.registry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens all models anew and puts them in the place of the old ones. Requests go on in the meantime.
    ///
    /// # Errors
    /// Where one does not open: then the old ones stay, all of them.
    pub(crate) async fn reload(self: &Arc<App>) -> Result<(), ServeError> {
        let _one_at_a_time = self.reloading.lock().await;
        let app = self.clone();
        let (opened, answer) = oneshot::channel();
        // A thread of its own: those that decode are busy with requests.
        let open = move || {
            // Whoever asked may have gone; then nothing changes.
            let _ = opened.send(Registry::open(&app.engine, &app.sources, &app.settings, &app.counters));
        };
        let spawned = std::thread::Builder::new().name("reload".into()).spawn(open);
        spawned.map_err(ServeError::system("start a thread for the reload"))?;
        let panicked = |_| ServeError::system("open the models")(std::io::Error::other("the thread panicked"));
        let registry = Arc::new(answer.await.map_err(panicked)??);
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = registry;
        self.counters.reloads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn gauges(&self) -> Gauges {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let models = &self.registry().models;
        Gauges {
            images: self.admission.waiting_images(),
            body_bytes: self.admission.body_bytes(),
            models: models
                .iter()
                .map(|model| [model.name.clone(), text(&model.description["architecture"]), model.sha256.clone()])
                .collect(),
        }
    }

    /// Whether the inference thread still takes work.
    pub(crate) fn is_ready(&self) -> Result<(), Refusal> {
        if self.registry().is_alive() {
            return Ok(());
        }
        Err(Refusal::busy("the inference thread has stopped"))
    }
}
