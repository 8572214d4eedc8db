use std::io::Write;
use std::os::unix::net::UnixStream;

use super::*;

#[test]
fn every_token_survives_the_kernel() {
    let mut all = vec![Token::ApiConnection(0), Token::ApiConnection(u32::MAX)];
    all.extend([Token::Signals, Token::Listener, Token::Control, Token::Stdout, Token::Stderr]);
    all.extend([Token::Shim, Token::ApiListener]);
    for token in all {
        assert_eq!(Token::decode(token.encode()), Some(token));
    }
    assert_eq!(Token::decode(7), None);
}

#[test]
fn a_source_without_interest_stays_silent_even_when_hung_up() {
    let poll = Poll::new().unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut watch = Watch::new(Token::Control);
    poll.set(&mut watch, &ours, Interest::READ).unwrap();
    theirs.write_all(b"x").unwrap();
    assert_eq!(poll.wait(None).unwrap(), [Token::Control]);
    poll.set(&mut watch, &ours, Interest::default()).unwrap();
    drop(theirs);
    assert!(poll.wait(Some(Instant::now())).unwrap().is_empty());
    poll.set(&mut watch, &ours, Interest::READ).unwrap();
    assert_eq!(poll.wait(None).unwrap(), [Token::Control]);
}

#[test]
fn a_deadline_has_passed_when_the_wait_is_over() {
    let deadline = Instant::now() + Duration::from_micros(1_500);
    Poll::new().unwrap().wait(Some(deadline)).unwrap();
    assert!(Instant::now() >= deadline);
}
