//! Turns what clap says about a wrong command line into one line.
//!
//! clap answers with a paragraph, an optional tip, the usage and a hint at `--help`. All that matters fits in
//! `<what>; <tip>; see `calve … --help``.

use clap::error::ErrorKind;

/// Whether clap's "error" is the help or version text that was asked for.
pub(crate) fn is_answer(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// The error in one line, without a program name in front.
pub(crate) fn line(error: &clap::Error) -> String {
    let text = error.to_string();
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    ) {
        // The first has the whole help for a text, the second lists the subcommands.
        let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
        return format!("a command is missing; see `{} --help`", command(usage.unwrap_or("calve")));
    }
    let mut what = Vec::new();
    let mut tips = Vec::new();
    let mut help = String::from("calve");
    for line in text.lines().map(str::trim) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            help = command(usage);
            break;
        }
        match line.strip_prefix("tip: ") {
            Some(tip) => tips.push(tip),
            None if !line.is_empty() && !line.starts_with("For more information") => {
                what.push(line);
            }
            None => {}
        }
    }
    let what = what.join(" ");
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let tips: String = tips.iter().map(|tip| format!("; {tip}")).collect();
    format!("{what}{tips}; see `{help} --help`")
}

/// The leading words of a usage line that are commands.
fn command(usage: &str) -> String {
    let words = usage.split_whitespace();
    let words = words.take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
    words.collect::<Vec<_>>().join(" ")
}
