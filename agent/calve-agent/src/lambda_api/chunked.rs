//! Chunked request bodies (RFC 9112, section 7.1).

/// Longest line of a chunk's size with its extensions.
const MAX_LINE: usize = 4 << 10;

/// Most bytes of trailers: an error with its stack trace, in base64, is one.
const MAX_TRAILERS: usize = 64 << 10;

/// What is wrong with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ChunkError {
    /// It is not chunked as it says.
    Malformed,
    /// It is over its bound.
    TooLarge,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Size,
    Data(usize),
    DataEnd,
    Trailer(usize),
    Done,
}

/// Takes a chunked body apart as its bytes come.
#[derive(Debug)]
pub(super) struct Chunked {
    state: State,
    max: usize,
    /// Bytes of the body that have been announced.
    announced: usize,
    /// The trailer lines, as they came.
    trailers: Vec<u8>,
}

impl Chunked {
    /// For a body of at most `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        Self { state: State::Size, max, announced: 0, trailers: Vec::new() }
    }

    /// The trailers of a body that is complete (RFC 9112, section 7.1.2): lines with an empty one behind them, or nothing.
    pub(super) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Moves data from `input` to `body`. Returns how many bytes of `input` are used up, and whether the body is
    /// complete; what is not used is to be offered again with more behind it.
    pub(super) fn decode(
        &mut self,
        input: &[u8],
        body: &mut Vec<u8>,
    ) -> Result<(usize, bool), ChunkError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            match self.state {
                State::Size => {
                    let Some(line) = take_line(rest, MAX_LINE)? else { return Ok((used, false)) };
                    used += line.len() + 2;
                    let size = parse_size(line)?;
                    self.announced = self.announced.saturating_add(size);
                    if self.announced > self.max {
                        return Err(ChunkError::TooLarge);
                    }
                    self.state = if size == 0 { State::Trailer(0) } else { State::Data(size) };
                }
                State::Data(left) => {
                    if rest.is_empty() {
                        return Ok((used, false));
                    }
                    let n = left.min(rest.len());
                    body.extend_from_slice(&rest[..n]);
                    used += n;
                    self.state = if n == left { State::DataEnd } else { State::Data(left - n) };
                }
                State::DataEnd => match take_line(rest, MAX_LINE)? {
                    None => return Ok((used, false)),
                    Some(b"") => {
                        used += 2;
                        self.state = State::Size;
                    }
                    Some(_) => return Err(ChunkError::Malformed),
                },
                State::Trailer(seen) => {
                    let line = take_line(rest, MAX_TRAILERS)?;
                    let Some(line) = line else { return Ok((used, false)) };
                    used += line.len() + 2;
                    let seen = seen + line.len();
                    if seen > MAX_TRAILERS {
                        return Err(ChunkError::Malformed);
                    }
                    self.trailers.extend_from_slice(line);
                    self.trailers.extend_from_slice(b"\r\n");
                    self.state = if line.is_empty() { State::Done } else { State::Trailer(seen) };
                }
                State::Done => return Ok((used, true)),
            }
        }
    }
}

/// The first line of `input` without its CRLF, if it is complete; `longest` is one that is too long.
fn take_line(input: &[u8], longest: usize) -> Result<Option<&[u8]>, ChunkError> {
    match input.windows(2).take(longest).position(|w| w == b"\r\n") {
        Some(end) => Ok(Some(&input[..end])),
        None if input.len() > longest => Err(ChunkError::Malformed),
        None => Ok(None),
    }
}

/// `1a;name=value` → 26.
fn parse_size(line: &[u8]) -> Result<usize, ChunkError> {
    let digits = line.split(|&b| b == b';').next().unwrap_or_default();
    let text = std::str::from_utf8(digits).map_err(|_| ChunkError::Malformed)?.trim();
    // from_str_radix would take a sign.
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ChunkError::Malformed);
    }
    usize::from_str_radix(text, 16).map_err(|_| ChunkError::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIKI: &[u8] = b"4\r\nWiki\r\n5;x=1\r\npedia\r\n0\r\nTrailer: yes\r\n\r\nnext";

    #[test]
    fn a_body_in_any_pieces_is_the_same_body() {
        for piece in 1..WIKI.len() {
            let (mut chunked, mut body, mut input) = (Chunked::new(100), Vec::new(), Vec::new());
            let mut done = false;
            for bytes in WIKI.chunks(piece) {
                input.extend_from_slice(bytes);
                if !done {
                    let (used, complete) = chunked.decode(&input, &mut body).unwrap();
                    input.drain(..used);
                    done = complete;
                }
            }
            assert!(done, "pieces of {piece}");
            assert_eq!((&body[..], &input[..]), (&b"Wikipedia"[..], &b"next"[..]));
        }
    }

    #[test]
    fn trailers_are_kept() {
        let (mut chunked, mut body) = (Chunked::new(100), Vec::new());
        assert!(chunked.decode(WIKI, &mut body).unwrap().1);
        assert_eq!(chunked.trailers(), b"Trailer: yes\r\n\r\n");
    }

    #[test]
    fn a_body_that_is_taken_away_as_it_comes_is_bounded_all_the_same() {
        let mut chunked = Chunked::new(8);
        assert!(chunked.decode(b"5\r\nabcde\r\n", &mut Vec::new()).is_ok());
        let over = chunked.decode(b"5\r\nabcde\r\n", &mut Vec::new());
        assert_eq!(over, Err(ChunkError::TooLarge));
    }

    #[test]
    fn bounds_hold() {
        let decode = |input: &[u8]| Chunked::new(8).decode(input, &mut Vec::new());
        assert_eq!(decode(b"9\r\n"), Err(ChunkError::TooLarge));
        assert_eq!(decode(b"ffffffffffffffffffff\r\n"), Err(ChunkError::TooLarge));
        assert_eq!(decode(b"4\r\nabcd\r\n5\r\n"), Err(ChunkError::TooLarge));
        assert_eq!(decode(b"+4\r\n"), Err(ChunkError::Malformed));
        assert_eq!(decode(b"4\r\nabcdX\r\n"), Err(ChunkError::Malformed));
        assert_eq!(decode(&[b'0'; 5000]), Err(ChunkError::Malformed));
    }

    proptest! {
        #[test]
        fn hostile_bytes_stay_within_the_bound(input in proptest::collection::vec(any::<u8>(), 0..5_000)) {
            let mut body = Vec::new();
            if let Ok((used, _)) = Chunked::new(100).decode(&input, &mut body) {
                prop_assert!(used <= input.len());
            }
            prop_assert!(body.len() <= 100);
        }
    }
}
