# Shared by the test scripts; to be sourced. It must never change the checkout.
# shellcheck shell=bash

# Says one line to the person who runs the tests.
say() { printf '%s\n' "$*" >&2; }

# Says why, and ends the script.
die() {
  say "${0##*/}: $*"
  exit 1
}

# The folder for what is slow to make; outside the checkout, kept between runs.
cache_dir() {
  local dir="${XDG_CACHE_HOME:-/var/cache}/monopod-tests"
  [[ -w ${XDG_CACHE_HOME:-/var/cache} || -w $dir ]] || dir="$HOME/.cache/monopod-tests"
  mkdir -p "$dir"
  printf '%s\n' "$dir"
}

# The key of a recipe: a hash of the files and words that it is made from.
# Arguments that name a file count with their content, others with their text.
recipe_key() {
  local part
  for part in "$@"; do
    if [[ -f $part ]]; then cat "$part"; else printf '%s\n' "$part"; fi
  done | sha256sum | cut -c1-16
}

# Runs a command while no other process holds the lock of that name.
with_lock() {
  local name=$1 lock
  shift
  (
    exec {lock}>"$(cache_dir)/$name.lock"
    flock "$lock"
    # What the command starts in the background must not keep the lock.
    "$@" {lock}>&-
  )
}

# Takes the finished path (a temporary sibling) into the cache in one step.
commit_to_cache() {
  local made=$1 final=$2
  rm -rf "$final"
  mv "$made" "$final"
}

# The code name of this machine's Debian release.
own_suite() {
  # shellcheck source=/dev/null
  (. /etc/os-release && printf '%s\n' "$VERSION_CODENAME")
}

# Sources of Debian's main archive for a suite, as this machine's own apt is told of them:
# the same mirrors, and for another suite the same mirror with that suite's name.
debian_sources() {
  local suite=$1 own lines
  own=$(own_suite)
  # apt fills these names in, not the shell.
  # shellcheck disable=SC2016
  lines=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    sed -n 's/^Debian /deb /p' | sort -u)
  [[ -n $lines ]] || die "apt knows no Debian archive here; run apt-get update, then try again"
  if [[ $suite == "$own" ]]; then
    printf '%s\n' "$lines"
  else
    awk -v own="$own" -v suite="$suite" '$3 == own { $3 = suite; print }' <<<"$lines"
  fi
}

# What this machine tells apt about reaching its mirrors, one setting a line.
apt_settings() {
  apt-config dump | grep -iE '^Acquire::(Check-|https?::)[^ ]* "[^"]' | sed 's/;$//' || true
}

# The major version of the dockerd on this machine.
own_docker_major() {
  dockerd --version | sed -nE 's/^Docker version ([0-9]+)\..*/\1/p'
}
