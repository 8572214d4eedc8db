//! `manifest.json` and the working set. What is taken encodes to what decodes to the same.

use calve_snapshots::{Manifest, Workset};

use crate::Seeds;

/// The manifest that pins the format.
const GOLDEN: &str = include_str!("../../../snapshots/calve-snapshots/golden/manifest.json");

pub fn fuzz(data: &[u8]) {
    // A manifest begins with a brace; a working set here with the memory that it is of, in pages.
    if data.first() == Some(&b'{') {
        manifest(data);
    } else if let Some((pages, records)) = data.split_first_chunk::<4>() {
        workset(u32::from_le_bytes(*pages), records);
    }
}

fn manifest(data: &[u8]) {
    let Ok(manifest) = Manifest::try_from(data) else { return };
    // Spaces that JSON allows and we do not write may have hidden that it is too long to be written.
    let bytes = match manifest.encode() {
        Ok(bytes) => bytes,
        Err(error) => panic!("a manifest that was read cannot be written: {error}"),
    };
    assert_eq!(Manifest::try_from(&bytes[..]).expect("what was written can be read"), manifest);
    let memory = manifest.machine.memory.size();
    assert_eq!(memory, u64::from(manifest.machine.memory_mib) << 20);
    for layer in &manifest.layers {
        assert_eq!(layer.length, memory);
        let mut end = 0;
        for extent in layer.extents.iter().flatten() {
            assert!(extent.offset() >= end && extent.length() > 0);
            end = extent.offset().checked_add(extent.length()).expect("an end within memory");
            assert!(end <= memory);
        }
    }
    let _ = manifest.is_runtime();
}

fn workset(pages: u32, records: &[u8]) {
    let memory = u64::from(pages) * 4096;
    let Ok(workset) = Workset::decode(records, memory) else { return };
    assert_eq!(workset.encode(), records);
    let mut end = 0;
    for run in workset.runs() {
        assert!(run.pages > 0 && u64::from(run.first) >= end);
        end = u64::from(run.first) + u64::from(run.pages);
    }
    assert!(end <= u64::from(pages), "pages beyond the end of memory");
    let (touched, written) = workset.pages();
    assert!(written <= touched && touched <= u64::from(pages));
}

pub fn seeds() -> Seeds {
    let code = GOLDEN.replace("\"disks\": 1", "\"disks\": 2");
    let layers = GOLDEN.replace(
        "      \"runs\": 4\n    }\n",
        "      \"runs\": 4\n    },\n    {\"file\": \"memory.1\",\n      \"media_type\": \"application/vnd.calve.snapshot.memory.v1\",\n      \"digest\": \"sha256:0d238b811a9e5e6754c47a63e5e1d77dbcf9b76c51d0207e169d921a1442acc0\",\n      \"length\": 1048576, \"pages\": 1, \"runs\": 1, \"extents\": [[4096, 4096], [16384, 8192]]}\n",
    );
    let record = |first: u32, pages: u32| [first.to_le_bytes(), pages.to_le_bytes()].concat();
    let runs =
        [&1000_u32.to_le_bytes()[..], &record(0, 3), &record(3, 1 << 31 | 7), &record(900, 100)];
    vec![
        ("golden", GOLDEN.as_bytes().to_vec()),
        ("runtime", code.into_bytes()),
        ("layers", layers.into_bytes()),
        ("workset", runs.concat()),
    ]
}
