use super::*;
use crate::failure::Status;
use calve_proto::ErrorKind;

fn call(result: Result<&str, CallError>) -> Call {
    Call {
        result: result.map(|text| one_line(text.into()).unwrap()),
        machine: Some("m-1".into()),
        thaw_us: Some(5),
        first_output_us: Some(9),
        private_kib: Some(700),
    }
}

#[test]
fn a_result_is_printed_as_it_came() {
    let call = call(Ok("{\"b\": 1.50,\n \"a\": 1e999}"));
    assert_eq!(call.line(false).unwrap(), "{\"b\": 1.50,  \"a\": 1e999}");
}

#[test]
fn the_object_has_exactly_the_documented_fields() {
    assert_eq!(
        call(Ok("[1]")).line(true).unwrap(),
        r#"{"result":[1],"error":null,"machine":"m-1","thaw_us":5,"first_output_us":9,"private_kib":700}"#
    );
}

#[test]
fn a_function_s_error_is_an_object_either_way() {
    let mut error = FunctionError::new(ErrorKind::Handler, "KeyError", "'width'");
    error.stack_trace.push("app.py:3".into());
    let call = call(Err(CallError::Function(error)));
    let object = r#"{"errorType":"KeyError","errorMessage":"'width'","stackTrace":["app.py:3"]}"#;
    assert_eq!(call.line(false).unwrap(), object);
    assert_eq!(
        call.line(true).unwrap(),
        format!(
            r#"{{"result":null,"error":{object},"machine":"m-1","thaw_us":5,"first_output_us":9,"private_kib":700}}"#
        )
    );
}

#[test]
fn a_machine_s_failure_keeps_the_line_count() {
    let call =
        Call::unanswered(CallError::Machine(Failure::new(Status::Machine, "no answer")), None);
    let line = call.line(true).unwrap();
    assert!(line.contains(r#""errorMessage":"no answer""#) && line.contains(r#""machine":null"#));
    assert!(call.line(false).unwrap().starts_with(r#"{"errorType":"Calve.MachineFailed""#));
}

#[test]
fn what_is_not_json_is_no_result() {
    for bad in [&b"oops"[..], b"", b"{\"a\":1} x", b"\"a\nb\"", b"\xff"] {
        assert!(one_line(bad.to_vec()).is_none(), "{bad:?}");
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(one_line(deep.into_bytes()).is_some());
}
