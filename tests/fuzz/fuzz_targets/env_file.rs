//! Files of variables: whatever is written, it is read or refused, and what is read can be an environment.
#![no_main]

use kube_processes::env_file::{LONGEST, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(variables) = parse(text) else { return };
    assert!(text.len() <= LONGEST);
    for (name, value) in variables {
        assert!(!name.is_empty() && !name.contains(['=', '\0', '\n']) && !value.contains('\0'));
        assert_eq!(parse(&format!("{name}='{}'", value.replace('\'', ""))).map(|variables| variables.len()), Ok(1));
    }
});
