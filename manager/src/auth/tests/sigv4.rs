//! Signatures: those of botocore 1.44.8 as they are, and others that have something wrong with them.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderValue, Request};

use super::signer::Signer;
use super::{ID, SECRET, keyring};
use crate::api::ApiError;
use crate::auth::{Caller, verify};

/// When the golden signatures were made.
fn then() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-11-28T12:00:00Z").unwrap().to_utc()
}

fn check_at(request: Request<Vec<u8>>, now: DateTime<Utc>) -> Result<Caller, ApiError> {
    let (parts, body) = request.into_parts();
    verify(&keyring().1, &parts, &Bytes::from(body), now)
}

fn check(request: Request<Vec<u8>>) -> Result<Caller, ApiError> {
    check_at(request, then())
}

fn signer() -> Signer<'static> {
    Signer { id: ID, secret: SECRET, service: "lambda", at: then() }
}

fn refused(request: Request<Vec<u8>>) -> (u16, &'static str, String) {
    let error = check(request).unwrap_err();
    (error.status.as_u16(), error.name, error.message)
}

/// Method, path and query, body, headers beside host and date, region, signature.
type Golden<'a> = (&'a str, &'a str, &'a [u8], &'a [(&'a str, &'a str)], &'a str, &'a str);

const ARN: &str = "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Ahello/invocations?Qualifier=prod";
const RAW_ARN: &str =
    "/2015-03-31/functions/arn:aws:lambda:us-east-1:123456789012:function:hello/invocations";
const UTF8: &str = "/2017-03-31/tags/arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Afunction%3Ahello%C3%A9%2e?tagKeys=%C3%A9";
const QUERY: &str = "/2015-03-31/functions/?MaxItems=10&Marker=a%2Fb%3D%20c&FunctionVersion=ALL&Empty=&tagKeys=b&tagKeys=a1&tagKeys=a";
const HASH: &str = "307113a9dd619f780f96c4afd2f42b24b012b517803750c93c99a812c20961c1";

#[test]
fn signatures_of_botocore_are_good() {
    let mega = vec![b'x'; 1 << 20];
    let event = [("x-amz-invocation-type", "Event"), ("x-amz-client-context", "e30=")];
    let json = [("content-type", "application/json")];
    let hash = [json[0], ("x-amz-content-sha256", HASH), ("x-odd", "  a   b  ")];
    #[rustfmt::skip]
    let golden: [Golden<'_>; 8] = [
        ("GET", "/2015-03-31/functions/", b"", &[], "us-east-1",
            "9058aec2401d327cd0f15c4e057d05cb76ca36b90c2c989d6d8665efdd627be3"),
        ("POST", ARN, br#"{"a":1}"#, &event, "us-east-1",
            "c62d4b2d496f43b19a221d3bad52583501a56597b7a742492f1ee3404746a6d9"),
        ("POST", RAW_ARN, b"{}", &[], "eu-central-1",
            "c8e0b10c21497a1f3f9a80f75aa7d856b6cacaa9550c77e49d9bba4d166d7ade"),
        ("GET", "/2015-03-31/functions/a%20b%2Bc+d%2Fe(1)*~", b"", &[], "us-east-1",
            "678ab83282d2e491017f71ebb3d69c27d416e80e1f02c786f1cdc8141210ee36"),
        ("GET", QUERY, b"", &[], "us-east-1",
            "6159e255406088f0a8e6eba35b86bb4e73e218aabae77aaac15990718645573a"),
        ("POST", "/2015-03-31/functions/hello/invocations", &mega, &json, "us-east-1",
            "c15936933db9b548c6f15a7639344a319f7ff462f604f9e8e89e81f620d52924"),
        ("PUT", "/2015-03-31/functions/hello/code", br#"{"ZipFile":""}"#, &hash, "us-east-1",
            "ea19f721b40fb24201742ee52ee3810c3aab6682644f6bf53c3264fd31e19c17"),
        ("GET", UTF8, b"", &[], "us-east-1",
            "87681229a4e46707f5d8a1a395fab7411256e1ae35f50e24c8b83d9769df2512"),
    ];
    for (method, target, body, headers, region, signature) in golden {
        let mut names = vec!["host", "x-amz-date"];
        names.extend(headers.iter().map(|(name, _)| name));
        names.sort_unstable();
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "127.0.0.1:9001")
            .header("x-amz-date", "20261128T120000Z")
            .header(
                "authorization",
                format!(
                    "AWS4-HMAC-SHA256 Credential={ID}/20261128/{region}/lambda/aws4_request, \
                     SignedHeaders={}, Signature={signature}",
                    names.join(";")
                ),
            );
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let caller = check(request.body(body.to_vec()).unwrap());
        let caller = caller.unwrap_or_else(|error| panic!("{method} {target}: {error}"));
        assert_eq!((caller.tenant.as_str(), caller.key.as_str()), ("acme", ID));
        assert_eq!((caller.account.as_str(), caller.root), ("123456789012", false));
    }
}

#[test]
fn what_is_tampered_with_is_refused() {
    let event = [("x-amz-invocation-type", "Event")];
    let good = || signer().sign("POST", ARN, &event, b"{}");
    check(good()).unwrap();
    let mut others: Vec<_> = std::iter::repeat_with(good).take(7).collect();
    others[0].body_mut().push(b' ');
    *others[1].uri_mut() = ARN.replace("hello", "hallo").parse().unwrap();
    *others[2].uri_mut() = ARN.replace("prod", "test").parse().unwrap();
    *others[3].uri_mut() = ARN.replace("%3Ahello", ":hello").parse().unwrap();
    *others[4].method_mut() = http::Method::DELETE;
    let other = HeaderValue::from_static("RequestResponse");
    others[5].headers_mut().insert("x-amz-invocation-type", other);
    others[6].headers_mut().insert("host", HeaderValue::from_static("example.org"));
    for (number, other) in others.into_iter().enumerate() {
        let (status, name, message) = refused(other);
        assert_eq!((status, name), (403, "InvalidSignatureException"), "{number}");
        assert!(message.starts_with("The request signature we calculated does not"), "{message}");
    }
}

#[test]
fn headers_are_not_added_on_the_way() {
    for header in ["x-amz-invocation-type", "x-calve-key"] {
        let mut request = signer().sign("POST", "/", &[], b"");
        request.headers_mut().insert(header, HeaderValue::from_static("Event"));
        let (status, name, message) = refused(request);
        assert_eq!((status, name), (403, "InvalidSignatureException"));
        assert_eq!(
            message,
            format!("'{header}' must be a 'SignedHeader' in the AWS Authorization.")
        );
    }
    let mut request = signer().sign("POST", "/", &[], b"");
    request.headers_mut().insert("x-amz-user-agent", HeaderValue::from_static("sdk"));
    check(request).unwrap();
}

#[test]
fn one_signature_is_good_for_one_path() {
    for path in ["/a/../b", "/a/..", "/./b", "//b", "/b//", "/a//b", "/.."] {
        let (status, name, _) = refused(signer().sign("GET", path, &[], b""));
        assert_eq!((status, name), (400, "InvalidRequestContentException"), "{path}");
    }
    for path in ["/a/.b/..c", "/a/%2E%2E/b", "/", "/a%2Fb/"] {
        check(signer().sign("GET", path, &[], b"")).unwrap();
    }
}

#[test]
fn clocks_may_differ_by_a_quarter_of_an_hour() {
    let signed = || signer().sign("GET", "/", &[], b"");
    let (within, beyond) = (TimeDelta::minutes(15), TimeDelta::seconds(901));
    check_at(signed(), then() + within).unwrap();
    check_at(signed(), then() - within).unwrap();
    let late = check_at(signed(), then() + beyond).unwrap_err();
    let early = check_at(signed(), then() - beyond).unwrap_err();
    assert_eq!((late.status.as_u16(), late.name), (403, "InvalidSignatureException"));
    assert_eq!(
        late.message,
        "Signature expired: 20261128T120000Z is now earlier than 20261128T120001Z (20261128T121501Z - 15 min.)"
    );
    assert_eq!(
        early.message,
        "Signature not yet current: 20261128T120000Z is still later than 20261128T115959Z (20261128T114459Z + 15 min.)"
    );
}

#[test]
fn keys_and_scopes_must_be_right() {
    let unknown = Signer { id: "AKIAAAAAAAAAAAAAAAAA", ..signer() };
    let unknown = refused(unknown.sign("GET", "/", &[], b""));
    let token = [("x-amz-security-token", "abc")];
    let session = refused(signer().sign("GET", "/", &token, b""));
    for (status, name, message) in [unknown, session] {
        assert_eq!((status, name), (403, "UnrecognizedClientException"));
        assert_eq!(message, "The security token included in the request is invalid.");
    }
    let secret = Signer { secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEX", ..signer() };
    let service = Signer { service: "s3", ..signer() };
    for (signer, text) in [(secret, "does not match"), (service, "correct service: 'lambda'")] {
        let (status, name, message) = refused(signer.sign("GET", "/", &[], b""));
        assert_eq!((status, name), (403, "InvalidSignatureException"));
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn a_claim_must_be_whole() {
    let claims = [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 Credential",
        "AWS4-HMAC-SHA256 Credential=AKIAABCDEFGHIJKLMNOP",
        "AWS4-HMAC-SHA256 Credential=A/B/C, SignedHeaders=host;x-amz-date, Signature=0",
        "AWS4-HMAC-SHA512 Credential=AKIAABCDEFGHIJKLMNOP/20261128/a/lambda/aws4_request",
        "Basic YTpi",
        "Bearer",
        "Bearer wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "",
    ];
    for claim in claims {
        let mut request = signer().sign("GET", "/", &[], b"");
        request.headers_mut().insert("authorization", HeaderValue::from_static(claim));
        let (status, name, message) = refused(request);
        assert_eq!((status, name), (400, "IncompleteSignatureException"), "{claim}: {message}");
    }
    let mut request = signer().sign("GET", "/", &[], b"");
    request.headers_mut().remove("authorization");
    let missing =
        (403, "MissingAuthenticationTokenException", "Missing Authentication Token".into());
    assert_eq!(refused(request), missing);
    let mut request = signer().sign("GET", "/", &[], b"");
    request.headers_mut().remove("x-amz-date");
    assert_eq!(refused(request).1, "IncompleteSignatureException");
    let mut request = signer().sign("GET", "/", &[], b"");
    request.headers_mut().insert("x-amz-date", HeaderValue::from_static("20260231T000000Z"));
    assert_eq!(refused(request).1, "IncompleteSignatureException");
}

#[test]
fn the_hash_in_a_header_is_that_of_the_body() {
    for hash in ["UNSIGNED-PAYLOAD", HASH] {
        let (_, name, message) =
            refused(signer().sign("PUT", "/", &[("x-amz-content-sha256", hash)], b"x"));
        assert_eq!(name, "InvalidSignatureException");
        assert!(message.starts_with("X-Amz-Content-SHA256"), "{message}");
    }
}

#[test]
fn a_bearer_has_id_and_secret() {
    let bearer = |text: String| {
        check(Request::builder().header("authorization", text).body(vec![1, 2, 3]).unwrap())
    };
    assert_eq!(bearer(format!("Bearer {ID}:{SECRET}")).unwrap().tenant, "acme");
    assert_eq!(bearer(format!("bearer {ID}:{SECRET}")).unwrap().tenant, "acme");
    let wrong = [
        format!("Bearer {ID}:{}", &SECRET[1..]),
        format!("Bearer {ID}:"),
        format!("Bearer {ID}:{SECRET}x"),
        format!("Bearer AKIAAAAAAAAAAAAAAAAA:{SECRET}"),
        format!("Bearer :{SECRET}"),
    ];
    for text in wrong {
        assert_eq!(bearer(text).unwrap_err().name, "UnrecognizedClientException");
    }
}

proptest::proptest! {
    /// Whatever a request has in it is refused, and nothing else happens.
    #[test]
    fn nonsense_is_refused(
        claim in "(AWS4-HMAC-SHA256|Bearer|) ?(Credential=[A-Z0-9/a-z]{0,40},? ?)?[ -~]{0,60}",
        date in "[0-9TZ:+-]{0,24}",
        path in "/[a-z%0-9./+]{0,20}(\\?[a-z%0-9=&]{0,20})?",
    ) {
        let request = Request::builder().uri(path).header("host", "a").header("x-amz-date", date);
        let request = request.header("authorization", claim).body(Vec::new()).unwrap();
        proptest::prop_assert!(check(request).is_err());
    }
}
