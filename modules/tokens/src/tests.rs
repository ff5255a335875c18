use std::{os::unix::fs::PermissionsExt, path::Path, time::Duration};

use kube_contract::testing::battery;

use super::*;

fn config(folder: &Path) -> Config {
    Config { data: folder.join("tokens") }
}

fn bind(folder: &Path) -> Result<Tokens, Error> {
    Tokens::bind(&config(folder), &Registry::new())
}

fn scope(access: Access) -> Scope {
    Scope::Sync { space: "team".parse().unwrap(), access }
}

fn hash(secret: &Secret) -> Hash {
    secret.hash()
}

#[tokio::test]
async fn the_module_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    battery(config(folder.path()), async |config, registry| Tokens::bind(config, registry)).await;
}

#[tokio::test]
async fn tokens_outlive_the_process_and_their_secrets_are_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let first = bind(folder.path()).unwrap().handle();
    let label = Label::try_from("Ana's laptop".to_owned()).unwrap();
    let (token, secret) =
        first.create(scope(Access::Read), Some(label), Some(Duration::from_secs(3600))).await.unwrap();
    let (other, other_secret) = first.create(scope(Access::Write), None, None).await.unwrap();
    assert_ne!(secret.reveal(), other_secret.reveal());

    let file = folder.path().join("tokens/tokens.json");
    let text = fs::read_to_string(&file).unwrap();
    let body = secret.reveal().rsplit('_').next().unwrap();
    assert!(!text.contains(body) && text.contains("Ana's laptop"), "{text}");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));

    let second = bind(folder.path()).unwrap().handle();
    let found = second.check(&hash(&secret)).unwrap();
    assert_eq!((found.id(), &found.scope, found.expires), (token.id(), &token.scope, token.expires));
    assert!(found.last_used().is_some() && second.check(&hash(&other_secret)).is_ok());
    assert_eq!(second.tokens().iter().map(|token| token.id()).collect::<Vec<_>>(), [token.id(), other.id()]);

    let mut changes = second.changes();
    assert_eq!(second.revoke(&token.id()).await.unwrap().unwrap().id(), token.id());
    changes.changed().await.unwrap();
    assert_eq!(second.check(&hash(&secret)).unwrap_err(), Denied::Unknown);
    assert!(second.revoke(&token.id()).await.unwrap().is_none());
    let third = bind(folder.path()).unwrap().handle();
    assert_eq!(third.check(&hash(&secret)).unwrap_err(), Denied::Unknown);
    assert!(third.check(&hash(&other_secret)).is_ok());
}

#[test]
fn a_file_that_cannot_be_understood_is_named_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    drop(bind(folder.path()).unwrap());
    let file = folder.path().join("tokens/tokens.json");
    let hash = "0".repeat(64);
    let token = format!(r#"{{"hash":"{hash}","scope":{{"kind":"sync","space":"team","access":"write"}},"created":1}}"#);
    for (text, word) in [
        ("", "cannot be understood"),
        ("[]", "cannot be understood"),
        ("{\"version\": 2}", "format 2"),
        ("{\"version\": 1}", "missing field `tokens`"),
        (&format!("{{\"version\":1,\"tokens\":[{token},{token}]}}"), "two tokens of one id"),
        (&format!("{{\"version\":1,\"tokens\":[{}]}}", token.replace("team", "app.shop")), "app.shop"),
        (&format!("{{\"version\":1,\"tokens\":[{}]}}", token.replace("\"sync\"", "\"deploy\"")), "deploy"),
        (&format!("{{\"version\":1,\"tokens\":[{}]}}", token.replace(&hash, "00")), "64 hexadecimal digits"),
    ] {
        fs::write(&file, text).unwrap();
        let error = bind(folder.path()).map(drop).unwrap_err().to_string();
        assert!(error.contains(word) && error.contains(file.to_str().unwrap()), "{text}: {error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
    fs::write(&file, format!("{{\"version\":1,\"tokens\":[{token}]}}")).unwrap();
    assert_eq!(bind(folder.path()).unwrap().handle().tokens().len(), 1);
}

#[tokio::test]
async fn what_the_disk_does_not_take_does_not_happen() {
    let folder = tempfile::tempdir().unwrap();
    let handle = bind(folder.path()).unwrap().handle();
    let (token, secret) = handle.create(scope(Access::Write), None, None).await.unwrap();
    // A folder in the way of the temporary file.
    fs::create_dir_all(folder.path().join("tokens/tokens.next/full")).unwrap();
    let error = handle.create(scope(Access::Write), None, None).await.unwrap_err().to_string();
    assert!(error.contains("cannot write the tokens to") && error.contains("tokens.json"), "{error}");
    assert!(handle.revoke(&token.id()).await.is_err());
    assert!(handle.check(&hash(&secret)).is_ok());
    assert_eq!(handle.tokens().len(), 1);
}
