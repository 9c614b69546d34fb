//! Comma-separated values as spreadsheets write them (RFC 4180). Quoted fields may contain commas, doubled
//! quotes and line breaks.

/// A record: the number of its first line, counted from 1, and its fields.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) line: usize,
    pub(super) fields: Vec<String>,
}

/// An error: the line, and what is wrong in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) problem: String,
}

/// All records that are not blank.
pub(super) fn records(text: &str) -> Result<Vec<Record>, Fault> {
    records_with(text, b',')
}

/// All records that are not blank, with another character between the fields.
pub(super) fn records_with(text: &str, delimiter: u8) -> Result<Vec<Record>, Fault> {
    // Excel begins files with a byte-order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Lines { text: text.as_bytes(), at: 0, line: 1 };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut records = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| Fault {
            line: lines.of(error.position()),
            problem: format!("cannot be read: {error}"),
        })?;
        if record.iter().any(|field| !field.is_empty()) {
            let fields = record.iter().map(str::to_owned).collect();
            records.push(Record { line: lines.of(record.position()), fields });
        }
    }
    // For a quote that is never closed, the reader assumes one at the end of the file. It then takes all
    // following lines as one field.
    if text.matches('"').count() % 2 == 1 {
        let line = records.last().map_or(1, |record| record.line);
        return Err(Fault { line, problem: "opens a quote that is never closed".to_owned() });
    }
    Ok(records)
}

/// Counts lines from one record to the next. To count from the start for each record would take the square of a table's
/// length: minutes for a million rows.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Lines<'_> {
    /// The number of the line, from 1, of the first record at or behind a position, which is not before the last one. The
    /// reader's own numbers do not count blank lines.
    fn of(&mut self, position: Option<&csv::Position>) -> usize {
        let start = position.and_then(|position| usize::try_from(position.byte()).ok());
        let start = start.unwrap_or(self.at).clamp(self.at, self.text.len());
        let passed = &self.text[self.at..start];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count();
        self.at = start;
        let blank = self.text[start..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
        self.line + blank.filter(|byte| **byte == b'\n').count()
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
    fn a_long_table_takes_no_longer_for_each_line() {
        let started = std::time::Instant::now();
        let found = records(&"a,b\n".repeat(300_000)).unwrap();
        assert_eq!(found.last().map(|record| record.line), Some(300_000));
        // With the square of the length it was most of a minute.
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    }

    #[test]
    fn an_open_quote_is_named_with_its_line() {
        assert_eq!(records("a,b\n\"c,d\n").unwrap_err().line, 2);
    }
}
