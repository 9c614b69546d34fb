//! Counts of the files and folders that a scan left out.

use std::collections::BTreeMap;
use std::path::Path;

use candle_vision_registry::one_line;

/// The number of files and folders next to images that were left out, by reason.
///
/// `Display` gives one line: `3 .txt, 1 empty file, 2 hidden or system files and folders`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// Files whose extension belongs to no supported image format, by extension in lower case.
    pub by_extension: BTreeMap<String, usize>,
    /// Files without an extension whose content is not a supported image.
    pub without_extension: usize,
    /// Files of 0 bytes with the name of an image.
    pub empty: usize,
    /// Hidden files and folders, and files and folders that systems create (`Thumbs.db`, `__MACOSX`).
    pub hidden: usize,
    /// Links whose target does not exist.
    pub dangling_links: usize,
    /// Links to a folder that was already read, or to a folder that contains the link.
    pub repeated_links: usize,
    /// Folders and files that the operating system cannot read.
    pub unreadable: usize,
    /// Pipes, sockets and devices.
    pub special: usize,
    /// Images next to the class folders instead of inside one.
    pub outside_classes: usize,
}

impl LeftOut {
    /// The total number.
    pub fn total(&self) -> usize {
        self.by_extension.values().sum::<usize>()
            + self.counts().iter().map(|(count, ..)| count).sum::<usize>()
    }

    /// Whether nothing was left out.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// Adds the counts of another scan.
    pub fn add(&mut self, other: &Self) {
        for (extension, count) in &other.by_extension {
            *self.by_extension.entry(extension.clone()).or_default() += count;
        }
        self.without_extension += other.without_extension;
        self.empty += other.empty;
        self.hidden += other.hidden;
        self.dangling_links += other.dangling_links;
        self.repeated_links += other.repeated_links;
        self.unreadable += other.unreadable;
        self.special += other.special;
        self.outside_classes += other.outside_classes;
    }

    /// Counts a file that is not an image by its name or content.
    pub fn add_file(&mut self, path: &Path) {
        match path.extension() {
            Some(extension) => {
                let extension = extension.to_string_lossy().to_lowercase();
                *self.by_extension.entry(extension).or_default() += 1;
            }
            None => self.without_extension += 1,
        }
    }

    /// Each count with its words for one and for several.
    fn counts(&self) -> [(usize, &'static str, &'static str); 8] {
        [
            (
                self.without_extension,
                "file without an extension that is no image",
                "files without an extension that are no images",
            ),
            (self.empty, "empty file", "empty files"),
            (self.hidden, "hidden or system file or folder", "hidden or system files and folders"),
            (self.dangling_links, "dangling link", "dangling links"),
            (
                self.repeated_links,
                "link to a folder that is read already",
                "links to folders that are read already",
            ),
            (self.unreadable, "file or folder without permission", "without permission"),
            (self.special, "pipe, socket or device", "pipes, sockets or devices"),
            (
                self.outside_classes,
                "image beside the class folders",
                "images beside the class folders",
            ),
        ]
    }
}

impl std::fmt::Display for LeftOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The line would get too long with more extensions.
        const MOST_EXTENSIONS: usize = 8;
        let mut extensions: Vec<(&String, &usize)> = self.by_extension.iter().collect();
        extensions.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let rest: usize = extensions.iter().skip(MOST_EXTENSIONS).map(|(_, count)| **count).sum();
        let mut parts: Vec<String> = extensions
            .iter()
            .take(MOST_EXTENSIONS)
            .map(|(extension, count)| format!("{count} .{}", one_line(extension)))
            .collect();
        if rest > 0 {
            parts.push(format!("{rest} with other extensions"));
        }
        for (count, one, several) in self.counts() {
            match count {
                0 => {}
                1 => parts.push(format!("1 {one}")),
                _ => parts.push(format!("{count} {several}")),
            }
        }
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_and_how_many() {
        let mut left_out = LeftOut { dangling_links: 2, empty: 1, ..LeftOut::default() };
        assert_eq!(LeftOut::default().to_string(), "nothing");
        for name in ["a.txt", "b.TXT", "c.heic", "LICENSE"] {
            left_out.add_file(Path::new(name));
        }
        let line = "2 .txt, 1 .heic, 1 file without an extension that is no image, 1 empty file, \
                    2 dangling links";
        assert_eq!(left_out.to_string(), line);
        let mut twice = left_out.clone();
        twice.add(&left_out);
        assert_eq!((left_out.total(), twice.total()), (7, 14));
    }
}
