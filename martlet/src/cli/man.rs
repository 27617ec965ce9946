//! `man`: the manual page, made from the same words as `--help`.

use super::Cli;
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use std::io::{self, Write};

/// The whole manual in one page: what holds for every command, then a section per verb.
pub(super) fn page() -> io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page)?;
    verbs(&command, "martlet", &mut page)?;
    Ok(page)
}

/// The sections of the verbs below a command, in the order of its help.
fn verbs(command: &Command, path: &str, page: &mut Vec<u8>) -> io::Result<()> {
    for verb in command.get_subcommands().filter(|v| !v.is_hide_set()) {
        let path = format!("{path} {}", verb.get_name());
        if verb.has_subcommands() {
            verbs(verb, &path, page)?;
            continue;
        }
        section(verb.clone(), &path, page)?;
    }
    Ok(())
}

fn section(verb: Command, path: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let has_help = verb.get_about().is_some();
    // What holds for every command is said once.
    let verb = verb.mut_args(|arg| {
        let is_global = arg.is_global_set();
        arg.hide(is_global)
    });
    let man = Man::new(verb);
    let mut part = Vec::new();
    man.render_synopsis_section(&mut part)?;
    if has_help {
        man.render_description_section(&mut part)?;
    }
    man.render_options_section(&mut part)?;
    writeln!(page, ".SH \"{}\"", path.to_uppercase())?;
    for line in String::from_utf8_lossy(&part).lines() {
        match line.strip_prefix(".SH ") {
            // Below its verb.
            Some(title) => writeln!(page, ".SS {title}")?,
            None => writeln!(page, "{line}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_and_option_is_in_the_page() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        for part in [
            ".TH martlet",
            "MARTLET VOLUME SET",
            "MARTLET SNAPSHOT CREATE",
            "secret\\-file",
            "take\\-over",
            "checkpoint\\-interval",
        ] {
            assert!(page.contains(part), "{part} is not in:\n{page}");
        }
        let mut command = Cli::command();
        command.build();
        let count = |c: &Command| c.get_subcommands().filter(|s| !s.has_subcommands()).count();
        let groups = command.get_subcommands().filter(|s| s.has_subcommands());
        let verbs: usize = count(&command) + groups.map(count).sum::<usize>();
        let sections = page.matches(".SH \"MARTLET ").count();
        assert_eq!(sections, verbs);
        // Global options once, in the first part.
        assert!(page.matches("no\\-progress").count() <= 3, "{page}");
    }
}
