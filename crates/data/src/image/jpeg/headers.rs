//! The marker segments of a JPEG file.

use super::bits::Table;
use super::{CUT_OFF, Reason};

/// One component, as the frame header describes it.
#[derive(Clone, Debug)]
pub(super) struct Component {
    pub(super) id: u8,
    /// Sampling factors, 1 to 4.
    pub(super) across: usize,
    pub(super) down: usize,
    /// The number of its quantisation table.
    pub(super) table: usize,
    /// Number of samples in a row and in a column of a block: 8, or 4, 2 or 1 of a reduced image.
    pub(super) side: usize,
    /// Size in samples that belong to the image, without padding.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Number of blocks in a row and in a column, padded to whole units (MCUs).
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// The frame header.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) is_progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    /// The least number of samples in a row of a block: 8, or 4, 2 or 1 of a reduced image.
    pub(super) side: usize,
    /// The largest sampling factors.
    pub(super) across: usize,
    pub(super) down: usize,
    pub(super) components: Vec<Component>,
}

impl Frame {
    /// The frame of the image at `side` eighths of its size, 1, 2, 4 or 8.
    ///
    /// The blocks of a component with fewer samples than others, such as colours, become larger instead of being enlarged
    /// afterwards, as in libjpeg.
    pub(super) fn reduced(&self, side: usize) -> Self {
        let component = |component: &Component| {
            let (across, down) = (component.across, component.down);
            let fits = |own: usize| {
                (self.across * side).is_multiple_of(across * own)
                    && (self.down * side).is_multiple_of(down * own)
            };
            let doubled = std::iter::successors(Some(side), |&own| (own < 8).then_some(own * 2));
            let own = doubled.take_while(|&own| own == side || fits(own)).last().unwrap_or(side);
            Component {
                side: own,
                width: (self.width * across * own).div_ceil(self.across * 8),
                height: (self.height * down * own).div_ceil(self.down * 8),
                ..component.clone()
            }
        };
        let [width, height] = [self.width, self.height].map(|length| (length * side).div_ceil(8));
        let components = self.components.iter().map(component).collect();
        Self { width, height, side, components, ..self.clone() }
    }
}

/// The meaning of the components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Colors {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

/// A scan header: its components with their tables, and the part of them that it contains.
#[derive(Clone, Debug)]
pub(super) struct Scan {
    /// For each component: its index in the frame, its DC table, its AC table.
    pub(super) components: Vec<[usize; 3]>,
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) high: u32,
    pub(super) low: u32,
}

/// The information of all segments read so far.
#[derive(Clone)]
pub(super) struct Headers<'a> {
    bytes: &'a [u8],
    at: usize,
    pub(super) frame: Option<Frame>,
    pub(super) quantisation: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Table>; 4],
    pub(super) ac: [Option<Table>; 4],
    /// Number of units between restart markers. 0 without restart markers.
    pub(super) restart_interval: usize,
    has_jfif: bool,
    pub(super) adobe: Option<u8>,
    pub(super) exif: Option<&'a [u8]>,
    /// Whether there are bytes between segments that belong to none.
    pub(super) has_stray_bytes: bool,
}

impl<'a> Headers<'a> {
    /// A reader before the first segment of a file that begins as a JPEG does.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 2,
            frame: None,
            quantisation: [None; 4],
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            restart_interval: 0,
            has_jfif: false,
            adobe: None,
            exif: None,
            has_stray_bytes: false,
        }
    }

    /// The position of the next byte.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Continues reading at this position, after a scan.
    pub(super) fn go_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Reads segments up to and including the next scan header. `None` at the end of the image.
    pub(super) fn next_scan(&mut self) -> Result<Option<Scan>, Reason> {
        loop {
            let marker = self.next_marker()?;
            match marker {
                0xD9 => return Ok(None),
                0xD8 => return Err("a second image begins within it".into()),
                // Restart markers, and one marker of arithmetic coding, have no segment.
                0x01 | 0xD0..=0xD7 => {}
                0xDA => return self.scan().map(Some),
                _ => {
                    let data = self.segment()?;
                    self.read(marker, data)?;
                }
            }
        }
    }

    /// Finds the next marker. Bytes before it are skipped, as in libjpeg.
    fn next_marker(&mut self) -> Result<u8, Reason> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let start = rest.iter().position(|&byte| byte == 0xFF).ok_or(CUT_OFF)?;
            let fill = rest[start..].iter().take_while(|&&byte| byte == 0xFF).count();
            let marker = *rest.get(start + fill).ok_or(CUT_OFF)?;
            self.at += start + fill + 1;
            self.has_stray_bytes |= start > 0 || marker == 0;
            if marker != 0 {
                return Ok(marker);
            }
        }
    }

    /// The data of the segment that begins here with its length.
    fn segment(&mut self) -> Result<&'a [u8], Reason> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let &[high, low] = rest.first_chunk().ok_or(CUT_OFF)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < 2 {
            return Err("a segment of it has an impossible length".into());
        }
        let data = rest.get(2..length).ok_or(CUT_OFF)?;
        self.at += length;
        Ok(data)
    }

    fn read(&mut self, marker: u8, data: &'a [u8]) -> Result<(), Reason> {
        match marker {
            0xC0..=0xC2 if self.frame.is_none() => {
                self.frame = Some(frame(marker, data)?);
                Ok(())
            }
            0xC0..=0xC2 => Err("it has two frame headers".into()),
            0xC4 => self.huffman_tables(data),
            0xDB => self.quantisation_tables(data),
            0xDD => {
                let &interval = data.first_chunk().ok_or("its restart interval is cut off")?;
                self.restart_interval = usize::from(u16::from_be_bytes(interval));
                Ok(())
            }
            0xE0 => {
                self.has_jfif |= data.len() >= 14 && data.starts_with(b"JFIF\0");
                Ok(())
            }
            0xE1 => {
                self.exif = self.exif.or(data.strip_prefix(b"Exif\0\0"));
                Ok(())
            }
            0xEE => {
                if data.len() >= 12 && data.starts_with(b"Adobe") {
                    self.adobe = Some(data[11]);
                }
                Ok(())
            }
            0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF | 0xDE | 0xF7 => Err(refusal(marker)),
            _ => Ok(()),
        }
    }

    fn huffman_tables(&mut self, mut data: &[u8]) -> Result<(), Reason> {
        const CUT: &str = "a Huffman table of it is cut off";
        while let Some((&kind, rest)) = data.split_first() {
            let counts: &[u8; 16] = rest.first_chunk().ok_or(CUT)?;
            let symbols: usize = counts.iter().map(|&count| usize::from(count)).sum();
            let table = Table::new(counts, rest.get(16..16 + symbols).ok_or(CUT)?)?;
            let tables = match kind >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return Err("a Huffman table of it is of no known class".into()),
            };
            let slot =
                tables.get_mut(usize::from(kind & 15)).ok_or("it has too many Huffman tables")?;
            *slot = Some(table);
            data = &rest[16 + symbols..];
        }
        Ok(())
    }

    fn quantisation_tables(&mut self, mut data: &[u8]) -> Result<(), Reason> {
        while let Some((&kind, rest)) = data.split_first() {
            let size = if kind >> 4 == 0 { 1 } else { 2 };
            let values = rest.get(..64 * size).ok_or("a quantisation table of it is cut off")?;
            let table = std::array::from_fn(|i| match size {
                1 => u16::from(values[i]),
                _ => u16::from_be_bytes([values[2 * i], values[2 * i + 1]]),
            });
            let slot = self.quantisation.get_mut(usize::from(kind & 15));
            *slot.ok_or("it has too many quantisation tables")? = Some(table);
            data = &rest[64 * size..];
        }
        Ok(())
    }

    fn scan(&mut self) -> Result<Scan, Reason> {
        let data = self.segment()?;
        let frame = self.frame.as_ref().ok_or("its image data comes before the frame header")?;
        let count = usize::from(*data.first().ok_or("a scan header of it is cut off")?);
        let wanted = if (1..=4).contains(&count) { 1 + 2 * count + 3 } else { usize::MAX };
        let &[first, last, shifts] = data
            .get(wanted.wrapping_sub(3)..wanted)
            .and_then(|end| end.first_chunk())
            .ok_or("a scan header of it is not possible")?;
        let mut components: Vec<[usize; 3]> = Vec::with_capacity(count);
        for pair in data[1..1 + 2 * count].as_chunks::<2>().0 {
            let place = frame.components.iter().position(|component| component.id == pair[0]);
            let place = place.ok_or("a scan of it names a component that it does not have")?;
            if components.iter().any(|[other, ..]| *other == place) {
                return Err("a scan of it names a component twice".into());
            }
            components.push([place, usize::from(pair[1] >> 4), usize::from(pair[1] & 15)]);
        }
        let [first, last] = [first, last].map(usize::from);
        let (high, low) = (u32::from(shifts >> 4), u32::from(shifts & 15));
        Ok(Scan { components, first, last, high, low })
    }

    /// The meaning of the components in libjpeg, and so in Pillow. A JFIF marker has priority over Adobe's, and
    /// both have priority over the component names.
    pub(super) fn colors(&self) -> Result<Colors, Reason> {
        let frame = self.frame.as_ref().ok_or("it has no frame header")?;
        let ids: Vec<u8> = frame.components.iter().map(|component| component.id).collect();
        Ok(match (ids.len(), self.adobe) {
            (1, _) => Colors::Grey,
            (3, _) if self.has_jfif => Colors::YCbCr,
            (3, Some(0)) => Colors::Rgb,
            (3, None) if ids == *b"RGB" => Colors::Rgb,
            (3, _) => Colors::YCbCr,
            (4, None | Some(0)) => Colors::Cmyk,
            (4, Some(_)) => Colors::Ycck,
            (count, _) => return Err(format!("it has {count} components").into()),
        })
    }
}

/// The exact reason why a frame of another kind is not supported.
fn refusal(marker: u8) -> Reason {
    let kind = match marker {
        0xC3 => "a lossless JPEG",
        0xC5..=0xC7 | 0xDE => "a hierarchical JPEG",
        0xC9 | 0xCA => "an arithmetic-coded JPEG",
        0xCB => "an arithmetic-coded lossless JPEG",
        0xCD..=0xCF => "an arithmetic-coded hierarchical JPEG",
        _ => "a JPEG-LS image",
    };
    format!("it is {kind}, which cannot be read").into()
}

fn frame(marker: u8, data: &[u8]) -> Result<Frame, Reason> {
    let Some((&[bits, h1, h0, w1, w0, count], rest)) = data.split_first_chunk() else {
        return Err("its frame header is cut off".into());
    };
    if bits != 8 {
        return Err(format!("it is a JPEG of {bits} bits a sample, which cannot be read").into());
    }
    let [height, width] = [[h1, h0], [w1, w0]].map(|pair| usize::from(u16::from_be_bytes(pair)));
    if height == 0 && width > 0 {
        return Err("its height stands behind the image data (DNL), which cannot be read".into());
    }
    let parts = rest.get(..3 * usize::from(count)).ok_or("its frame header is cut off")?;
    if width == 0 || count == 0 {
        return Err("its frame header announces an empty image".into());
    }
    let factors = |part: &[u8; 3]| [usize::from(part[1] >> 4), usize::from(part[1] & 15)];
    let parts = parts.as_chunks::<3>().0;
    if parts.iter().flat_map(factors).any(|factor| !(1..=4).contains(&factor)) {
        return Err("a sampling factor of it is not possible".into());
    }
    let across = parts.iter().map(|part| factors(part)[0]).max().unwrap_or(1);
    let down = parts.iter().map(|part| factors(part)[1]).max().unwrap_or(1);
    let units = [width.div_ceil(8 * across), height.div_ceil(8 * down)];
    let component = |part: &[u8; 3]| {
        let [h, v] = factors(part);
        Component {
            id: part[0],
            across: h,
            down: v,
            table: usize::from(part[2]),
            side: 8,
            width: (width * h).div_ceil(across),
            height: (height * v).div_ceil(down),
            columns: units[0] * h,
            rows: units[1] * v,
        }
    };
    let components = parts.iter().map(component).collect();
    let is_progressive = marker == 0xC2;
    Ok(Frame { is_progressive, width, height, side: 8, across, down, components })
}
