//! Event files, read back by a parser that shares no code with the writer.

use candle_vision_report::{EventWriter, TensorBoard};
use candle_vision_train::{
    BatchRecord, Callback, Control, EpochRecord, Event, History, StopReason,
};

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// What a value of a summary holds.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Scalar(f32),
    Image { height: u64, width: u64, png: Vec<u8> },
    Text(String),
}

/// Step, tag and value of each event, and the file's version.
#[derive(Debug, Default)]
struct EventFile {
    version: String,
    values: Vec<(u64, String, Value)>,
}

impl EventFile {
    fn read(path: &std::path::Path) -> Self {
        let bytes = std::fs::read(path).expect("the event file is readable");
        let mut file = Self::default();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (length, after) = rest.split_at(8);
            let size = u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize;
            assert_eq!(after[..4], masked(length).to_le_bytes(), "checksum of the length");
            let (message, after) = after[4..].split_at(size);
            assert_eq!(after[..4], masked(message).to_le_bytes(), "checksum of the message");
            file.add(message);
            rest = &after[4..];
        }
        file
    }

    fn add(&mut self, message: &[u8]) {
        let fields = fields(message);
        if let Some(version) = find(&fields, 3) {
            self.version = text(version);
            return;
        }
        let step = find(&fields, 2).map_or(0, varint);
        let summary = fields_of(&fields, 5);
        let value = fields_of(&summary, 1);
        let tag = text(find(&value, 1).expect("a tag"));
        self.values.push((step, tag, content(&value)));
    }

    fn scalars(&self, tag: &str) -> Vec<(u64, f32)> {
        let scalar = |(step, found, value): &(u64, String, Value)| match value {
            Value::Scalar(value) if found == tag => Some((*step, *value)),
            _ => None,
        };
        self.values.iter().filter_map(scalar).collect()
    }
}

fn content(value: &[(u64, Field)]) -> Value {
    if let Some(Field::Four(bytes)) = find(value, 2) {
        return Value::Scalar(f32::from_le_bytes(*bytes));
    }
    if find(value, 4).is_some() {
        let image = fields_of(value, 4);
        let number = |field| varint(find(&image, field).expect("a number"));
        let Some(Field::Bytes(png)) = find(&image, 4) else { panic!("an image has bytes") };
        return Value::Image { height: number(1), width: number(2), png: png.clone() };
    }
    let plugin = fields_of(&fields_of(value, 9), 1);
    assert_eq!(text(find(&plugin, 1).expect("a plugin")), "text");
    let tensor = fields_of(value, 8);
    assert_eq!(varint(find(&tensor, 1).expect("a type")), 7, "DT_STRING");
    Value::Text(text(find(&tensor, 8).expect("a string")))
}

#[derive(Debug, Clone)]
enum Field {
    Varint(u64),
    Eight,
    Bytes(Vec<u8>),
    Four([u8; 4]),
}

fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Varint(take_varint(&mut bytes)),
            1 => {
                bytes = &bytes[8..];
                Field::Eight
            }
            2 => {
                let length = take_varint(&mut bytes) as usize;
                let (content, after) = bytes.split_at(length);
                bytes = after;
                Field::Bytes(content.to_vec())
            }
            5 => {
                let (content, after) = bytes.split_at(4);
                bytes = after;
                Field::Four(content.try_into().expect("4 bytes"))
            }
            other => panic!("wire type {other}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
    }
    panic!("a varint has at most ten bytes")
}

fn find(fields: &[(u64, Field)], number: u64) -> Option<&Field> {
    fields.iter().find(|(found, _)| *found == number).map(|(_, field)| field)
}

fn fields_of(message: &[(u64, Field)], number: u64) -> Vec<(u64, Field)> {
    match find(message, number) {
        Some(Field::Bytes(bytes)) => fields(bytes),
        other => panic!("field {number} is no message: {other:?}"),
    }
}

fn varint(field: &Field) -> u64 {
    let Field::Varint(value) = field else { panic!("{field:?} is no integer") };
    *value
}

fn text(field: &Field) -> String {
    let Field::Bytes(bytes) = field else { panic!("{field:?} is no text") };
    String::from_utf8(bytes.clone()).expect("UTF-8")
}

/// CRC-32C bit by bit (reflected polynomial 0x82F63B78), masked as TensorFlow does.
fn masked(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[test]
fn what_is_written_is_read_back() -> TestResult {
    let folder = tempfile::tempdir()?;
    let mut events = EventWriter::create(folder.path().join("runs/001"))?;
    events.scalar("loss", 300, -0.25)?;
    events.scalar("odd", usize::MAX, f64::NAN)?;
    events.image("map", 2, b"PNG bytes", (640, 300))?;
    events.text("settings", 0, "lr = 1e-3\nseed = 0, ü")?;
    events.flush()?;

    let file = EventFile::read(events.path());
    assert_eq!(file.version, "brain.Event:2");
    assert_eq!(file.scalars("loss"), [(300, -0.25)]);
    assert!(matches!(file.scalars("odd")[..], [(u64::MAX, value)] if value.is_nan()));
    let image = Value::Image { height: 300, width: 640, png: b"PNG bytes".to_vec() };
    assert_eq!(file.values[2], (2, "map".to_owned(), image));
    let text = Value::Text("lr = 1e-3\nseed = 0, ü".to_owned());
    assert_eq!(file.values[3], (0, "settings".to_owned(), text));
    Ok(())
}

#[test]
fn a_run_is_followed_batch_by_batch_and_epoch_by_epoch() -> TestResult {
    let folder = tempfile::tempdir()?;
    let mut board = TensorBoard::create(folder.path())?;
    let path = board.events().path().to_owned();
    for step in 1..=4 {
        let record = BatchRecord { step, epoch: 1, loss: 1.0 / step as f64, lr: 0.5 };
        let event = Event::BatchEnd {
            record: &record,
            batch: step,
            batches: 4,
            samples: 8,
            accuracy: 0.5,
            waited: &[],
        };
        assert_eq!(board.on_event(&event)?, Control::Continue);
    }
    let record = {
        let mut record = EpochRecord::new(1);
        record.train_loss = 0.5;
        record.train_accuracy = 0.75;
        record.val_loss = 0.25;
        record.val_accuracy = 0.875;
        record.lr = 0.5;
        record.seconds = 2.0;
        record.images_per_second = 16.0;
        record.peak_memory = Some(1 << 20);
        record
    };
    let history = History { epochs: vec![record.clone()], batches: Vec::new() };
    board.on_event(&Event::EpochEnd { record: &record, history: &history, is_best: true })?;

    // The epoch's end has flushed the file; nothing is dropped or closed yet.
    let file = EventFile::read(&path);
    let steps: Vec<u64> = file.scalars("batch/loss").iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, [1, 2, 3, 4]);
    assert_eq!(file.scalars("batch/loss")[3].1, 0.25);
    let expected = [
        ("loss/train", 0.5),
        ("loss/validation", 0.25),
        ("accuracy/train", 0.75),
        ("accuracy/validation", 0.875),
        ("lr", 0.5),
        ("images_per_second", 16.0),
        ("peak_memory", 1_048_576.0),
    ];
    for (tag, value) in expected {
        assert_eq!(file.scalars(tag), [(1, value)], "{tag}");
    }
    board.on_event(&Event::RunEnd { history: &history, reason: StopReason::Completed })?;
    Ok(())
}
