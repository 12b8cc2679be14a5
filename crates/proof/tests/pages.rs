//! What the proof writes is there, and up to date with the cases.

use std::fs;

use proof::claims;
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
        assert!(
            page.contains(&format!("\n## {}\n\n{}\n", about.name, about.claims)),
            "{}: run `make prove`",
            about.name
        );
    }
}
