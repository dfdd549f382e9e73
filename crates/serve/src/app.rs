//! What all requests share.

use crate::admission::Admission;
use crate::counters::{Counters, Gauges};
use crate::decoders::Decoders;
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
    pub(crate) decoders: Arc<Decoders>,
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
        let threads = engine.threads();
        let admission = Admission::new(settings.limits, threads);
        let decoders = Arc::new(Decoders::new(threads, settings.limits.pixels, decoded_ahead));
        let registry = RwLock::new(Arc::new(registry));
        Ok(App { settings, counters, admission, decoders, engine, sources, registry, reloading: Mutex::new(()) })
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
        // In this order: an image that is counted as being decoded has its bytes counted too.
        let body_bytes = self.admission.body_bytes();
        Gauges {
            decoding: self.decoders.images(),
            overdue: self.decoders.overdue(self.settings.limits.request_time),
            images: self.admission.waiting_images(),
            body_bytes,
            models: models
                .iter()
                .map(|model| [model.name.clone(), text(&model.description["architecture"]), model.sha256.clone()])
                .collect(),
        }
    }

    /// Whether an image that came now could be answered.
    pub(crate) fn is_ready(&self) -> Result<(), Refusal> {
        if !self.registry().is_alive() {
            return Err(Refusal::busy("the inference thread has stopped"));
        }
        let limit = self.settings.limits.request_time;
        if self.decoders.all_overdue(limit) {
            let seconds = limit.as_secs_f64();
            return Err(Refusal::busy(format!("every decoder has been at one image for more than {seconds} s")));
        }
        Ok(())
    }
}
