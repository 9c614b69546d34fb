//! Paths of layers and parameters: names with dots between them, such as `layer1.0.conv1.weight`.

/// Whether `path` is `prefix` or lies under it, by whole segments. An empty prefix holds every path.
///
/// ```
/// use candle_vision_models::is_under;
///
/// assert!(is_under("layer1.0.conv1.weight", "layer1"));
/// assert!(!is_under("layer10.0.conv1.weight", "layer1"));
/// ```
pub fn is_under(path: &str, prefix: &str) -> bool {
    prefix.is_empty()
        || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The path of the layer that a parameter belongs to: all but the last segment.
pub(crate) fn layer_of(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(layer, _)| layer)
}
