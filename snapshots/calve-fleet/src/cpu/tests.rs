use super::*;

fn amd(features_of_1: u32, of_7: u32) -> Vec<Leaf> {
    let word = |text: &[u8; 4]| u32::from_le_bytes(*text);
    vec![
        (0, 0, [0x10, word(b"Auth"), word(b"cAMD"), word(b"enti")]),
        (1, 0, [0, 0, features_of_1, 0]),
        (7, 0, [0, of_7, 0, 0]),
    ]
}

#[test]
fn the_vendor_is_spelt_in_the_order_of_the_manual() {
    assert_eq!(vendor(&amd(0, 0)), "AuthenticAMD");
    assert_eq!(vendor(&[]), "");
}

#[test]
fn features_have_the_names_that_linux_gives_them() {
    let found = features(&amd((1 << 0) | (1 << 28), 1 << 5));
    assert_eq!(found, ["avx", "avx2", "pni"].map(String::from).into());
}

#[test]
fn bits_that_follow_the_guest_are_no_features() {
    let osxsave_and_hypervisor = (1 << 27) | (1 << 31);
    assert!(features(&amd(osxsave_and_hypervisor, 0)).is_empty());
}

#[test]
fn a_bit_that_nobody_has_named_counts_by_its_place() {
    assert!(features(&amd(1 << 16, 0)).contains("cpuid:1.0.ecx.16"));
    let repeated = [(0x8000_0001, 0, [0, 0, 0, 1])];
    assert!(features(&repeated).is_empty(), "AMD repeats leaf 1 there");
}

#[test]
fn no_bit_has_two_names() {
    for names in REGISTERS {
        let mut bits: Vec<u8> = names.bits.iter().map(|(bit, _)| *bit).collect();
        assert!(bits.is_sorted() && bits.iter().all(|bit| *bit < 32));
        bits.dedup();
        assert_eq!(bits.len(), names.bits.len());
    }
}
