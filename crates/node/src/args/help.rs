//! The text of `-help`.

use super::Args;
use super::options::{DEBUG_ONLY, Group};

/// Width of the text, in columns.
const WIDTH: usize = 79;
/// Columns an option's name is set in by.
const NAME_INDENT: usize = 2;
/// Columns an option's text is set in by.
const TEXT_INDENT: usize = 7;

/// All options under their headings, in Core's layout.
#[must_use]
pub fn help_message(args: &Args) -> String {
    let show_debug = args.bool("help-debug").unwrap_or(false);
    let mut out = String::new();
    for (group, heading) in Group::HEADINGS {
        let mut opts: Vec<_> = args
            .known()
            .filter(|opt| opt.group == group && (show_debug || opt.flags & DEBUG_ONLY == 0))
            .collect();
        if opts.is_empty() || (group == Group::WalletDebug && !show_debug) {
            continue;
        }
        opts.sort_by_key(|opt| opt.name);
        out.push_str(heading);
        out.push_str("\n\n");
        for opt in opts {
            let dash = if group.is_commands() { "" } else { "-" };
            out.push_str(&format!("{:NAME_INDENT$}{dash}{}{}\n", "", opt.name, opt.param));
            out.push_str(&paragraph(opt.help));
            out.push_str("\n\n");
        }
    }
    out
}

/// Text broken at blanks and set in.
fn paragraph(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        if column > 0 && column + 1 + word.len() > WIDTH {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.push_str(&" ".repeat(TEXT_INDENT));
            column = TEXT_INDENT;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out
}
