//! A pickle machine that runs nothing.
//!
//! Python's machine calls everything that a pickle names. This one supports a few calls that only build data:
//! PyTorch's tensor builders and ordered dictionaries. Any other call makes an object that keeps its class and
//! nothing else. A call that only an attack needs is an error.
//!
//! candle has its own reader, but that reader silently leaves out what it does not understand.

mod builders;
mod globals;
mod input;
mod scalars;
mod value;

use std::collections::HashMap;

use input::Input;

pub(super) use value::{Class, Id, Object, TensorRef, Value, Values};

/// The largest number of arguments of a call that are looked at.
const MAX_ARGUMENTS: usize = 16;

/// The result of reading a pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) values: Values,
    pub(super) root: Id,
    /// The position of the next byte of the file.
    pub(super) end: usize,
}

/// Reads the pickle that begins at byte `start`.
pub(super) fn read(bytes: &[u8], start: usize) -> Result<Pickle, String> {
    let mut machine = Machine {
        input: Input::new(bytes, start),
        values: Values::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let root = machine.run()?;
    Ok(Pickle { values: machine.values, root, end: machine.input.position() })
}

struct Machine<'a> {
    input: Input<'a>,
    values: Values,
    stack: Vec<Id>,
    /// The heights of the stack at which the open lists, tuples and dictionaries begin.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let opcode = self.input.byte()?;
            if opcode == b'.' {
                return self.pop();
            }
            if !(self.step_number(opcode)?
                || self.step_text(opcode)?
                || self.step_container(opcode)?
                || self.step_memo(opcode)?
                || self.step_object(opcode)?)
            {
                return Err(format!(
                    "its pickle has an opcode ({opcode:#04x}) that weights do not need"
                ));
            }
        }
    }

    fn step_container(&mut self, opcode: u8) -> Result<bool, String> {
        match opcode {
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            b']' => self.push(Value::List(Vec::new()))?,
            b')' => self.push(Value::Tuple(Vec::new()))?,
            b'}' => self.push(Value::Dict(Vec::new()))?,
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Value::Tuple(items))?;
            }
            0x85..=0x87 => {
                let len = usize::from(opcode - 0x84);
                let items = self.pop_many(len)?;
                self.push(Value::Tuple(items))?;
            }
            b'd' => {
                let items = self.pop_mark()?;
                let pairs = pairs(&items)?;
                self.push(Value::Dict(pairs))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend(&items)?;
            }
            b's' => {
                let pair = self.pop_many(2)?;
                self.insert(&pair)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.insert(&items)?;
            }
            // Sets hold no weights.
            0x8f => self.stack.push(Values::OTHER),
            0x90 => drop(self.pop_mark()?),
            0x91 => {
                self.pop_mark()?;
                self.stack.push(Values::OTHER);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn step_memo(&mut self, opcode: u8) -> Result<bool, String> {
        let place = match opcode {
            b'p' | b'g' => {
                let line = self.input.line()?.trim();
                line.parse().map_err(|_| "its pickle is damaged".to_owned())?
            }
            b'q' | b'h' => self.input.byte()?.into(),
            b'r' | b'j' => self.input.u32()? as usize,
            0x94 => self.memo.len(),
            _ => return Ok(false),
        };
        if matches!(opcode, b'g' | b'h' | b'j') {
            let known = self.memo.get(&place).copied();
            self.stack.push(known.ok_or("its pickle refers to what it has not made")?);
        } else {
            let top = self.top()?;
            self.memo.insert(place, top);
        }
        Ok(true)
    }

    fn step_object(&mut self, opcode: u8) -> Result<bool, String> {
        match opcode {
            b'c' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let pair = self.pop_many(2)?;
                let names: Vec<String> =
                    pair.iter().filter_map(|id| self.values.text(*id).map(str::to_owned)).collect();
                let [module, name] = names.as_slice() else {
                    return Err("its pickle is damaged".to_owned());
                };
                self.global(module, name)?;
            }
            // The opcodes of calls: REDUCE, NEWOBJ, NEWOBJ_EX, INST, OBJ.
            b'R' | 0x81 => {
                let pair = self.pop_many(2)?;
                self.call(&pair)?;
            }
            0x92 => {
                let three = self.pop_many(3)?;
                self.call(&three)?;
            }
            b'i' => {
                let (module, name) = (self.input.line()?, self.input.line()?);
                let arguments = self.pop_mark()?;
                let arguments = self.values.add(Value::Tuple(arguments))?;
                self.global(module, name)?;
                let class = self.pop()?;
                self.call(&[class, arguments])?;
            }
            b'o' => {
                let mut items = self.pop_mark()?.into_iter();
                let class = items.next().ok_or("its pickle is damaged")?;
                let arguments = self.values.add(Value::Tuple(items.collect()))?;
                self.call(&[class, arguments])?;
            }
            b'b' => {
                let state = self.pop()?;
                let object = self.top()?;
                self.build(object, state)?;
            }
            b'Q' => {
                let id = self.pop()?;
                let stored = builders::persistent(&mut self.values, id)?;
                self.stack.push(stored);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        globals::check(module, name)?;
        let class = Class { module: module.to_owned(), name: name.to_owned() };
        self.push(Value::Class(Box::new(class)))
    }

    /// Makes a call. `parts` holds the callee, its arguments and possibly named arguments.
    fn call(&mut self, parts: &[Id]) -> Result<(), String> {
        let [callee, arguments, ..] = parts else {
            return Err("its pickle is damaged".to_owned());
        };
        let arguments = self.values.items(*arguments).unwrap_or_default();
        // No builder has so many. A list of millions may be the argument of any number of calls.
        let arguments = arguments[..arguments.len().min(MAX_ARGUMENTS)].to_vec();
        let made = builders::call(&mut self.values, *callee, &arguments)?;
        self.stack.push(made);
        Ok(())
    }

    /// Sets the state of an object. The state is dropped, except for the entry that distinguishes a network
    /// from other objects.
    fn build(&mut self, object: Id, state: Id) -> Result<(), String> {
        if !matches!(self.values.get(object), Value::Object(_)) {
            return Ok(());
        }
        if let Value::Dict(pairs) = self.values.get(state) {
            self.values.spend(pairs.len())?;
        }
        let mut names = match self.values.get(state) {
            Value::Dict(pairs) => pairs.iter().filter_map(|(key, _)| self.values.text(*key)),
            _ => return Ok(()),
        };
        let has_modules = names.any(|name| name == "_modules");
        if let Some(Value::Object(object)) = self.values.get_mut(object) {
            object.is_module |= has_modules;
        }
        Ok(())
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        let id = self.values.add(value)?;
        self.stack.push(id);
        Ok(())
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| "its pickle is damaged".to_owned())
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(|| "its pickle is damaged".to_owned())
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>, String> {
        let start = self.stack.len().checked_sub(count).ok_or("its pickle is damaged")?;
        Ok(self.stack.split_off(start))
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len());
        Ok(self.stack.split_off(mark.ok_or("its pickle is damaged")?))
    }

    /// Appends to the list on top of the stack. For another container, such as a deque, the items are dropped.
    fn extend(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        if let Some(Value::List(list)) = self.values.get_mut(top) {
            list.extend_from_slice(items);
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> Result<(), String> {
        let pairs = pairs(items)?;
        let top = self.top()?;
        if let Some(Value::Dict(dict)) = self.values.get_mut(top) {
            dict.extend(pairs);
        }
        Ok(())
    }
}

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    if rest.is_empty() {
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    } else {
        Err("its pickle is damaged".to_owned())
    }
}
