//! Clients that are slow, broken or hostile: each gets the right status, and nothing of it lasts.

use crate::support::*;
use roentgen_serve::{Limits, Settings};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

fn limited(change: impl FnOnce(&mut Limits)) -> Serving {
    let mut settings = settings();
    change(&mut settings.limits);
    Serving::start(settings)
}

/// Nothing is held, and the next client is served.
#[track_caller]
fn nothing_lasts(serving: &Serving) {
    // A connection lingers for a moment after its last answer.
    let until = Instant::now() + Duration::from_secs(20);
    while serving.counted("roentgen_connections") > 1.0 {
        assert!(Instant::now() < until, "connections stay open");
        std::thread::sleep(Duration::from_millis(20));
    }
    // What is being decoded is decoded to its end.
    while serving.counted("roentgen_images_decoding") > 0.0 {
        assert!(Instant::now() < until, "images are decoded for nobody");
        std::thread::sleep(Duration::from_millis(20));
    }
    // A header is looked at to its end as well.
    for gauge in ["roentgen_images_waiting", "roentgen_body_bytes"] {
        while serving.counted(gauge) > 0.0 {
            assert!(Instant::now() < until, "{gauge} stays");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    serving.post("/v1/predict", "image/png", &disc(64, 0)).succeeds();
}

#[test]
fn what_is_no_image_is_refused() {
    let serving = Serving::start(settings());
    let image = disc(64, 0);
    let post = |kind: &str, body: &[u8]| serving.post("/v1/predict", kind, body);
    // The declared type.
    post("text/plain", &image).refused_with(415, &["text/plain", "image/png"]);
    post("application/x-www-form-urlencoded", &image).refused_with(415, &["urlencoded"]);
    serving.raw(&request("/v1/predict", &[], &image)).refused_with(415, &["no Content-Type"]);
    let compressed = [("Content-Type", "image/png"), ("Content-Encoding", "gzip")];
    serving.raw(&request("/v1/predict", &compressed, &image)).refused_with(415, &["gzip"]);
    // What the bytes are; a type that is declared wrongly does not matter.
    post("image/jpeg", &image).succeeds();
    post("image/png", b"hello, this is text").refused_with(415, &["text", "hello"]);
    post("image/png", b"").refused_with(415, &[]);
    post("image/png", &image[..image.len() / 2]).refused_with(422, &["ends"]);
    // Forms.
    post("multipart/form-data", &image).refused_with(400, &["boundary"]);
    post("multipart/form-data; boundary=edge", &image).refused_with(400, &["lacks its boundary"]);
    post("multipart/form-data; boundary=edge", b"--edge--").refused_with(400, &["no file"]);
    let (kind, body) = form(&[("good.png", &image), ("bad.txt", b"text")]);
    post(&kind, &body).refused_with(415, &["bad.txt"]);
    post(&kind, &body[..body.len() - 10]).refused_with(400, &["ends within"]);
    let (kind, body) = form(&[("x.png", &image[..]); 5]);
    post(&kind, &body).refused_with(400, &["more than 4"]);
    nothing_lasts(&serving);
}

#[test]
fn paths_lead_nowhere_on_the_disk() {
    let serving = Serving::start(settings());
    for path in [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
        "/v1/models/../../../etc/passwd",
        "/v1/models/served/../served",
        "/v1/models/..%2fserved/report",
        "/page.css/../page.html",
        "//etc/passwd",
        "/config.toml",
        "/v1/models/served%00",
    ] {
        let answer = serving.get(path).refused_with(404, &[]);
        assert!(!answer.text().contains("root:"), "{path}");
    }
    serving.get("/v1/models/served").succeeds();
    serving.get("/v1/models/served/report").refused_with(404, &["no report"]);
    nothing_lasts(&serving);
}

#[test]
fn a_body_of_100_mb_is_refused_and_not_kept() {
    let serving = Serving::start(settings());
    let total = 100 << 20;
    let head = format!(
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {total}\r\n\r\n"
    );
    let mut stream = serving.connect();
    stream.write_all(head.as_bytes()).unwrap();
    let block = vec![7; 1 << 20];
    // The server may stop reading at any moment.
    let sent = (0..100).take_while(|_| stream.write_all(&block).is_ok()).count();
    Answer::read(&mut stream).unwrap().refused_with(413, &["104857600", "4194304"]);
    println!("{sent} MiB were sent");

    // The same in chunks, which announce nothing.
    let mut stream = serving.connect();
    let head =
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let chunk = [b"100000\r\n", &block[..], b"\r\n"].concat();
    let sent = (0..100).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    Answer::read(&mut stream).unwrap().refused_with(413, &["goes on"]);
    println!("{sent} MiB were sent in chunks");
    nothing_lasts(&serving);
}

#[test]
fn whoever_asks_first_sends_nothing_in_vain() {
    let serving = Serving::start(settings());
    let head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nExpect: 100-continue\r\n";
    serving.raw(format!("{head}Content-Length: 104857600\r\n\r\n").as_bytes()).refused_with(413, &["104857600"]);
    // Where the body is wanted, the server says so.
    let mut stream = serving.connect();
    let image = disc(64, 0);
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", image.len()).as_bytes()).unwrap();
    assert_eq!(Answer::read(&mut stream).unwrap().status, 100);
    stream.write_all(&image).unwrap();
    Answer::read(&mut stream).unwrap().succeeds();
    drop(stream);
    nothing_lasts(&serving);
}

#[test]
fn decompression_bombs_are_refused_by_their_header() {
    let serving = Serving::start(settings());
    // 60000 x 60000 pixels in a hundred bytes, with a correct checksum of the header.
    let mut encoded = Vec::new();
    let mut encoder = png::Encoder::new(&mut encoded, 60_000, 60_000);
    encoder.set_color(png::ColorType::Rgba);
    drop(encoder.write_header().unwrap());
    serving.post("/v1/predict", "image/png", &encoded).refused_with(413, &["60000 x 60000", "1000000 pixels"]);
    // Zeros that shrink a thousandfold, of just too many pixels.
    let zeros = png(1001, 1000, &vec![0; 1_001_000]);
    assert!(zeros.len() < 20_000);
    serving.post("/v1/predict", "image/png", &zeros).refused_with(413, &["1001 x 1000"]);
    // A strip: the network's input would be as much longer than it is wide.
    let long = png(1, 1000, &[0; 1000]);
    serving.post("/v1/predict", "image/png", &long).refused_with(413, &["1 x 1000", "64 times"]);
    // A hundred thousand rows more than the header says: what is beyond is not looked at.
    let predicted =
        |image: &[u8]| serving.post("/v1/predict", "image/png", image).succeeds().json()["predictions"].take();
    assert_eq!(predicted(&with_rows_behind(64, 100_000)), predicted(&png(64, 64, &[77; 64 * 64])));
    nothing_lasts(&serving);
}

/// A grey PNG of `side` x `side` pixels of shade 77 whose data go on with black rows.
fn with_rows_behind(side: u32, rows: u32) -> Vec<u8> {
    let mut pixels = vec![77; (side * side) as usize];
    pixels.resize((side * (side + rows)) as usize, 0);
    let long = png(side, side + rows, &pixels);
    let (mut data, mut at) = (Vec::new(), 8);
    while at < long.len() {
        let length = u32::from_be_bytes(long[at..at + 4].try_into().unwrap()) as usize;
        if &long[at + 4..at + 8] == b"IDAT" {
            data.extend_from_slice(&long[at + 8..at + 8 + length]);
        }
        at += length + 12;
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.write_header().unwrap().write_chunk(png::chunk::IDAT, &data).unwrap();
    file
}

#[test]
fn slow_clients_lose_their_place() {
    let second = Duration::from_secs(1);
    let serving = limited(|limits| {
        limits.request_time = second;
        limits.head_time = second;
        limits.read_time = second;
    });
    // A body that stops.
    let image = disc(64, 0);
    let whole = request("/v1/predict", &[("Content-Type", "image/png")], &image);
    serving.raw(&whole[..whole.len() - 10]).refused_with(408, &["after 1 s"]);
    // A body that trickles is no better.
    let mut stream = serving.connect();
    let (start, rest) = whole.split_at(whole.len() - 200);
    stream.write_all(start).unwrap();
    let mut trickle = rest.iter();
    let refused = loop {
        std::thread::sleep(Duration::from_millis(50));
        if let Some(byte) = trickle.next()
            && stream.write_all(&[*byte]).is_ok()
            && trickle.len() > 150
        {
            continue;
        }
        break Answer::read(&mut stream).unwrap();
    };
    refused.refused_with(408, &[]);
    // A head that does not end, and a connection that says nothing: closed without an answer, or with 408.
    for head in ["GET / HTTP/1.1\r\nHost: local", ""] {
        let mut stream = serving.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    // A client that asks and never reads: its connection ends once the buffers of the system are full.
    let mut stream = serving.connect();
    let ask = b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    stream.set_write_timeout(Some(second)).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while stream.write_all(&ask).is_ok() {
        assert!(Instant::now() < until, "the server goes on for a client that reads nothing");
    }
    drop(stream);
    nothing_lasts(&serving);
}

#[test]
fn half_sent_bodies_and_clients_that_go_leave_nothing() {
    let serving = Serving::start(settings());
    let image = disc(500, 0);
    let whole = request("/v1/predict", &[("Content-Type", "image/png")], &image);
    for end in [whole.len() / 3, whole.len() - 1] {
        let mut stream = serving.connect();
        stream.write_all(&whole[..end]).unwrap();
        drop(stream);
    }
    // These have sent all, and do not wait for the answer.
    for _ in 0..20 {
        serving.connect().write_all(&whole).unwrap();
    }
    nothing_lasts(&serving);
}

/// A PNG of 36 million black pixels in colour, which takes a decoder some tenths of a second.
fn slow_image() -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, 6000, 6000);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Fast);
    encoder.set_filter(png::Filter::NoFilter);
    encoder.write_header().and_then(|mut writer| writer.write_image_data(&vec![0; 3 * 6000 * 6000])).unwrap();
    file
}

#[test]
fn images_that_nobody_waits_for_are_counted_and_not_begun() {
    let serving = limited(|limits| limits.pixels = 36_000_000);
    let whole = request("/v1/predict", &[("Content-Type", "image/png")], &slow_image());
    let mut gone = serving.connect();
    gone.write_all(&whole).unwrap();
    while serving.counted("roentgen_images_decoding") + serving.counted("roentgen_images_decoded_total") < 1.0 {}
    drop(gone);
    // Its client has gone: what it takes is counted as long as it is decoded.
    let (mut alone, mut decoding) = (0, true);
    while decoding {
        let text = serving.get("/metrics").text();
        decoding = value(&text, "roentgen_images_decoding") > 0.0;
        if decoding && value(&text, "roentgen_connections") < 2.0 {
            alone += 1;
            let held = ["roentgen_body_bytes", "roentgen_images_waiting"].map(|gauge| value(&text, gauge));
            assert!(held.iter().all(|held| *held > 0.0), "{text}");
        }
    }
    assert!(alone > 0, "the image was decoded before its client had gone");
    nothing_lasts(&serving);
    // Of many whose clients go, those alone are decoded whose turn had come. A client goes when its image is in the queue:
    // with a body that is on the way still the server has nothing to begin.
    let before = serving.counted("roentgen_images_decoded_total");
    let mut begun = 0.0;
    let gone: Vec<_> = (0..16)
        .map(|index| {
            let mut stream = serving.connect();
            stream.write_all(&whole).unwrap();
            loop {
                let text = serving.get("/metrics").text();
                let decoded = value(&text, "roentgen_images_decoded_total") - before;
                begun = decoded + value(&text, "roentgen_images_decoding");
                if value(&text, "roentgen_images_waiting") + decoded > f64::from(index) {
                    break stream;
                }
            }
        })
        .collect();
    drop(gone);
    nothing_lasts(&serving);
    let decoded = serving.counted("roentgen_images_decoded_total") - before - 1.0;
    println!("{decoded} of 16 images were decoded, {begun} of them begun before their clients went");
    // Some more may be begun before the server has heard of all that went.
    assert!(2.0 * decoded < begun + 16.0, "{decoded} images were decoded, {begun} begun before their clients went");
}

#[test]
fn large_images_hold_up_no_small_one() {
    let serving = limited(|limits| limits.pixels = 36_000_000);
    let whole = request("/v1/predict", &[("Content-Type", "image/png")], &slow_image());
    let mut large: Vec<_> = (0..4).map(|_| serving.connect()).collect();
    large.iter_mut().for_each(|stream| stream.write_all(&whole).unwrap());
    while serving.counted("roentgen_images_waiting") + serving.counted("roentgen_images_decoded_total") < 4.0 {}
    serving.post("/v1/predict", "image/png", &disc(64, 0)).succeeds();
    // In its turn it would have been begun after the fourth, and so after two were decoded.
    let decoded = serving.counted("roentgen_images_decoded_total") - 1.0;
    assert!(decoded < 2.0, "{decoded} large images were decoded before a small one that came after them");
    large.iter_mut().for_each(|stream| drop(Answer::read(stream).unwrap().succeeds()));
    nothing_lasts(&serving);
}

#[test]
fn a_server_whose_decoders_are_stuck_is_not_ready() {
    let serving = limited(|limits| {
        limits.pixels = 36_000_000;
        limits.request_time = Duration::from_millis(50);
    });
    let whole = request("/v1/predict", &[("Content-Type", "image/png")], &slow_image());
    serving.get("/readyz").succeeds();
    let mut streams = [serving.connect(), serving.connect()];
    streams.iter_mut().for_each(|stream| stream.write_all(&whole).unwrap());
    let until = Instant::now() + Duration::from_secs(30);
    let refused = loop {
        let answer = serving.get("/readyz");
        if answer.status != 200 {
            break answer;
        }
        assert!(Instant::now() < until, "it stays ready");
    };
    refused.refused_with(503, &["every decoder", "0.05 s"]);
    for stream in &mut streams {
        Answer::read(stream).unwrap().refused_with(503, &["no answer within 0.05 s"]);
    }
    while serving.get("/readyz").status != 200 {
        assert!(Instant::now() < until, "it does not become ready again");
    }
}

#[test]
fn requests_that_can_be_read_in_two_ways_are_not_followed_by_another() {
    let serving = Serving::start(settings());
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = "POST /v1/reload HTTP/1.1\r\nHost: localhost\r\n";
    let shapes = [
        ("both lengths", format!("{post}Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}")),
        (
            "lengths in turn",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{smuggled}"),
        ),
        ("two lengths", format!("{post}Content-Length: 0\r\nContent-Length: 5\r\n\r\n{smuggled}")),
        ("a list of lengths", format!("{post}Content-Length: 0, 5\r\n\r\n{smuggled}")),
        ("a signed length", format!("{post}Content-Length: +0\r\n\r\n{smuggled}")),
        ("an unknown coding", format!("{post}Transfer-Encoding: xchunked\r\n\r\n{smuggled}")),
        ("a coding behind", format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{smuggled}")),
        ("a blank before the colon", format!("{post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{smuggled}")),
        ("a folded line", format!("{post}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{smuggled}")),
        ("a bare return", format!("{post}X: a\rTransfer-Encoding: chunked\r\n\r\n{smuggled}")),
        ("a null", format!("{post}X: a\0b\r\n\r\n{smuggled}")),
        ("chunks alone", format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}")),
        ("a broken chunk", format!("{post}Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n{smuggled}")),
        ("two hosts", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n".to_owned()),
        ("no host", "GET /healthz HTTP/1.1\r\n\r\n".to_owned()),
    ];
    for (shape, bytes) in shapes {
        let mut stream = serving.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{shape}: {said}");
        let status = said.split(' ').nth(1).unwrap();
        // Chunks are read as chunks, and end the connection; everything else is refused.
        let expected = match shape {
            "both lengths" | "lengths in turn" | "chunks alone" | "a broken chunk" => "403",
            _ => "400",
        };
        assert_eq!(status, expected, "{shape}: {said}");
        assert!(!said.contains("smuggled"), "{shape}: {said}");
    }
    // Two requests in a row that can be read in one way only are both answered.
    let mut stream = serving.connect();
    let first = format!("{post}Content-Length: 0\r\n\r\n");
    stream.write_all(format!("{first}{smuggled}").as_bytes()).unwrap();
    let statuses = [Answer::read(&mut stream).unwrap().status, Answer::read(&mut stream).unwrap().status];
    assert_eq!(statuses, [403, 404]);
    drop(stream);
    nothing_lasts(&serving);
}

#[test]
fn long_heads_are_refused() {
    let serving = Serving::start(settings());
    let long = "a".repeat(200_000);
    let refused = |text: String| {
        let mut stream = serving.connect();
        let _ = stream.write_all(text.as_bytes());
        let mut said = [0; 12];
        stream.read_exact(&mut said).unwrap();
        let said = std::str::from_utf8(&said).unwrap();
        assert!(["HTTP/1.1 431", "HTTP/1.1 414", "HTTP/1.1 400"].contains(&said), "{said}");
    };
    refused(format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    refused(format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"));
    refused(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(300)));
    refused("\u{16}\u{3}\u{1} no HTTP at all\r\n\r\n".to_owned());
    nothing_lasts(&serving);
}

#[test]
fn a_full_server_says_when_to_come_again() {
    let image = disc(64, 0);
    // A request of more images than there are places is never admitted; one that fits is.
    let serving = limited(|limits| limits.queue = 2);
    let (kind, body) = form(&[("x.png", &image[..]); 3]);
    let refused = serving.post("/v1/predict", &kind, &body).refused_with(503, &["3 more"]);
    assert_eq!(refused.header("retry-after"), Some("1"));
    nothing_lasts(&serving);
    // Many at once: each is either served or told to come again.
    let large = disc(900, 0);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || serving.post("/v1/predict", "image/png", &large).status;
        let clients: Vec<_> = (0..24).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    nothing_lasts(&serving);
    // Bodies have their own bound.
    let serving = limited(|limits| limits.all_bodies_bytes = 32 << 10);
    serving.post("/v1/predict", "application/dicom", &[0; 100_000]).refused_with(503, &["32768 bytes"]);
    nothing_lasts(&serving);
}

#[test]
fn connections_beyond_the_limit_wait() {
    let serving = limited(|limits| limits.connections = 2);
    let held: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = serving.connect();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            Answer::read(&mut stream).unwrap().succeeds();
            stream
        })
        .collect();
    let mut third = serving.connect();
    third.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    third.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(Answer::read(&mut third).is_none(), "a third connection was accepted");
    drop(held);
    third.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    Answer::read(&mut third).unwrap().succeeds();
}

#[test]
fn an_end_lets_the_requests_in_progress_finish() {
    // A batch that waits long: the request is surely in progress when the end comes.
    let serving = Serving::start(Settings { batch_wait: Duration::from_secs(2), ..settings() });
    let mut stream = serving.connect();
    stream.write_all(&request("/v1/predict", &[("Content-Type", "image/png")], &disc(64, 0))).unwrap();
    let mut idle = serving.connect();
    let until = Instant::now() + Duration::from_secs(30);
    while serving.counted("roentgen_images_waiting") < 1.0 {
        assert!(Instant::now() < until, "the request never came to wait");
    }
    let address = serving.address;
    serving.stop();
    Answer::read(&mut stream).unwrap().succeeds();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    assert!(std::net::TcpStream::connect(address).is_err());
}
