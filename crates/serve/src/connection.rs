//! Connections: accepting, the limits of time, and an orderly end.

use crate::Limits;
use crate::counters::Counters;
use axum::Router;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

/// The most that a connection buffers of a request's head or body.
const BUFFER: usize = 64 << 10;
/// How long what a client still sends is read after the last answer: a connection that is closed before is reset, and
/// the client never reads why it was refused.
const LINGER: Duration = Duration::from_secs(3);
/// How long to wait where the system has no room for a connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// Accepts until `stop` turns true, then lets the requests in progress finish and returns.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    counters: Arc<Counters>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.expect("nobody closes this semaphore");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = next => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, mostly; the connection stays in the backlog.
            sleep(NO_ROOM).await;
            continue;
        };
        let (router, counters, stop) = (router.clone(), counters.clone(), stop.clone());
        connections.spawn(async move {
            counters.connections.fetch_add(1, Ordering::Relaxed);
            serve(stream, router, limits, stop).await;
            counters.connections.fetch_sub(1, Ordering::Relaxed);
            drop(place);
        });
    }
    // Whoever connects now is refused rather than left waiting.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, router: Router, limits: Limits, mut stop: watch::Receiver<bool>) {
    // Answers are short: none waits for the acknowledgement of the one before. Where the system cannot, it is slower.
    let _ = stream.set_nodelay(true);
    let io = Bounded { inner: TokioIo::new(stream), limit: limits.read_time, deadline: None };
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.head_time).max_buf_size(BUFFER);
    let mut connection = builder.serve_connection(io, TowerToHyperService::new(router));
    let mut stopping = false;
    loop {
        tokio::select! {
            // Its errors are the client's: what does not parse was answered with 400.
            _ = poll_fn(|context| connection.poll_without_shutdown(context)) => break,
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
    let mut stream = connection.into_parts().io.inner.into_inner();
    if stream.shutdown().await.is_ok() {
        let mut rest = [0; 4096];
        let drain = async { while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
        let _ = timeout(LINGER, drain).await;
    }
}

/// A connection whose other end has a limited time to read an answer, however many small steps it does so in.
struct Bounded {
    inner: TokioIo<TcpStream>,
    limit: Duration,
    /// Set when the system takes no more, until all that was to be written is.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    fn written(&mut self, context: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            return result;
        }
        let limit = self.limit;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        deadline.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl Write for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.written(context, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        if flushed.is_ready() {
            self.deadline = None;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.written(context, result)
    }
}
