use std::io::Write;
use std::os::unix::fs::FileExt;

use vm_memory::Bytes;

use super::*;

fn shape(mib: u32) -> Shape {
    Shape::new(mib, 1, 0).unwrap()
}

#[test]
fn small_memory_is_one_region() {
    assert_eq!(regions(&shape(128)), [Region { gpa: 0, size: 128 << 20, file_offset: 0 }]);
    assert_eq!(regions(&shape(3072)).len(), 1);
}

#[test]
fn memory_over_three_gib_goes_on_above_the_hole() {
    let regions = regions(&shape(3073));
    assert_eq!(regions[0], Region { gpa: 0, size: HOLE_START, file_offset: 0 });
    assert_eq!(regions[1], Region { gpa: HOLE_END, size: 1 << 20, file_offset: HOLE_START });
}

#[test]
fn a_filled_range_lies_in_its_memfd() {
    let mut ram = Ram::reserve(&shape(3080)).unwrap();
    ram.fill().unwrap();
    ram.guest().write_obj(0xabcd_u64, GuestAddress(HOLE_END + 64)).unwrap();
    let mut found = [0; 8];
    ram.memfd().unwrap().read_exact_at(&mut found, HOLE_START + 64).unwrap();
    assert_eq!(u64::from_le_bytes(found), 0xabcd);
}

#[test]
fn writes_to_a_mapped_snapshot_stay_private() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"frozen").unwrap();
    file.set_len(2 << 20).unwrap();
    let mut ram = Ram::reserve(&shape(2)).unwrap();
    ram.map(std::slice::from_ref(&file), &MemoryPlan::whole(2 << 20)).unwrap();
    let mut seen = [0; 6];
    ram.guest().read_slice(&mut seen, GuestAddress(0)).unwrap();
    assert_eq!(&seen, b"frozen");
    ram.guest().write_slice(b"thawed", GuestAddress(0)).unwrap();
    file.read_exact_at(&mut seen, 0).unwrap();
    assert_eq!(&seen, b"frozen");
}

#[test]
fn a_memory_file_of_another_size_is_refused() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let error = Ram::reserve(&shape(2))
        .unwrap()
        .map(std::slice::from_ref(&file), &MemoryPlan::whole(2 << 20));
    let error = error.unwrap_err();
    assert!(matches!(error, MemoryError::Size { found: 0x10_0000, wanted: 0x20_0000 }));
}

#[test]
fn only_what_is_planned_is_mapped() {
    let file = tempfile::tempfile().unwrap();
    let mut shape_file = vec![7_u8; 2 << 20];
    shape_file[..4096].fill(9);
    file.write_all_at(&shape_file, 0).unwrap();
    let shape = shape(2);
    let mut ram = Ram::reserve(&shape).unwrap();
    let of = |file, offset, len| Mapped { file, at: Stretch { offset, len } };
    let mapped = vec![of(0, 0, 4096), of(1, 1 << 20, 8192), of(0, (1 << 20) + 8192, 4096)];
    let plan = MemoryPlan { mapped, touched: Vec::new() };
    let upper = tempfile::tempfile().unwrap();
    upper.set_len(2 << 20).unwrap();
    upper.write_all_at(&[3; 4096], 1 << 20).unwrap();
    let files = [file, upper];
    ram.map(&files, &plan).unwrap();
    ram.cut(&plan).unwrap();
    let byte = |at: u64| ram.guest().read_obj::<u8>(GuestAddress(at)).unwrap();
    let places = [0, 4096, 1 << 20, (1 << 20) + 4096, (1 << 20) + 8192, (1 << 20) + 12288];
    // The second page of the upper file's stretch is a hole of it: zeros, whatever lies below.
    assert_eq!(places.map(byte), [9, 0, 3, 0, 7, 0]);
    assert!(matches!(
        Ram::reserve(&shape).unwrap().map(&files[..1], &plan),
        Err(MemoryError::Plan(PlanError::File(1)))
    ));
}

#[test]
fn a_stretch_over_the_hole_is_in_two_places() {
    let ram = Ram::reserve(&shape(3080)).unwrap();
    let stretch = Stretch { offset: HOLE_START - 4096, len: 3 * 4096 };
    let places: Vec<_> = ram.places(stretch).map(|(_, gpa, len)| (gpa, len)).collect();
    assert_eq!(places, [(HOLE_START - 4096, 4096), (HOLE_END, 8192)]);
    assert_eq!(ram.places(Stretch { offset: 3080 << 20, len: 4096 }).count(), 0);
}
