//! What is derived from Cargo.

use crate::{Error, Facts, Workspace};

fn facts() -> Facts {
    Facts {
        name: "odd-replicas".into(),
        version: "0.1.0".into(),
        description: "Members are odd.".into(),
        license: "Apache-2.0".into(),
        repository: "https://github.com/Quorate/quorate.git".into(),
        readme: "# odd-replicas\n".into(),
    }
}

#[test]
fn every_derived_annotation_has_its_value() {
    let annotations = facts().annotations().unwrap();
    let expected = [
        ("author", "The Quorate maintainers <maintainers@quorate.dev>"),
        ("description", "Members are odd."),
        ("license", "Apache-2.0"),
        ("ociUrl", "ghcr.io/quorate/quorate/odd-replicas"),
        ("source", "https://github.com/Quorate/quorate"),
        ("title", "odd-replicas"),
        ("url", "https://github.com/Quorate/quorate"),
        ("usage", "# odd-replicas\n"),
        ("version", "0.1.0"),
    ];
    let expected = expected.map(|(key, value)| (format!("io.kubewarden.policy.{key}"), value.to_owned()));
    assert_eq!(annotations.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn facts_that_make_no_policy_are_refused_by_name() {
    let cases: [(Facts, &str); 9] = [
        (Facts { name: String::new(), ..facts() }, "name is empty"),
        (Facts { description: String::new(), ..facts() }, "description is empty"),
        (Facts { license: " ".into(), ..facts() }, "license is empty"),
        (Facts { repository: String::new(), ..facts() }, "repository is empty"),
        (Facts { readme: "\n".into(), ..facts() }, "README is empty"),
        (Facts { version: "1.0".into(), ..facts() }, "version `1.0`"),
        (Facts { repository: "https://example.com/a/b".into(), ..facts() }, "no image name"),
        (Facts { repository: "https://github.com/a".into(), ..facts() }, "no image name"),
        (Facts { repository: "https://github.com/a/b/tree/main".into(), ..facts() }, "no image name"),
    ];
    for (facts, reason) in cases {
        match facts.annotations() {
            Err(Error::Facts { reason: said, .. }) if said.contains(reason) => {}
            got => panic!("wanted {reason}, got {got:?}"),
        }
    }
}

#[test]
fn the_policies_of_a_workspace_are_the_packages_in_its_folder() {
    let package = |name: &str, folder: &str| {
        format!(
            r#"{{"name":"{name}","version":"0.1.0","license":"MIT","repository":null,"manifest_path":"/w/{folder}/Cargo.toml","more":1}}"#
        )
    };
    let workspace = |packages: &[String]| {
        let json = format!(r#"{{"packages":[{}],"workspace_root":"/w","target_directory":"/t"}}"#, packages.join(","));
        Workspace::from_cargo_metadata(json.as_bytes())
    };
    let read =
        workspace(&[package("b-c", "policies/b-c"), package("kit", "crates/kit"), package("a", "policies/a")]).unwrap();
    assert_eq!(read.policies.iter().map(|policy| policy.name.as_str()).collect::<Vec<_>>(), ["a", "b-c"]);
    assert_eq!(read.policies[1].module_file(), "b_c.wasm");
    assert_eq!(read.policies[1].repository, "");
    assert_eq!(read.policies[1].facts("text".into()).readme, "text");

    let error = workspace(&[package("a", "policies/b")]).unwrap_err();
    assert_eq!(error.to_string(), "package `a`: its folder `/w/policies/b` must have its name");
    assert!(matches!(Workspace::from_cargo_metadata(b"error"), Err(Error::CargoMetadata(_))));
}
