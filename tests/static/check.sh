#!/usr/bin/env bash
# Runs a static agent where there is nothing but itself and what a kernel mounts, and looks whether it sees
# an execution, a connection and a file; needs root.
#
#   tests/static/check.sh AGENT
set -euo pipefail
[ "${2:-}" = inside ] || exec unshare --mount --pid --fork -- "$0" "$1" inside

agent=$(realpath "$1")
mount --make-rprivate /
events=$(mktemp) log=$(mktemp)
trap 'rm -f "$events" "$log"' EXIT
# A folder that is there on every system, and that nothing here needs.
empty=/mnt
mount -t tmpfs none "$empty"
mkdir "$empty"/{proc,sys,dev,tmp,etc}
cp "$agent" "$empty/agent"
mount -t proc none "$empty/proc"
mount -t sysfs none "$empty/sys"
mount -t tracefs none "$empty/sys/kernel/tracing"
mount -t cgroup2 none "$empty/sys/fs/cgroup"
mount -t devtmpfs none "$empty/dev"
# A host whose names come from a service that would need a library of the host.
echo '127.0.0.1 elsewhere.test' >"$empty/etc/hosts"
echo 'hosts: resolve mymachines' >"$empty/etc/nsswitch.conf"

# Nobody listens there, which can be told only of an address; the token is well-formed and nobody's.
token=$(sed -n 's/^const PREFIX: .* = "\(.*\)";$/\1/p' "$(dirname "$0")/../../crates/pki/src/token.rs")
token+=$(head -c 48 /dev/zero | base64 -w0)
said=$(YINGLONG_TOKEN=$token chroot "$empty" /agent enrol --state /tmp/state --server elsewhere.test:1 2>&1) || true
if [[ "$said" != *refused* ]]; then
  echo "the static agent does not find its server in /etc/hosts: $said" >&2
  exit 1
fi

mark=ylstatic$$
chroot "$empty" /agent run --debug --unfiltered --watch /tmp >"$events" 2>"$log" &
observer=$!
for _ in $(seq 300); do
  [ "$(grep -c observing "$log")" -lt 7 ] || break
  kill -0 "$observer" || { cat "$log" >&2; exit 1; }
  sleep 0.1
done
/bin/true "$mark"
(exec 3<>/dev/tcp/127.0.0.1/1) 2>/dev/null || true
echo x >"$empty/tmp/$mark"

seen() { grep -q "$@" "$events"; }
all_seen() {
  seen "\"command\":\"/bin/true $mark\"" && seen '"remote":"127.0.0.1:1"' && seen "\"path\":\"/tmp/$mark\""
}
for _ in $(seq 200); do
  ! all_seen || break
  sleep 0.1
done
kill -INT "$observer"
wait "$observer" || true
if ! all_seen; then
  cat "$log" >&2
  grep "$mark" "$events" >&2 || true
  echo "the static agent misses something in an empty root" >&2
  exit 1
fi
