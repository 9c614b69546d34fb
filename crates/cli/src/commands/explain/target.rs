//! What `--target` asks for.

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::Device;
use candle_vision::explain::{Target, embeddings};

use crate::sources::Restored;

/// What is asked for, and what is to be read behind the class's name.
pub(super) struct AskedFor {
    pub(super) target: Target,
    pub(super) beside: String,
}

/// `CLASS`, `CLASS:OTHER` or `@PICTURE`; nothing for the predicted class.
pub(super) fn parse(text: Option<&str>, restored: &Restored, device: &Device) -> Result<AskedFor> {
    let Some(text) = text else {
        return Ok(AskedFor { target: Target::Predicted, beside: String::new() });
    };
    if let Some(path) = text.strip_prefix('@') {
        return like(Path::new(path), restored, device);
    }
    let class = restored.class(text);
    let is_unknown = class.is_err();
    match text.split_once(':') {
        // A class may have a colon in its name.
        Some((class, other)) if is_unknown => {
            let (class, other) = (restored.class(class)?, restored.class(other)?);
            let beside = format!(" rather than {}", restored.class_name(other));
            Ok(AskedFor { target: Target::Difference { class, other }, beside })
        }
        _ => Ok(AskedFor { target: Target::Class(class?), beside: String::new() }),
    }
}

fn like(path: &Path, restored: &Restored, device: &Device) -> Result<AskedFor> {
    let (_, input) = restored.input(path, device)?;
    let vector = embeddings(restored.model.as_ref(), &input)?;
    let vector = vector.get(0)?.to_vec1().context("cannot read what the network makes of it")?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(AskedFor { target: Target::Similarity(vector), beside: format!(", like {name}") })
}
