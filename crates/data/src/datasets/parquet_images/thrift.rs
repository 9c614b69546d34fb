//! Walks over structs of Thrift's compact protocol as the Parquet reader will, before it does.
//!
//! That reader passes over what it does not know. A list of truth values has no bytes there, so that a field of six bytes keeps
//! it busy for seconds, and a file of some kilobytes for hours. Here such a field is refused. The reader also believes that the
//! fields it knows have the types of the format. Otherwise bytes that are a text here could be a list there. So the types are
//! checked with [`Shape`].

use std::io::{self, BufRead, Read, Seek};

use parquet::errors::{ParquetError, Result};

/// How deep values nest. The Parquet reader has the same bound.
const MAX_DEPTH: usize = 64;

/// What a value is in the format.
#[derive(Debug)]
pub(super) enum Shape {
    Truth,
    Byte,
    /// Of 16, 32 or 64 bits, or an enumeration.
    Number,
    Double,
    /// Bytes or a text.
    Bytes,
    List(&'static Self),
    /// The fields with the numbers 1, 2, ... A field with another number is passed over.
    Struct(&'static [Self]),
    /// What the Parquet reader passes over.
    Unused,
}

impl Shape {
    /// Whether it is written as a value of this kind.
    fn is(&self, kind: u8) -> bool {
        match self {
            Self::Truth => matches!(kind, 1 | 2),
            Self::Byte => kind == 3,
            Self::Number => matches!(kind, 4..=6),
            Self::Double => kind == 7,
            Self::Bytes => kind == 8,
            Self::List(_) => kind == 9,
            Self::Struct(_) => kind == 12,
            Self::Unused => true,
        }
    }
}

/// Bytes that are read once, from the first to the last.
pub(super) struct Walk<R> {
    reader: R,
    /// What it is, for messages.
    what: &'static str,
    read: u64,
    end: u64,
}

impl<R: BufRead + Seek> Walk<R> {
    /// Begins where the reader stands. At most `length` bytes are read.
    pub(super) fn new(reader: R, what: &'static str, length: u64) -> Self {
        Self { reader, what, read: 0, end: length }
    }

    /// How many bytes were read or passed over.
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    pub(super) fn damaged(&self) -> ParquetError {
        ParquetError::General(format!("{} is damaged", self.what))
    }

    fn byte(&mut self) -> Result<u8> {
        if self.read >= self.end {
            return Err(self.damaged());
        }
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        self.read += 1;
        Ok(byte[0])
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<()> {
        let read = self.read.checked_add(count).filter(|&read| read <= self.end);
        self.read = read.ok_or_else(|| self.damaged())?;
        let step = i64::try_from(count).map_err(|_| self.damaged())?;
        self.reader.seek_relative(step)?;
        Ok(())
    }

    /// Gives the next bytes to a function, and passes over those that it leaves.
    pub(super) fn with<T>(
        &mut self,
        count: u64,
        read: impl FnOnce(&mut dyn Read) -> T,
    ) -> Result<T> {
        if count > self.end - self.read {
            return Err(self.damaged());
        }
        let mut bytes = self.reader.by_ref().take(count);
        let result = read(&mut bytes);
        io::copy(&mut bytes, &mut io::sink())?;
        self.read += count;
        Ok(result)
    }

    /// A number without a sign.
    fn number(&mut self) -> Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.damaged())
    }

    /// A size, which must not be negative. Signs are the lowest bit.
    pub(super) fn size(&mut self) -> Result<u64> {
        let number = self.number()?;
        if number & 1 == 0 { Ok(number >> 1) } else { Err(self.damaged()) }
    }

    /// The kind of the next field of a struct, and its number, after the field `last`. `None` at the end of the struct.
    fn field(&mut self, last: i16) -> Result<Option<(u8, i16)>> {
        let byte = self.byte()?;
        let (step, kind) = (byte >> 4, byte & 15);
        if kind == 0 {
            return Ok(None);
        }
        let id = match step {
            0 => {
                let number = self.number()?;
                Some(((number >> 1) as i64 ^ -((number & 1) as i64)) as i16)
            }
            _ => last.checked_add(i16::from(step)),
        };
        Ok(Some((kind, id.ok_or_else(|| self.damaged())?)))
    }

    /// Gives the kind and number of each field of a struct to a function, which reads its value.
    pub(super) fn each_field(
        &mut self,
        mut read: impl FnMut(&mut Self, (u8, i16)) -> Result<()>,
    ) -> Result<()> {
        let mut last = 0;
        while let Some(field) = self.field(last)? {
            read(self, field)?;
            last = field.1;
        }
        Ok(())
    }

    /// Passes over the fields of a struct.
    pub(super) fn fields(&mut self, fields: &'static [Shape]) -> Result<()> {
        self.fields_within(fields, MAX_DEPTH)
    }

    fn fields_within(&mut self, fields: &'static [Shape], depth: usize) -> Result<()> {
        self.each_field(|walk, (kind, id)| walk.value_within(shape(fields, id), kind, depth))
    }

    /// Passes over the value of a field.
    pub(super) fn value(&mut self, fields: &'static [Shape], (kind, id): (u8, i16)) -> Result<()> {
        self.value_within(shape(fields, id), kind, MAX_DEPTH)
    }

    fn value_within(&mut self, shape: &'static Shape, kind: u8, depth: usize) -> Result<()> {
        if !shape.is(kind) || depth == 0 {
            return Err(self.damaged());
        }
        match kind {
            // The value of a field is in its kind. In lists it is a byte, which the Parquet reader does not pass over.
            1 | 2 => Ok(()),
            3 => self.skip(1),
            4..=6 => self.number().map(|_| ()),
            7 => self.skip(8),
            8 => {
                let length = self.number()?;
                self.skip(length)
            }
            // Lists and sets.
            9 | 10 => {
                let head = self.byte()?;
                let (kind, mut count) = (head & 15, u64::from(head >> 4));
                if count == 15 {
                    count = self.number()?;
                }
                let shape = if let Shape::List(shape) = shape { shape } else { &Shape::Unused };
                if count > 0 && matches!(kind, 1 | 2) {
                    return Err(self.truths());
                }
                (0..count).try_for_each(|_| self.value_within(shape, kind, depth - 1))
            }
            // Maps, of which the format has none.
            11 => {
                let count = self.number()?;
                let kinds = if count > 0 { self.byte()? } else { 0 };
                let (key, value) = (kinds >> 4, kinds & 15);
                if count > 0 && matches!(key, 1 | 2) && matches!(value, 1 | 2) {
                    return Err(self.truths());
                }
                (0..count).try_for_each(|_| {
                    self.value_within(&Shape::Unused, key, depth - 1)?;
                    self.value_within(&Shape::Unused, value, depth - 1)
                })
            }
            12 => {
                let fields = if let Shape::Struct(fields) = shape { fields } else { &[][..] };
                self.fields_within(fields, depth - 1)
            }
            13 => self.skip(16),
            _ => Err(self.damaged()),
        }
    }

    fn truths(&self) -> ParquetError {
        let what = self.what;
        ParquetError::General(format!("{what} has a list of truth values, which no file needs"))
    }
}

/// What the field `id` of a struct is.
fn shape(fields: &'static [Shape], id: i16) -> &'static Shape {
    let place = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
    place.and_then(|place| fields.get(place)).unwrap_or(&Shape::Unused)
}
