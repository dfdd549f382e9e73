//! The Python names that a state dict may contain, and what each of them makes. There are no others.

use super::element::ElementType;
use super::pickle::{Object, Value};
use std::rc::Rc;

/// No known call looks at more arguments than this (`_rebuild_tensor_v3` takes eight).
pub(super) const MOST_ARGUMENTS: usize = 8;
/// PyTorch's own operators stop at 64 axes at the latest.
const MOST_AXES: usize = 64;

/// A known Python class, function or constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`, `collections.defaultdict`, `dict`.
    Dict(DictKind),
    /// Classes of which instances occur beside state dicts, in options and schedules, and no tensor depends on.
    Inert,
    /// `torch.Size`.
    Size,
    /// `torch._utils._rebuild_tensor`, `_rebuild_tensor_v2`: the element type is the storage's.
    RebuildTensor,
    /// `torch._utils._rebuild_tensor_v3`: the element type is an argument.
    RebuildTensorV3,
    /// `torch._utils._rebuild_parameter`, with and without further state.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: a call of a rebuild function for a tensor with attributes.
    RebuildFromType,
    /// `torch.nn.parameter.Parameter`.
    Parameter,
    /// `torch.Tensor`, as an argument of `_rebuild_from_type_v2`.
    Tensor,
    /// A storage class; `None` for the untyped one.
    Storage(Option<ElementType>),
    /// `torch.float32` and so on.
    ElementType(ElementType),
}

/// How a dictionary class is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DictKind {
    /// With its items or nothing.
    Items,
    /// With the factory of its default values: what it holds comes later.
    DefaultFactory,
}

impl Global {
    /// The known global of this name.
    pub(super) fn named(module: &str, name: &str) -> Option<Global> {
        // Python 2 had other names for the same modules.
        let module = if module == "__builtin__" { "builtins" } else { module };
        Some(match (module, name) {
            ("collections", "OrderedDict") | ("builtins", "dict") => Global::Dict(DictKind::Items),
            ("collections", "defaultdict") => Global::Dict(DictKind::DefaultFactory),
            ("collections", "Counter") | ("builtins", "set") | ("torch", "device") | ("argparse", "Namespace") => {
                Global::Inert
            }
            ("torch", "Size") => Global::Size,
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTensorV3,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
            ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
            ("torch.nn.parameter", "Parameter") => Global::Parameter,
            ("torch", "Tensor") => Global::Tensor,
            ("torch.storage", "UntypedStorage" | "TypedStorage" | "_UntypedStorage" | "_TypedStorage") => {
                Global::Storage(None)
            }
            ("torch" | "torch.cuda", name) => match name.strip_suffix("Storage") {
                Some("Untyped") => Global::Storage(None),
                Some(class) => Global::Storage(Some(storage_class(class)?)),
                None => Global::ElementType(element_type(name)?),
            },
            _ => return None,
        })
    }
}

fn storage_class(name: &str) -> Option<ElementType> {
    Some(match name {
        "Half" => ElementType::F16,
        "BFloat16" => ElementType::BF16,
        "Float" => ElementType::F32,
        "Double" => ElementType::F64,
        "Bool" => ElementType::Bool,
        "Byte" => ElementType::U8,
        "Char" => ElementType::I8,
        "Short" => ElementType::I16,
        "Int" => ElementType::I32,
        "Long" => ElementType::I64,
        _ => return None,
    })
}

fn element_type(name: &str) -> Option<ElementType> {
    Some(match name {
        "float16" => ElementType::F16,
        "bfloat16" => ElementType::BF16,
        "float32" => ElementType::F32,
        "float64" => ElementType::F64,
        "bool" => ElementType::Bool,
        "uint8" => ElementType::U8,
        "int8" => ElementType::I8,
        "uint16" => ElementType::U16,
        "int16" => ElementType::I16,
        "uint32" => ElementType::U32,
        "int32" => ElementType::I32,
        "int64" => ElementType::I64,
        _ => return None,
    })
}

/// A storage by name: where its bytes are is the container's affair.
#[derive(Clone, Debug)]
pub(super) struct StorageRecord {
    /// The key under which the container has the bytes.
    pub(super) key: Rc<str>,
    /// The element type; `None` for an untyped storage, which counts in bytes.
    pub(super) element: Option<ElementType>,
    /// Elements of the whole storage, as the pickle claims.
    pub(super) elements: i128,
    /// A part of the storage (old format only): first element and number of elements.
    pub(super) view: Option<(i128, i128)>,
}

/// A tensor as the pickle describes it; nothing of it is checked yet.
#[derive(Clone, Debug)]
pub(super) struct TensorRecord {
    pub(super) storage: StorageRecord,
    pub(super) element: ElementType,
    pub(super) offset: i128,
    pub(super) shape: Vec<i128>,
    pub(super) strides: Vec<i128>,
}

/// What a call gives.
pub(super) enum Made {
    /// A value that exists.
    Value(Value),
    /// A new object.
    Object(Object),
}

/// Carries out what REDUCE or NEWOBJ says of a known global. The error is the problem in words.
pub(super) fn call(global: Global, arguments: &[Value], objects: &[Object]) -> Result<Made, String> {
    Ok(match (global, arguments) {
        (Global::Dict(DictKind::DefaultFactory), _) | (Global::Dict(_), []) => Made::Object(Object::Dict(Vec::new())),
        (Global::Dict(DictKind::Items), [items, ..]) => Made::Object(Object::Dict(pairs(items, objects)?)),
        (Global::Inert, _) => Made::Value(Value::Inert),
        (Global::Size, [sizes, ..]) => Made::Value(sizes.clone()),
        (Global::RebuildTensor, [storage, offset, shape, strides, rest @ ..]) => {
            let storage = storage_of(storage, objects)?;
            let element = storage.element.ok_or("a tensor on an untyped storage names no element type")?;
            refuse_lazy_bits(rest.get(2), objects)?;
            Made::Object(Object::Tensor(tensor(storage, element, [offset, shape, strides], objects)?))
        }
        (
            Global::RebuildTensorV3,
            [storage, offset, shape, strides, _, _, Value::Global(Global::ElementType(element)), rest @ ..],
        ) => {
            refuse_lazy_bits(rest.first(), objects)?;
            let storage = storage_of(storage, objects)?;
            Made::Object(Object::Tensor(tensor(storage, *element, [offset, shape, strides], objects)?))
        }
        (Global::RebuildParameter, [data, ..]) => Made::Value(data.clone()),
        (
            Global::RebuildFromType,
            [
                Value::Global(function @ (Global::RebuildTensor | Global::RebuildTensorV3 | Global::RebuildParameter)),
                Value::Global(Global::Tensor | Global::Parameter),
                inner,
                ..,
            ],
        ) => {
            let inner = sequence(inner, objects).ok_or("a rebuild call without arguments")?;
            return call(*function, &inner[..inner.len().min(MOST_ARGUMENTS)], objects);
        }
        (Global::Parameter, []) => Made::Object(Object::Parameter(None)),
        (Global::Parameter, [data, ..]) => Made::Value(data.clone()),
        _ => return Err(format!("a call of {global:?} with {} arguments that do not belong to it", arguments.len())),
    })
}

/// The storage that a persistent id names: `("storage", class, key, location, elements, view)`.
pub(super) fn persistent_storage(identity: &[Value], objects: &[Object]) -> Result<StorageRecord, String> {
    match identity {
        [
            Value::Text(kind),
            Value::Global(Global::Storage(element)),
            Value::Text(key),
            _,
            Value::Int(elements),
            rest @ ..,
        ] if &**kind == "storage" => {
            let view = match rest.first() {
                None | Some(Value::None) => None,
                Some(view) => match sequence(view, objects) {
                    Some([_, Value::Int(offset), Value::Int(length)]) => Some((*offset, *length)),
                    _ => return Err("a view of a storage that is no triple".to_owned()),
                },
            };
            Ok(StorageRecord { key: key.clone(), element: *element, elements: *elements, view })
        }
        [Value::Text(kind), ..] if &**kind == "module" => {
            Err("a whole model was pickled, with its code; save `model.state_dict()` instead".to_owned())
        }
        _ => Err("a persistent id that names no storage".to_owned()),
    }
}

fn tensor(
    storage: StorageRecord,
    element: ElementType,
    [offset, shape, strides]: [&Value; 3],
    objects: &[Object],
) -> Result<TensorRecord, String> {
    let Value::Int(offset) = offset else {
        return Err("a tensor without an offset".to_owned());
    };
    Ok(TensorRecord {
        storage,
        element,
        offset: *offset,
        shape: integers(shape, objects)?,
        strides: integers(strides, objects)?,
    })
}

fn sequence<'a>(value: &Value, objects: &'a [Object]) -> Option<&'a [Value]> {
    match value {
        Value::Object(index) => match &objects[*index] {
            Object::Sequence(values) => Some(values),
            _ => None,
        },
        _ => None,
    }
}

fn integers(value: &Value, objects: &[Object]) -> Result<Vec<i128>, String> {
    let values = sequence(value, objects).ok_or("a tensor without sizes and strides")?;
    if values.len() > MOST_AXES {
        return Err(format!("a tensor of {} axes", values.len()));
    }
    let integer = |value: &Value| match value {
        Value::Int(number) => Ok(*number),
        _ => Err("a tensor with a size or stride that is no integer".to_owned()),
    };
    values.iter().map(integer).collect()
}

fn storage_of(value: &Value, objects: &[Object]) -> Result<StorageRecord, String> {
    match value {
        Value::Object(index) => match &objects[*index] {
            Object::Storage(storage) => Ok(storage.clone()),
            _ => Err("a tensor without a storage".to_owned()),
        },
        _ => Err("a tensor without a storage".to_owned()),
    }
}

/// Python 2 hands an ordered dictionary its items as a list of `[key, value]` lists.
fn pairs(items: &Value, objects: &[Object]) -> Result<Vec<(Value, Value)>, String> {
    if let Value::Object(index) = items
        && let Object::Dict(entries) = &objects[*index]
    {
        return Ok(entries.clone());
    }
    let items = sequence(items, objects).ok_or("a dictionary made of something that is no list")?;
    let pair = |item: &Value| match sequence(item, objects) {
        Some([key, value]) => Ok((key.clone(), value.clone())),
        _ => Err("a dictionary entry that is no pair".to_owned()),
    };
    items.iter().map(pair).collect()
}

/// PyTorch marks a tensor whose conjugation or sign change is still to be done. The values on disk are then others
/// than those meant, so such a tensor is refused.
fn refuse_lazy_bits(metadata: Option<&Value>, objects: &[Object]) -> Result<(), String> {
    if let Some(Value::Object(index)) = metadata
        && let Object::Dict(entries) = &objects[*index]
        && entries.iter().any(|(_, value)| matches!(value, Value::Bool(true)))
    {
        return Err("a tensor saved with its sign change pending; save it after `.resolve_neg()`".to_owned());
    }
    Ok(())
}
