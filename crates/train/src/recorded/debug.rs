//! Parses Rust's debug output of structs into a tree.

/// A struct, a list, or a single value.
#[derive(Debug, PartialEq)]
pub(super) struct Node {
    /// The name of a struct or variant, or a single value. It is empty for a list.
    head: String,
    /// The parts in the brackets behind it. Those of a struct have names.
    parts: Vec<Part>,
}

#[derive(Debug, PartialEq)]
struct Part {
    name: Option<String>,
    value: Node,
}

impl Node {
    /// `None` if the text is no debug output or has a rest that is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut reader = Reader { rest: text };
        let node = reader.node(MAX_DEPTH)?;
        reader.rest.trim().is_empty().then_some(node)
    }

    /// The steps of a `Compose([...])`.
    pub(super) fn steps(mut self) -> Option<Vec<Self>> {
        let list = self.parts.pop().filter(|_| self.parts.is_empty() && self.head == "Compose")?;
        let parts = list.value.parts.into_iter();
        list.value.head.is_empty().then(|| parts.map(|part| part.value).collect())
    }

    /// The names of the parts that only `today` has. `None` if anything else differs.
    pub(super) fn added_in(&self, today: &Self) -> Option<Vec<String>> {
        let is_known = |part: &&Part| self.parts.iter().any(|own| own.name == part.name);
        let (kept, added): (Vec<&Part>, Vec<&Part>) = today.parts.iter().partition(is_known);
        let is_same = self.head == today.head && self.parts.iter().eq(kept);
        let added = added.into_iter().map(|part| part.name.clone()).collect::<Option<_>>();
        added.filter(|_| is_same)
    }
}

/// Largest nesting of brackets that is parsed. A damaged file may have any number.
const MAX_DEPTH: usize = 16;

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn node(&mut self, depth: usize) -> Option<Node> {
        let deeper = depth.checked_sub(1)?;
        let head = self.word();
        let close = match self.rest.chars().next() {
            Some('(') => ')',
            Some('[') => ']',
            Some('{') => '}',
            _ if head.is_empty() => return None,
            _ => return Some(Node { head, parts: Vec::new() }),
        };
        self.rest = &self.rest[1..];
        let mut parts = Vec::new();
        while !self.take(close) {
            let name = if close == '}' { Some(self.name()?) } else { None };
            parts.push(Part { name, value: self.node(deeper)? });
            let _ = self.take(',');
        }
        Some(Node { head, parts })
    }

    /// Up to the next bracket, comma or colon.
    fn word(&mut self) -> String {
        let rest = self.rest.trim_start();
        let end = rest.find(|c| "()[]{},:".contains(c)).unwrap_or(rest.len());
        self.rest = &rest[end..];
        rest[..end].trim_end().to_owned()
    }

    fn name(&mut self) -> Option<String> {
        let name = self.word();
        self.take(':').then_some(name).filter(|name| !name.is_empty())
    }

    fn take(&mut self, expected: char) -> bool {
        let rest = self.rest.trim_start();
        let taken = rest.strip_prefix(expected);
        self.rest = taken.unwrap_or(rest);
        taken.is_some()
    }
}
