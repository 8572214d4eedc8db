//! The format is pinned, round-trips, and survives hostile bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::golden_state;

fn section(name: &str, version: u16, bytes: &[u8]) -> Section {
    Section { name: name.into(), version, bytes: bytes.into() }
}

fn golden() -> State {
    let vcpu = section("vcpu.0", 3, &[0xde, 0xad, 0xbe, 0xef]);
    let sections = vec![vcpu, section("vmgenid-x", 256, &[])];
    State::new(Architecture::X86_64, sections).unwrap()
}

fn with(change: impl FnOnce(&mut Vec<u8>)) -> Result<State, StateError> {
    let mut bytes = golden_state();
    change(&mut bytes);
    State::try_from(&bytes[..])
}

#[test]
fn golden_bytes_are_read_and_written() {
    assert_eq!(State::try_from(&golden_state()[..]), Ok(golden()));
    assert_eq!(golden().encode(), golden_state());
}

#[test]
fn header_is_checked_field_by_field() {
    assert_eq!(State::try_from(&[][..]), Err(StateError::Magic));
    assert_eq!(with(|b| b[0] ^= 1), Err(StateError::Magic));
    assert_eq!(with(|b| b[8] = 2), Err(StateError::Version(2)));
    assert_eq!(with(|b| b[10] = 63), Err(StateError::Architecture(63)));
    assert_eq!(with(|b| b[14] = 1), Err(StateError::TooManySections(65538)));
    assert_eq!(with(|b| b[20] = 1), Err(StateError::TooLong((1 << 32) + 57)));
    assert_eq!(with(|b| b[16] = 56), Err(StateError::Length { promised: 56, found: 57 }));
}

#[test]
fn lengths_are_bounded_by_what_is_there() {
    // The name, then the bytes, of the first section reach beyond the end.
    assert_eq!(with(|b| b[24] = 0), Err(StateError::Name));
    assert_eq!(with(|b| b[24] = 64), Err(StateError::Truncated));
    assert_eq!(with(|b| b[33] = 255), Err(StateError::Truncated));
    assert_eq!(with(|b| b[36] = 255), Err(StateError::Truncated));
    // One section more, one fewer.
    assert_eq!(with(|b| b[12] = 3), Err(StateError::Truncated));
    assert_eq!(with(|b| b[12] = 1), Err(StateError::Trailing));
}

#[test]
fn every_truncation_and_extension_is_refused() {
    for len in 0..golden_state().len() {
        assert!(with(|b| b.truncate(len)).is_err(), "{len}");
        // Also with a header that admits to the truncation.
        let honest = with(|b| {
            b.truncate(len);
            b.get_mut(16..17).into_iter().for_each(|l| l[0] = u8::try_from(len).unwrap());
        });
        assert!(honest.is_err(), "{len}");
    }
    assert!(with(|b| b.push(0)).is_err());
    assert_eq!(
        with(|b| {
            b.push(0);
            b[16] += 1;
        }),
        Err(StateError::Trailing)
    );
}

#[test]
fn names_are_valid_and_unique() {
    let new = |names: &[&str]| {
        let sections = names.iter().map(|name| section(name, 1, b"x")).collect();
        State::new(Architecture::X86_64, sections)
    };
    assert_eq!(new(&["a", "b", "a"]), Err(StateError::Duplicate("a".into())));
    for bad in ["", "A", "a/b", "a b", "ä", &"n".repeat(65)] {
        assert_eq!(new(&[bad]), Err(StateError::Name), "{bad}");
    }
    let twin =
        State { architecture: Architecture::X86_64, sections: vec![section("a", 1, b""); 2] };
    assert_eq!(State::try_from(&twin.encode()[..]), Err(StateError::Duplicate("a".into())));
}

#[test]
fn what_cannot_be_read_back_is_not_written() {
    let many = (0..=MAX_SECTIONS).map(|n| section(&n.to_string(), 1, b"")).collect();
    assert!(matches!(
        State::new(Architecture::X86_64, many),
        Err(StateError::TooManySections(1025))
    ));
    let large = vec![section("a", 1, &vec![0; MAX_STATE_LEN])];
    assert!(matches!(State::new(Architecture::X86_64, large), Err(StateError::TooLong(_))));
}

fn any_state() -> impl Strategy<Value = State> {
    let body = (any::<u16>(), vec(any::<u8>(), 0..200));
    let sections = proptest::collection::btree_map("[a-z0-9._-]{1,64}", body, 0..12);
    let architecture = prop_oneof![Just(Architecture::X86_64), Just(Architecture::Aarch64)];
    (architecture, sections).prop_map(|(architecture, sections)| {
        let section = |(name, (version, bytes))| Section { name, version, bytes };
        State::new(architecture, sections.into_iter().map(section).collect()).unwrap()
    })
}

proptest! {
    #[test]
    fn round_trip(state in any_state()) {
        prop_assert_eq!(State::try_from(&state.encode()[..]), Ok(state));
    }

    /// Whatever decodes is exactly what was encoded: there is one spelling of a state.
    #[test]
    fn damage_is_refused_or_means_something_else(
        state in any_state(), at in any::<prop::sample::Index>(), bit in 0..8u8,
    ) {
        let mut bytes = state.encode();
        *at.get_mut(&mut bytes) ^= 1 << bit;
        if let Ok(other) = State::try_from(&bytes[..]) {
            prop_assert_ne!(&other, &state);
            prop_assert_eq!(other.encode(), bytes);
        }
    }

    #[test]
    fn arbitrary_bodies_do_not_panic(count in any::<u32>(), body in vec(any::<u8>(), 0..300)) {
        let mut bytes = golden_state();
        bytes.truncate(HEADER_LEN);
        bytes.extend(body);
        let length = bytes.len() as u64;
        bytes[12..16].copy_from_slice(&(count % 2048).to_le_bytes());
        bytes[16..24].copy_from_slice(&length.to_le_bytes());
        if let Ok(state) = State::try_from(&bytes[..]) {
            prop_assert_eq!(state.encode(), bytes);
        }
    }
}
