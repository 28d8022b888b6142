//! `[usb]` of `node.toml`: which sticks are read, and who is told of it.

use std::path::PathBuf;

use super::cx::Cx;
use super::mounts;
use super::read;
use super::tree::{Item, Table};
use super::types::UsbPolicy;

const KEYS: [&str; 5] = ["any_label", "unsigned", "led", "hook", "result"];

/// Longest name of a file.
const NAME: usize = 255;

/// Reads the table.
pub fn read(cx: &mut Cx, table: &Table) -> UsbPolicy {
    let mut usb = UsbPolicy::default();
    for (key, item) in &table.entries {
        let name = key.name.as_str();
        let switch = match name {
            "any_label" => &mut usb.any_label,
            "unsigned" => &mut usb.unsigned,
            "result" => &mut usb.result,
            "led" => {
                usb.led = led(cx, item);
                continue;
            }
            "hook" => {
                usb.hook = hook(cx, item);
                continue;
            }
            _ => {
                read::unknown_key(cx, key, "[usb]", &KEYS);
                continue;
            }
        };
        if let Some(value) = read::boolean(cx, item, name) {
            *switch = value;
        }
    }
    usb
}

/// The name of a folder in /sys/class/leds. Root writes there, so it must not lead anywhere else.
fn led(cx: &mut Cx, item: &Item) -> Option<String> {
    let text = read::text(cx, item, "led")?;
    let plain = |c: char| c.is_ascii_graphic() && c != '/';
    if text.len() <= NAME && text.chars().all(plain) && text != "." && text != ".." {
        return Some(text.to_owned());
    }
    cx.error(&item.at, format!("`{text}` is no LED"))
        .hint("a name that `ls /sys/class/leds` shows: \"green:usb\"");
    None
}

fn hook(cx: &mut Cx, item: &Item) -> Option<PathBuf> {
    let text = read::text(cx, item, "hook")?;
    let path = mounts::clean(text).filter(|path| path != "/");
    if path.is_none() {
        cx.error(
            &item.at,
            format!("`{text}` is no absolute path of a program"),
        )
        .hint("for example \"/usr/local/bin/beep\"");
    }
    path.map(PathBuf::from)
}
