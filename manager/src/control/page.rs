//! Lists in pages, as clients of Lambda ask for them. A marker is the key of the last item that was sent: what is added
//! or removed meanwhile does not lead to repetitions or gaps among the others.

use crate::api::ApiError;

/// What a client asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Paging<'a> {
    /// The last marker that it got.
    pub(crate) marker: Option<&'a str>,
    /// The most that it wants.
    pub(crate) most: Option<usize>,
}

/// A part of a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    /// Items, in order.
    pub(crate) items: Vec<T>,
    /// How to get those that follow, if any do.
    pub(crate) next: Option<String>,
}

/// The most items of one page, as Lambda has it, whatever the client asks for.
const MOST: usize = 50;

/// A page of `items`, which come in the order of their keys.
pub(crate) fn page<K: Ord, T>(
    items: impl Iterator<Item = (K, T)>,
    paging: Paging<'_>,
    read: impl Fn(&str) -> Option<K>,
    write: impl Fn(&K) -> String,
) -> Result<Page<T>, ApiError> {
    let most = match paging.most {
        Some(0) => return Err(ApiError::invalid("MaxItems is 0: it has to be 1 or more")),
        most => most.unwrap_or(MOST).min(MOST),
    };
    let after = match paging.marker {
        Some(marker) => Some(read(marker).ok_or_else(|| {
            ApiError::invalid("Marker is none of this list: send what NextMarker was, or nothing")
        })?),
        None => None,
    };
    let mut rest =
        items.filter(|(key, _)| after.as_ref().is_none_or(|after| key > after)).peekable();
    let mut page = Page { items: Vec::new(), next: None };
    while let Some((key, item)) = rest.next() {
        page.items.push(item);
        if page.items.len() == most {
            page.next = rest.peek().map(|_| write(&key));
            break;
        }
    }
    Ok(page)
}

/// Reads the marker of a list that is in the order of names.
#[expect(clippy::unnecessary_wraps, reason = "other lists have markers that can be malformed")]
pub(crate) fn name_marker(marker: &str) -> Option<String> {
    Some(marker.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(marker: Option<&str>, most: usize) -> Page<u32> {
        let items = (1..=5).map(|n| (n, n * 10));
        let paging = Paging { marker, most: Some(most) };
        page(items, paging, |text| text.parse().ok(), u32::to_string).unwrap()
    }

    #[test]
    fn pages_follow_each_other() {
        assert_eq!(some(None, 2), Page { items: vec![10, 20], next: Some("2".into()) });
        assert_eq!(some(Some("2"), 2), Page { items: vec![30, 40], next: Some("4".into()) });
        assert_eq!(some(Some("4"), 2), Page { items: vec![50], next: None });
        assert_eq!(some(None, 5).next, None);
    }

    #[test]
    fn refuses_what_makes_no_page() {
        let ask = |marker, most| {
            let items = std::iter::once((1, 1));
            page(items, Paging { marker, most }, |text| text.parse().ok(), i32::to_string)
        };
        assert!(ask(None, Some(0)).is_err());
        assert!(ask(Some("x"), None).is_err());
    }
}
