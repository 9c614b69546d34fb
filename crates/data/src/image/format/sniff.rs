//! The signatures of file formats.

use super::Format;

/// First bytes that identify a format on their own.
const MAGIC: [(&[u8], Format); 29] = [
    (&[0xFF, 0xD8, 0xFF], Format::Jpeg),
    (b"\x89PNG\r\n\x1A\n", Format::Png),
    (b"GIF87a", Format::Gif),
    (b"GIF89a", Format::Gif),
    (&[0xFF, 0x0A], Format::JpegXl),
    (b"\0\0\0\x0CJXL \r\n\x87\n", Format::JpegXl),
    (b"\0\0\0\x0CjP  \r\n\x87\n", Format::Jpeg2000),
    (&[0xFF, 0x4F, 0xFF, 0x51], Format::Jpeg2000),
    (b"II\xBC\x01", Format::JpegXr),
    (b"II*\0", Format::Tiff),
    (b"MM\0*", Format::Tiff),
    // BigTIFF.
    (b"II+\0\x08\0", Format::Tiff),
    (b"MM\0+\0\x08", Format::Tiff),
    (b"8BPS", Format::Psd),
    (b"v/1\x01", Format::Exr),
    (b"#?RADIANCE", Format::Hdr),
    (b"#?RGBE", Format::Hdr),
    (b"PF\n", Format::Pfm),
    (b"Pf\n", Format::Pfm),
    (b"qoif", Format::Qoi),
    (b"DDS ", Format::Dds),
    (b"%PDF-", Format::Pdf),
    (b"%!PS", Format::PostScript),
    (b"version https://git-lfs.github.com/spec", Format::LfsPointer),
    (&[0x00, 0x05, 0x16, 0x07], Format::AppleDouble),
    (&[0x1A, 0x45, 0xDF, 0xA3], Format::Film),
    (b"PK\x03\x04", Format::Zip),
    (&[0x1F, 0x8B, 0x08], Format::Gzip),
    (b"\xC5\xD0\xD3\xC6", Format::PostScript),
];

pub(super) fn sniff(head: &[u8]) -> Option<Format> {
    if head.is_empty() {
        return None;
    }
    // Canon's CR2 is a TIFF file whose first page is a small JPEG, not the photo.
    if head.starts_with(b"II*\0") && head.get(8..10) == Some(b"CR") {
        return Some(Format::CanonRaw);
    }
    let known = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|&(_, format)| format);
    known
        .or_else(|| riff(head))
        .or_else(|| iso_media(head))
        .or_else(|| bitmap(head))
        .or_else(|| icon(head))
        .or_else(|| pnm(head))
        .or_else(|| text(head))
        .or_else(|| head.iter().all(|&byte| byte == 0).then_some(Format::Zeros))
}

fn riff(head: &[u8]) -> Option<Format> {
    match (head.get(..4)?, head.get(8..12)?) {
        (b"RIFF", b"WEBP") => Some(Format::WebP),
        (b"RIFF", b"AVI ") => Some(Format::Film),
        _ => None,
    }
}

/// AVIF, HEIC and films share one container format. Its brands tell which it is, and the major brand comes
/// first.
fn iso_media(head: &[u8]) -> Option<Format> {
    if head.get(4..8)? != b"ftyp" {
        return None;
    }
    let length = u32::from_be_bytes(head.first_chunk::<4>().copied()?) as usize;
    let brands = head.get(8..length.clamp(12, head.len().max(12)))?;
    // The four bytes after the major brand are its version.
    let brands = brands.chunks_exact(4).enumerate().filter(|(i, _)| *i != 1);
    let known = |(_, brand): (usize, &[u8])| match brand {
        b"avif" | b"avis" => Some(Format::Avif),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" | b"mif1" | b"msf1" => {
            Some(Format::Heic)
        }
        b"crx " => Some(Format::CanonRaw),
        _ => None,
    };
    // `mif1` alone means "some image in this container". AVIF files contain it too.
    let found: Vec<Format> = brands.filter_map(known).collect();
    let avif = found.iter().copied().find(|&format| format == Format::Avif);
    Some(avif.or(found.first().copied()).unwrap_or(Format::Film))
}

/// Many texts begin with `BM`, so the length of the header must be one that exists.
fn bitmap(head: &[u8]) -> Option<Format> {
    let length = u32::from_le_bytes(head.get(14..18)?.try_into().ok()?);
    let is_bitmap =
        head.starts_with(b"BM") && matches!(length, 12 | 16 | 40 | 52 | 56 | 64 | 108 | 124);
    is_bitmap.then_some(Format::Bmp)
}

fn icon(head: &[u8]) -> Option<Format> {
    let count = u16::from_le_bytes(head.get(4..6)?.try_into().ok()?);
    // A directory entry contains a byte that is always 0.
    let is_icon = count > 0 && head.get(9) == Some(&0);
    match head.get(..4)? {
        [0, 0, 1, 0] if is_icon => Some(Format::Ico),
        [0, 0, 2, 0] if is_icon => Some(Format::Cursor),
        _ => None,
    }
}

fn pnm(head: &[u8]) -> Option<Format> {
    match head.get(..3)? {
        [b'P', b'1'..=b'7', end] if end.is_ascii_whitespace() || *end == b'#' => Some(Format::Pnm),
        _ => None,
    }
}

fn text(head: &[u8]) -> Option<Format> {
    let head = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head);
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The end of the head may cut a character in two.
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).ok()?
        }
        Err(_) => return None,
    };
    let is_odd = |c: char| c.is_control() && !c.is_whitespace() && c != '\x1B';
    if text.is_empty() || text.contains(is_odd) {
        return None;
    }
    let start = text.trim_start().to_ascii_lowercase();
    Some(if start.starts_with("<!doctype html") || start.starts_with("<html") {
        Format::Html
    } else if start.starts_with('<') && start.contains("<svg") {
        Format::Svg
    } else if start.starts_with('<') && start.contains("<html") {
        Format::Html
    } else if start.starts_with("<?xml") {
        Format::Xml
    } else {
        Format::Text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &[u8], expected: Option<Format>) {
        assert_eq!(Format::of_content(head), expected, "{:?}", String::from_utf8_lossy(head));
    }

    #[test]
    fn images_are_told_by_their_first_bytes() {
        check(b"\xFF\xD8\xFF\xE0\0\x10JFIF", Some(Format::Jpeg));
        check(b"\x89PNG\r\n\x1A\n\0\0\0\rIHDR", Some(Format::Png));
        check(b"RIFF\x24\0\0\0WEBPVP8 ", Some(Format::WebP));
        check(b"MM\0*\0\0\0\x08", Some(Format::Tiff));
        check(b"P6\n2 2\n255\n", Some(Format::Pnm));
        check(b"P7\nWIDTH 2\n", Some(Format::Pnm));
        check(b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0", Some(Format::Ico));
        check(b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x02\0", Some(Format::Bmp));
    }

    #[test]
    fn the_brands_of_a_container_tell_avif_heic_and_films_apart() {
        check(b"\0\0\0\x1Cftypavif\0\0\0\0mif1miafMA1B", Some(Format::Avif));
        check(b"\0\0\0\x1Cftypmif1\0\0\0\0mif1avifmiaf", Some(Format::Avif));
        check(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Some(Format::Heic));
        check(b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", Some(Format::Film));
        check(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", Some(Format::Film));
        check(b"\xFF\xFF\xFF\xFFftypheic", Some(Format::Heic));
        check(b"\0\0\0\0ftyp", None);
    }

    #[test]
    fn what_is_no_image_is_told_too() {
        check(b"", None);
        check(b"\x07\x80\x01", None);
        check(b"BMW and other cars", Some(Format::Text));
        check(b"P6 is short", Some(Format::Pnm));
        check("Größe: 3 µm".as_bytes(), Some(Format::Text));
        check(b"\n <HTML><body>", Some(Format::Html));
        check(b"<?xml version='1.0'?><svg width='3'>", Some(Format::Svg));
        check(b"<?xml version='1.0'?><rss>", Some(Format::Xml));
        check(&[0; 600], Some(Format::Zeros));
        check(b"version https://git-lfs.github.com/spec/v1\noid", Some(Format::LfsPointer));
        check(b"\0\x05\x16\x07\0\x02\0\0Mac OS X", Some(Format::AppleDouble));
    }

    #[test]
    fn a_character_cut_by_the_end_of_the_head_is_text_still() {
        check("ä".repeat(600).as_bytes(), Some(Format::Text));
        let odd = format!("a{}", "ä".repeat(600));
        check(odd.as_bytes(), Some(Format::Text));
    }
}
