//! The calls that are supported: PyTorch's tensor builders and ordered dictionaries.

use super::value::{Class, Id, Object, StorageRef, TensorRef, Value, Values};
use crate::weights::elements::Element;

/// The largest number of dimensions of a tensor, as in PyTorch.
const MAX_RANK: usize = 64;

/// The result of `callee(*arguments)`.
pub(super) fn call(values: &mut Values, callee: Id, arguments: &[Id]) -> Result<Id, String> {
    if let Some(items) = arguments.first().and_then(|first| values.items(*first)) {
        values.spend(items.len())?;
    }
    let class = match values.get(callee) {
        Value::Class(class) => (**class).clone(),
        // The object was never really made, so its result is unknown.
        Value::Object(_) | Value::Other => return Ok(Values::OTHER),
        _ => return Err("its pickle is damaged".to_owned()),
    };
    let value = match (class.module.as_str(), class.name.as_str()) {
        ("collections", "OrderedDict") => Value::Dict(listed_pairs(values, arguments)),
        ("collections", "defaultdict") => Value::Dict(Vec::new()),
        ("torch", "Size") => {
            let sizes = arguments.first().and_then(|sizes| values.items(*sizes));
            Value::Tuple(sizes.unwrap_or_default().to_vec())
        }
        ("torch._utils", "_rebuild_tensor") => tensor(values, arguments, None, None),
        ("torch._utils", "_rebuild_tensor_v2") => tensor(values, arguments, None, arguments.get(6)),
        ("torch._utils", "_rebuild_tensor_v3") => {
            tensor(values, arguments, arguments.get(6), arguments.get(7))
        }
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            return Ok(arguments.first().copied().unwrap_or(Values::OTHER));
        }
        ("torch._tensor", "_rebuild_from_type_v2") => return from_type(values, arguments),
        ("torch._utils", name) if name.starts_with("_rebuild_") => unreadable(name),
        ("torch.storage", "_load_from_bytes") => Value::Unreadable(
            "is a pickle within a pickle, as `pickle.dump` writes it; write it with `torch.save`"
                .into(),
        ),
        ("copyreg" | "copy_reg", "_reconstructor") => {
            let first = arguments.first().and_then(|id| values.class(*id));
            object(first.unwrap_or(&class).clone())
        }
        _ => object(class),
    };
    values.add(value)
}

fn object(class: Class) -> Value {
    Value::Object(Box::new(Object { class, is_module: false }))
}

fn unreadable(builder: &str) -> Value {
    let kind = builder.trim_start_matches("_rebuild_");
    let what = match kind {
        "qtensor" => "is quantized; save it after `.dequantize()`".to_owned(),
        kind if kind.contains("sparse") => "is sparse; save it after `.to_dense()`".to_owned(),
        kind if kind.contains("nested") => "is a nested tensor, which is not read".to_owned(),
        kind if kind.contains("meta") => "is on the `meta` device and has no values".to_owned(),
        kind => {
            format!("is of a kind (`{kind}`) that is not read; save it as an ordinary CPU tensor")
        }
    };
    Value::Unreadable(what.into())
}

/// The pairs of `OrderedDict([(key, value), ...])`, as Python 2 wrote it.
fn listed_pairs(values: &Values, arguments: &[Id]) -> Vec<(Id, Id)> {
    let listed = arguments.first().and_then(|list| values.items(*list)).unwrap_or_default();
    let pairs = listed.iter().filter_map(|pair| match values.items(*pair) {
        Some([key, value]) => Some((*key, *value)),
        _ => None,
    });
    pairs.collect()
}

/// `_rebuild_from_type_v2(function, type, arguments, state)`: a tensor with attributes.
fn from_type(values: &mut Values, arguments: &[Id]) -> Result<Id, String> {
    let [function, kind, inner, ..] = arguments else {
        return Ok(Values::OTHER);
    };
    let is_tensor = values.class(*kind).is_some_and(|class| {
        matches!(class.name.as_str(), "Tensor" | "Parameter" | "Buffer")
            && class.module.split('.').next() == Some("torch")
    });
    let builds = values.class(*function).is_some_and(|class| {
        class.module == "torch._utils" && class.name != "_rebuild_from_type_v2"
    });
    if !is_tensor || !builds {
        let name = values.class(*kind).map_or_else(|| "?".to_owned(), Class::to_string);
        return values.add(Value::Unreadable(format!("is a `{name}`, which is not read").into()));
    }
    let inner = values.items(*inner).unwrap_or_default();
    let inner = inner[..inner.len().min(super::MAX_ARGUMENTS)].to_vec();
    call(values, *function, &inner)
}

/// `_rebuild_tensor(storage, offset, size, stride)` and its newer versions.
fn tensor(values: &Values, arguments: &[Id], dtype: Option<&Id>, metadata: Option<&Id>) -> Value {
    match checked_tensor(values, arguments, dtype, metadata) {
        Ok(tensor) => Value::Tensor(Box::new(tensor)),
        Err(reason) => Value::Unreadable(reason.into()),
    }
}

fn checked_tensor(
    values: &Values,
    arguments: &[Id],
    dtype: Option<&Id>,
    metadata: Option<&Id>,
) -> Result<TensorRef, String> {
    let [storage, offset, size, stride, ..] = arguments else {
        return Err("is described by too few values: the file is damaged".to_owned());
    };
    let storage = match values.get(*storage) {
        Value::Storage(storage) => storage,
        Value::Unreadable(reason) => return Err(reason.to_string()),
        _ => return Err("has no storage: the file is damaged".to_owned()),
    };
    if metadata.is_some_and(|id| matches!(values.get(*id), Value::Dict(pairs) if !pairs.is_empty()))
    {
        return Err("is a conjugate or negative view; save it after `.resolve_neg()`".to_owned());
    }
    let dtype = dtype.and_then(|id| values.class(*id));
    let element = match dtype {
        Some(class) => Element::of_torch(&class.name).ok_or_else(|| not_read(&class.name))?,
        None => storage.element.ok_or("has no number type: the file is damaged")?,
    };
    let sizes = |id: &Id| -> Option<Vec<usize>> {
        // One more than is possible, so that the check below finds it.
        values.items(*id)?.iter().take(MAX_RANK + 1).map(|item| values.size(*item)).collect()
    };
    let (Some(shape), Some(stride), Some(offset)) =
        (sizes(size), sizes(stride), values.size(*offset))
    else {
        return Err("has a size, stride or offset that is no count: the file is damaged".to_owned());
    };
    if shape.len() != stride.len() || shape.len() > MAX_RANK {
        return Err(format!(
            "has {} sizes and {} strides: the file is damaged",
            shape.len(),
            stride.len()
        ));
    }
    let len = if storage.element.is_none() { storage.len / element.size() } else { storage.len };
    let inside = last_element(&shape, &stride, offset).is_some_and(|last| last < len);
    if !inside && !shape.contains(&0) {
        return Err(format!(
            "of shape {shape:?} reaches beyond its storage of {len} elements: the file is damaged"
        ));
    }
    let offset = storage.start.checked_add(offset).ok_or("lies beyond its storage")?;
    Ok(TensorRef { key: storage.key.clone(), element, offset, shape, stride })
}

fn not_read(dtype: &str) -> String {
    format!("holds `{dtype}` numbers, which are not read; save it after `.float()`")
}

/// The largest element index that the view reads. `None` if it overflows.
fn last_element(shape: &[usize], stride: &[usize], offset: usize) -> Option<usize> {
    shape.iter().zip(stride).try_fold(offset, |last, (size, stride)| {
        last.checked_add(size.saturating_sub(1).checked_mul(*stride)?)
    })
}

/// The value of a persistent id: a storage in the file. In old files of whole networks it may be a class.
pub(super) fn persistent(values: &mut Values, id: Id) -> Result<Id, String> {
    let damaged =
        || "its pickle names a storage that makes no sense: the file is damaged".to_owned();
    let parts = values.items(id).ok_or_else(damaged)?;
    let parts = parts[..parts.len().min(super::MAX_ARGUMENTS)].to_vec();
    let kind = parts.first().and_then(|kind| values.text(*kind)).ok_or_else(damaged)?;
    if kind == "module" {
        return parts.get(1).copied().ok_or_else(damaged);
    }
    let [_, class, key, _, len, rest @ ..] = parts.as_slice() else {
        return Err(damaged());
    };
    let (class, key) = (values.class(*class), values.text(*key));
    let (Some(class), Some(key), Some(len)) = (class, key, values.size(*len)) else {
        return Err(damaged());
    };
    let element = match class.name.as_str() {
        "UntypedStorage" => None,
        name => match Element::of_storage(name) {
            Some(element) => Some(element),
            None => {
                let name = name.trim_end_matches("Storage");
                return values.add(Value::Unreadable(not_read(name).into()));
            }
        },
    };
    let mut storage = StorageRef { key: key.to_owned(), element, len, start: 0 };
    values.storages.entry(storage.key.clone()).or_insert_with(|| storage.clone());
    // A storage that is a view of another one gives its own key, first element and length.
    if let Some([_, start, len]) = rest.first().and_then(|view| values.items(*view)) {
        let (Some(start), Some(len)) = (values.size(*start), values.size(*len)) else {
            return Err(damaged());
        };
        if start.checked_add(len).is_none_or(|end| end > storage.len) {
            return Err(damaged());
        }
        (storage.start, storage.len) = (start, len);
    }
    values.add(Value::Storage(Box::new(storage)))
}
