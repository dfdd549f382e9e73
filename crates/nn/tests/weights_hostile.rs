//! Attacks on the readers of weight files: each is refused with a message, at once, and nothing is executed.
//!
//! Attacks on the interpreter come in the older container, which has no checksums; the archive's are built by hand.

use roentgen_nn::weights::{StateDict, WeightsError, read_safetensors_metadata};
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weights")).join(name)
}

/// A file that is overwritten for each attack.
struct Target {
    folder: tempfile::TempDir,
}

impl Target {
    fn new() -> Target {
        Target { folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self, bytes: &[u8]) -> Result<StateDict, WeightsError> {
        let file = self.folder.path().join("weights");
        std::fs::write(&file, bytes).unwrap();
        StateDict::open(&file)
    }

    fn refusal(&self, bytes: &[u8]) -> String {
        match self.open(bytes) {
            Ok(state) => panic!("accepted: {state:?}"),
            Err(error) => error.to_string(),
        }
    }
}

#[test]
fn fixtures_that_must_be_refused() {
    for (name, expected) in [
        ("refused_os_system.pth", "names the Python object `posix.system`"),
        ("refused_os_system_old.pth", "names the Python object `posix.system`"),
        ("refused_whole_model.pth", "names the Python object `torch.nn.modules.linear.Linear`"),
        ("refused_complex.pth", "names the Python object `torch.ComplexFloatStorage`"),
        ("refused_list.pth", "holds no state dict, but a list of 1 objects"),
        ("refused_no_tensors.pth", "holds no state dict, but a dictionary of `epoch`, `loss`"),
        ("refused_expanded.pth", "tensor `weight`: shape [1000, 3] with strides [0, 1] at offset 0 does not fit"),
        ("refused_pending_sign.pth", "sign change pending"),
        ("refused_big_endian.pth", "big-endian"),
    ] {
        let error = StateDict::open(&fixture(name)).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(error.contains(name), "the file is not named: {error}");
    }
}

#[test]
fn files_of_other_kinds() {
    let target = Target::new();
    for (bytes, expected) in [
        (&b""[..], "it is empty"),
        (b"<!DOCTYPE html><html>403", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "HDF5"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"hello, world, hello", "its 19 bytes begin with"),
        (b"\x80\x02K\x05.", "magic number"),
        (b"PK\x03\x04 and nothing more", "archive"),
    ] {
        let message = target.refusal(bytes);
        assert!(message.contains(expected), "{message}");
    }
    let absent = StateDict::open(&target.folder.path().join("absent.pth")).unwrap_err();
    assert!(matches!(&absent, WeightsError::Read { .. }), "{absent}");
    let folder = StateDict::open(target.folder.path()).unwrap_err();
    assert!(matches!(&folder, WeightsError::Read { .. }), "{folder}");
}

#[test]
fn truncation_at_every_byte_is_refused() {
    let target = Target::new();
    for name in ["old_python_2.pth", "zip_attribute.pth", "plain.safetensors"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for length in 0..whole.len() {
            assert!(target.open(&whole[..length]).is_err(), "{name} is accepted at {length} of {} bytes", whole.len());
        }
    }
}

#[test]
fn no_changed_byte_makes_a_panic_and_none_slips_past_the_checksums() {
    let target = Target::new();
    for name in ["old_python_2.pth", "zip_attribute.pth", "element_types.safetensors"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        let state = StateDict::open(&fixture(name)).unwrap();
        for position in 0..whole.len() {
            for change in [0x01, 0xff] {
                let mut bytes = whole.clone();
                bytes[position] ^= change;
                let result = target.open(&bytes);
                if let (true, Ok(read)) = (name.starts_with("zip"), &result) {
                    assert_eq!(*read, state, "{name}: a change of byte {position} is read as other values");
                }
            }
        }
    }
}

// -- The interpreter --------------------------------------------------------------------------------------------------

/// A file in the older container with this object, these keys of storages, and these bytes of storages.
fn old_file(object: &[u8], keys: &[&str], storages: &[u8]) -> Vec<u8> {
    let mut bytes =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02".to_vec();
    bytes.extend(object);
    bytes.extend(b".\x80\x02](");
    keys.iter().for_each(|key| bytes.extend(text(key)));
    bytes.extend(b"e.");
    bytes.extend(storages);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [b"U", &[text.len() as u8][..], text.as_bytes()].concat()
}

/// An integer of any size up to 16 bytes.
fn integer(number: i128) -> Vec<u8> {
    [b"\x8a\x10", &number.to_le_bytes()[..]].concat()
}

fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(".to_vec(), items.concat(), b"t".to_vec()].concat()
}

fn storage(key: &str, elements: i128) -> Vec<u8> {
    let class = b"ctorch\nFloatStorage\n".to_vec();
    [tuple(&[text("storage"), class, text(key), text("cpu"), integer(elements), b"N".to_vec()]), b"Q".to_vec()].concat()
}

fn tensor(storage: Vec<u8>, offset: i128, shape: &[i128], strides: &[i128]) -> Vec<u8> {
    let integers = |numbers: &[i128]| tuple(&numbers.iter().map(|number| integer(*number)).collect::<Vec<_>>());
    let arguments = tuple(&[storage, integer(offset), integers(shape), integers(strides)]);
    [b"ctorch._utils\n_rebuild_tensor\n".to_vec(), arguments, b"R".to_vec()].concat()
}

fn dictionary(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries.iter().flat_map(|(key, value)| [text(key), value.clone()].concat()).collect();
    [b"}(".to_vec(), entries, b"u".to_vec()].concat()
}

/// Four numbers as a storage of the older container.
fn four_numbers() -> Vec<u8> {
    [4u64.to_le_bytes().to_vec(), [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect()]
        .concat()
}

#[test]
fn the_built_file_is_sound_where_nothing_attacks() {
    let object = dictionary(&[("w", tensor(storage("7", 4), 0, &[2, 2], &[1, 2]))]);
    let state = Target::new().open(&old_file(&object, &["7"], &four_numbers())).unwrap();
    let values = roentgen_nn::weights::Values::F32(vec![1.0, 3.0, 2.0, 4.0]);
    assert_eq!(state.get("w").unwrap().values, values);
}

#[test]
fn hostile_sizes_are_refused_before_any_allocation() {
    let target = Target::new();
    let huge = i128::from(i64::MAX);
    for (elements, offset, shape, strides) in [
        (4, 0, vec![5], vec![1]),
        (4, 1, vec![4], vec![1]),
        (4, -1, vec![4], vec![1]),
        (4, 0, vec![-4], vec![1]),
        (4, 0, vec![4], vec![-1]),
        (4, 0, vec![1 << 40], vec![0]),
        (4, 0, vec![huge, huge], vec![1, 1]),
        (4, 0, vec![huge, huge, 0], vec![1, 1, 1]),
        (4, 0, vec![2, 2], vec![huge, huge]),
        (4, i128::MAX, vec![1], vec![1]),
        (4, 0, vec![4], vec![1, 1]),
        (4, 0, vec![1; 65], vec![1; 65]),
        (5, 0, vec![4], vec![1]),
        (-4, 0, vec![4], vec![1]),
        (i128::MAX, 0, vec![4], vec![1]),
        (1 << 62, 0, vec![4], vec![1]),
    ] {
        let object = dictionary(&[("w", tensor(storage("7", elements), offset, &shape, &strides))]);
        let message = target.refusal(&old_file(&object, &["7"], &four_numbers()));
        assert!(message.contains("`w`") || message.contains("65 axes"), "{message}");
    }
    for count in [5u64, u64::MAX, 1 << 62] {
        let object = dictionary(&[("w", tensor(storage("7", 4), 0, &[4], &[1]))]);
        let message = target.refusal(&old_file(&object, &["7"], &[&count.to_le_bytes()[..], &[0; 16]].concat()));
        assert!(message.contains("storage `7` claims"), "{message}");
    }
}

#[test]
fn one_storage_may_not_be_handed_out_without_end() {
    let whole = tensor(storage("7", 4), 0, &[4], &[1]);
    // Remembered once, recalled often: few bytes of file for each tensor.
    let shared = [whole, b"r\x05\0\0\0".to_vec()].concat();
    let mut entries = [text("first"), shared].concat();
    for index in 0..20_000u32 {
        entries.extend([b"U\x05", &format!("{index:05}").into_bytes()[..], b"h\x05"].concat());
    }
    let object = [b"}(".to_vec(), entries, b"u".to_vec()].concat();
    let state = Target::new().open(&old_file(&object, &["7"], &four_numbers())).unwrap();
    assert_eq!(state.tensors.len(), 20_001, "shared tensors are sound as long as they are bounded by the file");

    let numbers: Vec<u8> = [100_000u64.to_le_bytes().to_vec(), vec![0; 400_000]].concat();
    let whole = tensor(storage("7", 100_000), 0, &[100_000], &[1]);
    let mut entries = [text("first"), whole, b"r\x05\0\0\0".to_vec()].concat();
    for index in 0..20_000u32 {
        entries.extend([b"U\x05", &format!("{index:05}").into_bytes()[..], b"h\x05"].concat());
    }
    let object = [b"}(".to_vec(), entries, b"u".to_vec()].concat();
    let message = Target::new().refusal(&old_file(&object, &["7"], &numbers));
    assert!(message.contains("2000100000 values, but the file has"), "{message}");
}

#[test]
fn unknown_names_are_refused_by_their_name() {
    let target = Target::new();
    for (object, name) in [
        (&b"cos\nsystem\n(U\x02lstR"[..], "os.system"),
        (b"cbuiltins\neval\n", "builtins.eval"),
        (b"c__builtin__\nexec\n", "__builtin__.exec"),
        (b"\x8c\x08builtins\x8c\x07getattr\x93", "builtins.getattr"),
        (b"ctorch\nload\n", "torch.load"),
        (b"ctorch.hub\nload\n", "torch.hub.load"),
        (b"ctorch._utils\n_rebuild_sparse_tensor\n", "torch._utils._rebuild_sparse_tensor"),
        (b"ccollections\nOrderedDict.update\n", "collections.OrderedDict.update"),
        (b"cnumpy.core.multiarray\n_reconstruct\n", "numpy.core.multiarray._reconstruct"),
        (b"ctorch\nStorage\n", "torch.Storage"),
        (b"c\x1b[31m\nred\n", "\\u{1b}[31m.red"),
    ] {
        let message = target.refusal(&old_file(object, &[], &[]));
        assert!(message.contains(&format!("`{name}`")) && message.contains("nothing in it was executed"), "{message}");
    }
}

#[test]
fn programs_that_make_no_sense_are_refused() {
    let target = Target::new();
    for object in [
        &b""[..],                             // STOP without a value
        b"0",                                 // POP without a value
        b"K\x01K\x02(",                       // STOP above a mark
        b"K\x01(0",                           // POP through a mark
        b"t",                                 // TUPLE without a mark
        b"\x87",                              // TUPLE3 of nothing
        b"K\x01K\x02a",                       // APPEND to an integer
        b"]K\x01K\x02s",                      // SETITEM of a list
        b"}(K\x01u",                          // SETITEMS of half a pair
        b"}K\x01a",                           // APPEND to a dictionary
        b"K\x01)R",                           // a call of an integer
        b"ccollections\nOrderedDict\nK\x01R", // a call without a tuple
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
        b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x01))tR",
        b"ccollections\nOrderedDict\n](K\x01K\x02e\x85R", // items that are no pairs
        b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._tensor\n_rebuild_from_type_v2\nctorch\nTensor\n))tR",
        b"K\x01Q",                                     // a persistent id that is no tuple
        b"(U\x07storageK\x01tQ",                       // ... that names no class
        b"(U\x06moduleK\x01tQ",                        // ... of a whole model
        b"h\x09",                                      // recalls what was never stored
        b"q\x09",                                      // remembers nothing
        b"\x93",                                       // STACK_GLOBAL of nothing
        b"K\x01K\x02\x93",                             // ... of integers
        b"\x8a\x11\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", // an integer of 17 bytes
        b"X\xff\xff\xff\xff",                          // a text of 4 GiB
        b"X\0\0\0\x03",                                // a text of 48 MiB, within the limit but not within the file
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x80\x06", // a protocol to come
        b"I1\n",     // an opcode of protocol 0
        b"P1\n",
        b"i",
        b"o",
        b"\x82\x01", // a name by number (EXT1)
    ] {
        let result = target.open(&old_file(object, &[], &[]));
        assert!(matches!(result, Err(WeightsError::Malformed { .. })), "{object:02x?}: {result:?}");
    }
    // A name without an end.
    let endless = [&b"c"[..], &[b'a'; 100_000]].concat();
    assert!(target.refusal(&old_file(&endless, &[], &[])).contains("more than 1000 bytes"));
}

#[test]
fn depth_cycles_and_a_huge_memo_cost_nothing() {
    let target = Target::new();
    let sound = dictionary(&[("w", tensor(storage("7", 4), 0, &[4], &[1]))]);
    let keys: &[&str] = &["7"];

    // A list in a list, 200,000 deep, thrown away.
    let deep = [vec![b']'; 200_000], vec![b'a'; 199_999], b"0".to_vec(), sound.clone()].concat();
    assert!(target.open(&old_file(&deep, keys, &four_numbers())).is_ok());
    // The same, kept.
    let deep = [vec![b']'; 200_000], vec![b'a'; 199_999]].concat();
    assert!(target.refusal(&old_file(&deep, &[], &[])).contains("a list of 1 objects"));
    // A dictionary that is its own model, a parameter that is its own tensor, a list in itself.
    assert!(target.refusal(&old_file(b"}q\x00U\x05modelh\x00s", &[], &[])).contains("holds no state dict"));
    let own_tensor = b"}U\x01wctorch.nn.parameter\nParameter\n)\x81q\x00(h\x00N}\x88\x89tbs";
    assert!(target.refusal(&old_file(own_tensor, &[], &[])).contains("holds no state dict"));
    assert!(target.refusal(&old_file(b"]q\x00h\x00a", &[], &[])).contains("holds no state dict"));
    // The last possible place of the memo, and 100,000 of them.
    let mut memo = b"Nr\xff\xff\xff\xff".to_vec();
    (0..100_000u32).for_each(|key| memo.extend([&b"r"[..], &(key * 40_000).to_le_bytes()].concat()));
    let memo = [memo, b"0".to_vec(), sound.clone()].concat();
    assert!(target.open(&old_file(&memo, keys, &four_numbers())).is_ok());
    // More steps than any state dict takes.
    assert!(target.refusal(&old_file(&vec![b'N'; 5_000_000], &[], &[])).contains("far longer"));
    // One list of 1,000 pairs, made into a dictionary again and again.
    let pair = b"NN\x86";
    let list = [b"](", &pair.repeat(1000)[..], b"e\x85q\x01"].concat();
    let again = b"ccollections\nOrderedDict\nh\x01R0".repeat(50_000);
    assert!(target.refusal(&old_file(&[list, again].concat(), &[], &[])).contains("far longer"));
}

#[test]
fn storages_that_are_absent_or_unnamed_are_refused() {
    let target = Target::new();
    let object = dictionary(&[("w", tensor(storage("7", 4), 0, &[4], &[1]))]);
    assert!(target.refusal(&old_file(&object, &[], &four_numbers())).contains("storage `7` is not in the file"));
    assert!(target.refusal(&old_file(&object, &["8"], &four_numbers())).contains("no tensor names storage `8`"));
    let big_endian =
        b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}U\x0dlittle_endian\x89s.";
    assert!(target.refusal(big_endian).contains("big-endian"));
}

// -- The archive ------------------------------------------------------------------------------------------------------

/// An entry of an archive, as it claims to be.
struct Entry<'a> {
    name: &'a str,
    content: &'a [u8],
    claimed_bytes: u32,
    compression: u16,
}

impl<'a> Entry<'a> {
    fn plain(name: &'a str, content: &'a [u8]) -> Entry<'a> {
        Entry { name, content, claimed_bytes: content.len() as u32, compression: 0 }
    }
}

/// The checksum of zip archives, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// An archive with a directory entry for each of `entries`; entries of the same content share its bytes.
fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut directory: Vec<u8> = Vec::new();
    let mut written: Vec<(&[u8], u32, u32)> = Vec::new();
    for entry in entries {
        let earlier = written.iter().find(|(content, ..)| *content == entry.content).copied();
        let (checksum, start) = match earlier {
            Some((_, checksum, start)) => (checksum, start),
            None => (crc32(entry.content), bytes.len() as u32),
        };
        let mut fields: Vec<u8> = Vec::new();
        fields.extend([20, 0, 0, 0]);
        fields.extend(entry.compression.to_le_bytes());
        fields.extend([0; 4]);
        fields.extend(checksum.to_le_bytes());
        // What is stored is as long as it claims; what is compressed is as long as it is.
        let stored = if entry.compression == 0 { entry.claimed_bytes } else { entry.content.len() as u32 };
        fields.extend(stored.to_le_bytes());
        fields.extend(entry.claimed_bytes.to_le_bytes());
        fields.extend((entry.name.len() as u16).to_le_bytes());
        fields.extend([0; 2]);
        if earlier.is_none() {
            bytes.extend(b"PK\x03\x04");
            bytes.extend(&fields);
            bytes.extend(entry.name.bytes());
            bytes.extend(entry.content);
            written.push((entry.content, checksum, start));
        }
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(entry.name.bytes());
    }
    let (start, length) = (bytes.len() as u32, directory.len() as u32);
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([(entries.len() as u16).to_le_bytes(), (entries.len() as u16).to_le_bytes()].concat());
    bytes.extend([length.to_le_bytes(), start.to_le_bytes()].concat());
    bytes.extend([0; 2]);
    bytes
}

fn pickled(object: Vec<u8>) -> Vec<u8> {
    [b"\x80\x02".to_vec(), object, b".".to_vec()].concat()
}

#[test]
fn archives_that_are_bombs_are_refused() {
    let target = Target::new();
    let pickle = pickled(dictionary(&[("w", tensor(storage("7", 4), 0, &[4], &[1]))]));
    let numbers = &four_numbers()[8..];
    let sound = archive(&[Entry::plain("m/data.pkl", &pickle), Entry::plain("m/data/7", numbers)]);
    assert_eq!(target.open(&sound).unwrap().tensors.len(), 1, "the built archive is sound where nothing attacks");

    for (entries, expected) in [
        // A compressed entry: a few bytes for gigabytes.
        (
            vec![
                Entry::plain("m/data.pkl", &pickle),
                Entry { name: "m/data/7", content: numbers, claimed_bytes: 0xffff_fff0, compression: 8 },
            ],
            "ompress",
        ),
        (vec![Entry { name: "m/data.pkl", content: &pickle, claimed_bytes: 0xffff_fff0, compression: 8 }], "ompress"),
        // An entry longer than the file.
        (
            vec![
                Entry::plain("m/data.pkl", &pickle),
                Entry { name: "m/data/7", content: numbers, claimed_bytes: 0x7fff_fff0, compression: 0 },
            ],
            "claims 2147483632 bytes in a file of",
        ),
        // Entries and tensors that do not fit each other, or are not there.
        (vec![Entry::plain("m/data.pkl", &pickle), Entry::plain("m/data/7", &numbers[1..])], "has 15 bytes"),
        (vec![Entry::plain("m/data.pkl", &pickle)], "no entry `m/data/7`"),
        (vec![Entry::plain("m/weights", numbers)], "without `data.pkl`"),
        (vec![Entry::plain("m/data.pkl", &pickle), Entry::plain("m/constants.pkl", b"")], "TorchScript"),
    ] {
        let message = target.refusal(&archive(&entries));
        assert!(message.contains(expected), "{message}");
    }

    // Ten thousand entries on the same bytes.
    let names: Vec<String> = (0..10_000).map(|index| format!("m/data/{index}")).collect();
    let numbers = vec![0u8; 40_000];
    let tensors: Vec<(String, Vec<u8>)> = (0..10_000)
        .map(|index| (format!("w{index}"), tensor(storage(&index.to_string(), 10_000), 0, &[1], &[1])))
        .collect();
    let tensors: Vec<(&str, Vec<u8>)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    let pickle = pickled(dictionary(&tensors));
    let mut entries = vec![Entry::plain("m/data.pkl", &pickle)];
    entries.extend(names.iter().map(|name| Entry::plain(name, &numbers)));
    let message = target.refusal(&archive(&entries));
    assert!(message.contains("claim 400000000 bytes of storage"), "{message}");
}

// -- safetensors ------------------------------------------------------------------------------------------------------

fn safetensors(header: &str, body: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), body].concat()
}

#[test]
fn hostile_safetensors_are_refused() {
    let target = Target::new();
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let sound = entry("F32", "[2]", "[0,8]");
    assert!(target.open(&safetensors(&sound, &[0; 8])).is_ok());
    assert!(target.refusal(&safetensors(&sound, &[0; 7])).contains("damaged"));
    assert!(target.refusal(&safetensors(&sound, &[0; 9])).contains("damaged"));
    for header in [
        entry("F32", "[3]", "[0,8]"),
        entry("F32", "[2]", "[8,0]"),
        entry("F32", "[2]", "[8,16]"),
        entry("F32", "[2]", "[0,9223372036854775800]"),
        entry("F32", "[4611686018427387904,4]", "[0,8]"),
        entry("F32", "[18446744073709551615,18446744073709551615,0]", "[0,0]"),
        entry("F32", "[-2]", "[0,8]"),
        entry("F8_E4M3", "[8]", "[0,8]"),
        entry("C64", "[1]", "[0,8]"),
        entry("Q99", "[2]", "[0,8]"),
        entry("F32", "[2]", "[0,8]").replace("}}", r#"},"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#),
        r#"{"__metadata__":{"a":1}}"#.to_owned(),
        "{}".to_owned(),
        "{".to_owned(),
        "{\"w\":".repeat(100_000),
    ] {
        let message = target.refusal(&safetensors(&header, &[0; 8]));
        assert!(message.contains("weights"), "{message}");
    }
    for length in [9u64, 99_999_999, 100_000_001, u64::from(u32::MAX)] {
        let message = target.refusal(&[&length.to_le_bytes()[..], b"{       "].concat());
        assert!(message.contains("claims a header") || message.contains("ends too early"), "{message}");
        let metadata = read_safetensors_metadata(&target.folder.path().join("weights"));
        assert!(metadata.is_err(), "{length}: {metadata:?}");
    }
}
