//! Writes the seeds of all parsers, or of those that are named, into a folder: `seeds FOLDER [PARSER...]`.

// Its functions count what is reached. Where a sanitizer is part of a build, that has them too.
use libfuzzer_sys as _;
use std::path::{Path, PathBuf};

use candle_vision_fuzz::{parsers, seeds};

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let corpus = PathBuf::from(arguments.next().unwrap_or_else(|| "corpus".to_owned()));
    let wanted: Vec<String> = arguments.collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let names = parsers::ALL.iter().map(|parser| parser.name).chain(["recipe"]);
    for name in names.filter(|name| wanted.is_empty() || wanted.iter().any(|w| w == name)) {
        let folder = corpus.join(name);
        std::fs::create_dir_all(&folder)?;
        for (number, seed) in seeds::of(name, root).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
