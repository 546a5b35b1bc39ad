#!/usr/bin/env bash
# Becomes a systemd that starts the agent's unit as it is shipped and nothing else. To be run as the first
# process of namespaces of its own (see hardened.rs).
#
#   boot.sh AGENT UNIT FOLDER      events go to FOLDER/events, what the agent says to FOLDER/log
set -euo pipefail
agent=$1 unit=$2 folder=$3

mount --make-rprivate /
# Where systemd, its units and its services keep things.
for place in /run /var/lib/systemd; do
  [ ! -d "$place" ] || mount -t tmpfs none "$place"
done
mkdir -p /run/agent/bin /run/agent/state /run/systemd/system/yinglong-agent.service.d
cp "$agent" /run/agent/bin/yinglong-agent
# What it wants before it is the host's business.
sed -e '/^Wants=/d' -e '/^After=/d' "$unit" >/run/systemd/system/yinglong-agent.service
cat >/run/systemd/system/yinglong-agent.service.d/test.conf <<UNIT
[Unit]
DefaultDependencies=no
[Service]
EnvironmentFile=
# No server: the same sensors, spool and books, and the events as text.
ExecStart=
ExecStart=/run/agent/bin/yinglong-agent run --debug --unfiltered --watch $folder/watched
StateDirectory=
RuntimeDirectory=yinglong-agent
Environment=TMPDIR=%t/yinglong-agent
StandardOutput=file:$folder/events
StandardError=file:$folder/log
Restart=no
UNIT
cat >/run/systemd/system/test.target <<UNIT
[Unit]
DefaultDependencies=no
Wants=yinglong-agent.service
UNIT

umount -R /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
# As systemd does on a host.
[ -d /sys/kernel/tracing/events ] || mount -t tracefs none /sys/kernel/tracing
exec env -i container=test PATH="$PATH" /lib/systemd/systemd --system --unit=test.target --log-target=console --log-level=notice --show-status=false
