//! The checks accept what Python and Node answer, and nothing else.

use super::*;

#[test]
fn no_two_events_are_equal() {
    for function in [python(Path::new("/")), node(Path::new("/"))] {
        let mut events: Vec<_> = (0..1000).map(|n| function.event(n).to_string()).collect();
        events.sort_unstable();
        events.dedup();
        assert_eq!(events.len(), 1000, "{}", function.name);
    }
}

/// What numpy 2.3.5 found for call 7.
const EIGENVALUES: [f64; ROWS] = [
    193.84638647011943,
    203.31341308161893,
    210.68388992304466,
    215.5972139420044,
    221.05287795253096,
    221.8617207672159,
    227.73159500925334,
    235.2292790697845,
    240.02123850679504,
    241.00882668066066,
    245.03544772961138,
    250.9808301472197,
    256.0121637159476,
    259.72799884002933,
    261.8623385650589,
    263.11660221262304,
    265.8559227402517,
    270.3538785084061,
    275.98543101656827,
    280.6339125946287,
    283.9682638224002,
    288.3860094547504,
    296.273994321494,
    297.4607649279838,
];

fn refused(found: Result<(), String>) -> String {
    found.expect_err("taken for right")
}

#[test]
fn algebra_is_judged_as_numpy_would() {
    let solution: Vec<_> = system(7).1.into_iter().map(|x| f64::from(x) + 3e-13).collect();
    let answer = |solution: &[f64], eigenvalues: &[f64]| json!({ "solution": solution, "eigenvalues": eigenvalues });
    let right = answer(&solution, &EIGENVALUES);
    assert_eq!(check_algebra(7, &right), Ok(()));
    assert_eq!(refused(check_algebra(8, &right)), "the solution is wrong");

    let mut wrong = solution.clone();
    wrong[7] += 1e-3;
    assert_eq!(refused(check_algebra(7, &answer(&wrong, &EIGENVALUES))), "the solution is wrong");
    assert_eq!(refused(check_algebra(7, &answer(&[], &EIGENVALUES))), "the solution is wrong");
    // Of the right sum, but not of the right sum of squares.
    let mut wrong = EIGENVALUES;
    wrong[0] -= 1e-3;
    wrong[1] += 1e-3;
    assert_eq!(refused(check_algebra(7, &answer(&solution, &wrong))), "the eigenvalues are wrong");
    let none = json!({ "solution": "none" });
    assert_eq!(refused(check_algebra(7, &none)), "the result has no list of numbers");
}

#[test]
fn orders_are_judged_as_node_would() {
    // What Node 20 answered to call 7.
    let right = json!({
        "totals": {
            "floe": 33_640_436, "growler": 36_650_479, "iceberg": 62_276_508,
            "lead": 49_361_243, "névé": 49_160_758, "serac": 39_828_409,
        },
        "seal": "941985667c6e9e700a0d227f21cb781503065b6184e506ee088ef6e60cf7cc93",
    });
    assert_eq!(check_orders(7, &right), Ok(()));
    assert_eq!(refused(check_orders(8, &right)), "the totals are wrong");
    let mut forged = right.clone();
    forged["seal"] = "00".into();
    assert_eq!(refused(check_orders(7, &forged)), "the seal is wrong");
    assert_eq!(refused(check_orders(7, &Value::Null)), "the totals are wrong");
}
