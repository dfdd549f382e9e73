//! Where decoded images are kept: `--cache`.

use crate::download;
use clap::Args;
use roentgen_data::ImageCache;
use roentgen_run::config::EngineSettings;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Room for 65,000 grey images at the usual 224 pixels.
const DEFAULT_LIMIT_MIB: u64 = 4096;

/// Options of every command that reads a data set.
#[derive(Clone, Debug, Default, Args)]
pub struct ImageCacheArguments {
    /// Where decoded images are kept for all runs: a folder, or off [default: the user's cache folder]
    #[arg(long, value_name = "DIR|off")]
    pub cache: Option<String>,
    /// Most disk space for decoded images in MiB; those used longest ago give way [default: 4096]
    #[arg(long, value_name = "MIB")]
    pub image_cache_limit: Option<u64>,
}

impl ImageCacheArguments {
    /// Puts what was given over the settings.
    pub fn apply(&self, engine: &mut EngineSettings) {
        if self.cache.is_some() {
            engine.image_cache.clone_from(&self.cache);
        }
        engine.image_cache_limit_mib = self.image_cache_limit.or(engine.image_cache_limit_mib);
    }
}

/// Opens the cache that the settings name, and says where it is. `None` where it is off; also, with a warning, where
/// there is no place for it: images are then decoded each time, and nothing else changes.
pub fn open(engine: &EngineSettings) -> Option<Arc<ImageCache>> {
    let limit_mib = engine.image_cache_limit_mib.unwrap_or(DEFAULT_LIMIT_MIB);
    let folder = match engine.image_cache.as_deref() {
        Some(off) if off.eq_ignore_ascii_case("off") => return None,
        Some(folder) => PathBuf::from(folder),
        None => match download::cache_folder() {
            Ok(caches) => caches.join("images"),
            Err(_) => {
                eprintln!(
                    "warning: decoded images are not kept: no home folder is known; name a folder with --cache DIR"
                );
                return None;
            }
        },
    };
    let cache = open_folder(&folder, limit_mib.saturating_mul(1 << 20));
    eprintln!(
        "decoded images are kept in {} (at most {limit_mib} MiB; --cache, --image-cache-limit)",
        folder.display()
    );
    Some(Arc::new(cache))
}

/// Opens a folder; what the cache has to say goes to stderr.
pub fn open_folder(folder: &Path, limit_bytes: u64) -> ImageCache {
    ImageCache::open(folder, limit_bytes, |notice| eprintln!("warning: {notice}"))
}
