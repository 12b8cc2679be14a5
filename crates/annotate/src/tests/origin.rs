//! What keeps the places of sources out of a module.

use crate::{Error, without_origin};

fn resolved(packages: &[(&str, Option<&str>)]) -> String {
    let package =
        |(file, source): &(&str, Option<&str>)| serde_json::json!({ "manifest_path": file, "source": source });
    serde_json::json!({ "packages": packages.iter().map(package).collect::<Vec<_>>() }).to_string()
}

#[test]
fn each_folder_of_dependencies_gets_the_neutral_name_once() {
    let registry = Some("registry+https://example.com/index");
    let metadata = resolved(&[
        ("/home/a b/.cargo/registry/src/index-1/itoa-1.0.18/Cargo.toml", registry),
        ("/home/a b/.cargo/registry/src/index-1/serde-1.0.229/Cargo.toml", registry),
        ("/vendored/anyhow/Cargo.toml", registry),
        ("/w/crates/policy/Cargo.toml", None),
    ]);
    assert_eq!(
        without_origin(metadata.as_bytes(), "wasm32-wasip1").unwrap(),
        r#"target.wasm32-wasip1.rustflags=["--remap-path-prefix=/home/a b/.cargo/registry/src/index-1=/cargo","#
            .to_owned()
            + r#""--remap-path-prefix=/vendored=/cargo"]"#
    );
    assert_eq!(without_origin(resolved(&[]).as_bytes(), "x").unwrap(), "target.x.rustflags=[]");
}

#[test]
fn what_is_no_description_of_a_workspace_is_refused() {
    let broken = resolved(&[("Cargo.toml", Some("registry"))]);
    for metadata in ["error", "{}", &broken] {
        assert!(matches!(without_origin(metadata.as_bytes(), "x"), Err(Error::CargoMetadata(_))), "{metadata}");
    }
}
