//! Writes the manual pages of the command line and the shells' completions into a folder, from the
//! definitions that the command line itself uses. Run by packaging/build; no part of the program.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use monopod::cli::Args;

/// What monopod(1) says beyond its options, in roff.
const MORE: &str = include_str!("man/monopod.more");

fn main() -> io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: pages FOLDER"));
    };
    let mut command = shown(&Args::command());
    for (shell, name) in [
        (Shell::Bash, "monopod.bash"),
        (Shell::Zsh, "_monopod"),
        (Shell::Fish, "monopod.fish"),
    ] {
        let mut file = File::create(folder.join(name))?;
        clap_complete::generate(shell, &mut command, "monopod", &mut file);
    }
    let mut command = shown(&Args::command()).disable_help_subcommand(true);
    command.build();
    pages(&folder, &command, MORE)
}

/// The command without its hidden verbs, which are not for people.
fn shown(whole: &Command) -> Command {
    let mut shown = Command::new("monopod").version(env!("CARGO_PKG_VERSION"));
    if let Some(about) = whole.get_about() {
        shown = shown.about(about.clone());
    }
    if let Some(more) = whole.get_after_help() {
        shown = shown.after_help(more.clone());
    }
    shown.args(whole.get_arguments().cloned()).subcommands(
        whole
            .get_subcommands()
            .filter(|verb| !verb.is_hide_set())
            .cloned(),
    )
}

/// Writes the page of a command, ending in `more`, and those of its verbs.
fn pages(folder: &Path, command: &Command, more: &str) -> io::Result<()> {
    let man = Man::new(command.clone())
        .title(command.get_display_name().unwrap_or("monopod"))
        .date("")
        .source(concat!("monopod ", env!("CARGO_PKG_VERSION")))
        .manual("monopod");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        sections(&text.to_string()).to_writer(&mut page)?;
    }
    page.write_all(more.as_bytes())?;
    fs::write(folder.join(man.get_filename()), page)?;
    for verb in command.get_subcommands() {
        pages(folder, verb, ".SH \"SEE ALSO\"\n.BR monopod (1)\n")?;
    }
    Ok(())
}

/// What stands below a command's options, as sections: a heading ends in a colon and begins its
/// line; indented lines are shown as they are.
fn sections(text: &str) -> Roff {
    let mut roff = Roff::new();
    let mut literal = false;
    for line in text.lines() {
        let indented = line.starts_with(' ');
        if literal && !indented {
            roff.control("fi", []).control("RE", []);
            literal = false;
        }
        if indented && !literal {
            roff.control("RS", ["4"]).control("nf", []);
            literal = true;
        }
        if indented || line.is_empty() {
            if !line.is_empty() {
                roff.text([roman(line.trim_start())]);
            }
        } else if let Some((heading, rest)) = line.split_once(':') {
            roff.control("SH", [heading.to_uppercase().as_str()]);
            if !rest.is_empty() {
                roff.text([roman(rest.trim_start())]);
            }
        } else {
            roff.text([roman(line)]);
        }
    }
    if literal {
        roff.control("fi", []).control("RE", []);
    }
    roff
}
