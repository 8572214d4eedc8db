//! Whose events go to whose functions.

use super::*;

const QUEUE: &str = r#"{"kind":"queue","name":"q"}"#;

#[test]
fn functions_of_others_cannot_be_mapped() {
    let host = Host::new();
    let kind: Kind = serde_json::from_str(QUEUE).unwrap();
    let of_b = format!("arn:aws:lambda:{REGION}:{}:function:g", account("b"));
    for function in ["g", &of_b, "missing", "f:7", "f:no-alias"] {
        let draft = Draft { function: function.into(), enabled: true, kind: kind.clone() };
        let error = host.events.create(&caller("a"), draft).unwrap_err();
        assert_eq!(error.name, "ResourceNotFoundException", "{function}");
        let live = host.add(&QUEUE.replace("\"q\"", "\"other\""));
        let change = Change { function: Some(function.into()), ..Change::default() };
        let error = host.events.update(&caller("a"), &live.source.id, change).unwrap_err();
        assert_eq!(error.name, "ResourceNotFoundException", "{function}");
        host.events.delete(&caller("a"), &live.source.id).unwrap();
    }
}

#[test]
fn sources_of_others_are_not_there() {
    let host = Host::new();
    let live = host.add(QUEUE);
    let (b, id) = (caller("b"), live.source.id.as_str());
    let change = Change { enabled: Some(false), ..Change::default() };
    for error in [
        host.events.get(&b, id).unwrap_err(),
        host.events.update(&b, id, change).unwrap_err(),
        host.events.delete(&b, id).unwrap_err(),
        host.events.put(&b, "q", vec![Value::Null]).unwrap_err(),
    ] {
        assert_eq!(error.name, "ResourceNotFoundException");
    }
    assert!(host.events.list(&b).unwrap().is_empty());
    assert_eq!(host.events.list(&caller("a")).unwrap().len(), 1);
}

#[tokio::test]
async fn nothing_is_delivered_to_functions_of_others() {
    let host = Host::new();
    host.add(r#"{"kind":"file-drop","folder":"inbox"}"#);
    host.add(QUEUE);
    host.stolen.store(true, Ordering::SeqCst);
    let sources = Sources::start(host.events.clone()).unwrap();
    write(&host.inbox(), "x", "content");
    let error = host.events.put(&caller("a"), "q", vec![Value::Null]).unwrap_err();
    assert_eq!(error.name, "AccessDeniedException");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((host.waiting(), count(&host.inbox())), (0, 1));
    host.stolen.store(false, Ordering::SeqCst);
    host.wait_for(1).await;
    sources.stop().await;
}

#[test]
fn a_message_is_authorised_once_more() {
    let host = Host::new();
    let live = host.add(QUEUE);
    host.events.put(&caller("a"), "q", vec![Value::Null]).unwrap();
    let message = host.messages().remove(0);
    let authorise = |message: &Message| host.events.authorise(message);
    assert_eq!(authorise(&message), Ok(()));
    let of_none = Message { source: String::new(), ..message.clone() };
    assert_eq!(authorise(&of_none), Ok(()));
    let foreign = Message { tenant: "b".into(), function: "g".into(), ..message.clone() };
    assert_eq!(authorise(&foreign), Err(Refusal::Foreign));
    let gone = Message { function: "gone".into(), ..message.clone() };
    assert_eq!(authorise(&gone), Err(Refusal::NoFunction));
    host.stolen.store(true, Ordering::SeqCst);
    assert_eq!(authorise(&message), Err(Refusal::Foreign));
    host.stolen.store(false, Ordering::SeqCst);
    host.set_enabled(&live, false);
    assert_eq!(authorise(&message), Ok(()));
    host.events.delete(&caller("a"), &live.source.id).unwrap();
    assert_eq!(authorise(&message), Err(Refusal::NoSource));
}

#[tokio::test]
async fn sources_go_with_their_function() {
    let host = Host::new();
    host.add(QUEUE);
    host.add(r#"{"kind":"file-drop","folder":"inbox"}"#);
    let sources = Sources::start(host.events.clone()).unwrap();
    host.ledger.remove_function("a", "f").unwrap();
    host.ledger.put_function(&function("a", "f")).unwrap();
    assert!(host.events.list(&caller("a")).unwrap().is_empty());
    // Nobody has called refresh: it is noticed.
    write(&host.inbox(), "x", "content");
    assert!(host.events.put(&caller("a"), "q", vec![Value::Null]).is_err());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(host.waiting(), 0);
    assert!(host.events.registry.hold().is_empty());
    sources.stop().await;
}
