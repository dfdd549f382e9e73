//! Puts a server under load and says what it bore: rate, latencies, memory, and what became of each request.
//!
//! ```text
//! cargo run --release -p roentgen-serve --example load -- ADDRESS:PORT FOLDER [--clients N] [--seconds S]
//!     [--image-size PIXELS] [--bench-rate IMAGES/S]
//! ```
//!
//! Each client sends the images of the folder one after another over one connection, and the next when the answer is
//! there. Beside the raw rate stands the rate that remains for the network when the processor time of decoding
//! (measured beforehand, on one thread) and of the clients (measured meanwhile) is taken off: `rate / (1 - rate x
//! (decode + client) / cores)`, to be compared with what `roentgen bench` says of the forward pass. Linux.

use roentgen_data::decode::{Limits, decode_bytes};
use roentgen_data::{Augment, Transform};
use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// More clients and seconds than this are a mistake.
const MOST_CLIENTS: usize = 1000;
const MOST_SECONDS: u64 = 300;
/// How long a client waits for an answer before it counts the request as lost.
const PATIENCE: Duration = Duration::from_secs(60);

struct Arguments {
    address: String,
    folder: PathBuf,
    clients: usize,
    seconds: u64,
    image_size: usize,
    bench_rate: Option<f64>,
}

/// What one client, or all of them, saw.
#[derive(Default)]
struct Seen {
    /// Seconds of each answer of status 200.
    latencies: Vec<f64>,
    by_status: BTreeMap<u16, usize>,
    /// Requests without an answer.
    lost: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments()?;
    let images = images(&arguments.folder)?;
    let decode_s = decode_seconds(&images, arguments.image_size)?;
    let idle_mib = resident_mib(&arguments.address)?;
    let (all, peak_mib) = (Mutex::new(Seen::default()), Mutex::new(idle_mib));
    let (cpu_before, begun) = (own_cpu_seconds()?, Instant::now());
    let until = begun + Duration::from_secs(arguments.seconds);
    std::thread::scope(|scope| {
        for client in 0..arguments.clients {
            let (all, images, address) = (&all, &images, &arguments.address);
            scope.spawn(move || {
                let seen = run_client(address, images, client, until);
                let mut all = all.lock().expect("no client panics with the lock");
                all.latencies.extend(seen.latencies);
                seen.by_status
                    .into_iter()
                    .for_each(|(status, count)| *all.by_status.entry(status).or_default() += count);
                all.lost += seen.lost;
            });
        }
        scope.spawn(|| {
            while Instant::now() < until {
                std::thread::sleep(Duration::from_millis(500));
                let Ok(now) = resident_mib(&arguments.address) else { continue };
                let mut peak = peak_mib.lock().expect("nobody panics with the lock");
                *peak = peak.max(now);
            }
        });
    });
    let elapsed = begun.elapsed().as_secs_f64();
    let client_cpu = own_cpu_seconds()? - cpu_before;
    let mut seen = all.into_inner().expect("no client panicked");
    seen.latencies.sort_by(f64::total_cmp);
    let answered = seen.latencies.len();
    if answered == 0 {
        return Err(format!("no request was answered with 200: {:?}, {} lost", seen.by_status, seen.lost).into());
    }
    let rate = answered as f64 / elapsed;
    let client_s = client_cpu / answered as f64;
    let cores = std::thread::available_parallelism()?.get() as f64;
    let network_rate = rate / (1.0 - rate * (decode_s + client_s) / cores);
    let quantile = |share: f64| 1000.0 * seen.latencies[((answered - 1) as f64 * share).round() as usize];
    println!("{} clients, {elapsed:.1} s, {} images, {cores} cores", arguments.clients, images.len());
    println!("answers by status     {:?}, lost {}", seen.by_status, seen.lost);
    println!(
        "latency in ms         p50 {:.0}, p90 {:.0}, p99 {:.0}, largest {:.0}",
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(1.0)
    );
    println!("rate                  {rate:.1} images/s");
    println!("processor time        decoding {:.2} ms, client {:.2} ms an image", 1000.0 * decode_s, 1000.0 * client_s);
    println!("rate without these    {network_rate:.1} images/s");
    if let Some(bench) = arguments.bench_rate {
        println!("beside bench          {:.3} of {bench} images/s, raw {:.3}", network_rate / bench, rate / bench);
    }
    let peak = peak_mib.into_inner().expect("nobody panicked");
    println!(
        "resident memory       {idle_mib:.0} MiB before, {peak:.0} MiB at most, {:.0} MiB after",
        resident_mib(&arguments.address)?
    );
    Ok(())
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let usage = "load ADDRESS:PORT FOLDER [--clients N] [--seconds S] [--image-size PIXELS] [--bench-rate R]";
    let (Some(address), Some(folder)) = (words.next(), words.next()) else { return Err(usage.into()) };
    let (mut clients, mut seconds, mut image_size, mut bench_rate) = (200, 60, 224, None);
    while let Some(option) = words.next() {
        let value = words.next().ok_or(usage)?;
        match option.as_str() {
            "--clients" => clients = value.parse()?,
            "--seconds" => seconds = value.parse()?,
            "--image-size" => image_size = value.parse()?,
            "--bench-rate" => bench_rate = Some(value.parse()?),
            _ => return Err(format!("{option}: expected {usage}").into()),
        }
    }
    if !(1..=MOST_CLIENTS).contains(&clients) || !(1..=MOST_SECONDS).contains(&seconds) {
        return Err(format!("expected 1 to {MOST_CLIENTS} clients and 1 to {MOST_SECONDS} seconds").into());
    }
    Ok(Arguments { address, folder: folder.into(), clients, seconds, image_size, bench_rate })
}

/// The files of a folder, in order.
fn images(folder: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    if paths.is_empty() {
        return Err(format!("{}: no file in it; expected images", folder.display()).into());
    }
    Ok(paths.iter().map(std::fs::read).collect::<Result<_, _>>()?)
}

/// Seconds to decode and transform an image on one thread: the median over rounds of the mean over images.
fn decode_seconds(images: &[Vec<u8>], image_size: usize) -> Result<f64, Box<dyn Error>> {
    let transform = Transform { image_size, augment: Augment::None };
    let mut tensor = vec![0.0; transform.tensor_len()];
    let mut rounds = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        for (index, bytes) in images.iter().enumerate() {
            transform.apply(&decode_bytes(&format!("image {index}"), bytes, &Limits::default())?, None, &mut tensor);
        }
        rounds.push(begun.elapsed().as_secs_f64() / images.len() as f64);
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[rounds.len() / 2])
}

/// Sends images until the time is over. A broken connection is a lost request, and is made anew.
fn run_client(address: &str, images: &[Vec<u8>], client: usize, until: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut connection = None;
    let mut next = client;
    while Instant::now() < until {
        let image = &images[next % images.len()];
        next += 1;
        let begun = Instant::now();
        match exchange(&mut connection, address, image) {
            Ok(status) => {
                *seen.by_status.entry(status).or_default() += 1;
                if status == 200 {
                    seen.latencies.push(begun.elapsed().as_secs_f64());
                }
            }
            Err(_) => {
                seen.lost += 1;
                connection = None;
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    seen
}

/// One request over a connection that stays open; the status of its answer.
fn exchange(connection: &mut Option<BufReader<TcpStream>>, address: &str, image: &[u8]) -> std::io::Result<u16> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            connection.insert(BufReader::new(stream))
        }
    };
    let head = format!(
        "POST /v1/predict HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
        image.len()
    );
    stream.get_mut().write_all(&[head.as_bytes(), image].concat())?;
    Ok(answer(stream)?.0)
}

/// Status and body of the next answer.
fn answer(stream: &mut BufReader<TcpStream>) -> std::io::Result<(u16, Vec<u8>)> {
    let broken = || std::io::Error::other("no answer of HTTP");
    let (mut line, mut length) = (String::new(), 0);
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(broken());
        }
        match line.trim().split_once(": ") {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().map_err(|_| broken())?;
            }
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((status, body))
}

/// What the server says of its memory.
fn resident_mib(address: &str) -> Result<f64, Box<dyn Error>> {
    let mut stream = BufReader::new(TcpStream::connect(address)?);
    stream.get_ref().set_read_timeout(Some(PATIENCE))?;
    write!(stream.get_mut(), "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let text = String::from_utf8(answer(&mut stream)?.1)?;
    let line = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    Ok(line.ok_or("the server does not say its memory")?.parse::<f64>()? / f64::from(1 << 20))
}

/// Processor time of this process so far: user and system, in hundredths of a second (`man 5 proc`).
fn own_cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    // The name of the program, in brackets, may hold blanks.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |index: usize| fields.get(index).ok_or("a field is missing")?.parse::<f64>().map_err(Box::<dyn Error>::from);
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
