//! Finds the name that was meant.

/// The known name nearest to `name`, if one is near enough to be a slip of the finger.
pub(crate) fn nearest<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    /// Jaro–Winkler similarity above which clap, too, makes a suggestion.
    const NEAR: f64 = 0.7;
    let scored = known.iter().map(|k| (strsim::jaro_winkler(name, k), k.as_str()));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(score, _)| *score > NEAR).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_found_and_strangers_are_not() {
        let known = ["resize", "greet", "resize-v2"].map(String::from);
        assert_eq!(nearest("resise", &known), Some("resize"));
        assert_eq!(nearest("great", &known), Some("greet"));
        assert_eq!(nearest("xyz", &known), None);
        assert_eq!(nearest("a", &[]), None);
    }
}
