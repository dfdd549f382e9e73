//! Starting, running, and ending.

use crate::app::App;
use crate::connection::accept;
use crate::routes::router;
use crate::worker::SharedEngine;
use crate::{ModelSource, ServeError, Settings};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use tokio::runtime::Builder;
use tokio::sync::watch;

/// Images that may be decoded ahead of the inference thread: some batches, so that it never waits, and not many,
/// because a tensor is larger than the file that it came from.
const DECODED_AHEAD: usize = 64;

/// A server whose models are open and whose port is its own.
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    address: SocketAddr,
    threads: usize,
    stop: watch::Sender<bool>,
}

/// Ends a server from another thread.
#[derive(Clone)]
pub struct Handle {
    stop: watch::Sender<bool>,
}

impl Handle {
    /// Accepts no more connections; [`Server::run`] returns when the requests in progress are answered.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }
}

impl Server {
    /// Opens the port, then the models, the first of which is the default. Images are decoded on as many threads as the
    /// engine has.
    ///
    /// # Errors
    /// Where the address is taken, or open to others without a token; where names are not unique; where a model does
    /// not open.
    pub fn bind(engine: SharedEngine, sources: Vec<ModelSource>, settings: Settings) -> Result<Server, ServeError> {
        let address = settings.address;
        if !address.ip().is_loopback() && settings.token.is_none() && !settings.allow_without_token {
            return Err(ServeError::Exposed { address });
        }
        check_names(&sources)?;
        let listen = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = listen().map_err(ServeError::system(format!("listen on {address}")))?;
        // The decoders, one for small images, one that looks at headers, and as many that draw: what is sent to these
        // threads has waited for its turn before, so nothing waits within them.
        let threads = 2 * engine.threads() + 2;
        let app = App::open(engine, sources, settings, DECODED_AHEAD)?;
        Ok(Server { app: Arc::new(app), listener, address, threads, stop: watch::Sender::new(false) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// To end it from another thread.
    pub fn handle(&self) -> Handle {
        Handle { stop: self.stop.clone() }
    }

    /// One line a model: what is served.
    pub fn describe(&self) -> Vec<String> {
        let registry = self.app.registry();
        let line = |model: &crate::model::Served| {
            let threshold = model.decision.as_ref().map_or("no positive class".into(), |decision| {
                format!(
                    "`{}` from {:.4} on ({})",
                    model.classes[decision.positive], decision.threshold, decision.source
                )
            });
            format!("{}: {}, {threshold}", model.name, model.classes.join(", "))
        };
        registry.models.iter().map(line).collect()
    }

    /// Answers until SIGTERM, Ctrl-C or [`Handle::stop`], and then until the requests in progress are answered; a
    /// second signal ends it at once. SIGHUP opens all models anew. Tells on stderr what it does.
    ///
    /// # Errors
    /// Where the system gives no threads or no signals.
    pub fn run(self) -> Result<(), ServeError> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("decode")
            .max_blocking_threads(self.threads)
            .build()
            .map_err(ServeError::system("start the threads of the server"))?;
        let Server { app, listener, stop, .. } = self;
        let result = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(ServeError::system("listen"))?;
            let mut signals = Signals::new().map_err(ServeError::system("listen to signals"))?;
            let (limits, counters) = (app.settings.limits, app.counters.clone());
            let mut connections =
                tokio::spawn(accept(listener, router(app.clone()), limits, counters, stop.subscribe()));
            loop {
                tokio::select! {
                    _ = &mut connections => return Ok(()),
                    signal = signals.next() => match signal {
                        Signal::Reload => match app.reload().await {
                            Ok(()) => eprintln!("opened all models anew"),
                            Err(error) => eprintln!("error: {error}; what was served before still is"),
                        },
                        Signal::Stop if *stop.borrow() => return Ok(()),
                        Signal::Stop => {
                            eprintln!("answering the requests in progress; the same signal again ends at once");
                            stop.send_replace(true);
                        }
                    },
                }
            }
        });
        // What a decoder still works on, nobody waits for.
        runtime.shutdown_background();
        result
    }
}

enum Signal {
    Reload,
    Stop,
}

/// SIGHUP, SIGTERM and SIGINT.
#[cfg(unix)]
struct Signals {
    hangup: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Reload,
            _ = self.terminate.recv() => Signal::Stop,
            _ = self.interrupt.recv() => Signal::Stop,
        }
    }
}

/// Ctrl-C alone.
#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::Stop
    }
}

/// Names go into URLs and into `/metrics`.
fn check_names(sources: &[ModelSource]) -> Result<(), ServeError> {
    for (index, ModelSource { name, .. }) in sources.iter().enumerate() {
        let refuse = |found| Err(ServeError::Name { name: name.clone(), found });
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return refuse("found other characters, or none");
        }
        if name.chars().all(|c| c == '.') {
            return refuse("found dots alone");
        }
        if sources[..index].iter().any(|other| other.name == *name) {
            return refuse("found a second model of this name");
        }
    }
    Ok(())
}
