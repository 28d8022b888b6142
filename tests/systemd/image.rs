//! The app that the stories keep alive: Debian's static busybox, serving what its volume tells it to.
//!
//! It answers `/` and `/cgi-bin/healthz` on port 80. What happens to it, and how it answers, is in the
//! folder `/state`, which the stories mount from the machine:
//!
//! - `sick`: while this file is there, `healthz` answers 500;
//! - `log`: a line for each start, and for each SIGTERM.
//!
//! If it has a folder `/data`, each start adds the page to `/data/log`, before all else.

use std::path::Path;

use monopod::image::Digest;
use serde_json::json;

const APP: &str = r"#!/bin/sh
trap 'echo stopped >>/state/log; exit 0' TERM
if [ -d /data ]; then cat /www/index.html >>/data/log; fi
httpd -f -p 80 -h /www &
echo started >>/state/log
echo httpd is up
wait $!
";

const HEALTHZ: &str = r"#!/bin/sh
if [ -e /state/sick ]; then
  printf 'Status: 500 Sick\r\n\r\nsick\n'
else
  printf 'Content-Type: text/plain\r\n\r\nwell\n'
fi
";

/// Where the static busybox of Debian's package is.
const BUSYBOX: &str = "/bin/busybox";

/// Writes an archive, as `docker save` did until version 24, of the app with this page at `/`.
pub fn write(path: &Path, tag: &str, page: &str) {
    write_with(path, tag, &[("www/index.html", page.as_bytes())]);
}

/// As [`write`], with these files over the app's own, in a layer of theirs.
pub fn write_with(path: &Path, tag: &str, files: &[(&str, &[u8])]) {
    let layers = [app(), {
        let mut layer = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            add(&mut layer, name, bytes);
        }
        layer.into_inner().expect("memory can be written")
    }];
    let diff_ids = layers.each_ref().map(|layer| Digest::of(layer).to_string());
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture, "os": "linux", "created": "1970-01-01T00:00:00Z",
        "config": {"Cmd": ["/bin/app"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string();
    let config_name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let names = ["app/layer.tar", "over/layer.tar"];
    let manifest = json!([{"Config": config_name, "RepoTags": [tag], "Layers": names}]);
    let mut archive = tar::Builder::new(Vec::new());
    for (name, layer) in names.iter().zip(&layers) {
        add(&mut archive, name, layer);
    }
    add(&mut archive, &config_name, config.as_bytes());
    add(
        &mut archive,
        "manifest.json",
        manifest.to_string().as_bytes(),
    );
    let bytes = archive.into_inner().expect("memory can be written");
    std::fs::write(path, bytes).expect("the machine's files can be written");
}

/// The layer that all of them have.
fn app() -> Vec<u8> {
    let busybox = std::fs::read(BUSYBOX).expect("busybox-static is installed");
    let mut layer = tar::Builder::new(Vec::new());
    for folder in ["bin", "state", "tmp", "www", "www/cgi-bin"] {
        let mut header = header(tar::EntryType::Directory, 0);
        layer
            .append_data(&mut header, folder, std::io::empty())
            .expect("memory can be written");
    }
    let files: [(&str, &[u8]); 3] = [
        ("bin/busybox", &busybox),
        ("bin/app", APP.as_bytes()),
        ("www/cgi-bin/healthz", HEALTHZ.as_bytes()),
    ];
    for (name, bytes) in files {
        add(&mut layer, name, bytes);
    }
    for applet in ["cat", "echo", "httpd", "ls", "sh", "sleep"] {
        let mut header = header(tar::EntryType::Symlink, 0);
        layer
            .append_link(&mut header, format!("bin/{applet}"), "busybox")
            .expect("memory can be written");
    }
    layer.into_inner().expect("memory can be written")
}

fn header(kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_size(size);
    header.set_mtime(0);
    header
}

fn add(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = header(tar::EntryType::Regular, bytes.len() as u64);
    archive
        .append_data(&mut header, name, bytes)
        .expect("memory can be written");
}
