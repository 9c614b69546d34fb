//! The values of a pickle, in one flat list.

use std::collections::HashMap;

use super::super::elements::Element;

/// The largest number of values that one pickle may make. A checkpoint of a thousand layers with its optimizer
/// makes some ten thousand.
const MAX_VALUES: usize = 4 << 20;

/// The largest number of items that the calls of one pickle may copy or look at. A call costs a pickle three bytes, and its
/// argument may be the same long list again and again, so time and memory would grow with the square of the file.
const MAX_COPIED: usize = 16 << 20;

/// The index of a value in [`Values`]. Lists and dictionaries hold indices. So a pickle that puts a list into
/// itself creates no cycle of ownership and leaks no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::weights) struct Id(u32);

#[derive(Debug, Clone)]
pub(in crate::weights) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Text(Box<str>),
    /// A float, bytes or a set. Weights do not depend on these.
    Other,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Class(Box<Class>),
    /// An object. Its code is never run and its contents are dropped.
    Object(Box<Object>),
    Storage(Box<StorageRef>),
    Tensor(Box<TensorRef>),
    /// A tensor in an unsupported form, and the reason.
    Unreadable(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::weights) struct Class {
    pub(in crate::weights) module: String,
    pub(in crate::weights) name: String,
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

#[derive(Debug, Clone)]
pub(in crate::weights) struct Object {
    pub(in crate::weights) class: Class,
    /// Whether its state has the entries of a `torch.nn.Module`.
    pub(in crate::weights) is_module: bool,
}

/// The place of numbers in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::weights) struct StorageRef {
    pub(in crate::weights) key: String,
    /// The number type. `None` for an untyped storage, whose `len` counts bytes.
    pub(in crate::weights) element: Option<Element>,
    pub(in crate::weights) len: usize,
    /// For a storage that is a view: the index of its first element in the storage of this key. Otherwise 0.
    pub(in crate::weights) start: usize,
}

/// A tensor as a strided view of a storage. It was checked that every element lies within the storage's length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::weights) struct TensorRef {
    pub(in crate::weights) key: String,
    pub(in crate::weights) element: Element,
    /// Number of elements from the start of the storage.
    pub(in crate::weights) offset: usize,
    pub(in crate::weights) shape: Vec<usize>,
    pub(in crate::weights) stride: Vec<usize>,
}

/// All values of one pickle.
#[derive(Debug)]
pub(in crate::weights) struct Values {
    values: Vec<Value>,
    copied: usize,
    /// Every storage that was named. A legacy file needs their sizes to find their places.
    pub(in crate::weights) storages: HashMap<String, StorageRef>,
}

impl Values {
    pub(in crate::weights) const NONE: Id = Id(0);
    pub(in crate::weights) const TRUE: Id = Id(1);
    pub(in crate::weights) const FALSE: Id = Id(2);
    pub(in crate::weights) const OTHER: Id = Id(3);

    pub(in crate::weights) fn new() -> Self {
        let values = vec![Value::None, Value::Bool(true), Value::Bool(false), Value::Other];
        Self { values, copied: 0, storages: HashMap::new() }
    }

    pub(in crate::weights) fn add(&mut self, value: Value) -> Result<Id, String> {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("its pickle makes more than {MAX_VALUES} values"));
        }
        self.values.push(value);
        Ok(Id((self.values.len() - 1) as u32))
    }

    /// Counts items that a call copies or looks at.
    pub(in crate::weights) fn spend(&mut self, items: usize) -> Result<(), String> {
        self.copied = self.copied.saturating_add(items);
        if self.copied > MAX_COPIED {
            return Err(format!("its pickle's calls take more than {MAX_COPIED} items"));
        }
        Ok(())
    }

    pub(in crate::weights) fn get(&self, id: Id) -> &Value {
        self.values.get(id.0 as usize).unwrap_or(&Value::Other)
    }

    pub(in crate::weights) fn get_mut(&mut self, id: Id) -> Option<&mut Value> {
        // The shared values never change.
        if id.0 <= Self::OTHER.0 { None } else { self.values.get_mut(id.0 as usize) }
    }

    /// The items of a tuple or a list. `None` for another value.
    pub(in crate::weights) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Value::Tuple(items) | Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub(in crate::weights) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A non-negative integer such as a size, a stride or a count. `None` for another value.
    pub(in crate::weights) fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Value::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    pub(in crate::weights) fn class(&self, id: Id) -> Option<&Class> {
        match self.get(id) {
            Value::Class(class) => Some(class),
            _ => None,
        }
    }
}
