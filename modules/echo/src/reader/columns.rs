//! Pure: columns: runs of values, without trust in the lengths of the runs.
use super::{Error, input::Input};

/// The bit of a column's specification that says that it is deflated.
pub(super) const DEFLATED: u32 = 0b1000;
/// More columns than any version has, and few enough to search.
const MAX_COLUMNS: u64 = 64;

/// What columns there are, and how long each is, in the order of the data that follows.
pub(super) struct Layout(Vec<(u32, u64)>);

impl Layout {
    pub(super) fn read(input: &mut Input<'_>) -> Result<Self, Error> {
        let count = input.unsigned()?;
        if count > MAX_COLUMNS {
            return Err(Error::TooMany("columns"));
        }
        let mut columns: Vec<(u32, u64)> = Vec::new();
        for _ in 0..count {
            let (spec, length) = (input.unsigned32()?, input.unsigned()?);
            if columns.last().is_some_and(|(last, _)| last & !DEFLATED >= spec & !DEFLATED) {
                return Err(Error::Column(spec));
            }
            columns.push((spec, length));
        }
        Ok(Self(columns))
    }

    /// Takes the data of every column.
    pub(super) fn take<'a>(&self, input: &mut Input<'a>) -> Result<Vec<(u32, &'a [u8])>, Error> {
        self.0.iter().map(|(spec, length)| Ok((*spec, input.take(*length)?))).collect()
    }
}

/// A type of value that columns hold.
pub(super) trait Value<'a>: Copy + PartialEq {
    fn read(input: &mut Input<'a>) -> Result<Self, Error>;
}

impl<'a> Value<'a> for u64 {
    fn read(input: &mut Input<'a>) -> Result<Self, Error> {
        input.unsigned()
    }
}

impl<'a> Value<'a> for i64 {
    fn read(input: &mut Input<'a>) -> Result<Self, Error> {
        input.signed()
    }
}

impl<'a> Value<'a> for &'a str {
    fn read(input: &mut Input<'a>) -> Result<Self, Error> {
        input.text()
    }
}

/// Rows that are the same, or, with no value, null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Run<V> {
    pub(super) value: Option<V>,
    pub(super) length: u64,
}

/// A run-length encoded column: runs of a value, of nulls, and of values that differ from each other.
///
/// A column without data is null in every row.
pub(super) struct Rle<'a, V> {
    spec: u32,
    input: Input<'a>,
    /// The run that is being read.
    run: Run<V>,
    /// How many values of their own are still to be read.
    literals: u64,
    /// Whether anything but nulls was read, and whether every run was needed.
    has_value: bool,
    canonical: bool,
    last: Last<V>,
}

/// What came before, to see whether what follows could have been part of it.
#[derive(Clone, Copy, PartialEq)]
enum Last<V> {
    Nothing,
    Nulls,
    Run(V),
    Literal(V),
}

impl<'a, V: Value<'a>> Rle<'a, V> {
    pub(super) fn new(spec: u32, data: &'a [u8]) -> Self {
        let run = Run { value: None, length: 0 };
        Self { spec, input: Input(data), run, literals: 0, has_value: false, canonical: true, last: Last::Nothing }
    }

    /// The next rows that are the same, as long as their encoding is; none at the end of the data.
    pub(super) fn next_run(&mut self) -> Result<Option<Run<V>>, Error> {
        if self.run.length > 0 {
            let run = self.run;
            self.run.length = 0;
            return Ok(Some(run));
        }
        if self.literals > 0 {
            self.literals -= 1;
            let value = V::read(&mut self.input)?;
            self.canonical &= self.last != Last::Literal(value) && self.last != Last::Run(value);
            self.last = Last::Literal(value);
            return Ok(Some(Run { value: Some(value), length: 1 }));
        }
        if self.input.is_empty() {
            return Ok(None);
        }
        let count = self.input.signed()?;
        if count == 0 {
            let length = self.input.unsigned()?;
            if length == 0 {
                return Err(Error::Value(self.spec));
            }
            self.canonical &= self.last != Last::Nulls;
            self.last = Last::Nulls;
            return Ok(Some(Run { value: None, length }));
        }
        self.has_value = true;
        if count < 0 {
            self.canonical &= !matches!(self.last, Last::Literal(_));
            self.literals = count.unsigned_abs();
            return self.next_run();
        }
        let value = V::read(&mut self.input)?;
        self.canonical &= count > 1 && self.last != Last::Run(value) && self.last != Last::Literal(value);
        self.last = Last::Run(value);
        Ok(Some(Run { value: Some(value), length: count.unsigned_abs() }))
    }

    /// The value of the next row; null after the end.
    pub(super) fn next(&mut self) -> Result<Option<V>, Error> {
        if self.run.length == 0 {
            match self.next_run()? {
                Some(run) => self.run = run,
                None if self.has_value || self.last == Last::Nulls => return Err(Error::Rows(self.spec)),
                None => return Ok(None),
            }
        }
        self.run.length -= 1;
        Ok(self.run.value)
    }

    /// The value of the next row, which must not be null.
    pub(super) fn need(&mut self) -> Result<V, Error> {
        self.next()?.ok_or(Error::Value(self.spec))
    }

    /// Whether there are no more rows.
    pub(super) fn is_done(&self) -> bool {
        self.run.length == 0 && self.literals == 0 && self.input.is_empty()
    }

    /// Fails unless every row was read.
    pub(super) fn done(&self) -> Result<(), Error> {
        if self.is_done() { Ok(()) } else { Err(Error::Rows(self.spec)) }
    }

    /// Fails unless every row was read, and the column is encoded as `automerge` would encode it.
    pub(super) fn done_canonically(&self) -> Result<(), Error> {
        self.done()?;
        let empty = self.last == Last::Nothing;
        if self.canonical && (self.has_value || empty) { Ok(()) } else { Err(Error::NotCanonical("a column")) }
    }
}

/// A column of numbers, each given as the difference to the one before.
pub(super) struct Delta<'a> {
    rle: Rle<'a, i64>,
    at: i64,
}

impl<'a> Delta<'a> {
    pub(super) fn new(spec: u32, data: &'a [u8]) -> Self {
        Self { rle: Rle::new(spec, data), at: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Option<i64>, Error> {
        let Some(delta) = self.rle.next()? else { return Ok(None) };
        self.at = self.at.checked_add(delta).ok_or(Error::Value(self.rle.spec))?;
        Ok(Some(self.at))
    }

    /// The value of the next row, which must be neither null nor negative.
    pub(super) fn need(&mut self) -> Result<u64, Error> {
        self.next()?.and_then(|at| u64::try_from(at).ok()).ok_or(Error::Value(self.rle.spec))
    }

    pub(super) fn done(&self) -> Result<(), Error> {
        self.rle.done()
    }

    pub(super) fn done_canonically(&self) -> Result<(), Error> {
        self.rle.done_canonically()
    }

    /// Reads to the end without unrolling runs, and returns how many rows there were; each must be within 0 and `max`.
    pub(super) fn count(mut self, max: i64) -> Result<u64, Error> {
        let spec = self.rle.spec;
        let mut rows = 0u64;
        while let Some(Run { value, length }) = self.rle.next_run()? {
            rows = rows.checked_add(length).ok_or(Error::Rows(spec))?;
            // A run only rises or only falls, so the first and the last row say it all.
            let delta = i128::from(value.unwrap_or(0));
            let last = i128::from(self.at) + delta * i128::from(length);
            if value.is_some() && !(0..=i128::from(max)).contains(&last) {
                return Err(Error::Value(spec));
            }
            self.at = i64::try_from(last).map_err(|_| Error::Value(spec))?;
        }
        Ok(rows)
    }
}

/// A column of truth values: the lengths of runs, of false first.
pub(super) struct Booleans<'a> {
    spec: u32,
    input: Input<'a>,
    value: bool,
    left: u64,
    started: bool,
    has_true: bool,
}

impl<'a> Booleans<'a> {
    pub(super) fn new(spec: u32, data: &'a [u8]) -> Self {
        Self { spec, input: Input(data), value: true, left: 0, started: false, has_true: false }
    }

    fn next_run(&mut self) -> Result<Option<u64>, Error> {
        if self.input.is_empty() {
            return Ok(None);
        }
        let length = self.input.unsigned()?;
        // Only the first run, of false, may be empty.
        if length == 0 && self.started {
            return Err(Error::Value(self.spec));
        }
        self.value = !self.value;
        self.has_true |= self.value;
        self.started = true;
        Ok(Some(length))
    }

    /// The value of the next row; false in a column without data.
    pub(super) fn next(&mut self) -> Result<bool, Error> {
        while self.left == 0 {
            match self.next_run()? {
                Some(length) => self.left = length,
                None if self.started => return Err(Error::Rows(self.spec)),
                None => return Ok(false),
            }
        }
        self.left -= 1;
        Ok(self.value)
    }

    pub(super) fn has_data(&self) -> bool {
        self.started || !self.input.is_empty()
    }

    pub(super) fn has_true(&self) -> bool {
        self.has_true
    }

    pub(super) fn done(&self) -> Result<(), Error> {
        if self.left == 0 && self.input.is_empty() { Ok(()) } else { Err(Error::Rows(self.spec)) }
    }

    /// Reads to the end without unrolling runs, and returns how many rows there were.
    pub(super) fn count(mut self) -> Result<u64, Error> {
        let mut rows = 0u64;
        while let Some(length) = self.next_run()? {
            rows = rows.checked_add(length).ok_or(Error::Rows(self.spec))?;
        }
        Ok(rows)
    }
}
