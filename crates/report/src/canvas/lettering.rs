//! Text that the embedded font cannot show (Chinese, Arabic, Devanagari, emoji). It is shaped and drawn
//! with the fonts of this machine.
//!
//! The fonts are looked up when the first such text occurs, so images without one are the same on every
//! machine. A character that no font has is shown as its code point, `<U+732B>`, and noted for
//! [`characters_without_font`].

use std::collections::BTreeSet;
use std::sync::{LazyLock, Mutex, PoisonError};

use cosmic_text::fontdb::{Database, Stretch, Style};
use cosmic_text::{
    Attrs, Buffer, Color as Ink, Family, FontSystem, Metrics, Shaping, SwashCache, Weight, Wrap,
};
use image::RgbImage;

use super::{Align, Font};

/// Ranges of characters that the embedded font has in both weights and shows correctly without shaping:
/// Latin, Greek, Cyrillic, Georgian, punctuation, currencies, arrows, mathematical signs, boxes.
const EMBEDDED: [(u32, u32); 14] = [
    (0x20, 0x7E),
    (0xA0, 0x2AF),
    (0x370, 0x37E),
    (0x384, 0x3FF),
    (0x400, 0x525),
    (0x10D0, 0x10FC),
    (0x1E00, 0x1EFB),
    (0x1F00, 0x1FFF),
    (0x2010, 0x2027),
    (0x2030, 0x205E),
    (0x20A0, 0x20B5),
    (0x2190, 0x21FF),
    (0x2200, 0x22FF),
    (0x2500, 0x25FF),
];

/// Whether the embedded font can show the whole text.
pub(super) fn is_embedded(text: &str) -> bool {
    let has = |c: char| EMBEDDED.iter().any(|&(low, high)| (low..=high).contains(&u32::from(c)));
    text.chars().all(has)
}

/// The characters, in order, that neither the embedded font nor a font of this machine has.
///
/// Images that this process draws show them as code points (`<U+732B>`).
///
/// A program can tell its user to install a font for them.
pub fn characters_without_font() -> Vec<char> {
    let missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    missing.iter().copied().collect()
}

static MISSING: Mutex<BTreeSet<char>> = Mutex::new(BTreeSet::new());
static MACHINE: LazyLock<Mutex<Machine>> = LazyLock::new(|| {
    let fonts = FontSystem::new();
    Mutex::new(Machine::new(fonts))
});

/// The width of a line in pixels.
pub(super) fn width(text: &str, font: Font) -> f64 {
    on_machine(|machine| {
        let text = machine.legible(text, font);
        machine.shape(&text, font).map_or(0.0, |line| line.width)
    })
}

/// One line of text and its place on a page.
pub(super) struct Lettering {
    /// The point on the baseline.
    pub(super) at: (f64, f64),
    pub(super) text: String,
    pub(super) font: Font,
    pub(super) align: Align,
}

impl Lettering {
    pub(super) fn stamp(&self, page: &mut RgbImage) {
        on_machine(|machine| {
            let text = machine.legible(&self.text, self.font);
            machine.draw(&text, self, page);
        });
    }
}

fn on_machine<T>(work: impl FnOnce(&mut Machine) -> T) -> T {
    // A panic elsewhere leaves the fonts intact.
    work(&mut MACHINE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The fonts of a machine.
struct Machine {
    fonts: FontSystem,
    glyphs: SwashCache,
    has_regular: bool,
    has_bold: bool,
}

/// A line after shaping.
struct Shaped {
    buffer: Buffer,
    left: f64,
    width: f64,
    /// Characters without a glyph.
    missing: BTreeSet<char>,
}

impl Machine {
    fn new(fonts: FontSystem) -> Self {
        let (has_regular, has_bold) =
            (has_upright(fonts.db(), Weight::NORMAL), has_upright(fonts.db(), Weight::BOLD));
        Self { fonts, glyphs: SwashCache::new(), has_regular, has_bold }
    }

    /// The text, with each character that no font has replaced by its code point.
    fn legible(&mut self, text: &str, font: Font) -> String {
        // A control character, such as a line end, has no glyph.
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let text: String = text.chars().map(plain).collect();
        let missing = match self.shape(&text, font) {
            Some(shaped) => shaped.missing,
            None => text.chars().filter(|c| !is_embedded(&c.to_string())).collect(),
        };
        if missing.is_empty() {
            return text;
        }
        MISSING.lock().unwrap_or_else(PoisonError::into_inner).extend(&missing);
        let shown = |c: char| {
            if missing.contains(&c) { format!("<U+{:04X}>", u32::from(c)) } else { c.to_string() }
        };
        text.chars().map(shown).collect()
    }

    /// Shapes a line. `None` on a machine without fonts. Without bold glyphs the line is drawn regular.
    fn shape(&mut self, text: &str, font: Font) -> Option<Shaped> {
        let bold = (font.bold && self.has_bold)
            .then(|| self.shape_as(text, font, Weight::BOLD))
            .filter(|line| line.missing.is_empty());
        // The shaping library requires a font of the requested weight.
        bold.or_else(|| self.has_regular.then(|| self.shape_as(text, font, Weight::NORMAL)))
    }

    fn shape_as(&mut self, text: &str, font: Font, weight: Weight) -> Shaped {
        let text = &left_to_right(text);
        let size = font.size as f32;
        let mut buffer = Buffer::new(&mut self.fonts, Metrics::new(size, 1.5 * size));
        buffer.set_wrap(Wrap::None);
        buffer.set_size(None, None);
        let look = Attrs::new().family(Family::SansSerif).weight(weight);
        buffer.set_text(text, &look, Shaping::Advanced, None);
        buffer.shape_until_scroll(&mut self.fonts, false);
        let (mut left, mut right) = (f32::INFINITY, 0.0f32);
        let mut missing = BTreeSet::new();
        for glyph in buffer.layout_runs().flat_map(|run| run.glyphs) {
            left = left.min(glyph.x);
            right = right.max(glyph.x + glyph.w);
            if glyph.glyph_id == 0 {
                let cluster = text.get(glyph.start..glyph.end).unwrap_or_default();
                missing.extend(cluster.chars().filter(|c| !is_invisible(*c)));
            }
        }
        let left = f64::from(left.min(right));
        Shaped { buffer, left, width: f64::from(right) - left, missing }
    }

    fn draw(&mut self, text: &str, lettering: &Lettering, page: &mut RgbImage) {
        let Some(mut line) = self.shape(text, lettering.font) else { return };
        let baseline = line.buffer.layout_runs().next().map_or(0.0, |run| f64::from(run.line_y));
        let before = match lettering.align {
            Align::Left => 0.0,
            Align::Center => line.width / 2.0,
            Align::Right => line.width,
        };
        let x0 = (lettering.at.0 - before - line.left).round() as i64;
        let y0 = (lettering.at.1 - baseline).round() as i64;
        let [red, green, blue] = lettering.font.color;
        let ink = Ink::rgb(red, green, blue);
        line.buffer.draw(&mut self.fonts, &mut self.glyphs, ink, |x, y, width, height, color| {
            for (dx, dy) in (0..width).flat_map(|dx| (0..height).map(move |dy| (dx, dy))) {
                let place = (x0 + i64::from(x) + i64::from(dx), y0 + i64::from(y) + i64::from(dy));
                lay_over(page, place, color);
            }
        });
    }
}

fn has_upright(fonts: &Database, weight: Weight) -> bool {
    fonts.faces().any(|face| {
        face.weight == weight && face.style == Style::Normal && face.stretch == Stretch::Normal
    })
}

/// The text with marks that keep its parts in order from left to right, as the captions read here. Without
/// them the percentage after an Arabic name would appear before it.
fn left_to_right(text: &str) -> String {
    const MARK: char = '\u{200E}';
    let mut marked = String::from(MARK);
    for (at, c) in text.char_indices() {
        marked.push(c);
        let rest = &text[at + c.len_utf8()..];
        let next = rest.chars().find(|c| c.is_alphanumeric());
        if is_right_to_left(c) && !next.is_some_and(is_right_to_left) {
            marked.push(MARK);
        }
    }
    marked
}

/// Letters of Hebrew, Arabic, Syriac, Thaana, N'Ko and their relatives.
fn is_right_to_left(c: char) -> bool {
    matches!(u32::from(c), 0x590..=0x8FF | 0xFB1D..=0xFDFF | 0xFE70..=0xFEFC | 0x10800..=0x10FFF | 0x1E800..=0x1EFFF)
}

/// Marks that affect their neighbours and have no glyph themselves.
fn is_invisible(c: char) -> bool {
    matches!(
        u32::from(c),
        0xFE00..=0xFE0F | 0x200B..=0x200F | 0x202A..=0x202E | 0x2060..=0x2069 | 0xFEFF
            | 0xE0000..=0xE0FFF
    )
}

fn lay_over(page: &mut RgbImage, (x, y): (i64, i64), color: Ink) {
    let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
    let Some(ground) = page.get_pixel_mut_checked(x, y) else { return };
    let share = u32::from(color.a());
    for (ground, ink) in ground.0.iter_mut().zip([color.r(), color.g(), color.b()]) {
        let mixed = u32::from(ink) * share + u32::from(*ground) * (255 - share);
        *ground = ((mixed + 127) / 255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FONT: Font = Font { size: 20, bold: true, color: [0; 3] };

    fn without_fonts() -> Machine {
        Machine::new(FontSystem::new_with_locale_and_db("en".to_owned(), Database::new()))
    }

    #[test]
    fn the_embedded_font_is_for_simple_scripts() {
        for text in ["bees 97.3 % – «ça»", "Мёд", "μέλι", "→ ±"] {
            assert!(is_embedded(text), "{text}");
        }
        for text in ["猫", "نحلة", "मधु", "🐝", "e\u{301}", "a\nb"] {
            assert!(!is_embedded(text), "{text}");
        }
    }

    #[test]
    fn without_a_font_code_points_are_shown_and_noted() {
        let mut machine = without_fonts();
        assert_eq!(machine.legible("a 猫 b", FONT), "a <U+732B> b");
        assert!(machine.shape("a", FONT).is_none());
        assert!(characters_without_font().contains(&'猫'));
    }

    #[test]
    fn what_follows_a_right_to_left_name_stays_behind_it() {
        let name = "نحلة العسل";
        assert_eq!(left_to_right(&format!("{name} 13 %")), format!("\u{200E}{name}\u{200E} 13 %"));
        assert_eq!(left_to_right("a/b"), "\u{200E}a/b");
    }

    /// Whatever fonts this machine has, there is no empty box: a character is drawn or told.
    #[test]
    fn every_text_is_legible() {
        for text in ["猫", "نحلة", "मधुमक्खी", "👩‍🌾🐝", "꧁", "\u{10FFFD}"]
        {
            let shown = on_machine(|machine| {
                let shown = machine.legible(text, FONT);
                let has_gaps = |line: Shaped| !line.missing.is_empty();
                assert!(!machine.shape(&shown, FONT).is_some_and(has_gaps), "{text}: {shown}");
                shown
            });
            let told = text.chars().any(|c| shown.contains(&format!("<U+{:04X}>", u32::from(c))));
            assert_eq!(told, shown != text, "{text}: {shown}");
        }
    }
}
