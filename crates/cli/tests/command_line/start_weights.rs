//! Where a run starts from: another run, a file, a download.

use crate::support::*;
use roentgen_nn::weights::{StateDict, TensorToWrite, ValuesToWrite, write_safetensors};
use roentgen_nn::{Head, ParameterSet, ParameterStore, architecture};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;

/// `roentgen train` from these weights, with a head as the finished run has it.
fn train_from(folder: &Path, weights: &str, arguments: &[&str]) -> Answer {
    let mut command = command(folder);
    command.args(["train", "--data", "data", "--image-size", "32", "--hidden", "24", "--batch-size", "8"]);
    command.args(["--epochs", "1", "--out", "new", "--weights", weights]).args(arguments);
    Answer::of(command.output().unwrap())
}

fn tensors(file: &Path) -> StateDict {
    StateDict::open(file).unwrap()
}

#[test]
fn a_run_as_the_start_brings_its_head() {
    let folder = scratch();
    copy_finished(folder.path());
    let answer = train_from(folder.path(), "run", &[]).succeeds();
    assert!(answer.stderr.contains("run/model.safetensors, head included"), "{}", answer.stderr);
    let (old, new) = (folder.path().join("run/model.safetensors"), folder.path().join("new/model.safetensors"));
    // Frozen layers have the old run's numbers.
    assert_eq!(tensors(&old).get("layer4.1.conv2.weight"), tensors(&new).get("layer4.1.conv2.weight"));
    assert_ne!(tensors(&old).get("fc.3.weight"), tensors(&new).get("fc.3.weight"));
    let environment = fs::read_to_string(folder.path().join("new/environment.json")).unwrap();
    assert!(environment.contains("run/model.safetensors, head included"), "{environment}");
    // It has learned already.
    let history = fs::read_to_string(folder.path().join("new/history.csv")).unwrap();
    let accuracy = history.lines().nth(1).and_then(|line| line.split(',').nth(4)?.parse().ok());
    assert_eq!(accuracy, Some(1.0), "{history}");
}

#[test]
fn a_head_of_another_class_count_starts_anew() {
    let folder = scratch();
    copy_finished(folder.path());
    for (split, variant) in [("train", 100), ("validation", 101), ("test", 102)] {
        let class = folder.path().join("data").join(split).join("pneumonia");
        fs::create_dir(&class).unwrap();
        disc(&class.join("0.png"), true, variant);
    }
    let answer = train_from(folder.path(), "run", &[]).succeeds();
    assert!(answer.stderr.contains("the head starts anew from seed 0"), "{}", answer.stderr);
    assert_eq!(tensors(&folder.path().join("new/model.safetensors")).get("fc.3.weight").unwrap().shape, [3, 24]);
}

#[test]
fn weights_that_do_not_fit_or_are_not_there() {
    let folder = scratch();
    copy_finished(folder.path());
    fs::write(folder.path().join("letter.pth"), b"dear reader").unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let before = contents(folder.path());
    let from = |weights: &str, arguments: &[&str]| {
        train_from(folder.path(), weights, &[arguments, &["--cache", "off"]].concat())
    };
    from("run", &["--arch", "resnet34"]).fails(1, &["run/model.safetensors", "resnet34", "layer1.2.conv1.weight"]);
    from("run", &["--arch", "vgg11"]).fails(1, &["run/model.safetensors", "vgg11", "features.0.weight"]);
    from("gone.pth", &[]).fails(2, &["--weights gone.pth: no such file or run", "imagenet, none, a weight file"]);
    from("letter.pth", &[]).fails(1, &["letter.pth: not a weight file", "torch.save or safetensors"]);
    from("empty", &[]).fails(2, &["empty: not a run directory"]);
    let predict = ["predict", "--arch", "vgg11", "--weights", "run/model.safetensors", "data/test"];
    roentgen(folder.path(), &predict).fails(1, &["run/model.safetensors", "vgg11"]);
    roentgen(folder.path(), &["predict", "letter.pth", "data/test"]).fails(1, &["letter.pth"]);
    assert_same(&before, &contents(folder.path()));
}

/// torchvision's ResNet-18 at its start, in a safetensors file: whole, and yet not the file that was published.
fn stock_weights() -> Vec<u8> {
    let network = architecture::build("resnet18", 64, Head::Stock { classes: 1000 }).unwrap();
    let state = ParameterStore::new(&network).state_dict(ParameterSet::Live);
    let tensors: Vec<TensorToWrite<'_>> = state
        .tensors
        .iter()
        .map(|(name, tensor)| TensorToWrite { name, shape: &tensor.shape, values: ValuesToWrite::from(&tensor.values) })
        .collect();
    let mut bytes = Vec::new();
    write_safetensors(&mut bytes, &tensors, None).unwrap();
    bytes
}

/// A server on loopback that sends the same to whoever asks for the file.
fn serve(content: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/models/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines().map_while(Result::ok);
            let asked = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let found = asked.starts_with("GET /models/resnet18-f37072fd.pth ");
            let (status, body) = if found { ("200 OK", &content[..]) } else { ("404 Not Found", &[][..]) };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // The client may be gone, which the test then says.
            let _ = connection.write_all(head.as_bytes()).and_then(|()| connection.write_all(body));
        }
    });
    address
}

#[test]
fn a_download_that_is_not_the_published_file_is_refused() {
    let folder = scratch();
    data_set(folder.path());
    let weights = stock_weights();
    fs::write(folder.path().join("stock.safetensors"), &weights).unwrap();
    let mut command = train_command(folder.path(), &["--data", "data", "--out", "run"]);
    command.env("ROENTGEN_WEIGHTS_URL", serve(weights)).args(["--weights", "imagenet"]);
    let answer = Answer::of(command.output().unwrap());
    // The settings give `--weights` already; the last one does not silently win.
    answer.fails(2, &["--weights", "cannot be used multiple times"]);

    let mut command = self::command(folder.path());
    command.args(["train", "--data", "data", "--cache", "off", "--image-size", "32", "--out", "run", "--epochs", "1"]);
    command.env("ROENTGEN_WEIGHTS_URL", serve(stock_weights()));
    let answer = Answer::of(command.output().unwrap());
    let words = ["resnet18-f37072fd.pth", "its SHA-256 begins with f37072fd", "is corrupt and was deleted"];
    answer.fails(1, &words);
    assert!(!folder.path().join("run").exists());
    let kept: Vec<_> = fs::read_dir(folder.path().join("cache")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(kept.iter().all(|name| name.to_string_lossy().ends_with(".lock")), "{kept:?}");

    // The same bytes as a file are good weights: the user vouches for them.
    let answer = train_from(folder.path(), "stock.safetensors", &[]).succeeds();
    assert!(answer.stderr.contains("stock.safetensors; the head starts anew from seed 0"), "{}", answer.stderr);
}

#[test]
fn without_a_network_the_message_says_which_file_to_put_where() {
    let folder = scratch();
    data_set(folder.path());
    // Nothing listens on a port that was just given back.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = command(folder.path());
    command.env("ROENTGEN_WEIGHTS_URL", format!("http://127.0.0.1:{port}/models"));
    command.args(["train", "--data", "data", "--out", "run", "--image-size", "32"]);
    let answer = Answer::of(command.output().unwrap());
    assert_snapshot("train_without_network", &answer);
    assert!(!folder.path().join("run").exists());
}
