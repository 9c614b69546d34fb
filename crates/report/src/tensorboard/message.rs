//! The messages of an event file, in protobuf's wire format. Field numbers are those of TensorFlow's
//! `event.proto`, `summary.proto` and `tensor.proto`.

/// One tagged value: a `Summary` message with a single `Value`.
pub(super) struct Summary(Message);

impl Summary {
    pub(super) fn scalar(tag: &str, value: f32) -> Self {
        const SIMPLE_VALUE: u32 = 2;
        Self::of(Message::tagged(tag).float(SIMPLE_VALUE, value))
    }

    pub(super) fn image(tag: &str, png: &[u8], (width, height): (usize, usize)) -> Self {
        const IMAGE: u32 = 4;
        const RGB: u64 = 3;
        let image = Message::default()
            .varint(1, height as u64)
            .varint(2, width as u64)
            .varint(3, RGB)
            .bytes(4, png);
        Self::of(Message::tagged(tag).message(IMAGE, &image))
    }

    pub(super) fn text(tag: &str, text: &str) -> Self {
        const TENSOR: u32 = 8;
        const METADATA: u32 = 9;
        const DT_STRING: u64 = 7;
        // One string: a tensor of shape [1].
        let one = Message::default().varint(1, 1);
        let shape = Message::default().message(2, &one);
        let tensor =
            Message::default().varint(1, DT_STRING).message(2, &shape).bytes(8, text.as_bytes());
        let plugin = Message::default().bytes(1, b"text");
        let metadata = Message::default().message(1, &plugin);
        Self::of(Message::tagged(tag).message(METADATA, &metadata).message(TENSOR, &tensor))
    }

    fn of(value: Message) -> Self {
        Self(Message::default().message(1, &value))
    }
}

/// An `Event` of a step. `wall_time` is in seconds since 1970.
pub(super) fn event(wall_time: f64, step: usize, summary: &Summary) -> Vec<u8> {
    Message::default().double(1, wall_time).varint(2, step as u64).message(5, &summary.0).0
}

/// The first event of every file.
pub(super) fn version_event(wall_time: f64) -> Vec<u8> {
    Message::default().double(1, wall_time).bytes(3, b"brain.Event:2").0
}

/// A protobuf message: its fields in order, each after a key of its number and wire type.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn tagged(tag: &str) -> Self {
        Self::default().bytes(1, tag.as_bytes())
    }

    fn varint(self, field: u32, value: u64) -> Self {
        self.key(field, 0).raw_varint(value)
    }

    fn double(mut self, field: u32, value: f64) -> Self {
        self = self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self = self.key(field, 2).raw_varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    fn message(self, field: u32, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    fn float(mut self, field: u32, value: f32) -> Self {
        self = self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn key(self, field: u32, wire_type: u64) -> Self {
        self.raw_varint(u64::from(field) << 3 | wire_type)
    }

    /// A varint: seven bits per byte, the lowest first. The eighth bit says that more bytes follow.
    fn raw_varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of https://protobuf.dev/programming-guides/encoding/.
    #[test]
    fn fields_are_encoded_as_documented() {
        assert_eq!(Message::default().varint(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().bytes(2, b"testing").0, *b"\x12\x07testing");
        let inner = Message::default().varint(1, 150);
        assert_eq!(Message::default().message(3, &inner).0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
    }
}
