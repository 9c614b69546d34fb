//! Comma-separated values as spreadsheets write them (RFC 4180): quoted fields may hold commas, quotes
//! (doubled) and line breaks. Written here, because it is a page, and a dependency is more.

/// A record: the number of its first line, from 1, and its fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) line: usize,
    pub(super) fields: Vec<String>,
}

/// What is wrong in which line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) problem: &'static str,
}

/// All records that are not blank.
pub(super) fn records(text: &str) -> Result<Vec<Record>, Fault> {
    // Excel begins files with a byte-order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { characters: text.chars().peekable(), line: 1 };
    let mut records = Vec::new();
    while reader.characters.peek().is_some() {
        let record = reader.record()?;
        if record.fields.iter().any(|field| !field.is_empty()) {
            records.push(record);
        }
    }
    Ok(records)
}

struct Reader<'a> {
    characters: std::iter::Peekable<std::str::Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    fn record(&mut self) -> Result<Record, Fault> {
        let mut record = Record { line: self.line, fields: Vec::new() };
        loop {
            record.fields.push(self.field()?);
            match self.next() {
                Some(',') => {}
                Some('\r') if self.characters.peek() == Some(&'\n') => {
                    self.next();
                    return Ok(record);
                }
                Some('\n' | '\r') | None => return Ok(record),
                Some(_) => return Err(self.fault("has text behind a closing quote")),
            }
        }
    }

    fn field(&mut self) -> Result<String, Fault> {
        let mut field = String::new();
        if self.characters.next_if_eq(&'"').is_none() {
            while let Some(c) = self.characters.next_if(|c| !matches!(c, ',' | '\n' | '\r')) {
                field.push(c);
            }
            return Ok(field.trim().to_owned());
        }
        let opened = Fault { line: self.line, problem: "opens a quote that is never closed" };
        loop {
            match self.next() {
                Some('"') if self.characters.next_if_eq(&'"').is_some() => field.push('"'),
                Some('"') => return Ok(field),
                Some(c) => field.push(c),
                None => return Err(opened),
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let next = self.characters.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn fault(&self, problem: &'static str) -> Fault {
        Fault { line: self.line, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(usize, &[&str])]) {
        let found = records(text).unwrap();
        let found: Vec<_> =
            found.iter().map(|r| (r.line, r.fields.iter().map(String::as_str).collect())).collect();
        let expected: Vec<(usize, Vec<&str>)> =
            expected.iter().map(|(line, fields)| (*line, fields.to_vec())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn fields_are_split_and_unquoted() {
        check("a,b\nc, d \n", &[(1, &["a", "b"]), (2, &["c", "d"])]);
        check("a,b\r\n\r\nc,d", &[(1, &["a", "b"]), (3, &["c", "d"])]);
        check("\u{feff}\"a, \"\"b\"\"\",c", &[(1, &["a, \"b\"", "c"])]);
        check("\"a\nb\",c\nd,e", &[(1, &["a\nb", "c"]), (3, &["d", "e"])]);
        check("a,,\n", &[(1, &["a", "", ""])]);
        check("", &[]);
    }

    #[test]
    fn faults_name_their_line() {
        assert_eq!(records("a,b\n\"c,d\n").unwrap_err().line, 2);
        assert_eq!(records("a,b\n\"c\"d,e").unwrap_err().line, 2);
    }
}
