//! From the objects of a pickle to tensors: finds the state dict, checks every tensor against its storage, then reads.

use super::StateTensor;
use super::error::{Fault, shortened};
use super::layout::Layout;
use super::pickle::{Graph, Value};
use super::pickle_globals::TensorRecord;
use std::collections::HashMap;
use std::rc::Rc;

/// Where checkpoints keep their state dict.
const WRAPPER_KEYS: [&str; 3] = ["state_dict", "model_state_dict", "model"];
/// How many wrappers may lie around each other.
const DEEPEST_WRAPPER: usize = 3;
/// Values handed out for each byte of the file, at most. One byte can be a value (a boolean), and tensors may share a
/// storage; beyond this the file is out to exhaust memory.
const MOST_VALUES_PER_BYTE: u64 = 4;

/// The bytes behind the tensors, by storage key.
pub(super) trait StorageSource {
    /// The length of a storage; its bytes are known to be in the file.
    fn bytes(&mut self, key: &str) -> Result<u64, Fault>;
    /// The content of a storage, of that length.
    fn read(&mut self, key: &str) -> Result<Vec<u8>, Fault>;
}

/// The tensors of the state dict in `graph`, in its order. Checks all of them before it reads the first.
pub(super) fn read(
    graph: &Graph,
    source: &mut impl StorageSource,
    file_bytes: u64,
) -> Result<Vec<(String, StateTensor)>, Fault> {
    let records =
        find_state_dict(graph, &graph.root, DEEPEST_WRAPPER).ok_or_else(|| Fault::NoStateDict(describe_root(graph)))?;

    let mut layouts = Vec::with_capacity(records.len());
    let mut tensors_of_storage: Vec<(Rc<str>, Vec<usize>)> = Vec::new();
    let mut storage_of_key: HashMap<Rc<str>, usize> = HashMap::new();
    let (mut all_values, mut all_bytes) = (0u64, 0u64);
    for (index, (name, record)) in records.iter().enumerate() {
        let storage_bytes = source.bytes(&record.storage.key)?;
        let layout = checked_layout(record, storage_bytes).map_err(|problem| Fault::tensor(name, problem))?;
        all_values = all_values.saturating_add(layout.elements as u64);
        layouts.push(layout);
        let storage = *storage_of_key.entry(record.storage.key.clone()).or_insert_with(|| {
            all_bytes = all_bytes.saturating_add(storage_bytes);
            tensors_of_storage.push((record.storage.key.clone(), Vec::new()));
            tensors_of_storage.len() - 1
        });
        tensors_of_storage[storage].1.push(index);
    }
    if all_bytes > file_bytes || all_values > file_bytes.saturating_mul(MOST_VALUES_PER_BYTE) {
        return Err(Fault::malformed(format!(
            "its tensors claim {all_bytes} bytes of storage and {all_values} values, \
             but the file has {file_bytes} bytes"
        )));
    }

    let mut tensors: Vec<Option<StateTensor>> = records.iter().map(|_| None).collect();
    for (key, indices) in tensors_of_storage {
        let storage = source.read(&key)?;
        for index in indices {
            let values = records[index].1.element.decode(&storage, &layouts[index]);
            tensors[index] = Some(StateTensor { shape: layouts[index].shape.clone(), values });
        }
    }
    // Every index is in the list of exactly one storage, so none is left out.
    Ok(records.into_iter().zip(tensors).filter_map(|((name, _), tensor)| Some((name, tensor?))).collect())
}

/// The layout of a tensor within its whole storage, in elements of its type.
fn checked_layout(record: &TensorRecord, storage_bytes: u64) -> Result<Layout, String> {
    let storage = &record.storage;
    let counted_in = storage.element.map_or(1, |element| element.bytes()) as u64;
    let claimed = u64::try_from(storage.elements).ok().and_then(|elements| elements.checked_mul(counted_in));
    if claimed != Some(storage_bytes) {
        return Err(format!(
            "its storage `{}` should have {} elements of {counted_in} bytes, but has {storage_bytes} bytes",
            shortened(&storage.key),
            storage.elements
        ));
    }
    // Bounded by the length of the file, so it fits a usize wherever the file could be held.
    let storage_elements = usize::try_from(storage_bytes / record.element.bytes() as u64)
        .map_err(|_| "its storage is larger than this machine's address space".to_owned())?;
    let Some((first, length)) = storage.view else {
        return Layout::checked(&record.shape, &record.strides, record.offset, storage_elements);
    };
    let end = first.checked_add(length).and_then(|end| usize::try_from(end).ok());
    let (Ok(first), Ok(length), Some(_)) =
        (usize::try_from(first), usize::try_from(length), end.filter(|end| *end <= storage_elements))
    else {
        return Err(format!("a view of {length} elements from {first} in a storage of {storage_elements}"));
    };
    let mut layout = Layout::checked(&record.shape, &record.strides, record.offset, length)?;
    // An empty tensor may have any offset; the others end inside the view, which ends inside the storage.
    layout.offset = if layout.elements == 0 { 0 } else { layout.offset + first };
    Ok(layout)
}

/// Named tensors directly in `value`, or in a dictionary under one of the wrapper keys, which comes first: a checkpoint
/// may hold a loose tensor beside its state dict.
fn find_state_dict<'a>(
    graph: &'a Graph,
    value: &Value,
    wrappers_left: usize,
) -> Option<Vec<(String, &'a TensorRecord)>> {
    let entries = graph.dict(value)?;
    if wrappers_left > 0 {
        for wrapper in WRAPPER_KEYS {
            let wrapped = entries.iter().rev().find(|(key, _)| matches!(key, Value::Text(key) if **key == *wrapper));
            if let Some((_, wrapped)) = wrapped
                && let Some(found) = find_state_dict(graph, wrapped, wrappers_left - 1)
            {
                return Some(found);
            }
        }
    }
    let mut found: Vec<(String, &TensorRecord)> = Vec::new();
    let mut place_of_name: HashMap<&str, usize> = HashMap::new();
    for (key, value) in entries {
        if let (Value::Text(name), Some(tensor)) = (key, graph.tensor(value)) {
            match place_of_name.get(&**name) {
                // As in Python, a key set twice keeps its place and takes the later value.
                Some(place) => found[*place].1 = tensor,
                None => {
                    place_of_name.insert(name, found.len());
                    found.push((name.to_string(), tensor));
                }
            }
        }
    }
    (!found.is_empty()).then_some(found)
}

/// What a file without a state dict holds.
fn describe_root(graph: &Graph) -> String {
    let Some(entries) = graph.dict(&graph.root) else {
        return match graph.sequence(&graph.root) {
            Some(values) => format!("a list of {} objects", values.len()),
            None if graph.tensor(&graph.root).is_some() => "a single tensor without a name".to_owned(),
            None => "an object that is no dictionary".to_owned(),
        };
    };
    let keys = entries.iter().filter_map(|(key, _)| match key {
        Value::Text(key) => Some(format!("`{}`", shortened(key))),
        _ => None,
    });
    let shown: Vec<String> = keys.take(10).collect();
    match (entries.len(), shown.len()) {
        (0, _) => "an empty dictionary".to_owned(),
        (_, 0) => "a dictionary without names".to_owned(),
        (all, shown_count) if all > shown_count => {
            format!("a dictionary of {} and {} more", shown.join(", "), all - shown_count)
        }
        _ => format!("a dictionary of {}", shown.join(", ")),
    }
}
