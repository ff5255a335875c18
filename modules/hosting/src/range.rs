//! Pure: byte ranges, [RFC 9110 section 14](https://www.rfc-editor.org/rfc/rfc9110#section-14).
use std::ops::Range;

/// More ranges than this in one request are ignored, as
/// [section 14.2](https://www.rfc-editor.org/rfc/rfc9110#section-14.2) lets a server do with "many small ranges".
const MOST: usize = 16;

/// What a `Range` header asks of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// All of it: the header is invalid, of another unit, or asks too much.
    Whole,
    /// These bytes, in the order asked for; neither empty, nor overlapping, nor past the end.
    Ranges(Vec<Range<u64>>),
    /// Nothing that the file has.
    Unsatisfiable,
}

/// Reads a `Range` header for a file of `size` bytes.
pub(crate) fn asked(header: &str, size: u64) -> Asked {
    let Some((unit, set)) = header.split_once('=') else {
        return Asked::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Asked::Whole;
    }
    let (mut ranges, mut count) = (Vec::new(), 0);
    for spec in set.split(',').map(|spec| spec.trim_matches([' ', '\t'])).filter(|spec| !spec.is_empty()) {
        count += 1;
        match one(spec, size) {
            _ if count > MOST => return Asked::Whole,
            None => return Asked::Whole,
            Some(range) if range.is_empty() => {}
            Some(range) => join(&mut ranges, range),
        }
    }
    match (count, ranges.is_empty()) {
        (0, _) => Asked::Whole,
        (_, true) => Asked::Unsatisfiable,
        (_, false) => Asked::Ranges(ranges),
    }
}

/// `first-last`, `first-` or `-suffix`, cut to the file; empty when it asks for nothing that is there.
fn one(spec: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        // The last bytes of nothing are all of it, and no `Content-Range` can say so.
        return (size > 0 || suffix == 0).then(|| size.saturating_sub(suffix)..size);
    }
    let first = number(first)?;
    let end = if last.is_empty() { size } else { number(last)?.saturating_add(1) };
    if end <= first && !last.is_empty() {
        return None;
    }
    Some(first.min(size)..end.min(size))
}

/// Digits; a number past `u64` is past every file too.
fn number(digits: &str) -> Option<u64> {
    let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Adds `range`; what it overlaps or touches becomes one with it, at the place of the earliest of them.
fn join(ranges: &mut Vec<Range<u64>>, mut range: Range<u64>) {
    let mut place = ranges.len();
    for index in (0..ranges.len()).rev() {
        let other = &ranges[index];
        if other.start <= range.end && range.start <= other.end {
            range = other.start.min(range.start)..other.end.max(range.end);
            ranges.remove(index);
            place = index;
        }
    }
    // A grown range may reach one that was looked at before it grew.
    if ranges.iter().any(|other| other.start <= range.end && range.start <= other.end) {
        return join(ranges, range);
    }
    ranges.insert(place.min(ranges.len()), range);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (header, size, want) in [
            ("bytes=0-499", 10000, "[0..500]"),
            ("bytes=500-999", 10000, "[500..1000]"),
            ("bytes=-500", 10000, "[9500..10000]"),
            ("bytes=9500-", 10000, "[9500..10000]"),
            ("bytes=0-0,-1", 10000, "[0..1, 9999..10000]"),
            ("BYTES= 0-0 ,, 5-6", 10, "[0..1, 5..7]"),
            ("bytes=500-600,601-999", 10000, "[500..1000]"),
            ("bytes=500-700,601-999", 10000, "[500..1000]"),
            ("bytes=8-9,0-1,2-7", 10, "[0..10]"),
            ("bytes=6-7,0-1,3-3", 10, "[6..8, 0..2, 3..4]"),
            ("bytes=0-99999999999999999999999", 10, "[0..10]"),
            ("bytes=5-", 10, "[5..10]"),
            ("bytes=-99", 10, "[0..10]"),
            ("bytes=20-30,2-3", 10, "[2..4]"),
            ("bytes=10-", 10, "none"),
            ("bytes=10-11,99-", 10, "none"),
            ("bytes=-0", 10, "none"),
            ("bytes=0-", 0, "none"),
            ("bytes=-5", 0, "whole"),
            ("bytes=5-2", 10, "whole"),
            ("bytes=", 10, "whole"),
            ("bytes", 10, "whole"),
            ("bytes=a-b", 10, "whole"),
            ("bytes=1-2-3", 10, "whole"),
            ("bytes=+1-2", 10, "whole"),
            ("bytes=-", 10, "whole"),
            ("pages=0-1", 10, "whole"),
            (
                "bytes=0-0,2-2,4-4,6-6,8-8,10-10,12-12,14-14,16-16,18-18,20-20,22-22,24-24,26-26,28-28,30-30,32-32",
                99,
                "whole",
            ),
        ] {
            let got = match asked(header, size) {
                Asked::Whole => "whole".to_owned(),
                Asked::Unsatisfiable => "none".to_owned(),
                Asked::Ranges(ranges) => format!("{ranges:?}"),
            };
            assert_eq!(got, want, "{header} of {size}");
        }
    }

    proptest! {
        #[test]
        fn ranges_are_inside_apart_and_few(header in "bytes=([0-9]{0,3}-[0-9]{0,3},? ?){0,20}", size in 0u64..300) {
            if let Asked::Ranges(ranges) = asked(&header, size) {
                prop_assert!(!ranges.is_empty() && ranges.len() <= MOST);
                for (index, range) in ranges.iter().enumerate() {
                    prop_assert!(range.start < range.end && range.end <= size);
                    for other in &ranges[index + 1..] {
                        prop_assert!(other.end < range.start || range.end < other.start);
                    }
                }
            }
        }

        #[test]
        fn any_header_is_read(header in ".{0,80}", size: u64) {
            let _read = asked(&header, size);
        }
    }
}
