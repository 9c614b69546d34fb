//! Patterns of layer paths. They are file globs with a dot between the segments. Existing glob crates split at
//! slashes, so they cannot be used.

/// Whether `pattern` matches `path`.
///
/// - `*` is any text within a segment, and `?` is one character of a segment.
/// - `**` is any text, including dots. `**.` at the start of a segment is any number of whole segments, or
///   none.
/// - `[1-4]` is one character in a set, `[!12]` one character not in a set.
/// - `{conv,bn}` is either text.
///
/// Every other character matches itself.
pub fn layer_matches(pattern: &str, path: &str) -> bool {
    let path: Vec<char> = path.chars().collect();
    expanded(pattern).iter().any(|pattern| fits(&tokens(pattern), &path))
}

/// The largest number of patterns that alternatives may expand to. Further braces are taken literally.
const MAX_ALTERNATIVES: usize = 1000;

/// The patterns without braces that `pattern` expands to, one for each alternative.
fn expanded(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(pattern) = open.pop() {
        // The first closing brace ends the innermost alternatives.
        let parts = pattern.split_once('}').and_then(|(before, after)| {
            let (before, inside) = before.rsplit_once('{')?;
            Some((before, inside, after))
        });
        match parts {
            Some((before, inside, after)) if done.len() + open.len() < MAX_ALTERNATIVES => {
                open.extend(inside.split(',').map(|choice| format!("{before}{choice}{after}")));
            }
            _ => done.push(pattern),
        }
    }
    done
}

enum Token {
    Is(char),
    /// `?`
    One,
    /// `*`
    InSegment,
    /// `**`
    Any,
    /// `**.` at the start of a segment.
    Segments,
    /// `[...]`
    Set {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
}

fn tokens(pattern: &str) -> Vec<Token> {
    let characters: Vec<char> = pattern.chars().collect();
    let mut rest = characters.as_slice();
    let mut tokens = Vec::new();
    loop {
        let begins = matches!(tokens.last(), None | Some(Token::Is('.') | Token::Segments));
        let (token, after) = match rest {
            [] => return tokens,
            ['*', '*', '.', after @ ..] if begins => (Token::Segments, after),
            ['*', '*', after @ ..] => (Token::Any, after),
            ['*', after @ ..] => (Token::InSegment, after),
            ['?', after @ ..] => (Token::One, after),
            ['[', after @ ..] => set(after).unwrap_or((Token::Is('['), after)),
            [other, after @ ..] => (Token::Is(*other), after),
        };
        tokens.push(token);
        rest = after;
    }
}

/// Reads a set after its opening bracket. Returns the set and the rest of the pattern, or `None` if the set is
/// not closed.
fn set(inside: &[char]) -> Option<(Token, &[char])> {
    let (negated, mut rest) = match inside {
        ['!' | '^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut ranges = Vec::new();
    loop {
        match rest {
            // A closing bracket in first place belongs to the set.
            [']', after @ ..] if !ranges.is_empty() => {
                return Some((Token::Set { ranges, negated }, after));
            }
            [first, '-', last, after @ ..] if *last != ']' => {
                ranges.push((*first, *last));
                rest = after;
            }
            [one, after @ ..] => {
                ranges.push((*one, *one));
                rest = after;
            }
            [] => return None,
        }
    }
}

/// Goes through the tokens and keeps all positions of `path` that can be reached. This needs no backtracking.
fn fits(tokens: &[Token], path: &[char]) -> bool {
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for token in tokens {
        let mut next = vec![false; reached.len()];
        // Whether a token of any length began at an earlier position.
        let mut running = false;
        for (at, here) in reached.iter().copied().enumerate() {
            let character = at.checked_sub(1).map(|before| path[before]);
            let from_before = at > 0 && reached[at - 1];
            next[at] = match (token, character) {
                (Token::InSegment | Token::Any | Token::Segments, None) => here,
                (_, None) => false,
                (Token::Is(wanted), Some(found)) => from_before && *wanted == found,
                (Token::One, Some(found)) => from_before && found != '.',
                (Token::Set { ranges, negated }, Some(found)) => {
                    let inside =
                        ranges.iter().any(|(first, last)| (*first..=*last).contains(&found));
                    from_before && found != '.' && inside != *negated
                }
                (Token::InSegment, Some(found)) => here || (next[at - 1] && found != '.'),
                (Token::Any, Some(_)) => here || next[at - 1],
                (Token::Segments, Some(found)) => here || (running && found == '.'),
            };
            running |= here;
        }
        reached = next;
    }
    reached.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use super::layer_matches;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        for path in matching {
            assert!(layer_matches(pattern, path), "{pattern} is {path}");
        }
        for path in others {
            assert!(!layer_matches(pattern, path), "{pattern} is not {path}");
        }
    }

    #[test]
    fn a_star_stays_within_a_segment() {
        check("layer*", &["layer1", "layer"], &["layer1.0.conv1", "layer1.0", "xlayer1"]);
        check("layer4.*", &["layer4.0"], &["layer4.0.bn1", "layer4", "layer41.0", "a.layer4.0"]);
        check("*.conv2", &["0.conv2"], &["conv2", "layer1.0.conv2", "0.conv21"]);
        check("layer*.1.*2", &["layer1.1.conv2", "layer4.1.bn2"], &["layer1.0.conv2", "layer1.1"]);
        check("*", &["", "fc"], &["layer1.0"]);
        check("ab*b", &["abb", "abab"], &["ab"]);
    }

    #[test]
    fn two_stars_cross_dots() {
        check("**", &["", "fc", "layer1.0.conv1"], &[]);
        check("layer4.**", &["layer4.0", "layer4.0.bn1"], &["layer4", "layer41.0"]);
        check("**.conv2", &["conv2", "0.conv2", "layer1.0.conv2"], &["xconv2", "layer1.0.conv21"]);
        check("layer1.**.bn1", &["layer1.0.bn1", "layer1.bn1"], &["layer1.0.xbn1", "layer2.0.bn1"]);
        check("layer**", &["layer1", "layer1.0.conv1"], &["fc"]);
    }

    #[test]
    fn characters_sets_and_alternatives() {
        check("layer[1-3]", &["layer1", "layer3"], &["layer4", "layer", "layer1.0", "layer12"]);
        check("layer[!1-3]", &["layer4"], &["layer1", "layer."]);
        check("layer?", &["layer1"], &["layer", "layer.", "layer10"]);
        check("layer1.0.{conv,bn}?", &["layer1.0.conv1", "layer1.0.bn2"], &["layer1.0.relu1"]);
        check("{a,{b,c}d}", &["a", "bd", "cd"], &["d", "b"]);
        check("layer[", &["layer["], &["layer1"]);
        check("x[]]", &["x]"], &["x"]);
    }
}
