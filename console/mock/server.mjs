// The HTTP API over fictional data, for development, pictures and the tests of the console.
//
//   node mock/server.mjs              serves the built console and the API
//   node mock/server.mjs --with-vite  also starts the development server of the console
//
// PORT chooses the port (default 8099; 0 takes a free one). `POST /mock` changes the world:
// {"learn": true}, {"setup": true}, {"empty": true}, {"alert": "<command line>"}, {"broken": true}, {"reset": true}.

import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { books, inventories, makeWorld, sort } from "./data.mjs";

const DIST = fileURLToPath(new URL("../dist", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };

/** What the real server sends; the console must work under it without exceptions. */
export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

class Refusal extends Error {
  constructor(status, code, message, remedy = "") {
    super(message);
    Object.assign(this, { status, code, remedy });
  }
}

export function makeServer() {
  let world = makeWorld();
  let sessions = new Set();
  const streams = new Set();

  const conditions = (q) => q.split("|").map((part) => part.trim()).filter(Boolean).map((part) => {
    const colon = part.indexOf(":");
    return colon < 0 ? [part, ""] : [part.slice(0, colon).trim(), part.slice(colon + 1).trim()];
  });
  function select(query) {
    const q = query.get("q") ?? "";
    const wanted = conditions(q);
    if (wanted.length > 0 && !wanted.some(([key, value]) => key === "type" && value)) {
      throw new Refusal(400, "bad_query", "the query names no type", "begin with type:process, type:connection, type:file or type:loginlog");
    }
    const bad = wanted.find(([, value]) => value === "");
    if (bad) throw new Refusal(400, "bad_query", `the condition \`${bad[0]}\` has no value`, "write it as key:value");
    const since = Date.parse(query.get("since") ?? "") || 0;
    const until = Date.parse(query.get("until") ?? "") || Infinity;
    return world.events.filter((event) => {
      const at = Date.parse(event.time);
      if (at < since || at >= until) return false;
      return wanted.every(([key, value]) => {
        const exact = key.endsWith(".keyword");
        const name = exact ? key.slice(0, -8) : key;
        const values = name === "all" ? Object.values(event.data) : [event.data[name] ?? event[name]];
        return values.some((candidate) => {
          const text = String(candidate ?? "").toLowerCase();
          return exact ? text === value.toLowerCase() : text.includes(value.toLowerCase());
        });
      });
    });
  }

  const hours = (rows, make) => Array.from({ length: 24 }, (_, i) => {
    const start = Math.floor(Date.now() / 3_600_000) * 3_600_000 - (23 - i) * 3_600_000;
    const inside = rows.filter((row) => Date.parse(row.time) >= start && Date.parse(row.time) < start + 3_600_000);
    return { start: new Date(start).toISOString(), ...make(inside) };
  });
  const byLevel = (rows) => ({ danger: rows.filter((r) => r.level === 0).length, suspicious: rows.filter((r) => r.level === 1).length, hint: rows.filter((r) => r.level === 2).length });
  const byType = (rows) => Object.fromEntries(["process", "connection", "file", "loginlog"].map((type) => [type, rows.filter((r) => r.type === type).length]));
  const hostBooks = () => world.hosts.map((host, i) => ({ agent_id: host.agent_id, hostname: host.hostname, streams: books(host, i) }));

  function overview() {
    const ledger = { emitted: 0, stored: 0, filtered: 0, dropped: 0 };
    for (const { streams: all } of hostBooks()) for (const b of Object.values(all)) {
      ledger.emitted += b.emitted; ledger.stored += b.stored; ledger.filtered += b.filtered;
      ledger.dropped += Object.values(b.dropped).reduce((x, y) => x + y, 0);
    }
    const count = (health) => world.hosts.filter((host) => host.health === health).length;
    const today = new Date().toISOString().slice(0, 10);
    return {
      hosts: { total: world.hosts.length, healthy: count(0), offline: count(1), blocked: count(2) },
      alerts: { open: byLevel(world.alerts.filter((a) => a.status === 0)), learned: world.alerts.filter((a) => a.status === 4).length, today: world.alerts.filter((a) => a.time.startsWith(today)).length },
      alerts_per_hour: hours(world.alerts, byLevel), events_per_hour: hours(world.events, byType),
      events: { stored: world.events.length ? 612_881 + world.events.length : 0, bytes: world.events.length ? 74_112_004 : 0 }, ledger, learn: world.learn,
      server: { version: "0.1.0-mock", started_at: new Date(world.now - 273_600_000).toISOString(), rss_bytes: 88_604_672 },
    };
  }

  function alertDetail(alert) {
    const at = (back) => new Date(Date.parse(alert.time) - back).toISOString();
    const tree = alert.type === "process" ? [
      { ...alert.raw.data, time: alert.time, event_id: alert.raw.id },
      { pid: 4101, ppid: 812, name: "/usr/bin/dash", command: `sh -c ${alert.raw.data.command}`, user: "www-data", time: at(400) },
      { pid: 812, ppid: 1, name: "/usr/sbin/php-fpm8.2", command: "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)", user: "root", time: at(8e8) },
      { name: "/usr/lib/systemd/systemd" },
    ] : [];
    const near = world.events.filter((e) => e.agent_id === alert.agent_id && Math.abs(Date.parse(e.time) - Date.parse(alert.time)) < 3_600_000).slice(0, 8);
    return { ...alert, context: { statistic: { type: alert.type, info: alert.info.slice(0, 60), count: alert.count, exist_count: 1, server_list: [alert.agent_id], uptime: alert.time }, process_tree: tree, nearby_events: near } };
  }

  function announce(alert) {
    for (const stream of streams) stream.write(`event: alert\ndata: ${JSON.stringify(alert)}\n\n`);
  }

  function changeWorld(body) {
    if (body.reset) { world = makeWorld(); sessions = new Set(); }
    if (body.empty) { world.hosts.length = 0; world.events.length = 0; world.alerts.length = 0; }
    if (body.learn !== undefined) world.learn = body.learn;
    if (body.setup) world.users.length = 0;
    if (body.broken !== undefined) world.broken = body.broken;
    if (typeof body.alert === "string") {
      const alert = world.raise(world.rules[0], world.hosts[0], Date.now() - 200, { command: body.alert, status: world.learn ? 4 : 0 });
      sort(world);
      announce(alert);
    }
    return {};
  }

  function api(request, url, body) {
    const path = url.pathname.slice("/api/v1".length);
    const query = url.searchParams;
    const route = `${request.method} ${path}`;
    if (route === "GET /status") return { version: "0.1.0-mock", setup_required: world.users.length === 0, learn: world.learn };
    if (route === "POST /setup") {
      if (world.users.length > 0) throw new Refusal(409, "setup_done", "an administrator exists already", "sign in instead");
      if (body.setup_code !== world.setupCode) throw new Refusal(403, "setup_code", "the setup code is not the one this server printed", "look for it in the output of the server's first start");
      world.users.push({ username: body.username, password: body.password });
      return {};
    }
    if (route === "POST /session") {
      if (!world.users.some((u) => u.username === body.username && u.password === body.password)) throw new Refusal(401, "wrong_credentials", "user name or password is wrong");
      const token = `mock-${Math.random().toString(16).slice(2)}`;
      sessions.add(token);
      return { $cookie: token, username: body.username, role: "admin", csrf_token: `csrf-${token}` };
    }
    const cookie = /yinglong_session=([^;]+)/.exec(request.headers.cookie ?? "")?.[1] ?? "";
    if (!sessions.has(cookie)) throw new Refusal(401, "sign_in_required", "nobody is signed in", "sign in");
    if (request.method !== "GET" && request.headers["x-csrf-token"] !== `csrf-${cookie}`) throw new Refusal(403, "csrf_token", "the request does not carry the session's token", "reload the page");
    if (route === "GET /session") return { username: world.users[0]?.username ?? "admin", role: "admin", csrf_token: `csrf-${cookie}` };
    if (route === "DELETE /session") { sessions.delete(cookie); return undefined; }
    if (world.broken) throw new Refusal(503, "unavailable", "the event store does not answer", "check the disk of the server, then its log");
    if (route === "GET /overview") return overview();
    if (route === "GET /ledger") return { hosts: hostBooks() };
    if (route === "GET /hosts") return { hosts: world.hosts };
    if (route === "POST /tokens") return { token: "mock-join-token", expires_at: new Date(Date.now() + body.ttl_secs * 1000).toISOString(), command: "curl --fail --pinnedpubkey sha256//MOCK0fictional0key0not0for0use0000000000000= https://console.example.org/install.sh | sudo sh -s -- --join mock-join-token" };
    if (route === "GET /alerts") {
      const text = (query.get("text") ?? "").toLowerCase();
      const rows = world.alerts.filter((a) => ["status", "level", "agent_id", "type"].every((key) => !query.get(key) || String(a[key]) === query.get(key)) && (!query.get("since") || a.time >= query.get("since")) && (!text || [a.source, a.info, a.description].some((v) => v.toLowerCase().includes(text))));
      const offset = Number(query.get("offset") ?? 0);
      return { alerts: rows.slice(offset, offset + Number(query.get("limit") ?? 50)), total: rows.length };
    }
    if (route === "POST /alerts/status") {
      if (body.status === 4) throw new Refusal(422, "invalid", "status: only the server itself moves alerts to learn mode", "use 0, 1 or 2");
      const ids = new Set(body.ids);
      let changed = 0;
      for (const alert of world.alerts) if (ids.has(alert.id)) { alert.status = body.status; alert.uptime = new Date().toISOString(); changed += 1; }
      sort(world);
      return { changed };
    }
    if (route === "GET /events") {
      const rows = select(query);
      const from = Number(query.get("cursor") || 0);
      const limit = Number(query.get("limit") ?? 50);
      return { events: rows.slice(from, from + limit), next: from + limit < rows.length ? String(from + limit) : null, partial: (query.get("q") ?? "").includes("partial") };
    }
    if (route === "GET /events/histogram") {
      const secs = Number(query.get("interval_secs") ?? 3600) * 1000;
      const buckets = new Map();
      for (const event of select(query)) {
        const key = `${Math.floor(Date.parse(event.time) / secs) * secs} ${event.type}`;
        buckets.set(key, (buckets.get(key) ?? 0) + 1);
      }
      return { buckets: [...buckets].map(([key, count]) => ({ start: new Date(Number(key.split(" ")[0])).toISOString(), type: key.split(" ")[1], count })).sort((a, b) => a.start.localeCompare(b.start)) };
    }
    if (route === "GET /suggest") {
      const rows = world.events.filter((event) => !query.get("type") || event.type === query.get("type"));
      const prefix = (query.get("prefix") ?? "").toLowerCase();
      const key = query.get("key") ?? "";
      const fields = [...new Set(rows.flatMap((event) => Object.keys(event.data)))].concat(["ip", "hostname", "all"]);
      const values = [...new Set(rows.map((event) => String(event.data[key] ?? event[key] ?? "")))].filter((v) => v && v.toLowerCase().startsWith(prefix));
      return key ? { fields: [], values: values.slice(0, 20) } : { fields: fields.filter((f) => f.startsWith(prefix)), values: [] };
    }
    const [, kind, id, sub, name] = path.split("/");
    if (kind === "alerts") {
      const alert = world.alerts.find((a) => a.id === id);
      if (!alert) throw new Refusal(404, "alert_not_found", "there is no such alert", "it may have been deleted; go back to the list");
      return alertDetail(alert);
    }
    if (kind === "events") {
      const event = world.events.find((e) => e.id === id);
      if (event) return event;
    }
    if (kind === "hosts") {
      const index = world.hosts.findIndex((h) => h.agent_id === id);
      const host = world.hosts[index];
      if (!host) throw new Refusal(404, "host_not_found", "there is no such host", "it may have been removed; go back to the list");
      if (sub === "revoke") { world.hosts.splice(index, 1); return undefined; }
      if (sub === "inventories") return { type: name, uptime: host.uptime, data: inventories[name] ?? [] };
      return { ...host, addresses: [host.ip, `2001:db8::${index + 10}`], usage: { cpu_ms: 83_400, pss_bytes: 23_068_672, spool_bytes: 40_960, spool_events: 4 }, ledger: books(host, index), inventories: Object.entries(inventories).map(([type, data]) => ({ type, count: data.length, uptime: host.uptime })) };
    }
    throw new Refusal(404, "unknown_route", "there is no such route", "see /api/v1/openapi.json");
  }

  async function file(response, pathname) {
    const asked = normalize(pathname).replace(/^(\.\.[/\\])+/, "");
    const found = extname(asked) === "" ? "/index.html" : asked;
    try {
      const content = await readFile(join(DIST, found));
      response.writeHead(200, { "content-type": TYPES[extname(found)] ?? "application/octet-stream", "content-security-policy": POLICY, "x-content-type-options": "nosniff" }).end(content);
    } catch {
      response.writeHead(404).end("not found; run `npm run build` first\n");
    }
  }

  const server = createServer(async (request, response) => {
    const url = new URL(request.url, "http://mock");
    let text = "";
    for await (const chunk of request) text += chunk;
    const send = (status, body, headers = {}) => response.writeHead(status, { "content-type": "application/json", ...headers }).end(body === undefined ? "" : JSON.stringify(body));
    try {
      if (url.pathname === "/mock" && request.method === "POST") return send(200, changeWorld(JSON.parse(text)));
      if (!url.pathname.startsWith("/api/v1/")) return await file(response, url.pathname);
      if (url.pathname === "/api/v1/stream") {
        response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" }).write(": open\n\n");
        streams.add(response);
        return response.on("close", () => streams.delete(response));
      }
      const { $cookie, ...answer } = api(request, url, text ? JSON.parse(text) : {}) ?? { $cookie: undefined, $none: true };
      const headers = $cookie ? { "set-cookie": `yinglong_session=${$cookie}; HttpOnly; SameSite=Strict; Path=/` } : {};
      return answer.$none ? send(204, undefined, headers) : send(200, answer, headers);
    } catch (error) {
      if (!(error instanceof Refusal)) console.error(error);
      const { status = 500, code = "internal", message, remedy = "" } = error;
      return send(status, { error: { code, message, remedy } });
    }
  });
  return server;
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const server = makeServer().listen(Number(process.env.PORT ?? 8099), "127.0.0.1", () => {
    const { port } = server.address();
    console.log(`mock on http://127.0.0.1:${port} (admin / correct horse battery)`);
    if (process.argv.includes("--with-vite")) {
      spawn("npx", ["vite"], { stdio: "inherit", env: { ...process.env, YINGLONG_API: `http://127.0.0.1:${port}` } })
        .on("exit", (code) => process.exit(code ?? 0));
    }
  });
}
