//! Reports of a memory balloon (VIRTIO 1.3, §5.5.6.7): what is given back lies in what was reported.

use calve_vmm::virtio::Backend;

use crate::Seeds;
use crate::chains::{Program, run};

/// The queue that free pages are reported in.
const REPORTING: u8 = 2;

pub fn fuzz(data: &[u8]) {
    run(data, &|| Some(Backend::Balloon), true);
}

pub fn seeds() -> Seeds {
    let marked = |event_idx| {
        Program::new(event_idx).store(0x8000, &[7; 0x3000]).store(0x2_0000, &[8; 0x2000])
    };
    let report = [(0x8000, 0x1000, true), (0x2_0000, 0x2000, true)];
    let odd = [(0x8fff, 0x1002, true), (0x0_f000, 0x2000, true), (0x1_7000, 0x9000, true)];
    vec![
        ("report", marked(false).chain(REPORTING, 0, &report).done()),
        (
            "report-with-event-index",
            marked(true).event(2, 0, 1).chain(2, 3, &report).reload().done(),
        ),
        ("odd-ranges", marked(true).chain(REPORTING, 0, &odd).done()),
        ("read-only-range", marked(false).chain(REPORTING, 0, &[(0x8000, 0x1000, false)]).done()),
        ("inflate", marked(false).chain(0, 0, &[(0x8000, 16, false)]).restart().done()),
    ]
}
