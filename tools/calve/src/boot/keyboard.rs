//! What keys mean.
//!
//! On a terminal Ctrl-A is special, as in QEMU: Ctrl-A x ends the machine, Ctrl-A Ctrl-A types one Ctrl-A. From a pipe
//! every byte is the guest's.

/// Ctrl-A.
const ESCAPE: u8 = 0x01;

/// What a few keys came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// They are the guest's, if anything.
    Typed,
    /// The machine is to end.
    End,
}

/// Remembers a Ctrl-A until the next key.
#[derive(Debug)]
pub(super) struct Keyboard {
    escapes: bool,
    escaped: bool,
}

impl Keyboard {
    /// With `escapes`, Ctrl-A is special.
    pub(super) fn new(escapes: bool) -> Self {
        Self { escapes, escaped: false }
    }

    /// Adds to `guest` what the guest is to get of `keys`.
    pub(super) fn take(&mut self, keys: &[u8], guest: &mut Vec<u8>) -> Key {
        for &key in keys {
            match (std::mem::take(&mut self.escaped), key) {
                (true, b'x') => return Key::End,
                (false, ESCAPE) if self.escapes => self.escaped = true,
                (true, ESCAPE) | (false, _) => guest.push(key),
                (true, _) => guest.extend([ESCAPE, key]),
            }
        }
        Key::Typed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(escapes: bool, keys: &[u8]) -> (Key, Vec<u8>) {
        let mut guest = Vec::new();
        let key = Keyboard::new(escapes).take(keys, &mut guest);
        (key, guest)
    }

    #[test]
    fn ctrl_a_x_ends_and_ctrl_a_twice_is_one() {
        assert_eq!(typed(true, b"ls\r\x01x"), (Key::End, b"ls\r".to_vec()));
        assert_eq!(typed(true, b"\x01\x01x"), (Key::Typed, b"\x01x".to_vec()));
        assert_eq!(typed(true, b"\x01b"), (Key::Typed, b"\x01b".to_vec()));
        assert_eq!(typed(false, b"\x01x"), (Key::Typed, b"\x01x".to_vec()));
    }

    #[test]
    fn an_escape_may_be_split_over_two_reads() {
        let mut keyboard = Keyboard::new(true);
        let mut guest = Vec::new();
        assert_eq!(keyboard.take(b"\x01", &mut guest), Key::Typed);
        assert_eq!(keyboard.take(b"x", &mut guest), Key::End);
        assert_eq!(guest, b"");
    }
}
