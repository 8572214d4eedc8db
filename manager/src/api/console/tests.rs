use super::*;

/// The policy allows none of this; a browser would say so only where somebody looks.
#[test]
fn the_page_is_made_of_its_own_files() {
    for asset in &ASSETS {
        let text = asset.text.replace("http://www.w3.org/2000/svg", "");
        for word in ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "eval("]
        {
            assert!(!text.contains(word), "{} has {word}", asset.path);
        }
    }
    let page = ASSETS[0].text;
    for word in [" onclick", " onsubmit", " onload", " style=", "<style", "javascript:"] {
        assert!(!page.contains(word), "the page has{word}");
    }
    for asset in &ASSETS[1..] {
        assert!(page.contains(&format!("\"{}\"", asset.path)), "{} is not used", asset.path);
    }
}

#[test]
fn every_file_comes_with_the_policy() {
    for asset in &ASSETS {
        let response = asset.response();
        let header = |name: HeaderName| response.headers()[name].to_str().unwrap().to_owned();
        let policy = header(header::CONTENT_SECURITY_POLICY);
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header(header::X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert_eq!(header(header::REFERRER_POLICY), "no-referrer");
    }
}
