//! `roentgen predict --out`: tables of many images, across kills, shards and bad files.

use crate::support::*;
use std::path::Path;

/// The folder of [`finished`] with a place of its own for tables, and the arguments that name run and images.
fn predict(folder: &Path, arguments: &[&str]) -> Answer {
    let run = finished().join("run");
    let words = ["predict", run.to_str().unwrap()];
    roentgen(folder, &[&words[..], arguments].concat())
}

/// All images of [`finished`], sorted as the program sorts them.
fn images() -> Vec<String> {
    let mut images: Vec<String> = contents(&finished().join("data"))
        .into_keys()
        .filter_map(|path| path.to_str().map(str::to_owned))
        .filter(|path| path.ends_with(".png"))
        .collect();
    images.sort();
    images
}

fn list(folder: &Path, images: &[String]) {
    std::fs::write(folder.join("list.txt"), images.join("\n") + "\n").unwrap();
}

fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_table_is_what_stdout_would_show() {
    let folder = scratch();
    list(folder.path(), &images());
    let data = finished().join("data");
    let data = data.to_str().unwrap();
    for (form, name) in [("csv", "a.csv"), ("json", "a.jsonl")] {
        let shown = predict(folder.path(), &[data, "--format", form]).succeeds();
        let answer = predict(folder.path(), &["--files-from", "list.txt", "--out", name]).succeeds();
        assert_eq!(answer.stdout, "");
        assert_eq!(answer.stderr, format!("{name}: 40 of 40 images\n"));
        assert_eq!(read(folder.path().join(name)), shown.stdout);
        assert_eq!(read(folder.path().join(format!("{name}.bad.csv"))), "path,reason\n");
        assert!(!folder.path().join(format!("{name}.part")).exists());
        let about: serde_json::Value =
            serde_json::from_str(&read(folder.path().join(format!("{name}.about.json")))).unwrap();
        assert_eq!((about["images"].as_u64(), about["bad_images"].as_u64()), (Some(40), Some(0)));
    }
}

#[cfg(feature = "parquet")]
#[test]
fn a_parquet_table_has_the_numbers_of_the_others() {
    use parquet::file::reader::SerializedFileReader;

    let folder = scratch();
    list(folder.path(), &images());
    for name in ["a.parquet", "a.jsonl"] {
        predict(folder.path(), &["--files-from", "list.txt", "--out", name]).succeeds();
    }
    let table = std::fs::File::open(folder.path().join("a.parquet")).unwrap();
    let rows = SerializedFileReader::new(table).unwrap().into_iter().map(|row| row.unwrap().to_json_value());
    let lines = read(folder.path().join("a.jsonl"));
    let mut compared = 0;
    for (row, line) in rows.zip(lines.lines()) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&row["path"], &row["predicted"]), (&line["path"], &line["predicted"]));
        for (index, (class, probability)) in line["probabilities"].as_object().unwrap().iter().enumerate() {
            let same = |a: &serde_json::Value, b: &serde_json::Value| {
                assert_eq!(a.as_f64().unwrap() as f32, b.as_f64().unwrap() as f32, "{row} beside {line}");
            };
            same(&row[format!("p_{class}")], probability);
            same(&row[format!("logit_{class}")], &line["logits"][index]);
        }
        compared += 1;
    }
    assert_eq!(compared, 40);
}

#[test]
fn shards_are_the_list_dealt_out() {
    let folder = scratch();
    list(folder.path(), &images());
    predict(folder.path(), &["--files-from", "list.txt", "--out", "all.jsonl"]).succeeds();
    let mut dealt: Vec<Vec<String>> = Vec::new();
    for shard in ["1/3", "2/3", "3/3"] {
        let out = format!("shards/{}.jsonl", &shard[..1]);
        predict(folder.path(), &["--files-from", "list.txt", "--shard", shard, "--out", &out]).succeeds();
        dealt.push(read(folder.path().join(out)).lines().map(str::to_owned).collect());
    }
    let together: Vec<&str> = (0..40).map(|index| dealt[index % 3][index / 3].as_str()).collect();
    assert_eq!(together, read(folder.path().join("all.jsonl")).lines().collect::<Vec<_>>());
    for wrong in ["0/3", "4/3", "1", "a/b", "1/0"] {
        predict(folder.path(), &["--files-from", "list.txt", "--shard", wrong]).fails(2, &["expected I/N", wrong]);
    }
    // More shards than images: a task of an array may have nothing to do.
    predict(folder.path(), &["--files-from", "list.txt", "--shard", "50/50", "--out", "none.csv"]).succeeds();
    assert_eq!(read(folder.path().join("none.csv")).lines().count(), 1);
}

#[test]
fn a_list_of_bad_files_and_a_table_are_two_files() {
    let folder = scratch();
    list(folder.path(), &images()[..1]);
    for name in ["a.csv", "a.csv.about.json", "a.csv.part"] {
        let call = ["--files-from", "list.txt", "--out", "a.csv", "--bad-files", name];
        predict(folder.path(), &call).fails(2, &[&format!("--bad-files {name}"), "writes this file itself"]);
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["list.txt"]);
}

#[test]
fn bad_files_are_listed_apart_and_nothing_else_is_lost() {
    let folder = scratch();
    std::fs::write(folder.path().join("text.png"), "no image").unwrap();
    let mut images = images();
    images.truncate(6);
    images.insert(2, "text.png".into());
    images.push("gone.png".into());
    list(folder.path(), &images);
    let words = ["2 of 8 images could not be read: a.csv.bad.csv lists them"];
    let call = ["--files-from", "list.txt", "--out", "a.csv"];
    let answer = predict(folder.path(), &call).fails(1, &words);
    assert!(!answer.stderr.contains("gone.png"), "{}", answer.stderr);
    assert_eq!(read(folder.path().join("a.csv")).lines().count(), 7);
    let bad = read(folder.path().join("a.csv.bad.csv"));
    let rows: Vec<&str> = bad.lines().collect();
    assert_eq!(rows.len(), 3);
    assert!(rows[1].starts_with("text.png,") && rows[2].starts_with("gone.png,"), "{bad}");
    // Finished is finished, with the same verdict; another list is another job.
    let before = contents(folder.path());
    predict(folder.path(), &call).fails(1, &words);
    assert_same(&before, &contents(folder.path()));
    list(folder.path(), &images[..4]);
    predict(folder.path(), &call).fails(2, &["a.csv: a finished table stands there, of another list of images"]);

    // To a named file also where answers go to stdout.
    let answer = predict(folder.path(), &["text.png", &images[0], "--json", "--bad-files", "bad.csv"]);
    let answer = answer.fails(1, &["1 of 2 images could not be read"]);
    assert_eq!((answer.stdout.lines().count(), answer.stderr.lines().count()), (1, 1));
    assert!(read(folder.path().join("bad.csv")).starts_with("path,reason\ntext.png,"));
}

/// A call that computes everything and cannot write its table: what a kill in the last moment leaves.
fn leave_unfinished(folder: &Path) {
    std::fs::write(folder.join("file"), "").unwrap();
    let arguments = ["--files-from", "list.txt", "--out", "a.jsonl", "--bad-files", "file/bad.csv"];
    predict(folder, &arguments).fails(1, &["file"]);
    assert!(!folder.join("a.jsonl").exists());
}

#[test]
fn whatever_a_kill_leaves_leads_to_the_same_table() {
    let folder = scratch();
    std::fs::write(folder.path().join("text.png"), "no image").unwrap();
    let mut images = images();
    images.truncate(5);
    images.insert(2, "text.png".into());
    list(folder.path(), &images);
    let call = ["--files-from", "list.txt", "--out", "a.jsonl"];
    predict(folder.path(), &call).fails(1, &["1 of 6"]);
    let names = ["a.jsonl", "a.jsonl.bad.csv", "a.jsonl.about.json"];
    let whole = names.map(|name| read(folder.path().join(name)));
    names.iter().for_each(|name| std::fs::remove_file(folder.path().join(name)).unwrap());

    leave_unfinished(folder.path());
    let part = folder.path().join("a.jsonl.part");
    let bytes = std::fs::read(&part).unwrap();
    let ends: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b'\n').map(|at| at + 1).collect();
    assert_eq!(ends.len(), 7);
    let mut left: Vec<Vec<u8>> = vec![vec![], bytes[..10].to_vec(), bytes.clone()];
    left.extend(ends[..3].iter().flat_map(|&end| [bytes[..end].to_vec(), bytes[..end + 20].to_vec()]));
    // A crash of the machine may leave zeros where data was to come.
    left.push([&bytes[..ends[3]], &[0; 100], b"\n", &bytes[ends[4]..]].concat());
    for bytes in left {
        std::fs::write(&part, &bytes).unwrap();
        predict(folder.path(), &call).fails(1, &["1 of 6"]);
        assert_eq!(names.map(|name| read(folder.path().join(name))), whole, "after {} bytes", bytes.len());
        assert!(!part.exists());
        names.iter().for_each(|name| std::fs::remove_file(folder.path().join(name)).unwrap());
    }
}

#[test]
fn an_unfinished_table_of_another_call_is_refused_and_kept() {
    let folder = scratch();
    let mut images = images();
    images.truncate(4);
    list(folder.path(), &images);
    leave_unfinished(folder.path());
    let before = contents(folder.path());
    let call = ["--files-from", "list.txt", "--out", "a.jsonl"];
    let with = |more: &[&str]| predict(folder.path(), &[&call[..], more].concat());
    with(&["--precision", "bf16"]).fails(2, &["a.jsonl.part", "another --precision", "remove it to begin anew"]);
    with(&["--exact"]).fails(2, &["another choice of --exact"]);
    with(&["--shard", "1/1"]).fails(2, &["another --shard"]);
    assert_same(&before, &contents(folder.path()));
    images.swap(0, 1);
    list(folder.path(), &images);
    with(&[]).fails(2, &["the list of images has changed", "image 1 was"]);
    images.swap(0, 1);
    list(folder.path(), &images[..3]);
    with(&[]).fails(2, &["image 4 was", "and is nothing"]);
    list(folder.path(), &images);
    let answer = with(&[]).succeeds();
    assert!(answer.stderr.starts_with("going on after image 4 of 4\n"), "{}", answer.stderr);
    with(&["--exact"]).fails(2, &["a finished table stands there, with another choice of --exact"]);

    // Files that are something else.
    std::fs::write(folder.path().join("b.csv"), "mine").unwrap();
    std::fs::write(folder.path().join("c.csv.part"), "mine\n").unwrap();
    for (name, words) in [("b.csv", "a file stands there"), ("c.csv", "not what an unfinished")] {
        predict(folder.path(), &["--files-from", "list.txt", "--out", name]).fails(2, &[words]);
    }
    assert_eq!(read(folder.path().join("b.csv")) + &read(folder.path().join("c.csv.part")), "minemine\n");
    predict(folder.path(), &["--files-from", "list.txt", "--out", "a.txt"]).fails(2, &["ends in .csv, .jsonl"]);
    if !cfg!(feature = "parquet") {
        let answer = predict(folder.path(), &["--files-from", "list.txt", "--out", "a.parquet"]);
        answer.fails(2, &["a.parquet", "built without Parquet", "--features parquet"]);
    }
    predict(folder.path(), &["--files-from", "gone.txt"]).fails(1, &["gone.txt cannot be read"]);
    predict(folder.path(), &["x.png", "--out", "a.csv", "--json"]).fails(2, &["cannot be used with"]);
}

#[test]
fn a_stock_model_of_another_size_is_another_call() {
    let folder = scratch();
    list(folder.path(), &images()[..2]);
    let weights = finished().join("run/model.safetensors");
    let stock = |size: &str| {
        let model = ["predict", "--arch", "resnet18", "--weights", weights.to_str().unwrap(), "--image-size", size];
        roentgen(folder.path(), &[&model[..], &["--files-from", "list.txt", "--out", "a.csv"]].concat())
    };
    stock("32").succeeds();
    let before = contents(folder.path());
    stock("48").fails(2, &["a.csv: a finished table stands there, with another --image-size"]);
    assert_same(&before, &contents(folder.path()));
}

#[test]
fn killed_at_any_moment_it_goes_on() {
    let folder = scratch();
    let images = images();
    let many: Vec<String> = images.iter().cycle().take(4000).cloned().collect();
    list(folder.path(), &many);
    let part = folder.path().join("a.csv.part");
    let run = finished().join("run");
    let size = || part.metadata().map_or(0, |metadata| metadata.len());
    let mut kills = 0;
    while kills < 4 {
        let before = size();
        let mut command = command(folder.path());
        command.arg("predict").arg(&run).args(["--files-from", "list.txt", "--out", "a.csv"]);
        let mut child = Guard(command.stderr(std::process::Stdio::null()).spawn().unwrap());
        while child.0.try_wait().unwrap().is_none() && size() <= before {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        child.0.kill().unwrap();
        if child.0.wait().unwrap().code().is_some() {
            break; // Faster than the kill.
        }
        kills += 1;
    }
    assert!(kills > 0, "the list is too short for this machine");
    let answer = predict(folder.path(), &["--files-from", "list.txt", "--out", "a.csv"]).succeeds();
    assert!(answer.stderr.contains("going on after image "), "{}", answer.stderr);
    list(folder.path(), &images);
    let once = predict(folder.path(), &["--files-from", "list.txt", "--format", "csv"]).succeeds().stdout;
    let (header, rows) = once.split_once('\n').unwrap();
    let expected = format!("{header}\n{}", rows.repeat(100));
    assert!(read(folder.path().join("a.csv")) == expected, "the table differs from one that was never interrupted");
    let names: Vec<_> = contents(folder.path()).into_keys().collect();
    assert_eq!(names.len(), 4, "{names:?}");
}
