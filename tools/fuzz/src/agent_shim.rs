//! Frames of our own shims, in whose process the function's code may write, too.

use crate::Seeds;
use crate::input::{Input, Output};

pub fn fuzz(data: &[u8]) {
    calve_agent::fuzzing::shim_frames(Input::new(data).pieces());
}

pub fn seeds() -> Seeds {
    let frame = |kind: u8, payload: &[u8]| {
        let len = u32::try_from(payload.len()).expect("a short payload");
        Output::new().u8(kind).u32(len).raw(payload).done()
    };
    let error = br#"{"errorType":"E","errorMessage":"m","stackTrace":["a","b"],"kind":"handler"}"#;
    let all = [
        frame(b'R', b""),
        frame(b'V', b"{}"),
        frame(b'X', error),
        frame(b'F', b"2"),
        frame(b'S', b""),
        frame(b'T', b""),
        frame(b'H', error),
        frame(b'D', error),
    ];
    let whole = all.concat();
    vec![
        ("all", Output::new().bytes(&whole).done()),
        ("in-two", Output::new().bytes(&whole[..40]).bytes(&whole[40..]).done()),
        ("init-failed", Output::new().bytes(&frame(b'E', error)).done()),
        ("no-number", Output::new().bytes(&frame(b'F', b"x")).done()),
        ("too-long", Output::new().bytes(&[b'V', 0xff, 0xff, 0xff, 0xff, 1]).done()),
    ]
}
