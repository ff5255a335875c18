use proptest::prelude::*;

use super::*;

#[test]
fn a_name_is_a_dns_label_that_is_not_reserved() {
    for name in ["a", "shop", "shop-2", "1984", "x".repeat(63).as_str()] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
    for (name, error) in [
        ("", NameError::Length),
        ("x".repeat(64).as_str(), NameError::Length),
        ("Shop", NameError::Character('S')),
        ("my_shop", NameError::Character('_')),
        ("_dmarc", NameError::Character('_')),
        ("shop.new", NameError::Character('.')),
        ("café", NameError::Character('é')),
        ("-shop", NameError::Hyphen),
        ("shop-", NameError::Hyphen),
        ("v2--shop", NameError::Hyphens),
        ("xn--caf-dma", NameError::Hyphens),
        ("sync", NameError::Reserved),
        ("www", NameError::Reserved),
        ("folder", NameError::Reserved),
    ] {
        assert_eq!(name.parse::<Name>(), Err(error), "{name}");
    }
}

#[test]
fn a_host_name_is_lower_case_without_the_final_dot() {
    let host = |text: &str| Host::try_from(text.to_owned());
    assert_eq!(host("Shop.Example.").unwrap().as_str(), "shop.example");
    for bad in ["", "shop", "shop..example", "*.example", "shop.example:443", "https://a.example", "10.0.0.1", ".a.b"] {
        assert!(host(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn whatever_is_accepted_is_a_label(text in "\\PC{0,70}") {
        if check_name(&text).is_ok() {
            prop_assert!((1..=63).contains(&text.len()));
            prop_assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            prop_assert!(!text.contains("--") && !text.starts_with('-') && !text.ends_with('-'));
        }
    }

    #[test]
    fn every_plain_label_is_accepted(text in "[a-z0-9]([a-z0-9]|-[a-z0-9]){0,20}") {
        prop_assume!(!RESERVED.contains(&text.as_str()) && !OPTIONS.contains(&text.as_str()));
        prop_assert_eq!(text.parse::<Name>().map(String::from), Ok(text));
    }
}
