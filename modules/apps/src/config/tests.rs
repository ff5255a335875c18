use super::*;

fn error(table: &str) -> (String, usize) {
    let error = toml::from_str::<Config>(table).expect_err(table);
    let span = error.span().expect("an error knows where it is");
    (error.message().to_owned(), 1 + table[..span.start].matches('\n').count())
}

#[test]
fn an_empty_table_is_the_default() {
    assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
}

#[test]
fn options_and_apps_stand_side_by_side() {
    let config: Config = toml::from_str(
        r#"
        folder = "/srv/apps"
        bundled = false
        debounce = "1s"
        largest_file = "1MiB"
        largest_app = "2MiB"
        most_files = 3
        [shop]
        domains = ["Shop.Example"]
        sync = "public"
        missing = "not-found"
        [notes]
        "#,
    )
    .unwrap();
    let shop = App {
        domains: vec![Host::try_from("shop.example".to_owned()).unwrap()],
        sync: Audience::Public,
        missing: Missing::NotFound,
    };
    let apps = BTreeMap::from([("shop".parse().unwrap(), shop), ("notes".parse().unwrap(), App::default())]);
    let expected = Config {
        folder: "/srv/apps".into(),
        bundled: false,
        debounce: Duration::from_secs(1),
        largest_file: ByteSize::mib(1),
        largest_app: ByteSize::mib(2),
        most_files: 3,
        apps,
        ..Config::default()
    };
    assert_eq!(config, expected);
    assert_eq!(toml::from_str::<Config>(&toml::to_string(&config).unwrap()).unwrap(), config);
}

#[test]
fn the_default_comes_back_from_its_own_text() {
    let text = toml::to_string(&Config::default()).unwrap();
    assert_eq!(toml::from_str::<Config>(&text).unwrap(), Config::default(), "{text}");
    let keys: Vec<_> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(keys, OPTIONS);
}

#[test]
fn a_misspelt_option_is_named_with_its_line_and_the_options_there_are() {
    let (message, line) = error("bundled = true\nfoldr = \"/srv\"");
    assert_eq!(line, 2);
    assert!(message.contains("`foldr` is no option of [apps] (`folder`, `bundled`"), "{message}");
}

#[test]
fn a_bad_app_name_is_named_with_its_line_and_why() {
    for (table, name, why) in [
        ("[notes]\n[Shop]", "`Shop`", "not 'S'"),
        ("[notes]\n[sync]", "`sync`", "reserved"),
        ("[notes]\n[a--b]", "`a--b`", "previews"),
    ] {
        let (message, line) = error(table);
        assert_eq!(line, 2, "{message}");
        assert!(message.contains(name) && message.contains(why), "{message}");
    }
}

#[test]
fn an_error_inside_an_app_is_on_its_own_line() {
    for (table, says) in [
        ("[shop]\nsnyc = \"public\"", "unknown field `snyc`"),
        ("[shop]\nsync = \"open\"", "unknown variant `open`"),
        ("[shop]\ndomains = [\"shop\"]", "`shop` is not a host name"),
        ("[shop]\nmissing = \"200\"", "unknown variant `200`"),
    ] {
        let (message, line) = error(table);
        assert!(message.contains(says), "{message}");
        assert_eq!(line, 2, "{message}");
    }
}

#[test]
fn a_domain_belongs_to_one_app() {
    let (message, line) = error("[a]\ndomains = [\"x.example\"]\n[b]\ndomains = [\"X.example.\"]");
    assert!(message.contains("`x.example` is given twice: to `a` and to `b`"), "{message}");
    assert_eq!(line, 3);
}
