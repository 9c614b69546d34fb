//! Removes comments, strings and characters from Rust source, as far as the search for words needs it.

/// The words of the code with their lines, counted from 1. Comments, strings and character literals are
/// left out.
pub(super) fn words(source: &str) -> Vec<(usize, String)> {
    let code = blank_out(source);
    let mut words = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let split = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        let of_line = split.filter(|word| !word.is_empty());
        words.extend(of_line.map(|word| (index + 1, word.to_owned())));
    }
    words
}

/// The string literals as written, with the lines where they begin, counted from 1.
pub(super) fn literals(source: &str) -> Vec<(usize, &str)> {
    let line = |at: usize| 1 + source[..at].matches('\n').count();
    placed_literals(source).into_iter().map(|(at, literal)| (line(at), literal)).collect()
}

/// The string literals as written, with the byte offsets at which they begin.
pub(super) fn placed_literals(source: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    blank_out_all(source, |at, literal| found.push((at, literal)));
    found
}

/// The source with each comment and literal replaced by one space. Line breaks are kept.
fn blank_out(source: &str) -> String {
    blank_out_all(source, |_, _| {})
}

/// The same. It also calls `literal` with each string literal and its offset.
fn blank_out_all<'a>(source: &'a str, mut literal: impl FnMut(usize, &'a str)) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let text = if comment(rest).is_none() { string(rest, &code) } else { None };
        if let Some(length) = text {
            literal(source.len() - rest.len(), &rest[..length]);
        }
        let skipped = comment(rest).or(text).or_else(|| character(rest));
        match skipped {
            Some(length) => {
                let breaks = rest[..length].matches('\n').count();
                code.push(' ');
                code.extend(std::iter::repeat_n('\n', breaks));
                rest = &rest[length..];
            }
            None => {
                code.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    code
}

/// Length of a comment that begins here. Block comments nest.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(rest.len())
}

/// Length of a string literal that begins here, raw or not, after `code`.
fn string(rest: &str, code: &str) -> Option<usize> {
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    let after_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'));
    let raw = raw.filter(|_| !after_word || code.ends_with('b'))?;
    let hashes = raw.bytes().take_while(|&byte| byte == b'#').count();
    let body = raw[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let head = rest.len() - body.len();
    Some(body.find(&end).map_or(rest.len(), |at| head + at + end.len()))
}

/// Length of a character literal that begins here, as opposed to a lifetime.
fn character(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let first = body.chars().next()?;
    let is_literal = first == '\\' || body[first.len_utf8()..].starts_with('\'');
    is_literal.then(|| quoted(rest, '\''))
}

/// Length up to the closing quote that is not escaped.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        let words: Vec<String> = words(source).into_iter().map(|(_, word)| word).collect();
        assert_eq!(words, expected, "{source}");
    }

    #[test]
    fn words_of_code() {
        check("unsafe { f(x_1) }", &["unsafe", "f", "x_1"]);
        check("#![deny(unsafe_code)]", &["deny", "unsafe_code"]);
        check("impl<'a> A<'a> for B { }", &["impl", "a", "A", "a", "for", "B"]);
    }

    #[test]
    fn literals_are_found_with_their_lines() {
        let source = "// \"not\"\nf(\"one\",\n  r#\"two \"quoted\"\"#, 'c')";
        assert_eq!(literals(source), [(2, "\"one\""), (3, "r#\"two \"quoted\"\"#")]);
    }

    #[test]
    fn comments_are_skipped() {
        check("a // unsafe\nb", &["a", "b"]);
        check("a /* x /* y */ unsafe */ b", &["a", "b"]);
        check("a /* ends nowhere", &["a"]);
        check("a / b", &["a", "b"]);
    }

    #[test]
    fn literals_are_skipped() {
        check(r#"f("unsafe \" still", b"x") + g"#, &["f", "b", "g"]);
        check(r##"f(r#"unsafe " still"#) + g"##, &["f", "g"]);
        check(r#"r"\" + g"#, &["g"]);
        check(r#"br"\" + g"#, &["g"]);
        check("'\"' + g + '\\'' + h + '/' + '/'", &["g", "h"]);
        check("r + var\"x\"", &["r", "var"]);
        check("r#type", &["r", "type"]);
    }

    #[test]
    fn lines_are_counted_across_what_is_skipped() {
        let source = "a\n/* two\nthree */ b\n\"four\nfive\" c";
        let expected = [(1, "a".to_owned()), (3, "b".to_owned()), (5, "c".to_owned())];
        assert_eq!(words(source), expected);
    }
}
