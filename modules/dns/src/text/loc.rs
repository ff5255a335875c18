//! Pure: where on Earth something is: [RFC 1876](https://www.rfc-editor.org/rfc/rfc1876).

/// Of a record without them, in centimetres: size, horizontal and vertical precision.
const DEFAULTS: [u64; 3] = [100, 1_000_000, 1_000];
/// The largest of those that can be written, in centimetres.
const LARGEST: u64 = 9_000_000_000;
/// The equator and the prime meridian, in thousandths of an arc second.
const MIDDLE: u32 = 1 << 31;
/// How far below the ground altitudes begin, in centimetres.
const GROUND: i64 = 10_000_000;
const OCTETS: usize = 16;

/// The data of `42 21 54 N 71 06 18 W -24m 30m`, word by word.
///
/// # Errors
/// What is wrong with the words.
pub(super) fn read(words: &[&str]) -> Result<Vec<u8>, String> {
    let (latitude, rest) = angle(words, 90, ["N", "S"])?;
    let (longitude, rest) = angle(rest, 180, ["E", "W"])?;
    let [altitude, sizes @ ..] = rest else { return Err("the altitude is missing, like \"-24m\"".to_owned()) };
    let altitude = centimetres(altitude).and_then(|altitude| u32::try_from(altitude + GROUND).ok());
    let altitude = altitude.ok_or("the altitude is not one from -100000.00m to 42849672.95m")?;
    if sizes.len() > DEFAULTS.len() {
        return Err(format!("nothing comes after the precisions, but there is {:?}", sizes[DEFAULTS.len()]));
    }
    let mut data = vec![0];
    for (place, default) in DEFAULTS.into_iter().enumerate() {
        let size = match sizes.get(place) {
            Some(word) => centimetres(word).and_then(|size| u64::try_from(size).ok()).filter(|size| *size <= LARGEST),
            None => Some(default),
        };
        data.push(rounded(size.ok_or_else(|| format!("{:?} is not a size from 0m to 90000000.00m", sizes[place]))?));
    }
    for number in [latitude, longitude, altitude] {
        data.extend(number.to_be_bytes());
    }
    Ok(data)
}

/// The words of data; none if it is of another version or means nothing.
pub(super) fn write(data: &[u8]) -> Option<String> {
    let [0, sizes @ ..] = <&[u8; OCTETS]>::try_from(data).ok()? else { return None };
    let (sizes, numbers) = sizes.split_at(DEFAULTS.len());
    let number = |place: usize| numbers[4 * place..].first_chunk().map(|octets| u32::from_be_bytes(*octets));
    let sizes: Vec<_> =
        sizes.iter().map(|size| exact(*size).map(|size| metres(size.cast_signed()))).collect::<Option<_>>()?;
    let latitude = written(number(0)?, ["N", "S"]);
    let longitude = written(number(1)?, ["E", "W"]);
    let altitude = metres(i64::from(number(2)?) - GROUND);
    Some(format!("{latitude} {longitude} {altitude} {}", sizes.join(" ")))
}

/// Degrees, perhaps minutes, perhaps seconds, and a direction; and the words after that.
fn angle<'a, 'b>(
    words: &'a [&'b str],
    most: u32,
    [positive, negative]: [&str; 2],
) -> Result<(u32, &'a [&'b str]), String> {
    let wrong = || format!("a place on Earth is like \"42 21 54.000 {positive}\", with {positive} or {negative}");
    let is_direction = |word: &&str| word.eq_ignore_ascii_case(positive) || word.eq_ignore_ascii_case(negative);
    let at = words.iter().take(4).position(is_direction).filter(|at| *at > 0).ok_or_else(wrong)?;
    let mut units = [0, 0, 0];
    for (place, word) in words[..at].iter().enumerate() {
        // Only seconds have a fraction.
        let thousandths = if place == 2 { fraction(word, 3) } else { fraction(word, 0) };
        let limit = [u64::from(most), 59, 59_999][place];
        units[place] = thousandths.filter(|value| *value <= limit).ok_or_else(wrong)?;
    }
    let [degrees, minutes, seconds] = units;
    let angle = (degrees * 60 + minutes) * 60_000 + seconds;
    let angle = u32::try_from(angle).ok().filter(|angle| *angle <= most * 3_600_000).ok_or_else(wrong)?;
    let is_positive = words[at].eq_ignore_ascii_case(positive);
    Ok((if is_positive { MIDDLE + angle } else { MIDDLE - angle }, &words[at + 1..]))
}

/// A number with at most so many digits after the point, in units of the last of them.
fn fraction(word: &str, digits: usize) -> Option<u64> {
    let (whole, part) = word.split_once('.').unwrap_or((word, ""));
    let all = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    let is_number =
        !whole.is_empty() && all(whole) && all(part) && part.len() <= digits && (digits > 0 || !word.contains('.'));
    is_number.then(|| format!("{whole}{part:0<digits$}").parse().ok()).flatten()
}

/// A length in metres, in centimetres.
fn centimetres(word: &str) -> Option<i64> {
    let word = word.strip_suffix(['m', 'M']).unwrap_or(word);
    let (is_negative, word) = word.strip_prefix('-').map_or((false, word), |word| (true, word));
    let length = i64::try_from(fraction(word, 2)?).ok().filter(|length| *length < 1 << 40)?;
    Some(if is_negative { -length } else { length })
}

/// A length as its first digit and how many follow.
fn rounded(centimetres: u64) -> u8 {
    let exponent = centimetres.checked_ilog10().unwrap_or_default();
    let digit = centimetres / 10_u64.pow(exponent);
    (digit << 4) as u8 | exponent as u8
}

fn exact(size: u8) -> Option<u64> {
    let (digit, exponent) = (u64::from(size >> 4), u32::from(size & 15));
    (digit <= 9 && exponent <= 9).then(|| digit * 10_u64.pow(exponent))
}

fn metres(centimetres: i64) -> String {
    let sign = if centimetres < 0 { "-" } else { "" };
    let length = centimetres.unsigned_abs();
    format!("{sign}{}.{:02}m", length / 100, length % 100)
}

fn written(angle: u32, [positive, negative]: [&str; 2]) -> String {
    let direction = if angle >= MIDDLE { positive } else { negative };
    let (seconds, thousandths) = (angle.abs_diff(MIDDLE) / 1000, angle.abs_diff(MIDDLE) % 1000);
    format!("{} {} {}.{thousandths:03} {direction}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str) -> Result<Vec<u8>, String> {
        read(&text.split(' ').collect::<Vec<_>>())
    }

    #[test]
    fn the_examples_of_the_rfc_are_read_and_written_whole() {
        for (text, whole) in [
            ("42 21 54 N 71 06 18 W -24m 30m", "42 21 54.000 N 71 6 18.000 W -24.00m 30.00m 10000.00m 10.00m"),
            ("42 21 43.952 N 71 5 6.344 W -24m 1m 200m", "42 21 43.952 N 71 5 6.344 W -24.00m 1.00m 200.00m 10.00m"),
            ("52 14 05 N 00 08 50 E 10m", "52 14 5.000 N 0 8 50.000 E 10.00m 1.00m 10000.00m 10.00m"),
            ("32 7 19 S 116 2 25 E 10m", "32 7 19.000 S 116 2 25.000 E 10.00m 1.00m 10000.00m 10.00m"),
            ("90 n 180 w -100000 0 9e0", ""),
            ("90 N 180 W -100000 0 90000000 0.01", "90 0 0.000 N 180 0 0.000 W -100000.00m 0.00m 90000000.00m 0.01m"),
        ] {
            match words(text) {
                Ok(data) => {
                    let written = write(&data).unwrap();
                    assert_eq!((written.as_str(), words(&written)), (whole, Ok(data)), "{text}");
                }
                Err(wrong) => assert!(whole.is_empty(), "{text}: {wrong}"),
            }
        }
    }

    #[test]
    fn places_that_there_are_not_are_refused() {
        for text in [
            "",
            "N",
            "91 N 0 E 0m",
            "90 0 0.001 N 0 E 0m",
            "1 60 N 0 E 0m",
            "1 1 1.0001 N 0 E 0m",
            "1 N 181 E 0m",
            "1 N 1 E",
            "1 N 1 E -100000.01m",
            "1 N 1 E 42849672.96m",
            "1 N 1 E 0m 90000000.01m",
            "1 N 1 E 0m 1 1 1 1",
            "1.5 N 1 E 0m",
            "1 1 1 1 N 1 E 0m",
            "-1 N 1 E 0m",
            "1 N 1 E 0km",
        ] {
            assert!(words(text).is_err(), "{text}: {:?}", words(text));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_same(data: [u8; OCTETS]) {
            let data = [&[0], &data[1..]].concat();
            // Places beyond the poles can be on the wire, and nowhere else.
            if let Some(Ok(again)) = write(&data).map(|text| words(&text)) {
                let sizes = |data: &[u8]| data[1..4].iter().map(|size| exact(*size)).collect::<Vec<_>>();
                prop_assert_eq!((sizes(&again), &again[4..]), (sizes(&data), &data[4..]));
            }
        }

        #[test]
        fn any_words_are_read_without_harm(text in "[0-9NSEWm. -]{0,60}|\\PC{0,40}") {
            words(&text).ok();
        }
    }
}
