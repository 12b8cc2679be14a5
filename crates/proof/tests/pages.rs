//! What the proof writes is there, and up to date with the cases.

use std::fs;

use proof::claims;
use proof::report::{NOT_CLAIMED, not_claimed};
use proof::stories::{POLICIES, codes};

#[test]
fn each_finding_that_points_to_a_page_has_its_section_there() {
    for policy in POLICIES {
        let metadata = fs::read_to_string(corpus::root().join(format!("policies/{policy}/metadata.yml"))).unwrap();
        assert!(metadata.contains(&format!("/blob/main/docs/findings/{policy}.md\n")), "{policy} names no such page");
        let page = fs::read_to_string(corpus::root().join(format!("docs/findings/{policy}.md"))).unwrap();
        let codes = codes(policy).unwrap();
        assert!(codes.len() > 5, "{codes:?}");
        for code in codes {
            assert!(page.contains(&format!("\n## {code}\n")), "{policy}: {code}: run `make prove`");
        }
    }
}

#[test]
fn each_claim_has_its_section_in_the_proof() {
    let page = fs::read_to_string(corpus::root().join("docs/proof.md")).unwrap();
    for claim in claims::all() {
        let about = claim.about();
        let title = format!("\n## {}\n\n{}\n", about.name, about.claims);
        assert!(page.contains(&title), "{}: run `make prove`", about.name);
        let section = page.split(&title).nth(1).and_then(|rest| rest.split("\n## ").next()).unwrap();
        assert!(section.contains(&format!("\nHow it is tried: {}\n", about.tried)), "{}: run `make prove`", about.name);
    }
    let (_, listed) = page.split_once("of these none is made:\n\n").unwrap();
    let left_out: String = NOT_CLAIMED.iter().map(|(code, why)| not_claimed(code, why)).collect();
    assert_eq!(listed, left_out, "run `make prove`");
}

#[test]
fn each_finding_is_met_in_a_claim_or_left_out_for_a_reason() {
    let claims = claims::all();
    let claimed = |policy: &str, code: &str| {
        claims
            .iter()
            .map(|claim| claim.about())
            .any(|about| about.policies.contains(&policy) && about.codes.contains(&code))
    };
    let left_out = |code: &str| NOT_CLAIMED.iter().any(|(other, _)| *other == code);
    let mut met = 0;
    for policy in fs::read_dir(corpus::root().join("policies")).unwrap() {
        let policy = policy.unwrap().file_name().into_string().unwrap();
        for code in codes(&policy).unwrap() {
            let is_claimed = claimed(&policy, &code);
            met += usize::from(is_claimed);
            // That what is malformed is said to be so by the API server is claimed for the policies where it is not obvious.
            assert!(is_claimed != left_out(&code) || code == "malformed", "{policy}: {code}");
        }
    }
    assert!(met > 60, "{met}");
}
