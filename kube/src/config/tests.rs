use super::*;

fn environment() -> Environment {
    Environment { home: Some("/home/you".into()), ..Environment::default() }
}

fn config(text: &str) -> Config {
    match read(text, Path::new("/etc/kube"), &environment()) {
        Ok((config, _)) => config,
        Err(problems) => panic!("{problems:?}"),
    }
}

fn problems(text: &str) -> Vec<String> {
    let problems = read(text, Path::new("/etc/kube"), &environment()).unwrap_err();
    problems.iter().map(|problem| describe(Path::new("kube.toml"), problem)).collect()
}

fn warnings(text: &str) -> Vec<String> {
    let (_, warnings) = read(text, Path::new("/etc/kube"), &environment()).unwrap();
    warnings.iter().map(|problem| describe(Path::new("kube.toml"), problem)).collect()
}

#[test]
fn authorities_are_named_once_and_certificates_name_listed_addresses() {
    let text = "domain = \"example.org\"\n[tls]\naddress_certificate = true\n[[tls.fallback]]\ndirectory = \"letsencrypt\"\n\
                external_account = { key_id = \"x\", secret_file = \"nowhere.key\" }\n";
    let found = problems(text);
    let [address, unreadable, twice] = &found[..] else { panic!("{found:#?}") };
    assert!(
        address.starts_with("kube.toml:3: tls.address_certificate: ") && address.contains("`addresses`"),
        "{address}"
    );
    assert!(twice.starts_with("kube.toml:4: tls.fallback: ") && twice.contains("is there twice"), "{twice}");
    assert!(unreadable.contains("cannot read /etc/kube/nowhere.key"), "{unreadable}");

    let text = "domain = \"example.org\"\naddresses = [\"192.0.2.1\"]\n[tls]\naddress_certificate = true\n[[tls.fallback]]\n\
                directory = \"zerossl\"\n";
    let config = config(text);
    assert_eq!(config.tls.addresses, config.hosting.addresses);
    assert_eq!((config.tls.addresses.len(), config.tls.fallback.len()), (1, 1));
}

#[test]
fn nothing_written_is_development_mode() {
    let config = config("");
    assert_eq!(config.domain.as_str(), "localhost");
    assert_eq!(config.hosting.http, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(config.hosting.https, ["127.0.0.1:8443".parse().unwrap()]);
    assert_eq!(config.metrics.listen, ["127.0.0.1:9464".parse().unwrap()]);
    assert_eq!(config.tls.issuer, tls::Issuer::Local);
    assert_eq!(config.echo.access, echo::Access::Open);
    assert_eq!(config.data, Path::new("/home/you/.local/share/kube"));
    assert_eq!(config.apps.folder, Path::new("/home/you/.local/share/kube/apps"));
    assert_eq!(config.home, "welcome");
}

#[test]
fn the_shortest_production_config_is_three_lines() {
    let config = config(
        "domain = \"Example.org\"\nemail = \"ops@example.org\"\naddresses = [\"203.0.113.7\", \"2001:db8::7\"]\n",
    );
    assert_eq!(config.domain.as_str(), "example.org");
    assert_eq!(config.hosting.http, ["0.0.0.0:80".parse().unwrap(), "[::]:80".parse().unwrap()]);
    assert_eq!(config.tls.issuer, tls::Issuer::Acme);
    assert_eq!(config.echo.access, echo::Access::Token);
    assert_eq!(config.apps.folder, Path::new("/var/lib/kube/apps"));
    assert_eq!(config.dns.listen, ["203.0.113.7:53".parse().unwrap(), "[2001:db8::7]:53".parse().unwrap()]);
    assert_eq!(
        (&*config.tls.domain, &*config.hosting.domain, &*config.echo.domain),
        ("example.org", "example.org", "example.org")
    );
}

#[test]
fn the_address_that_others_see_is_asked_for_on_a_public_domain() {
    let asked = |text: &str| config(text).dns.stun.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(asked("domain = \"example.org\""), ["stun.cloudflare.com:3478", "stun.l.google.com:19302"]);
    assert_eq!(asked("domain = \"example.org\"\n[dns]\nstun = [\"stun.kube.test\"]"), ["stun.kube.test:3478"]);
    for nobody in ["domain = \"example.org\"\n[dns]\nstun = []", "domain = \"kube.test\"", ""] {
        assert!(asked(nobody).is_empty(), "{nobody}");
    }
    let many = format!("[dns]\nstun = {:?}", ["stun.kube.test"; 9]);
    assert_eq!(problems(&many), ["kube.toml:2: dns.stun: at most 8 servers are asked"]);
    assert!(problems("[dns]\nstun = [\"::1\"]")[0].contains("only IPv4"));
}

#[test]
fn a_private_domain_has_its_own_authority() {
    let config = config("domain = \"kube.test\"\ndata = \"/srv/kube\"\n");
    assert_eq!(config.tls.issuer, tls::Issuer::Local);
    assert_eq!(config.echo.access, echo::Access::Token);
    assert_eq!((&*config.tls.data, &*config.apps.folder), (Path::new("/srv/kube/tls"), Path::new("/srv/kube/apps")));
}

#[test]
fn what_is_written_beats_what_follows_from_the_domain() {
    let config = config(
        "domain = \"example.org\"\n[tls]\nissuer = \"local\"\n[echo]\naccess = \"open\"\n[hosting]\nhttp = []\n",
    );
    assert_eq!((config.tls.issuer, config.echo.access), (tls::Issuer::Local, echo::Access::Open));
    assert_eq!((config.hosting.http.len(), config.hosting.https.len()), (0, 2));
}

#[test]
fn pages_of_public_apps_have_a_space_of_their_own() {
    let pages = |text: &str| config(&format!("domain = \"kube.test\"\nhome = \"shop\"\n{text}")).echo.pages;
    let public = pages("[apps.shop]\nsync = \"public\"\n[apps.forum]\nsync = \"public\"\n[apps.wiki]\n");
    let expected = [("forum.kube.test", "app.forum"), ("kube.test", "app.shop"), ("shop.kube.test", "app.shop")];
    assert_eq!(public, expected.map(|(host, space)| (host.to_owned(), space.to_owned())).into());
    assert!(pages("[apps.shop]\nsync = \"private\"\n").is_empty());
    let own = pages("[apps.forum]\nsync = \"public\"\ndomains = [\"Forum.example\"]\n");
    let expected = ["forum.example", "forum.kube.test"].map(|host| (host.to_owned(), "app.forum".to_owned()));
    assert_eq!(own, expected.into());
}

#[test]
fn the_own_domain_of_an_app_is_known_wherever_it_matters() {
    let config = config("domain = \"example.org\"\n[apps.shop]\ndomains = [\"Shop.example\", \"www.shop.example\"]\n");
    let names = ["shop.example", "www.shop.example"];
    assert_eq!(config.dns.domains, names.map(|name| name.parse().unwrap()));
    assert_eq!(config.echo.domains, names.map(str::to_owned).into());
    assert!(config.echo.pages.is_empty());
}

#[test]
fn the_own_domain_of_an_app_is_none_of_this_kube() {
    let found = problems(
        "domain = \"kube.test\"\n[apps.shop]\ndomains = [\"kube.test\"]\n[apps.wiki]\ndomains = [\"docs.kube.test\"]\n\
         [apps.post]\ndomains = [\"192.0.2.7\"]\n",
    );
    assert_eq!(
        found[..2],
        [
            "kube.toml:3: apps.shop.domains: `kube.test` is the domain of this KUBE: say `home = \"shop\"` to have the app there",
            "kube.toml:5: apps.wiki.domains: `docs.kube.test` is below kube.test, where the folder of an app gives it its name: this \
             one is at wiki.kube.test",
        ]
    );
    assert!(found.len() == 3 && found[2].starts_with("kube.toml:7:") && found[2].contains("an address"), "{found:?}");
}

#[test]
fn an_own_domain_that_no_certificate_can_be_had_for_is_told() {
    let told =
        |text: &str| warnings(&format!("{text}\n[apps.shop]\ndomains = [\"shop.example\", \"shop.internal\"]\n"));
    let found = told("domain = \"kube.test\"");
    assert!(
        found.len() == 2 && found[0].contains("`shop.example`: the local authority vouches for kube.test alone"),
        "{found:?}"
    );
    let found = told("domain = \"example.org\"");
    assert!(found.len() == 1 && found[0].contains("`shop.internal` is a private name"), "{found:?}");
    let own = "domain = \"example.org\"\n[tls]\ndirectory = \"https://ca.internal/dir\"";
    assert!(told(own).is_empty());
}

#[test]
fn relative_paths_start_at_the_file() {
    let config = config("data = \"state\"\n[apps]\nfolder = \"sites\"\n[dns]\nzones = [\"a.zone\"]\n");
    assert_eq!(config.data, Path::new("/etc/kube/state"));
    assert_eq!(config.apps.folder, Path::new("/etc/kube/sites"));
    assert_eq!(config.dns.zones, [Path::new("/etc/kube/a.zone")]);
}

#[test]
fn all_fixed_tables_parse() {
    let text = r#"
domain = "kube.test"
email = "ops@kube.test"
addresses = "auto"
data = "/var/lib/kube"
home = "welcome"
[hosting]
http = ["0.0.0.0:80", "[::]:80"]
https = ["0.0.0.0:443", "[::]:443"]
[apps]
folder = "/var/lib/kube/apps"
[apps.shop]
domains = ["shop.example"]
sync = "private"
[tls]
issuer = "acme"
directory = "https://localhost:14000/dir"
challenge = "auto"
[dns]
listen = ["127.0.0.1:5300"]
zones = ["/path/to/kube.test.zone"]
transfer = []
dnssec = false
[echo]
access = "token"
edge = true
origins = []
[metrics]
listen = ["127.0.0.1:9464"]
[processes.worker]
command = ["/usr/bin/worker", "--flag"]
"#;
    let worker = &config(text).processes.processes[&"worker".parse().unwrap()];
    assert_eq!(worker.command, ["/usr/bin/worker", "--flag"]);
    assert_eq!(warnings(text), [] as [&str; 0]);
}

#[test]
fn processes_and_the_rest_of_kube_are_not_in_each_others_way() {
    let text = "[hosting]\nhttps = [\"127.0.0.1:8443\"]\n[processes.a]\ncommand = [\"x\"]\nroute = \"sync\"\n\
                listen = [\"127.0.0.1:8443\"]\n[processes.b]\ncommand = [\"x\"]\nstop.grace = \"1m\"\n";
    let wrong = [
        "kube.toml:5: processes.a.route: `sync` cannot be its host: it is reserved; a path of an app, `shop/sync` say, can be its place",
        "kube.toml:6: processes.a.listen: 127.0.0.1:8443 is already taken by hosting.https (127.0.0.1:8443)",
    ];
    assert_eq!(problems(text), wrong);
    let text = "[processes.b]\ncommand = [\"x\"]\nstop.grace = \"1m\"\n";
    assert_eq!(warnings(text), ["kube.toml:3: processes.b.stop: when KUBE itself stops, it has 12 s at most"]);
}

#[test]
fn everything_about_processes_is_told_by_line() {
    let text = "[processes.api]\ncommand = [\"node\"]\n[processes.api.after]\nworker = \"healthy\"\n\
                [processes.worker]\ncommand = []\nafter = { api = \"started\" }\n[processes.worker.env]\nA = \"a\"\n\
                NOTIFY_SOCKET = \"/x\"\n[processes.nightly]\ncommand = [\"x\"]\ncron = \"0 0 30 2 *\"\n\
                [processes.Upper]\ncommand = [\"x\"]\n";
    let found = problems(text);
    for (line, part) in [
        (3, "processes.api.after: none of these ever starts, for each waits for the next: api -> worker -> api"),
        (6, "processes.worker.command: is empty"),
        (10, "processes.worker.env.NOTIFY_SOCKET: KUBE says this one itself"),
        (13, "no such day"),
        (14, "'U' cannot be there"),
    ] {
        let start = format!("kube.toml:{line}: ");
        assert!(
            found.iter().any(|problem| problem.starts_with(&start) && problem.contains(part)),
            "line {line}, {part}: {found:#?}"
        );
    }
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn all_problems_come_at_once_with_lines() {
    let text = "domain = \"example\"\nemail = \"ops\"\nhome = \"admin\"\ncolour = 1\n[hosting]\nhttp = [\"x\"]\nhttps = [\"127.0.0.1:9464\"]\n[tls]\nissuer = \"files\"\nkey = \"/nowhere/key.pem\"\n[apps.sync]\n[apps.shop]\nsync = \"secret\"\n[processes.worker]\n";
    let found = problems(text);
    for (line, part) in [
        (1, "one label"),
        (2, "not a mail address"),
        (3, "home: it is reserved"),
        (4, "unknown field `colour`"),
        (6, "hosting.http"),
        (7, "already taken by metrics.listen"),
        (9, "needs `certificate`"),
        (10, "cannot read /nowhere/key.pem"),
        (11, "reserved"),
        (13, "secret"),
        (14, "command"),
    ] {
        let start = format!("kube.toml:{line}:");
        assert!(
            found.iter().any(|problem| problem.starts_with(&start) && problem.contains(part)),
            "line {line}, {part}: {found:#?}"
        );
    }
    assert_eq!(found.len(), 11, "{found:#?}");
}

#[test]
fn keys_are_never_served() {
    let found = problems("data = \"/srv/kube\"\n[apps]\nfolder = \"/srv\"\n");
    assert_eq!(found, ["kube.toml:3: apps.folder: holds the data folder /srv/kube, whose keys would be served"]);
}

#[test]
fn what_is_open_to_the_world_is_said() {
    let text = "domain = \"example.org\"\n[tls]\nissuer = \"local\"\n[echo]\naccess = \"open\"\n[metrics]\nlisten = [\"0.0.0.0:9464\"]\n";
    let found = warnings(text);
    assert!(found[0].contains("echo.access") && found[1].contains("metrics.listen"), "{found:?}");
}

#[test]
fn a_broken_file_still_tells_where_the_socket_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kube.toml");
    fs::write(&file, "domain = 3\ndata = \"here\"\n[broken\n").unwrap();
    assert_eq!(load_for_place(Some(&file), &environment()).data, folder.path().join("here"));
    let unusable = load(Some(&file), &environment()).unwrap_err();
    assert_eq!(unusable.problems.len(), 3, "{unusable}");
    let missing = load(Some(&folder.path().join("none.toml")), &environment()).unwrap_err();
    assert!(missing.to_string().contains("none.toml: cannot read the config: No such file"), "{missing}");
}

#[test]
fn other_kubes_are_named_with_files_that_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "kube_sync_x").unwrap();
    let text = "[echo.peers.other]\nurl = \"wss://sync.other.example/\"\ntoken_file = \"token\"\n\
                public_url = \"wss://sync.other.example/\"\n[echo.peers.third]\nurl = \"ws://10.0.0.7/\"\n";
    let (config, _) = read(text, folder.path(), &environment()).unwrap();
    let other = &config.echo.peers["other"];
    assert_eq!((other.token_file.as_deref(), other.space.as_str()), (Some(&*folder.path().join("token")), "default"));
    assert_eq!(config.hosting.others, ["wss://sync.other.example/"]);

    let wrong = "[echo.peers.one]\nurl = \"ws://10.0.0.7/\"\ntoken_file = \"/nowhere\"\nspace = \"No\"\n\
                 [echo.peers.two]\nurl = \"https://other.example/\"\n[echo.peers.three]\n\
                 url = \"wss://x.example/?token=kube_sync_secret\"\n[echo.peers.four]\nurl = \"ws://10.0.0.7/\"\n\
                 public_url = \"ws://10.0.0.7/\"\n";
    let problems = problems(wrong).join("\n");
    for part in [
        "kube.toml:2: echo.peers.one.url",
        "3: echo.peers.one.token_file: cannot read /nowhere",
        "4: echo.peers.one.space",
        "6: echo.peers.two.url",
        "8: echo.peers.three.url",
        "11: echo.peers.four.public_url",
    ] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    assert!(!problems.contains("secret"), "{problems}");
}

#[test]
fn a_zone_of_another_name_server_comes_from_somewhere_with_a_key_that_there_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "c2VjcmV0").unwrap();
    let text = "[[dns.secondary]]\nzone = \"Example.NET\"\nprimaries = [\"192.0.2.7\", \"[2001:db8::7]:5353\"]\nkey = \"second\"\n\
                [dns.keys.second]\nsecret_file = \"secret\"\n";
    let (config, _) = read(text, folder.path(), &environment()).unwrap();
    let secondary = &config.dns.secondary[0];
    assert_eq!(secondary.zone.to_string(), "example.net.");
    assert_eq!(secondary.primaries[0].0, "192.0.2.7:53".parse().unwrap());
    let wrong = "domain = \"example.org\"\n[[dns.secondary]]\nzone = \"example.org\"\nprimaries = []\nkey = \"none\"\n\
                 [[dns.secondary]]\nzone = \"example.org\"\nprimaries = [\"192.0.2.7\"]\n";
    let problems = problems(wrong).join("\n");
    for part in [
        "dns.secondary: \"example.org\" comes from nowhere",
        "asked for with \"none\", none of the [dns.keys]",
        "\"example.org\" is the domain of this KUBE",
        "\"example.org\" is there twice",
    ] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
}

#[test]
fn another_name_server_is_written_to_with_a_key_that_there_is() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "c2VjcmV0").unwrap();
    let text = "[dns]\npropagation = \"10m\"\n[[dns.remote]]\nserver = \"192.0.2.53\"\nkey = \"Acme.\"\nzone = \"Example.NET\"\n\
                [[dns.remote]]\nserver = \"[2001:db8::7]:5353\"\nkey = \"acme\"\n[dns.keys.acme]\nsecret_file = \"secret\"\n";
    let (config, _) = read(text, folder.path(), &environment()).unwrap();
    let [first, second] = &*config.dns.remote else { panic!("{:?}", config.dns.remote) };
    assert_eq!(first.server.0, "192.0.2.53:53".parse().unwrap());
    assert_eq!(first.zone.as_ref().unwrap().to_string(), "example.net.");
    assert!(second.zone.is_none() && config.dns.propagation.as_secs() == 600);
    let wrong = "[[dns.remote]]\nserver = \"192.0.2.53\"\nkey = \"none\"\nzone = \"example.net\"\n\
                 [[dns.remote]]\nserver = \"192.0.2.54\"\nkey = \"none\"\nzone = \"example.net\"\n";
    let problems = problems(wrong).join("\n");
    for part in [
        "kube.toml:1: dns.remote: 192.0.2.53:53 is to be written to with \"none\", none of the [dns.keys]",
        "\"example.net\" is there twice",
    ] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
}

#[test]
fn secondaries_are_addresses_prefixes_and_keys_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "c2VjcmV0").unwrap();
    let text = "[dns]\ntransfer = [\"192.0.2.0/24\", \"Second\"]\n[dns.keys.second]\nsecret_file = \"secret\"\n";
    let (config, _) = read(text, folder.path(), &environment()).unwrap();
    assert_eq!(String::from(config.dns.transfer[1].clone()), "second");
    assert_eq!(config.dns.keys.values().next().unwrap().secret_file, folder.path().join("secret"));
    let wrong = "[dns]\ntransfer = [\"192.0.2.256\"]\n[dns.keys.second]\nsecret_file = \"/nowhere\"\n";
    let problems = problems(wrong).join("\n");
    for part in
        ["2: dns.transfer: \"192.0.2.256\" is no address", "4: dns.keys.second.secret_file: cannot read /nowhere"]
    {
        assert!(problems.contains(part), "{problems}");
    }
}

#[test]
fn updates_are_for_keys_and_names_that_there_are() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "c2VjcmV0").unwrap();
    let key = "[dns.keys.laptop]\nsecret_file = \"secret\"\n";
    let text = format!(
        "domain = \"kube.test\"\n[[dns.updates]]\nkey = \"Laptop\"\nnames = [\"home\", \"_acme-challenge.*\"]\n{key}"
    );
    let (config, _) = read(&text, folder.path(), &environment()).unwrap();
    let types: Vec<_> = config.dns.updates[0].types.iter().map(|rtype| String::from(*rtype)).collect();
    assert_eq!(types, ["A", "AAAA", "TXT"]);
    for (updates, message) in [
        ("key = \"other\"\nnames = [\"a.\"]", "1: dns.updates: \"other\" is none of the [dns.keys]"),
        ("key = \"laptop\"\nnames = []", "1: dns.updates: the key \"laptop\" may update nothing"),
        ("key = \"laptop\"\nnames = [\"home\"]", "1: dns.updates: \"home\" is below a domain that has no zone here"),
        ("key = \"laptop\"\nnames = [\"*.*.\"]", "`*` stands for one or more labels"),
        ("key = \"laptop\"\nnames = [\"a.\"]\ntypes = [\"SOA\"]", "updates cannot change \"SOA\""),
        ("names = [\"a.\"]", "missing field `key`"),
    ] {
        let problems = problems(&format!("[[dns.updates]]\n{updates}\n")).join("\n");
        assert!(problems.contains(message), "{message}: {problems}");
    }
}
