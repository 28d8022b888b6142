//! The tables of known names, and the nearest to a mistyped one.
//!
//! Capabilities are those of `linux/capability.h`, limits those of go-units,
//! signals those of `signal(7)`, Compose keys those of its specification.

/// The nearest of `known`, if it is near enough to be what was meant.
pub fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    if name.len() > 64 {
        return None;
    }
    let folded = name.to_lowercase().replace('-', "_");
    known
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&folded, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| {
            let length = candidate.len().max(folded.len());
            *distance <= (length / 3).clamp(1, 3) && *distance < candidate.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Linux capabilities without `CAP_`.
pub const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Signals with the numbers that they have on x86 and ARM.
pub const SIGNALS: [(&str, u8); 31] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
];

/// Resource limits.
pub const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Kernel parameters outside `net.` and `fs.mqueue.` that belong to a container's namespaces.
pub const SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// Mount options that the engine takes for a tmpfs, without their values.
pub const TMPFS_OPTIONS: [&str; 21] = [
    "size",
    "mode",
    "uid",
    "gid",
    "nr_inodes",
    "nr_blocks",
    "mpol",
    "ro",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "sync",
    "async",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
];

/// Keys of the whole workload.
pub const WORKLOAD_KEYS: [&str; 3] = ["name", "containers", "volumes"];

/// Keys of a volume.
pub const VOLUME_KEYS: [&str; 2] = ["snapshot", "snapshot_limit"];

/// Keys of a container.
pub const CONTAINER_KEYS: [&str; 40] = [
    "image",
    "command",
    "entrypoint",
    "environment",
    "env_file",
    "ports",
    "volumes",
    "tmpfs",
    "devices",
    "network_mode",
    "user",
    "group_add",
    "working_dir",
    "hostname",
    "extra_hosts",
    "dns",
    "cap_add",
    "cap_drop",
    "privileged",
    "read_only",
    "security_opt",
    "init",
    "shm_size",
    "ulimits",
    "sysctls",
    "mem_limit",
    "mem_reservation",
    "cpus",
    "pids_limit",
    "oom_score_adj",
    "stop_signal",
    "stop_grace_period",
    "labels",
    "logging",
    "depends_on",
    "runtime",
    "gpus",
    "healthcheck",
    "secrets",
    "files",
];

/// Keys of a health check.
pub const HEALTH_KEYS: [&str; 15] = [
    "http",
    "tcp",
    "test",
    "notify",
    "disable",
    "interval",
    "timeout",
    "retries",
    "start_period",
    "start_interval",
    "status",
    "body",
    "headers",
    "scheme",
    "tls",
];

/// What to do in place of a Compose key that monopod does not have.
pub fn compose_hint(key: &str) -> Option<&'static str> {
    Some(match key {
        "restart" => {
            "monopod owns restarts: how far they go is in [escalation] of node.toml; remove this line"
        }
        "build" => {
            "monopod runs finished images: build elsewhere, `docker save` the image and `monopod import` it"
        }
        "pull_policy" => {
            "monopod runs what is in its store or the engine; bring images with `monopod import`"
        }
        "platform" => "monopod runs the image that was imported; import the one for this node",
        "profiles" => {
            "every container of the workload runs; leave out what this node does not need"
        }
        "scale" => "each container runs once; remove this line",
        "deploy" => {
            "write its limits as mem_limit, mem_reservation, cpus and pids_limit; each container runs once"
        }
        "container_name" => "the engine's name is WORKLOAD-CONTAINER; remove this line",
        "networks" => "the containers share a private network already; see network_mode for others",
        "links" | "external_links" => {
            "on the private network containers reach each other by name; use depends_on for the order"
        }
        "expose" => {
            "on the private network every port is reachable; use ports to publish one on the host"
        }
        "configs" => "write small files into `files`, or mount them with `volumes`",
        "volumes_from" => "name the same volume in both containers' `volumes`",
        "volume_driver" | "storage_opt" => {
            "volumes are the engine's local ones; mount a host folder for anything else"
        }
        "extends" | "include" => "put what is common into a drop-in in workload.d",
        "env" => "write `environment`",
        "label_file" | "annotations" => "write `labels`",
        "domainname" => "write the full name into `hostname`",
        "dns_search" | "dns_opt" => "only `dns` is supported; use full names in the container",
        "mac_address" => {
            "the engine chooses the address; use network_mode = \"host\" if the app needs a fixed one"
        }
        "ipc" | "pid" | "uts" | "cgroup" | "cgroup_parent" | "userns_mode" | "isolation" => {
            "each container has namespaces and a cgroup of its own; network_mode is the one that can be shared"
        }
        "cpu_shares" | "cpu_quota" | "cpu_period" | "cpu_count" | "cpu_percent" | "cpuset"
        | "cpu_rt_runtime" | "cpu_rt_period" => "use `cpus` for a limit",
        "memswap_limit" | "mem_swappiness" => "use `mem_limit`; swap is the node's own matter",
        "oom_kill_disable" => "use `oom_score_adj`",
        "blkio_config" | "device_cgroup_rules" | "device_read_bps" | "device_write_bps" => {
            "not supported; use `devices` to hand over a device"
        }
        "tty" | "stdin_open" | "attach" => "nobody sits at a node's terminal; remove this line",
        "log_driver" | "log_opt" => "write logging = { driver = \"journald\" }",
        "post_start" | "pre_stop" => "do it in the container's own command",
        "develop" | "models" | "provider" | "credential_spec" | "use_api_socket" => {
            "not supported on a node; remove this line"
        }
        "net" => "write `network_mode`",
        "memory" => "write `mem_limit`",
        "cpu" => "write `cpus`",
        _ => return None,
    })
}

/// The same for Compose's top level.
pub fn compose_top_hint(key: &str) -> Option<&'static str> {
    Some(match key {
        "services" | "container" | "service" => "containers are tables here: [containers.NAME]",
        "version" => "the file has no version; remove this line",
        "networks" => "the containers share a private network; nothing is to be declared",
        "secrets" => "write them into the container: secrets = { NAME = { file = \"/path\" } }",
        "configs" => "write small files into the container's `files`",
        "include" => "put what is common into a drop-in in workload.d",
        "engine" | "store" | "escalation" | "systemd" => "this belongs in node.toml",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_is_near() {
        for (name, want) in [
            ("imge", Some("image")),
            ("Image", Some("image")),
            ("enviroment", Some("environment")),
            ("working-dir", Some("working_dir")),
            ("volume", Some("volumes")),
            ("port", Some("ports")),
            ("memlimit", Some("mem_limit")),
            ("frobnicate", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, CONTAINER_KEYS.into_iter()), want, "{name}");
        }
        assert_eq!(
            nearest(&"x".repeat(100_000), CONTAINER_KEYS.into_iter()),
            None
        );
    }

    #[test]
    fn tables_are_sorted_and_keys_have_no_compose_hint_of_their_own() {
        assert!(CAPABILITIES.is_sorted() && ULIMITS.is_sorted() && SYSCTLS.is_sorted());
        for key in CONTAINER_KEYS {
            assert_eq!(compose_hint(key), None, "{key}");
        }
    }
}
