//! What a pickle can hold here, in one flat list.

use std::collections::HashMap;

use super::super::elements::Element;

/// Most values that one pickle may make. A checkpoint of a thousand layers with its optimizer makes
/// some ten thousand.
const MAX_VALUES: usize = 4 << 20;

/// A value's place in [`Values`]. Lists and dictionaries hold places, so that a pickle which puts a
/// list into itself neither leaks memory nor sends a reader round in circles of ownership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::weights) struct Id(u32);

#[derive(Debug, Clone)]
pub(in crate::weights) enum Value {
    None,
    Bool(bool),
    Int(i128),
    Text(Box<str>),
    /// A float, bytes, a set: nothing that weights depend on.
    Other,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Class(Box<Class>),
    /// An object whose code is never run and whose contents are dropped.
    Object(Box<Object>),
    Storage(Box<StorageRef>),
    Tensor(Box<TensorRef>),
    /// A tensor of a form that is not read, and why.
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

/// Where numbers lie in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::weights) struct StorageRef {
    pub(in crate::weights) key: String,
    /// `None` for an untyped storage, whose length counts bytes.
    pub(in crate::weights) element: Option<Element>,
    pub(in crate::weights) len: usize,
    /// First element, in the storage of this key, of a storage that is a view of it.
    pub(in crate::weights) start: usize,
}

/// Numbers of a storage, and how a tensor strides through them. Checked: every element lies within
/// the storage's length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::weights) struct TensorRef {
    pub(in crate::weights) key: String,
    pub(in crate::weights) element: Element,
    /// Elements from the start of the storage.
    pub(in crate::weights) offset: usize,
    pub(in crate::weights) shape: Vec<usize>,
    pub(in crate::weights) stride: Vec<usize>,
}

/// All values of one pickle.
#[derive(Debug)]
pub(in crate::weights) struct Values {
    values: Vec<Value>,
    /// Every storage that was named: a legacy file needs their sizes to find them.
    pub(in crate::weights) storages: HashMap<String, StorageRef>,
}

impl Values {
    pub(in crate::weights) const NONE: Id = Id(0);
    pub(in crate::weights) const TRUE: Id = Id(1);
    pub(in crate::weights) const FALSE: Id = Id(2);
    pub(in crate::weights) const OTHER: Id = Id(3);

    pub(in crate::weights) fn new() -> Self {
        let values = vec![Value::None, Value::Bool(true), Value::Bool(false), Value::Other];
        Self { values, storages: HashMap::new() }
    }

    pub(in crate::weights) fn add(&mut self, value: Value) -> Result<Id, String> {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("its pickle makes more than {MAX_VALUES} values"));
        }
        self.values.push(value);
        Ok(Id((self.values.len() - 1) as u32))
    }

    pub(in crate::weights) fn get(&self, id: Id) -> &Value {
        self.values.get(id.0 as usize).unwrap_or(&Value::Other)
    }

    pub(in crate::weights) fn get_mut(&mut self, id: Id) -> Option<&mut Value> {
        // The shared ones stay what they are.
        if id.0 <= Self::OTHER.0 { None } else { self.values.get_mut(id.0 as usize) }
    }

    /// The items of a tuple or a list.
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

    /// A size, a stride, a count: an integer that is not negative.
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
