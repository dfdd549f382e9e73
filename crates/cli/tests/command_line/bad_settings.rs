//! Calls that cannot be meant: exit code 2, the nearest names, and nothing begun.

use crate::support::*;
use std::fs;

/// Refused with these words by `train`, before anything is written or fetched.
#[track_caller]
fn refused(settings: &[&str], words: &[&str]) {
    let folder = scratch();
    data_set(folder.path());
    let before = contents(folder.path());
    let mut command = command(folder.path());
    // The default start weights would have to be downloaded, which nothing here may wait for.
    command.env("ROENTGEN_WEIGHTS_URL", "http://127.0.0.1:9/");
    command.args(["train", "--data", "data", "--out", "run"]).args(settings);
    Answer::of(command.output().unwrap()).fails(2, words);
    assert_same(&before, &contents(folder.path()));
}

#[test]
fn numbers_out_of_range() {
    refused(&["--batch-size", "0"], &["the batch size is 0; expected at least 1"]);
    refused(&["--epochs", "0"], &["the number of epochs is 0; expected at least 1"]);
    refused(&["--max-steps", "0"], &["the largest number of steps is 0; expected at least 1"]);
    refused(&["--lr", "0"], &["the learning rate is 0; expected a positive number"]);
    refused(&["--lr", "NaN"], &["the learning rate is NaN"]);
    refused(&["--lr", "fast"], &["invalid value 'fast' for '--lr <RATE>'"]);
    refused(&["--dropout", "1"], &["dropout is 1; expected a probability"]);
    refused(&["--hidden", "0"], &["the head's hidden width is 0"]);
    let small = ["--arch", "vgg11", "--image-size", "16"];
    refused(&small, &["an image of 16 px is too small for vgg11", "use at least 32 px"]);
    refused(&["--image-size", "0"], &["the image size is 0; expected from 1 to 65536"]);
    refused(&["--threads", "0"], &["0 threads cannot compute: ask for at least 1"]);
    refused(&["--batch-size", "-1"], &["unexpected argument '-1'"]);
}

#[test]
fn schedules_that_cannot_be() {
    refused(&["--schedule", "step"], &["--schedule step needs to know when: give --step-every EPOCHS"]);
    refused(&["--schedule", "cosine", "--step-every", "2"], &["--step-every belongs to --schedule step", "is cosine"]);
    refused(&["--min-lr", "1e-5"], &["--min-lr belongs to --schedule cosine, and the schedule is constant"]);
    refused(&["--schedule", "step", "--step-every", "0"], &["between two steps of the rate is 0; expected at least 1"]);
    refused(&["--schedule", "cosine", "--min-lr", "0.1"], &["minimal rate is 0.1; expected at least 0 and at most"]);
    refused(&["--warmup", "10"], &["the warm-up in epochs is 10; expected at least 0 and fewer than the epochs"]);
    let cycle = |more: &[&'static str]| [&["--schedule", "one-cycle"], more].concat();
    refused(&cycle(&["--warmup", "1"]), &["the warm-up beside one-cycle is 1; expected none"]);
    refused(&cycle(&["--momentum", "0.9"]), &["--momentum has no meaning with --schedule one-cycle"]);
    refused(&cycle(&["--momentum-range", "0.9,0.8"]), &["one-cycle's momentum is 0.9 to 0.8; expected two numbers"]);
    refused(&cycle(&["--pct-start", "1"]), &["one-cycle's rising share is 1; expected above 0 and below 1"]);
    refused(&["--schedule", "linear"], &["invalid value 'linear'", "one-cycle"]);
}

#[test]
fn rates_of_groups_that_cannot_be() {
    let words = ["the learning rate of `layer3` concerns nothing that is trained in resnet18; nearest: "];
    refused(&["--unfreeze", "layer4,head", "--lr-group", "layer3=1e-4"], &words);
    refused(&["--lr-group", "head=fast"], &["invalid value 'head=fast'", "expected NAME=RATE, such as layer4=1e-4"]);
    refused(&["--lr-group", "head"], &["invalid value 'head'", "expected NAME=RATE"]);
    refused(&["--lr-group", "head=0"], &["the learning rate of a group is 0; expected a positive number"]);
    refused(&["--lr-group", "head=1,head=2"], &["--lr-group names a part of the network twice"]);
    refused(&["--lr-group", "head=1,fc=2"], &["`fc` and `head` are the same part of resnet18"]);
}

#[test]
fn unfreezing_that_cannot_be() {
    refused(&["--unfreeze-at", "layer4"], &["invalid value 'layer4'", "expected EPOCH=NAMES, such as 3=layer4"]);
    refused(&["--unfreeze-at", "2=layer9"], &["`layer9` selects no parameter of resnet18; nearest: layer"]);
    refused(&["--unfreeze-at", "1=layer4"], &["an epoch at which something is unfrozen is 1 of 10; expected from 2"]);
    refused(&["--unfreeze-at", "11=layer4"], &["is 11 of 10; expected from 2", "to the last epoch"]);
    let twice = ["--unfreeze-at", "2=layer4", "--unfreeze-at", "3=layer4.1"];
    refused(&twice, &["what is unfrozen on the way is layer4.1 from epoch 3, trained already"]);
}

#[test]
fn losses_that_cannot_be() {
    let words = ["the sampler of unshuffled images is balanced; expected shuffled"];
    refused(&["--sampler", "balanced", "--no-shuffle"], &words);
    refused(&["--average", "1"], &["the decay of the averaged weights is 1; expected above 0 and below 1"]);
    refused(&["--label-smoothing", "1"], &["label smoothing is 1; expected at least 0 and below 1"]);
    refused(&["--focal-loss", "-1"], &["unexpected argument '-1'"]);
    refused(&["--focal-loss=-1"], &["the focal loss's gamma is -1; expected at least 0"]);
    refused(
        &["--focal-loss", "2", "--label-smoothing", "0.1"],
        &["beside the focal loss is 0.1; expected one of the two"],
    );
}

#[test]
fn a_run_whose_rate_was_planned_over_its_epochs_cannot_become_longer() {
    let folder = scratch();
    data_set(folder.path());
    train(folder.path(), &["--data", "data", "--out", "run", "--epochs", "1", "--schedule", "cosine"]).succeeds();
    let before = contents(folder.path());
    roentgen(folder.path(), &["train", "--resume", "run", "--epochs", "2"]).fails(
        2,
        &["run: its learning rate is planned over 1 epochs", "--config run/config.toml --epochs 2 --out DIR"],
    );
    assert_same(&before, &contents(folder.path()));
}

#[test]
fn a_memory_limit_that_nothing_fits_names_what_is_needed() {
    let folder = scratch();
    data_set(folder.path());
    let answer = train(folder.path(), &["--data", "data", "--out", "run", "--memory-limit", "1"]);
    answer.fails(1, &["resnet18 at 32 px needs ", "MiB for a batch of 1, over the limit of 1 MiB", "--memory-limit"]);
    assert!(!folder.path().join("run").exists());
}

#[test]
fn unknown_names() {
    refused(&["--arch", "resnet19"], &["unknown architecture `resnet19`; nearest: resnet18", "known: vgg11"]);
    let words = ["`layer9` selects no parameter of resnet18; nearest: layer", "`head`, `all`"];
    refused(&["--unfreeze", "layer9,head"], &words);
    refused(&["--unfreeze", ""], &["selects no parameter"]);
    refused(&["--positive", "ill"], &["the positive class is `ill`", "infected, normal"]);
    refused(&["--optimizer", "adam"], &["invalid value 'adam'", "sgd, adamw", "similar value exists: 'adamw'"]);
    refused(&["--class-weights", "1,2,3"], &["class weights is [1.0, 2.0, 3.0]", "one positive number a class"]);
    refused(&["--class-weights", "much"], &["--class-weights is `much`; expected none, balanced, or numbers"]);
    let folder = scratch();
    roentgen(folder.path(), &["layers", "resnet81"]).fails(2, &["unknown architecture `resnet81`; nearest: resnet18"]);
    roentgen(folder.path(), &["layers", "vgg16", "--unfreeze", "features.1"]).fails(2, &["nearest: features.1"]);
    roentgen(folder.path(), &["weights", "fetch", "resnet50"]).fails(2, &["unknown architecture `resnet50`; nearest:"]);
}

#[test]
fn settings_that_would_do_nothing() {
    refused(&["--optimizer", "adamw", "--momentum", "0.5"], &["--momentum is SGD's"]);
    refused(&["--nesterov", "--momentum", "0"], &["nesterov is true; expected SGD with a momentum above 0"]);
    let folder = scratch();
    for option in [["--map", "a=b"], ["--images", "3"], ["--threads", "2"], ["--split", "test"]] {
        let arguments = [&["evaluate", "--predictions", "table.csv"], &option[..]].concat();
        roentgen(folder.path(), &arguments).fails(2, &["cannot be used with", option[0]]);
    }
    roentgen(folder.path(), &["predict", "run", "a.png", "--image-size", "64"]).fails(2, &["--arch <NAME>"]);
}

#[test]
fn settings_that_are_missing() {
    let folder = scratch();
    roentgen(folder.path(), &["train"]).fails(2, &["no data: give the folder with --data DIR"]);
    roentgen(folder.path(), &["train", "--data", "x"]).fails(2, &["no place for the run", "--out DIR"]);
    roentgen(folder.path(), &["evaluate"]).fails(2, &["<RUN>"]);
    roentgen(folder.path(), &["predict", "--arch", "resnet18", "x.png"]).fails(2, &["--weights <FILE>"]);
}

#[test]
fn places_for_a_run_in_every_state() {
    let folder = scratch();
    data_set(folder.path());
    let begin = |out: &str| train(folder.path(), &["--data", "data", "--epochs", "1", "--out", out]);
    // Absent, and empty.
    begin("absent").succeeds();
    fs::create_dir(folder.path().join("empty")).unwrap();
    begin("empty").succeeds();
    // Started, without a checkpoint: started again, with the new settings.
    copy(&folder.path().join("absent"), &folder.path().join("started"));
    fs::remove_dir_all(folder.path().join("started/checkpoint")).unwrap();
    fs::remove_file(folder.path().join("started/model.safetensors")).unwrap();
    begin("started").succeeds();
    assert!(results(&folder.path().join("started")) == results(&folder.path().join("absent")));
    // Resumable, finished, foreign: nothing is touched.
    copy(&folder.path().join("absent"), &folder.path().join("resumable"));
    fs::remove_file(folder.path().join("resumable/model.safetensors")).unwrap();
    fs::create_dir(folder.path().join("foreign")).unwrap();
    fs::write(folder.path().join("foreign/thesis.txt"), b"years of work").unwrap();
    let before = contents(folder.path());
    begin("resumable").fails(2, &["resumable: an unfinished run", "`roentgen train --resume resumable`"]);
    begin("absent").fails(2, &["absent: a finished run", "--resume absent --epochs N"]);
    begin("foreign").fails(2, &["foreign: the folder holds something that is no run", "--out"]);
    assert_same(&before, &contents(folder.path()));
}

#[test]
fn runs_that_cannot_go_on() {
    let folder = scratch();
    copy(finished(), folder.path());
    fs::create_dir(folder.path().join("empty")).unwrap();
    let before = contents(folder.path());
    let resume = |arguments: &[&str]| roentgen(folder.path(), &[&["train", "--resume"], arguments].concat());
    resume(&["nothing"]).fails(2, &["nothing: not a run directory", "`roentgen train --out`"]);
    resume(&["empty"]).fails(2, &["empty: not a run directory"]);
    resume(&["run"]).fails(2, &["run: the run is finished (8 epochs)", "--epochs N, N above 8"]);
    resume(&["run", "--epochs", "8"]).fails(2, &["the run is finished (8 epochs)"]);
    resume(&["run", "--epochs", "3"]).fails(2, &["finished (8 epochs)"]);
    for (option, value) in [("--lr", "0.1"), ("--batch-size", "4"), ("--max-steps", "9"), ("--unfreeze", "all")] {
        resume(&["run", "--epochs", "9", option, value]).fails(2, &["--resume goes on with the settings of the run"]);
    }
    resume(&["run", "--no-shuffle"]).fails(2, &["--resume goes on with the settings of the run"]);
    resume(&["run", "--out", "other"]).fails(2, &["cannot be used with"]);
    assert_same(&before, &contents(folder.path()));
    fs::remove_file(folder.path().join("run/model.safetensors")).unwrap();
    resume(&["run", "--epochs", "3"]).fails(2, &["8 epochs are done", "a run cannot become shorter"]);
}

#[test]
fn a_run_whose_patience_is_over_is_finished_and_says_so() {
    let folder = scratch();
    data_set(folder.path());
    refused(&["--patience", "0"], &["the patience in epochs is 0; expected at least 1"]);
    // A rate too small to change a weight: no epoch is better than the first.
    let settings = ["--data", "data", "--out", "run", "--epochs", "9", "--patience", "2", "--lr", "1e-30"];
    let answer = train(folder.path(), &settings).succeeds();
    let why = "stopped early: no lower validation loss than that of epoch 1 for 2 epochs";
    assert!(answer.stderr.contains(why) && answer.stderr.contains("(weights of epoch 3)"), "{}", answer.stderr);
    let history = fs::read_to_string(folder.path().join("run/history.csv")).unwrap();
    assert!(history.lines().count() == 4 && history.lines().last().unwrap().ends_with(why), "{history}");
    let before = contents(folder.path());
    for arguments in [&["train", "--resume", "run"][..], &["train", "--resume", "run", "--epochs", "30"]] {
        roentgen(folder.path(), arguments).fails(2, &["run: the run is finished (stopped early after epoch 3"]);
    }
    assert_same(&before, &contents(folder.path()));
    fs::remove_dir_all(folder.path().join("data/validation")).unwrap();
    train(folder.path(), &["--data", "data", "--out", "other", "--patience", "2"])
        .fails(2, &["the patience is 2 epochs, and there is no validation split to judge by; expected none"]);
}

#[test]
fn a_run_that_ended_by_its_steps_is_finished() {
    let folder = scratch();
    data_set(folder.path());
    train(folder.path(), &["--data", "data", "--out", "run", "--max-steps", "2"]).succeeds();
    let steps = fs::read_to_string(folder.path().join("run/steps.csv")).unwrap();
    assert_eq!(steps.lines().count(), 3);
    let before = contents(folder.path());
    for arguments in [&["train", "--resume", "run"][..], &["train", "--resume", "run", "--epochs", "30"]] {
        roentgen(folder.path(), arguments)
            .fails(2, &["run: the run is finished (2 steps, its --max-steps)", "--config"]);
    }
    assert_same(&before, &contents(folder.path()));
}

#[test]
fn mistakes_in_evaluation() {
    let folder = scratch();
    copy_finished(folder.path());
    fs::create_dir(folder.path().join("other")).unwrap();
    fs::rename(folder.path().join("data/test"), folder.path().join("other/test")).unwrap();
    fs::rename(folder.path().join("other/test/normal"), folder.path().join("other/test/NORMAL")).unwrap();
    let before = contents(folder.path());
    let evaluate = |arguments: &[&str]| roentgen(folder.path(), &[&["evaluate"], arguments].concat());
    let other = |map: &[&str]| evaluate(&[&["run", "--data", "other"], map].concat());
    other(&[]).fails(2, &["class `NORMAL` is unknown to the model", "infected, normal", "--map NORMAL=CLASS"]);
    other(&["--map", "NORMAL"]).fails(2, &["--map NORMAL: expected CLASS=CLASS"]);
    other(&["--map", "HEALTHY=normal"]).fails(2, &["the data has no class `HEALTHY`; it has NORMAL, infected"]);
    other(&["--map", "NORMAL=healthy"]).fails(2, &["the model has no class `healthy`; it has infected, normal"]);
    let twice = ["--map", "NORMAL=normal", "--map", "NORMAL=infected"];
    other(&twice).fails(2, &["--map NORMAL=infected: the class `NORMAL` is already mapped to `normal`"]);
    other(&["--map", "NORMAL=normal", "--positive", "ill"])
        .fails(2, &["--positive ill: no such class", "infected, normal"]);
    other(&["--map", "NORMAL=normal", "--split", "train"])
        .fails(1, &["the split `train` has no images (splits found: test)"]);
    evaluate(&["run", "--split", "exam"]).fails(2, &["`exam` is no split; expected train, validation or test"]);
    evaluate(&["run", "--data", "gone"]).fails(2, &["gone: no such folder", "--data"]);
    evaluate(&["gone"]).fails(2, &["gone: not a run directory"]);
    evaluate(&["--predictions", "gone.csv"]).fails(1, &["gone.csv: cannot read", "No such file"]);
    assert_same(&before, &contents(folder.path()));
    other(&["--map", "NORMAL=normal"]).succeeds();
}

#[test]
fn mistakes_in_a_table_of_predictions() {
    let folder = scratch();
    let evaluate = |table: &str| {
        fs::write(folder.path().join("t.csv"), table).unwrap();
        roentgen(folder.path(), &["evaluate", "--predictions", "t.csv"])
    };
    evaluate("").fails(1, &["t.csv: no column `path`", "expected a table with the columns path"]);
    evaluate("path,label,p_infected,p_normal\n").fails(1, &["t.csv: the table has no rows"]);
    evaluate("path,p_infected,p_normal\na,0.5,0.5\n").fails(1, &["t.csv: 1 of 1 images have no label"]);
    evaluate("path,label,p_infected,p_normal\na,ill,0.5,0.5\n").fails(1, &["t.csv: line 2: class `ill`"]);
    evaluate("path,label,p_infected,p_normal\na,normal,0.5\n").fails(1, &["t.csv: line 2"]);
    evaluate("path,label,p_a,p_b\na,b,0.5,0.5\n").fails(2, &["--positive", "`a`, `b`"]);
    let same_name = "path,label,p_infected,p_infected\na,infected,0.5,0.5\n";
    evaluate(same_name).fails(1, &["t.csv: two columns `p_infected`"]);
    evaluate("path,label,p_infected,p_normal\na,infected,nan,0.5\n").fails(1, &["t.csv: line 2: `nan`"]);
}
