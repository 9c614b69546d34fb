//! Texts from outside in messages of one line.

use std::borrow::Cow;

/// A text from outside as a part of a message: line breaks and other control characters become escapes such as `\n`.
///
/// Names in files may contain anything. Without this, a name in a damaged or hostile file could break a message into
/// lines, or change the colours of the terminal that shows it.
///
/// ```
/// use candle_vision_registry::one_line;
///
/// assert_eq!(one_line("conv1.weight"), "conv1.weight");
/// assert_eq!(one_line("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
/// ```
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().map(|c| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    });
    Cow::Owned(escaped.collect())
}

/// An error as a reason in a message: in one line. What an error is about may stand in lines of its own before it, and a
/// driver's may go on with a backtrace, whose lines are indented.
///
/// ```
/// use candle_vision_registry::as_reason;
///
/// assert_eq!(as_reason("layer `fc`\nno memory\n   0: alloc\n   1: main"), "layer `fc`: no memory");
/// ```
pub fn as_reason(error: impl std::fmt::Display) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.starts_with(char::is_whitespace));
    lines.collect::<Vec<_>>().join(": ")
}
