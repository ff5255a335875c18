//! Who looks for holes in TLS for a living: SSLyze.
use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::{kube::Ran, transport::Site};

/// What is looked for.
const LOOKS: [&str; 13] = [
    "sslv2",
    "sslv3",
    "tlsv1",
    "tlsv1_1",
    "tlsv1_2",
    "tlsv1_3",
    "compression",
    "ems",
    "fallback",
    "heartbleed",
    "openssl_ccs",
    "reneg",
    "robot",
];

#[test]
fn a_scanner_finds_no_hole_and_forward_secrecy_everywhere() {
    let site = Site::new();
    let kube = site.start_where(&site.authority);
    let report = site.home.path("sslyze.json");
    let scanner = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/sslyze/bin/sslyze");
    let mut command = Command::new(scanner);
    command.args(LOOKS.map(|look| format!("--{look}"))).args(["--mozilla_config", "disable", "--sni", "kube.test"]);
    command.arg("--json_out").arg(&report).arg(format!("127.0.0.1:{}", kube.https()));
    Ran::from(&mut command).ok();
    let report: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    let found = &report["server_scan_results"][0]["scan_result"];
    let result = |look: &str| {
        assert_eq!(found[look]["status"], "COMPLETED", "{look}: {found:#}");
        &found[look]["result"]
    };

    for old in ["ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"] {
        let result = result(&format!("{old}_cipher_suites"));
        assert_eq!(result["accepted_cipher_suites"].as_array().map(Vec::len), Some(0), "{old}: {result:#}");
    }
    for new in ["tls_1_2", "tls_1_3"] {
        let accepted = result(&format!("{new}_cipher_suites"))["accepted_cipher_suites"].as_array().unwrap();
        assert_eq!(accepted.len(), 3, "{new}: {accepted:#?}");
        for suite in accepted {
            assert_eq!(suite["ephemeral_key"]["type_name"], "ECDH", "no forward secrecy: {suite:#}");
        }
    }
    for (look, figure, good) in [
        ("heartbleed", "is_vulnerable_to_heartbleed", false),
        ("openssl_ccs_injection", "is_vulnerable_to_ccs_injection", false),
        ("tls_compression", "supports_compression", false),
        ("session_renegotiation", "is_vulnerable_to_client_renegotiation_dos", false),
        ("session_renegotiation", "supports_secure_renegotiation", true),
        ("tls_fallback_scsv", "supports_fallback_scsv", true),
        ("tls_extended_master_secret", "supports_ems_extension", true),
    ] {
        assert_eq!(result(look)[figure], good, "{look}");
    }
    assert_eq!(result("robot")["robot_result"], "NOT_VULNERABLE_RSA_NOT_SUPPORTED");
    kube.is_unharmed();
    kube.stop();
}
