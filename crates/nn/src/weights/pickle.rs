//! A restricted reader of Python pickles: the opcodes that `torch.save` emits, and values instead of objects.
//!
//! Pickle is a small stack machine whose programs may name any Python callable. This interpreter has no callables: a
//! name is looked up in the short list of `pickle_globals.rs` or is an error. Mutable objects live in one table and are
//! referred to by index, so a pickle may be as deep or as cyclic as it likes without recursion here.
//!
//! Reference: CPython's `Lib/pickletools.py`, and PyTorch's safe unpickler (`torch/_weights_only_unpickler.py`, 2.x).

use super::error::{Fault, shortened};
use super::pickle_globals::{self, Global, StorageRecord, TensorRecord};
use std::collections::HashMap;
use std::io::Read;
use std::rc::Rc;

/// Longest pickle read. State dicts of a thousand tensors take about 100 kB.
const LIMIT_BYTES: u64 = 64 << 20;
/// Most steps, counting one for each opcode and one for each element that a call copies. Together with the size of a
/// [`Value`] this bounds the memory of the interpreter to a few hundred MB whatever the file says.
const LIMIT_STEPS: usize = 1 << 22;

/// A value on the stack. Cheap to copy: long texts are shared, compound objects are indices into [`Graph::objects`].
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Text(Rc<str>),
    Global(Global),
    Object(usize),
    /// Something that no tensor depends on: a float, a byte string, a device, a set of options.
    Inert,
}

/// A compound object.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// A list, tuple or set.
    Sequence(Vec<Value>),
    /// A dictionary; later entries replace earlier ones of the same key.
    Dict(Vec<(Value, Value)>),
    Storage(StorageRecord),
    Tensor(TensorRecord),
    /// A parameter of an early PyTorch, whose tensor arrives after its creation.
    Parameter(Option<Value>),
}

/// What a pickle describes.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) objects: Vec<Object>,
    pub(super) root: Value,
}

impl Graph {
    /// The entries, if the value is a dictionary.
    pub(super) fn dict(&self, value: &Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Object(index) => match &self.objects[*index] {
                Object::Dict(entries) => Some(entries),
                _ => None,
            },
            _ => None,
        }
    }

    /// The elements, if the value is a list or tuple.
    pub(super) fn sequence(&self, value: &Value) -> Option<&[Value]> {
        match value {
            Value::Object(index) => match &self.objects[*index] {
                Object::Sequence(values) => Some(values),
                _ => None,
            },
            _ => None,
        }
    }

    /// The tensor, if the value is one, or a parameter that holds one.
    pub(super) fn tensor(&self, value: &Value) -> Option<&TensorRecord> {
        let mut value = value;
        // Parameters do not nest in honest files; a hostile one may point at itself.
        for _ in 0..4 {
            match value {
                Value::Object(index) => match &self.objects[*index] {
                    Object::Tensor(tensor) => return Some(tensor),
                    Object::Parameter(Some(inner)) => value = inner,
                    _ => return None,
                },
                _ => return None,
            }
        }
        None
    }
}

/// Reads one pickle and leaves `reader` behind its last byte.
pub(super) fn read(reader: &mut impl Read) -> Result<Graph, Fault> {
    let mut machine = Machine {
        reader,
        bytes_read: 0,
        steps: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        objects: Vec::new(),
    };
    let root = machine.run()?;
    Ok(Graph { objects: machine.objects, root })
}

struct Machine<'a, R> {
    reader: &'a mut R,
    bytes_read: u64,
    steps: usize,
    stack: Vec<Value>,
    /// Stack heights at which an open MARK lies.
    marks: Vec<usize>,
    /// A map, since the file chooses the keys: a table would grow to whatever it names.
    memo: HashMap<u32, Value>,
    objects: Vec<Object>,
}

impl<R: Read> Machine<'_, R> {
    fn run(&mut self) -> Result<Value, Fault> {
        loop {
            self.spend(1)?;
            let [opcode] = self.bytes()?;
            match opcode {
                // PROTO and FRAME say how the pickle was written; neither changes its meaning.
                0x80 => {
                    let [protocol] = self.bytes()?;
                    if !(1..=5).contains(&protocol) {
                        return Err(self.problem(&format!("pickle protocol {protocol} is not known")));
                    }
                }
                0x95 => drop(self.bytes::<8>()?),
                b'.' => return self.pop(),

                // Plain values.
                b'N' => self.stack.push(Value::None),
                0x88 => self.stack.push(Value::Bool(true)),
                0x89 => self.stack.push(Value::Bool(false)),
                b'J' => {
                    let number = i32::from_le_bytes(self.bytes()?);
                    self.stack.push(Value::Int(number.into()));
                }
                b'K' => {
                    let [number] = self.bytes()?;
                    self.stack.push(Value::Int(number.into()));
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.bytes()?);
                    self.stack.push(Value::Int(number.into()));
                }
                0x8a => {
                    let [length] = self.bytes()?;
                    let number = self.long_integer(length.into())?;
                    self.stack.push(Value::Int(number));
                }
                b'G' => {
                    self.bytes::<8>()?;
                    self.stack.push(Value::Inert);
                }

                // Text: SHORT_BINUNICODE, BINUNICODE, BINUNICODE8; Python 2's SHORT_BINSTRING and BINSTRING.
                0x8c | b'U' => {
                    let [length] = self.bytes()?;
                    self.push_text(length.into())?;
                }
                b'X' | b'T' => {
                    let length = u32::from_le_bytes(self.bytes()?);
                    self.push_text(length.into())?;
                }
                0x8d => {
                    let length = u64::from_le_bytes(self.bytes()?);
                    self.push_text(length)?;
                }
                // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8.
                b'C' => {
                    let [length] = self.bytes()?;
                    self.skip_byte_string(length.into())?;
                }
                b'B' => {
                    let length = u32::from_le_bytes(self.bytes()?);
                    self.skip_byte_string(length.into())?;
                }
                0x8e | 0x96 => {
                    let length = u64::from_le_bytes(self.bytes()?);
                    self.skip_byte_string(length)?;
                }

                // Compound objects.
                b'}' => self.push_object(Object::Dict(Vec::new())),
                b']' | b')' | 0x8f => self.push_object(Object::Sequence(Vec::new())),
                b'(' => self.marks.push(self.stack.len()),
                b't' | b'l' | 0x91 => {
                    let values = self.pop_to_mark()?;
                    self.push_object(Object::Sequence(values));
                }
                count @ 0x85..=0x87 => {
                    let values = self.pop_many(usize::from(count - 0x84))?;
                    self.push_object(Object::Sequence(values));
                }
                b'a' => {
                    let value = self.pop()?;
                    self.extend(vec![value])?;
                }
                b'e' | 0x90 => {
                    let values = self.pop_to_mark()?;
                    self.extend(values)?;
                }
                b's' => {
                    let pair = self.pop_many(2)?;
                    self.insert(pair)?;
                }
                b'u' => {
                    let pairs = self.pop_to_mark()?;
                    self.insert(pairs)?;
                }
                b'0' => drop(self.pop()?),

                // The memo: BINPUT, LONG_BINPUT, MEMOIZE; BINGET, LONG_BINGET.
                b'q' => {
                    let [key] = self.bytes()?;
                    self.memoize(key.into())?;
                }
                b'r' => {
                    let key = u32::from_le_bytes(self.bytes()?);
                    self.memoize(key)?;
                }
                0x94 => {
                    // Cannot truncate: every entry took a step.
                    self.memoize(self.memo.len() as u32)?;
                }
                b'h' => {
                    let [key] = self.bytes()?;
                    self.recall(key.into())?;
                }
                b'j' => {
                    let key = u32::from_le_bytes(self.bytes()?);
                    self.recall(key)?;
                }

                // Names, and what is done with them: GLOBAL, STACK_GLOBAL, REDUCE, NEWOBJ, BUILD, BINPERSID.
                b'c' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    self.push_global(&module, &name)?;
                }
                0x93 => match self.pop_many(2)?.as_slice() {
                    [Value::Text(module), Value::Text(name)] => self.push_global(module, name)?,
                    _ => return Err(self.problem("a global without a name")),
                },
                b'R' | 0x81 => {
                    let arguments = self.pop()?;
                    let called = self.pop()?;
                    self.call(&called, &arguments)?;
                }
                b'b' => {
                    let state = self.pop()?;
                    self.build(&state)?;
                }
                b'Q' => {
                    let identity = self.pop()?;
                    let identity = self.some_elements(&identity)?;
                    let storage = pickle_globals::persistent_storage(&identity, &self.objects);
                    let storage = storage.map_err(|problem| self.problem(&problem))?;
                    self.push_object(Object::Storage(storage));
                }
                other => {
                    return Err(self.problem(&format!("pickle opcode 0x{other:02x} is not one that torch.save writes")));
                }
            }
        }
    }

    /// A fault that says where in the pickle it is.
    fn problem(&self, problem: &str) -> Fault {
        Fault::malformed(format!("{problem} (byte {} of the pickle)", self.bytes_read))
    }

    fn spend(&mut self, steps: usize) -> Result<(), Fault> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > LIMIT_STEPS {
            return Err(self.problem("the pickle is far longer than any state dict's"));
        }
        Ok(())
    }

    fn take_from_limit(&mut self, bytes: u64) -> Result<(), Fault> {
        match self.bytes_read.checked_add(bytes) {
            Some(total) if total <= LIMIT_BYTES => {
                self.bytes_read = total;
                Ok(())
            }
            _ => {
                Err(self.problem(&format!("{bytes} bytes more would pass the limit of {LIMIT_BYTES} for a state dict")))
            }
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        self.take_from_limit(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A byte string of a length that the file claims: memory grows with the bytes that are really there.
    fn byte_string(&mut self, length: u64) -> Result<Vec<u8>, Fault> {
        self.take_from_limit(length)?;
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(length).read_to_end(&mut bytes)?;
        if read as u64 != length {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        Ok(bytes)
    }

    fn skip_byte_string(&mut self, length: u64) -> Result<(), Fault> {
        self.byte_string(length)?;
        self.stack.push(Value::Inert);
        Ok(())
    }

    fn push_text(&mut self, length: u64) -> Result<(), Fault> {
        let text = match String::from_utf8(self.byte_string(length)?) {
            Ok(text) => text,
            // Python 2 wrote byte strings; those that are not UTF-8 are kept apart by reading them as Latin-1.
            Err(error) => error.as_bytes().iter().map(|byte| char::from(*byte)).collect(),
        };
        self.stack.push(Value::Text(text.into()));
        Ok(())
    }

    /// A little-endian two's complement number of `length` bytes.
    fn long_integer(&mut self, length: usize) -> Result<i128, Fault> {
        if length > 16 {
            return Err(self.problem(&format!("an integer of {length} bytes")));
        }
        let bytes = self.byte_string(length as u64)?;
        let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut extended = [sign; 16];
        extended[..length].copy_from_slice(&bytes);
        Ok(i128::from_le_bytes(extended))
    }

    /// Text up to the next line end, which is not part of it.
    fn line(&mut self) -> Result<String, Fault> {
        let mut line = Vec::new();
        loop {
            match self.bytes()? {
                [b'\n'] => return Ok(String::from_utf8_lossy(&line).into_owned()),
                [byte] if line.len() < 1000 => line.push(byte),
                _ => return Err(self.problem("a name of more than 1000 bytes")),
            }
        }
    }

    fn push_object(&mut self, object: Object) {
        self.stack.push(Value::Object(self.objects.len()));
        self.objects.push(object);
    }

    /// Pops `count` values, the lowest first; values below an open mark are out of reach.
    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() < floor + count {
            return Err(self.problem("the pickle takes more values than it made"));
        }
        Ok(self.stack.split_off(self.stack.len() - count))
    }

    fn pop(&mut self) -> Result<Value, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.pop() {
            Some(value) if self.stack.len() >= floor => Ok(value),
            _ => Err(self.problem("the pickle takes more values than it made")),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, Fault> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => Err(self.problem("an end without a mark")),
        }
    }

    /// The object on top of the stack, which stays there.
    fn top_object(&mut self) -> Result<&mut Object, Fault> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(Value::Object(index)) if self.stack.len() > floor => Ok(&mut self.objects[*index]),
            _ => Err(self.problem("no object to change")),
        }
    }

    fn extend(&mut self, values: Vec<Value>) -> Result<(), Fault> {
        match self.top_object()? {
            Object::Sequence(elements) => {
                elements.extend(values);
                Ok(())
            }
            _ => Err(self.problem("appends to something that is no list")),
        }
    }

    fn insert(&mut self, pairs: Vec<Value>) -> Result<(), Fault> {
        let (pairs, rest) = pairs.as_chunks::<2>();
        match self.top_object()? {
            Object::Dict(entries) if rest.is_empty() => {
                entries.extend(pairs.iter().map(|[key, value]| (key.clone(), value.clone())));
                Ok(())
            }
            _ => Err(self.problem("sets an item of something that is no dictionary")),
        }
    }

    fn memoize(&mut self, key: u32) -> Result<(), Fault> {
        let Some(value) = self.stack.last().cloned() else {
            return Err(self.problem("nothing to remember"));
        };
        self.memo.insert(key, value);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), Fault> {
        match self.memo.get(&key) {
            Some(value) => {
                self.stack.push(value.clone());
                Ok(())
            }
            None => Err(self.problem(&format!("recalls value {key}, which it never stored"))),
        }
    }

    fn push_global(&mut self, module: &str, name: &str) -> Result<(), Fault> {
        let global = Global::named(module, name)
            .ok_or_else(|| Fault::Forbidden(format!("{}.{}", shortened(module), shortened(name))))?;
        self.stack.push(Value::Global(global));
        Ok(())
    }

    /// The first elements of a tuple, as many as any known call takes.
    fn some_elements(&self, value: &Value) -> Result<Vec<Value>, Fault> {
        match value {
            Value::Object(index) => match &self.objects[*index] {
                Object::Sequence(values) => Ok(values.iter().take(pickle_globals::MOST_ARGUMENTS).cloned().collect()),
                _ => Err(self.problem("arguments that are no tuple")),
            },
            _ => Err(self.problem("arguments that are no tuple")),
        }
    }

    fn call(&mut self, called: &Value, arguments: &Value) -> Result<(), Fault> {
        let Value::Global(global) = called else {
            return Err(self.problem("calls something that has no name"));
        };
        let arguments = self.some_elements(arguments)?;
        // What a call may copy is counted before it is copied: a pickle can repeat a call with one long argument.
        let copied = arguments.iter().map(|argument| match argument {
            Value::Object(index) => match &self.objects[*index] {
                Object::Sequence(values) => values.len(),
                Object::Dict(entries) => entries.len(),
                _ => 1,
            },
            _ => 0,
        });
        self.spend(copied.sum())?;
        let made = pickle_globals::call(*global, &arguments, &self.objects);
        match made.map_err(|problem| self.problem(&problem))? {
            pickle_globals::Made::Value(value) => self.stack.push(value),
            pickle_globals::Made::Object(object) => self.push_object(object),
        }
        Ok(())
    }

    /// BUILD: gives an object its attributes. Only an early parameter has one that matters, its tensor.
    fn build(&mut self, state: &Value) -> Result<(), Fault> {
        if let Some(&Value::Object(index)) = self.stack.last()
            && let Object::Parameter(None) = &self.objects[index]
        {
            let data = self.some_elements(state)?.into_iter().next();
            self.objects[index] = Object::Parameter(data);
        }
        Ok(())
    }
}
