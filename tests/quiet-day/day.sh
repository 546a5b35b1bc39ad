#!/usr/bin/env bash
# An ordinary day of a server, done for real: what administrators, packages, cron and builds do.
#
#   day.sh NUMBER     one day; prints what it does
#   day.sh clean      puts everything back
#
# Everything has `yl-quiet` in its name. Needs root and no network. Nothing in here may be an attack:
# when a step raises an alert, the rule is looked at, not the step.
set -euo pipefail
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
cd /

name=yl-quiet
source=/usr/src/$name
backups=/var/backups/$name
settings=(/etc/default/$name-site /etc/sysctl.d/60-$name.conf)

say() { echo "quiet day: $*"; }
has() { command -v "$1" >/dev/null || { say "SKIPPED $2: $1 is not installed; script/bootstrap --tests"; false; }; }

clean() {
  rm -rf "$source" "$backups" "/etc/$name" "${settings[@]}"
  if dpkg-query -W "$name" >/dev/null 2>&1; then dpkg --purge "$name" >/dev/null; fi
  rm -rf "/var/log/$name" "/var/lib/$name"
}

# A package with what packages of services have: settings, a unit, a job, rotation, scripts.
build_package() { # build_package VERSION
  local tree=$source/package-$1
  install -d "$tree"/{DEBIAN,usr/sbin,etc/$name,etc/cron.d,etc/logrotate.d,usr/lib/systemd/system,usr/share/doc/$name}
  cat >"$tree/DEBIAN/control" <<TEXT
Package: $name
Version: $1
Architecture: all
Maintainer: Yinglong tests <tests@example.org>
Description: what an ordinary package brings
TEXT
  printf '/etc/%s/%s.conf\n/etc/cron.d/%s\n/etc/logrotate.d/%s\n' $name $name $name $name >"$tree/DEBIAN/conffiles"
  cat >"$tree/DEBIAN/postinst" <<TEXT
#!/bin/sh
set -e
if [ "\$1" = configure ]; then
  install -d -m 0750 /var/lib/$name /var/log/$name
  touch /var/log/$name/$name.log
  chown root:adm /var/log/$name /var/log/$name/$name.log
  chmod 0640 /var/log/$name/$name.log
  if [ -d /run/systemd/system ]; then systemctl --system daemon-reload >/dev/null; fi
fi
TEXT
  cat >"$tree/DEBIAN/postrm" <<TEXT
#!/bin/sh
set -e
if [ "\$1" = purge ]; then rm -rf /var/lib/$name /var/log/$name; fi
TEXT
  chmod 0755 "$tree"/DEBIAN/post*
  cat >"$tree/usr/sbin/$name-backup" <<TEXT
#!/bin/sh
# Version $1.
set -e
day=\${1:-today}
install -d -m 0700 $backups/mirror
tar -czf $backups/etc-\$day.tar.gz -C /etc $name default logrotate.d
tar -tzf $backups/etc-\$day.tar.gz >/dev/null
dpkg --get-selections "*" >$backups/packages
sha256sum $backups/*.tar.gz >$backups/SHA256SUMS
if command -v rsync >/dev/null; then rsync -a --delete /etc/$name/ $backups/mirror/; fi
find $backups -name '*.tar.gz' -mtime +7 -delete
echo "\$(date -Is) backup of \$day done" >>/var/log/$name/$name.log
TEXT
  chmod 0755 "$tree/usr/sbin/$name-backup"
  printf '# Settings of %s.\nversion = %s\n' $name "$1" >"$tree/etc/$name/$name.conf"
  printf '# m h dom mon dow user command\n17 3 * * * root /usr/sbin/%s-backup nightly\n' $name >"$tree/etc/cron.d/$name"
  printf '/var/log/%s/*.log {\n  rotate 3\n  size 1\n  compress\n  create 0640 root adm\n  sharedscripts\n  postrotate\n    [ ! -e /run/%s.pid ] || kill -HUP "$(cat /run/%s.pid)"\n  endscript\n}\n' \
    $name $name $name >"$tree/etc/logrotate.d/$name"
  printf '[Unit]\nDescription=An ordinary service\n[Service]\nExecStart=/usr/sbin/%s-backup service\n' $name \
    >"$tree/usr/lib/systemd/system/$name.service"
  echo "$name $1" | gzip -9n >"$tree/usr/share/doc/$name/changelog.gz"
  dpkg-deb --root-owner-group --build "$tree" "$source/${name}_$1_all.deb"
}

packages() {
  local deb=$source/${name}_$1_all.deb
  say "a package is built, installed with dpkg, and again with apt"
  build_package "$1"
  dpkg --force-confnew -i "$deb"
  # Without lists and sources: apt must not ask the network.
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --reinstall --allow-downgrades \
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null install "$deb"
  dpkg --verify $name
  dpkg-query -L $name | head -n 3
}

compiler() {
  has cc "the compiler" || return 0
  say "a program is built from source, run, and installed"
  local work=$source/build-$1
  install -d "$work/src"
  printf '#include <stdio.h>\n#include "greet.h"\nint main(void) { puts(greet()); return 0; }\n' >"$work/src/main.c"
  printf 'const char *greet(void) { return "day %s"; }\n' "$1" >"$work/src/greet.c"
  printf 'const char *greet(void);\n' >"$work/src/greet.h"
  cat >"$work/Makefile" <<'TEXT'
all: hello
libgreet.a: src/greet.o
	ar rcs $@ $^
hello: src/main.o libgreet.a
	$(CC) -o $@ src/main.o -L. -lgreet
check: hello
	./hello
install: hello
	install -D -m 0755 -s hello $(DESTDIR)/usr/bin/hello
clean:
	rm -f hello libgreet.a src/*.o
TEXT
  make -s -C "$work" -j2 all check
  make -s -C "$work" DESTDIR="$work/root" install clean
  if command -v git >/dev/null; then
    git -C "$work" init -q
    git -C "$work" add .
    git -C "$work" -c user.name=ann -c user.email=ann@example.org commit -qm "Day $1"
    git -C "$work" log --oneline
  fi
}

# The real daemon with this one job, each minute, in a mount namespace of its own: jobs of the machine
# are not run, and nothing of the machine's cron is touched.
cron_job() {
  has cron "the cron job" || return 0
  say "cron runs the backup"
  local done=$backups/etc-cron-$1.tar.gz
  install -d "$source/cron/etc" "$source/cron/spool/crontabs"
  printf 'PATH=%s\nSUDO_USER=%s\n* * * * * root /usr/sbin/%s-backup cron-%s\n' \
    "$PATH" "${SUDO_USER:-root}" $name "$1" >"$source/cron/etc/$name"
  chmod 0644 "$source/cron/etc/$name"
  unshare --mount sh -c "
    mount --bind $source/cron/etc /etc/cron.d
    mount --bind /dev/null /etc/crontab
    mount --bind $source/cron/spool /var/spool/cron
    mount -t tmpfs none /run
    exec cron -f" &
  daemon=$!
  trap 'kill "$daemon"' EXIT
  local waited=0
  until [ -e "$done" ] && [ -e "$backups/SHA256SUMS" ]; do
    sleep 1
    waited=$((waited + 1))
    [ "$waited" -lt 130 ] || { say "cron did not run the job"; return 1; }
  done
  sleep 2
  trap - EXIT
  kill "$daemon"
  # It ends by the signal: 128 + 15.
  wait "$daemon" || [ $? -eq 143 ]
  # And once by hand, with what cron gives its jobs.
  env -i HOME=/root LOGNAME=root SHELL=/bin/sh PATH=/usr/bin:/bin SUDO_USER="${SUDO_USER:-root}" \
    /bin/sh -c "/usr/sbin/$name-backup by-hand-$1"
}

configuration() {
  say "settings change, by hand and by configuration management"
  printf 'workers = 4\nlisten = 127.0.0.1\n' >"$source/site.conf"
  install -m 0644 "$source/site.conf" "/etc/$name/site.conf"
  sed -i "s/^workers = .*/workers = $((4 + $1))/" "/etc/$name/site.conf"
  cp -p "/etc/$name/site.conf" "/etc/$name/site.conf.bak"
  echo "LEVEL=$1" >>/etc/default/$name-site
  printf '# Day %s.\nvm.swappiness = 60\n' "$1" | tee /etc/sysctl.d/60-$name.conf >/dev/null
  chmod 0600 "/etc/$name/site.conf"
  diff "/etc/$name/site.conf.bak" "/etc/$name/site.conf"
  if has python3 "configuration management"; then
    # As Ansible copies a file: a module unpacked below the home, which renames into place.
    local module=/root/.ansible/tmp/$name-$1
    [ -e /root/.ansible ] || made_ansible=true
    install -d -m 0700 "$module"
    printf 'import os, sys\npath = sys.argv[1]\nwith open(path + ".new", "w") as file:\n    file.write("managed = true\\n")\nos.rename(path + ".new", path)\n' \
      >"$module/AnsiballZ_copy.py"
    /bin/sh -c "/usr/bin/env python3 $module/AnsiballZ_copy.py /etc/$name/managed.conf && sleep 0"
    rm -rf "$module"
    if ${made_ansible:-false}; then rm -rf /root/.ansible; fi
  fi
  rm -f "/etc/$name/site.conf.bak"
}

rotation() {
  has logrotate "rotation" || return 0
  say "logs are rotated"
  seq 1000 | sed 's/^/line /' >>"/var/log/$name/$name.log"
  logrotate --state "$source/logrotate.status" --force "/etc/logrotate.d/$name"
  zcat "/var/log/$name/$name.log.1.gz" | tail -n 1
}

administration() {
  say "an administrator looks around, and a monitor measures"
  bash -lc 'id; uname -a; df -h / | tail -n 1; ls -la /var/log | head -n 3; ps -ef | head -n 3; uptime' >/dev/null
  bash -c "grep -r swappiness /etc/sysctl.d | sort | uniq -c; cat /etc/os-release | head -n 2; ss -tln | wc -l" >/dev/null
  for _ in 1 2 3; do
    sh -c 'cat /proc/loadavg /proc/meminfo | awk "NR < 4"; df -P -T -x tmpfs | tail -n 1' >/dev/null
  done
  find "/var/lib/$name" /etc/$name -type f -newer /etc/os-release -exec ls -l {} + >/dev/null
}

case "${1:-}" in
  clean) clean ;;
  '' | *[!0-9]*) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2 ;;
  *)
    install -d "$source"
    packages "$1"
    compiler "$1"
    configuration "$1"
    cron_job "$1"
    rotation "$1"
    administration
    say "day $1 is over"
    ;;
esac
