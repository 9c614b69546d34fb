//! What a file holds, by its first bytes. Names lie: a WebP image saved from a browser is often called
//! `.jpg`, and a failed download is an HTML page.

mod sniff;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// How many bytes of a file [`Format::of_content`] looks at.
pub(super) const HEAD: usize = 1024;

/// What a file holds, as its first bytes tell: an image format that is read, one that is not, or
/// something else that is often found among images.
///
/// # Example
/// ```
/// use candle_vision_data::Format;
///
/// assert_eq!(Format::of_content(b"GIF89a\x01\x00\x01\x00"), Some(Format::Gif));
/// assert!(Format::Gif.is_readable());
///
/// let page = Format::of_content(b"<!DOCTYPE html><title>404</title>");
/// assert_eq!(page, Some(Format::Html));
/// assert_eq!(Format::Html.to_string(), "an HTML page");
/// assert!(!Format::Html.is_readable());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// JPEG: baseline, extended and progressive, 8 bits, Huffman coded.
    Jpeg,
    /// PNG; of an animation (APNG) the default image.
    Png,
    /// WebP, lossy or lossless; of an animation the first frame.
    WebP,
    /// GIF; of an animation the first frame on its canvas.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF; of several pages the first.
    Tiff,
    /// PBM, PGM, PPM (`P1` to `P6`) and PAM (`P7`).
    Pnm,
    /// Windows icon: its largest image.
    Ico,

    /// AVIF.
    Avif,
    /// HEIC or HEIF, as phones store photos.
    Heic,
    /// JPEG XL.
    JpegXl,
    /// JPEG 2000.
    Jpeg2000,
    /// JPEG XR.
    JpegXr,
    /// Photoshop document.
    Psd,
    /// SVG drawing.
    Svg,
    /// OpenEXR.
    Exr,
    /// Radiance HDR.
    Hdr,
    /// Portable float map.
    Pfm,
    /// QOI.
    Qoi,
    /// DirectDraw surface.
    Dds,
    /// Windows cursor.
    Cursor,
    /// Canon's raw photo.
    CanonRaw,

    /// PDF document.
    Pdf,
    /// PostScript document.
    PostScript,
    /// HTML page: often an error that was saved instead of a download.
    Html,
    /// Other XML.
    Xml,
    /// Pointer of Git LFS to a file that was not fetched.
    LfsPointer,
    /// What macOS stores beside a file (`._photo.jpg`).
    AppleDouble,
    /// Film: MP4, QuickTime, Matroska or AVI.
    Film,
    /// ZIP archive, or a document that is one.
    Zip,
    /// gzip archive.
    Gzip,
    /// Nothing but zero bytes, as a copy leaves that was interrupted.
    Zeros,
    /// Text.
    Text,
}

impl Format {
    /// The formats that are read.
    pub const READABLE: [Self; 8] =
        [Self::Jpeg, Self::Png, Self::WebP, Self::Gif, Self::Bmp, Self::Tiff, Self::Pnm, Self::Ico];

    /// The formats that are read, in words, for messages and help texts.
    pub const READABLE_IN_WORDS: &'static str = "JPEG, PNG, WebP, GIF, BMP, TIFF, PNM or ICO";

    /// What begins with these bytes; the first 1,024 suffice. `None` if nothing known does.
    pub fn of_content(bytes: &[u8]) -> Option<Self> {
        sniff::sniff(&bytes[..bytes.len().min(HEAD)])
    }

    /// What a file holds. Only its beginning is read.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of_file(path: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = path.as_ref();
        let mut head = Vec::with_capacity(HEAD);
        let file = File::open(path).map_err(Error::io(path))?;
        file.take(HEAD as u64).read_to_end(&mut head).map_err(Error::io(path))?;
        Ok(Self::of_content(&head))
    }

    /// The format that files with this extension, given without its dot, are expected to hold, in
    /// either case of letters; `None` for extensions of no image format.
    pub fn of_extension(extension: &str) -> Option<Self> {
        const UNREAD: [Format; 12] = [
            Format::Avif,
            Format::Heic,
            Format::JpegXl,
            Format::Jpeg2000,
            Format::JpegXr,
            Format::Psd,
            Format::Svg,
            Format::Exr,
            Format::Hdr,
            Format::Pfm,
            Format::Qoi,
            Format::CanonRaw,
        ];
        let is_of = |format: &Self| {
            format.extensions().iter().any(|known| extension.eq_ignore_ascii_case(known))
        };
        Self::READABLE.into_iter().chain(UNREAD).find(is_of)
    }

    /// Whether [`Image::open`](crate::Image::open) reads it.
    pub fn is_readable(self) -> bool {
        Self::READABLE.contains(&self)
    }

    /// Whether it is an image or drawing at all, whether or not it is read.
    pub fn is_image(self) -> bool {
        self.is_readable()
            || !self.extensions().is_empty()
            || matches!(self, Self::Dds | Self::Cursor)
    }

    /// The usual extensions of its files, in small letters and without the dot; empty for what is
    /// no image.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Jpeg => &["jpg", "jpeg", "jpe", "jfif"],
            Self::Png => &["png", "apng"],
            Self::WebP => &["webp"],
            Self::Gif => &["gif"],
            Self::Bmp => &["bmp", "dib"],
            Self::Tiff => &["tif", "tiff"],
            Self::Pnm => &["ppm", "pgm", "pbm", "pnm", "pam"],
            Self::Ico => &["ico"],
            Self::Avif => &["avif"],
            Self::Heic => &["heic", "heif", "hif"],
            Self::JpegXl => &["jxl"],
            Self::Jpeg2000 => &["jp2", "j2k", "jpx", "jpf"],
            Self::JpegXr => &["jxr", "wdp"],
            Self::Psd => &["psd", "psb"],
            Self::Svg => &["svg"],
            Self::Exr => &["exr"],
            Self::Hdr => &["hdr"],
            Self::Pfm => &["pfm"],
            Self::Qoi => &["qoi"],
            Self::CanonRaw => &["cr2", "cr3"],
            _ => &[],
        }
    }
}

/// With its article: `a WebP image`, `an HTML page`.
impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "a JPEG image",
            Self::Png => "a PNG image",
            Self::WebP => "a WebP image",
            Self::Gif => "a GIF image",
            Self::Bmp => "a BMP image",
            Self::Tiff => "a TIFF image",
            Self::Pnm => "a PNM image",
            Self::Ico => "a Windows icon",
            Self::Avif => "an AVIF image",
            Self::Heic => "a HEIC image",
            Self::JpegXl => "a JPEG XL image",
            Self::Jpeg2000 => "a JPEG 2000 image",
            Self::JpegXr => "a JPEG XR image",
            Self::Psd => "a Photoshop document",
            Self::Svg => "an SVG drawing",
            Self::Exr => "an OpenEXR image",
            Self::Hdr => "a Radiance HDR image",
            Self::Pfm => "a float map (PFM)",
            Self::Qoi => "a QOI image",
            Self::Dds => "a DDS image",
            Self::Cursor => "a Windows cursor",
            Self::CanonRaw => "a raw photo (Canon)",
            Self::Pdf => "a PDF document",
            Self::PostScript => "a PostScript document",
            Self::Html => "an HTML page",
            Self::Xml => "an XML document",
            Self::LfsPointer => "a pointer of Git LFS (fetch the file with `git lfs pull`)",
            Self::AppleDouble => "macOS metadata (AppleDouble)",
            Self::Film => "a film",
            Self::Zip => "a ZIP archive",
            Self::Gzip => "a gzip archive",
            Self::Zeros => "nothing but zero bytes",
            Self::Text => "text",
        })
    }
}
