//! The opcodes for numbers and texts.

use super::{Machine, Value, Values};

impl Machine<'_> {
    pub(super) fn step_number(&mut self, opcode: u8) -> Result<bool, String> {
        match opcode {
            // PROTO holds a version. FRAME holds a length that only helps buffering.
            0x80 => drop(self.input.take(1)?),
            0x95 => drop(self.input.take(8)?),
            b'N' => self.stack.push(Values::NONE),
            0x88 => self.stack.push(Values::TRUE),
            0x89 => self.stack.push(Values::FALSE),
            b'J' => {
                let number = self.input.u32()?.cast_signed();
                self.push(Value::Int(number.into()))?;
            }
            b'K' => {
                let number = self.input.byte()?;
                self.push(Value::Int(number.into()))?;
            }
            b'M' => {
                let number = self.input.u16()?;
                self.push(Value::Int(number.into()))?;
            }
            0x8a => {
                let len = usize::from(self.input.byte()?);
                self.long(len)?;
            }
            0x8b => {
                let len = self.input.u32()? as usize;
                self.long(len)?;
            }
            b'I' => match self.input.line()?.trim() {
                "00" => self.stack.push(Values::FALSE),
                "01" => self.stack.push(Values::TRUE),
                digits => self.digits(digits)?,
            },
            b'L' => {
                let digits = self.input.line()?.trim();
                self.digits(digits.strip_suffix('L').unwrap_or(digits))?;
            }
            b'G' => {
                self.input.take(8)?;
                self.stack.push(Values::OTHER);
            }
            b'F' => {
                self.input.line()?;
                self.stack.push(Values::OTHER);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    pub(super) fn step_text(&mut self, opcode: u8) -> Result<bool, String> {
        match opcode {
            b'X' => {
                let len = self.input.u32()? as usize;
                self.text(len)?;
            }
            0x8c => {
                let len = self.input.byte()?.into();
                self.text(len)?;
            }
            0x8d => {
                let len = self.input.len64()?;
                self.text(len)?;
            }
            b'V' => {
                let line = self.input.line()?;
                self.push(Value::Text(line.into()))?;
            }
            b'S' => {
                let line = self.input.line()?.trim();
                self.push(Value::Text(line.trim_matches(['\'', '"']).into()))?;
            }
            // Python 2's strings. In old files they are the names of tensors.
            b'T' => {
                let len = self.input.u32()? as usize;
                self.bytes_or_text(len)?;
            }
            b'U' => {
                let len = self.input.byte()?.into();
                self.bytes_or_text(len)?;
            }
            b'B' => {
                let len = self.input.u32()? as usize;
                self.skip(len)?;
            }
            b'C' => {
                let len = self.input.byte()?.into();
                self.skip(len)?;
            }
            0x8e | 0x96 => {
                let len = self.input.len64()?;
                self.skip(len)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn text(&mut self, len: usize) -> Result<(), String> {
        let text = self.input.text(len)?;
        self.push(Value::Text(text.into()))
    }

    fn bytes_or_text(&mut self, len: usize) -> Result<(), String> {
        let bytes = self.input.take(len)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => self.push(Value::Text(text.into())),
            Err(_) => {
                self.stack.push(Values::OTHER);
                Ok(())
            }
        }
    }

    fn skip(&mut self, len: usize) -> Result<(), String> {
        self.input.take(len)?;
        self.stack.push(Values::OTHER);
        Ok(())
    }

    /// Reads a little-endian integer in two's complement. Integers of more than 16 bytes are ignored, because
    /// no weight depends on them.
    fn long(&mut self, len: usize) -> Result<(), String> {
        let bytes = self.input.take(len)?;
        if len > 16 {
            self.stack.push(Values::OTHER);
            return Ok(());
        }
        let negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
        let mut all = [if negative { 0xff } else { 0 }; 16];
        for (whole, byte) in all.iter_mut().zip(bytes) {
            *whole = *byte;
        }
        self.push(Value::Int(i128::from_le_bytes(all)))
    }

    fn digits(&mut self, digits: &str) -> Result<(), String> {
        let number = digits.parse().map_err(|_| "its pickle is damaged".to_owned())?;
        self.push(Value::Int(number))
    }
}
