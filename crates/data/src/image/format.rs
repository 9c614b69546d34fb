//! Recognises the format of a file by its first bytes. File names are unreliable: a WebP image saved from a
//! browser is often called `.jpg`, and a failed download is an HTML page.

mod sniff;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{Error, Result};

/// How many bytes of a file [`Format::of_content`] looks at.
pub(super) const HEAD: usize = 1024;

/// The format of a file, as its first bytes show it: a supported image format, another image format, or
/// something else that is often found next to images.
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
    /// PNG. Of an animation (APNG), the default image.
    Png,
    /// WebP, lossy or lossless. Of an animation, the first frame.
    WebP,
    /// GIF. Of an animation, the first frame on its canvas.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF. Of several pages, the first.
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
    /// HTML page, often an error page that was saved instead of a download.
    Html,
    /// Other XML.
    Xml,
    /// A Git LFS pointer to a file that was not fetched.
    LfsPointer,
    /// A file in which macOS stores data about another file (`._photo.jpg`).
    AppleDouble,
    /// Film: MP4, QuickTime, Matroska or AVI.
    Film,
    /// ZIP archive, or a document based on one.
    Zip,
    /// gzip archive.
    Gzip,
    /// Only zero bytes, as an interrupted copy leaves them.
    Zeros,
    /// Text.
    Text,
}

impl Format {
    /// The supported formats.
    pub const READABLE: [Self; 8] =
        [Self::Jpeg, Self::Png, Self::WebP, Self::Gif, Self::Bmp, Self::Tiff, Self::Pnm, Self::Ico];

    /// The supported formats in words, for messages and help texts.
    pub const READABLE_IN_WORDS: &'static str = "JPEG, PNG, WebP, GIF, BMP, TIFF, PNM or ICO";

    /// The format of these bytes. The first 1,024 bytes are enough. `None` if no known format begins so.
    pub fn of_content(bytes: &[u8]) -> Option<Self> {
        sniff::sniff(&bytes[..bytes.len().min(HEAD)])
    }

    /// The format of a file. Only the beginning of the file is read.
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

    /// The format that files with this extension usually have. The extension has no dot, and its case does not
    /// matter. `None` if it belongs to no image format.
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

    /// Whether [`Image::open`](crate::Image::open) supports it.
    pub fn is_readable(self) -> bool {
        Self::READABLE.contains(&self)
    }

    /// Whether it is an image or drawing, supported or not.
    pub fn is_image(self) -> bool {
        self.is_readable()
            || !self.extensions().is_empty()
            || matches!(self, Self::Dds | Self::Cursor)
    }

    /// The usual extensions of its files, in lower case and without the dot. Empty for formats that are not
    /// images.
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

/// The name with its article: `a WebP image`, `an HTML page`.
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
