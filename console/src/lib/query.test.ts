import { describe, expect, it } from "vitest";

import type { Alert } from "../api/types";
import { build, eventOf, eventType, fields, hasType, interval, jumpFromAlert } from "./query";
import { parse, replaceSegment, segmentAt, summary } from "./query";

const alert = (over: Partial<Alert>): Alert => ({
  id: "1",
  agent_id: "a".repeat(32),
  ip: "192.0.2.1",
  hostname: "web-1",
  type: "process",
  source: "a rule",
  rule_id: "r",
  level: 0,
  info: "",
  description: "",
  description_zh: "",
  attack: [],
  status: 0,
  time: "2026-01-31T09:30:00.123456789Z",
  raised_at: "2026-01-31T09:30:01Z",
  uptime: "2026-01-31T09:30:01Z",
  count: 1,
  matched: [],
  raw: { type: "process", data: { pid: 42, name: "/usr/bin/bash", command: "a | b" } },
  ...over,
});

describe("a query", () => {
  it("is split at bars, and each condition at its first colon", () => {
    expect(parse("type:connection | remote:[2001:db8::1]:443|all")).toEqual([
      { key: "type", value: "connection" },
      { key: "remote", value: "[2001:db8::1]:443" },
      { key: "all", value: "" },
    ]);
    expect(parse(" | ")).toEqual([]);
  });

  it("reads back what was built", () => {
    const conditions = parse("type:file | path.keyword:/etc/passwd");
    expect(parse(build(conditions))).toEqual(conditions);
  });

  it("writes bars inside values with a backslash, and leaves out what has no value", () => {
    const conditions = [
      { key: "command.keyword", value: "a | b\\|c" },
      { key: "name", value: "" },
    ];
    expect(build(conditions)).toBe("command.keyword:a \\| b\\\\|c");
    expect(parse(build(conditions))).toEqual([conditions[0]]);
    expect(parse("type:file | path:/a\\|b/")).toEqual([
      { key: "type", value: "file" },
      { key: "path", value: "/a|b/" },
    ]);
  });

  it("names its type only when it is one of the contract", () => {
    expect(eventType("type:process | name:x")).toBe("process");
    expect(eventType("type:nonsense")).toBeUndefined();
    expect(hasType("type:userlist")).toBe(true);
    expect(hasType("type: | name:x")).toBe(false);
  });
});

describe("suggestions", () => {
  it("look at the condition around the caret", () => {
    const query = "type:process | na | pid:1";
    expect(segmentAt(query, 17)).toMatchObject({ key: "na", value: undefined });
    expect(segmentAt(query, 4)).toMatchObject({ key: "type", value: "process" });
    expect(segmentAt(query, query.length)).toMatchObject({ key: "pid", value: "1" });
    expect(segmentAt("type:file | path:a\\|b", 22)).toMatchObject({ key: "path", value: "a|b" });
  });

  it("replace that condition and leave the others", () => {
    const query = "type:process | na | pid:1";
    expect(replaceSegment(query, segmentAt(query, 17), "name:bash")).toBe(
      "type:process | name:bash | pid:1",
    );
    expect(replaceSegment("na", segmentAt("na", 2), "name:")).toBe("name:");
  });
});

describe("the jump from an alert to the search (C13)", () => {
  it("asks for the event by exact fields within minutes around it", () => {
    expect(jumpFromAlert(alert({}))).toEqual({
      q: "type:process | ip:192.0.2.1 | pid:42 | name.keyword:/usr/bin/bash",
      since: "2026-01-31T09:25:00.123Z",
      until: "2026-01-31T09:35:00.123Z",
    });
  });

  it("skips what the event does not have", () => {
    const raw = { data: { path: "/var/www/a|b.php", hash: "" } };
    expect(jumpFromAlert(alert({ type: "file", raw }))?.q).toBe(
      "type:file | ip:192.0.2.1 | path.keyword:/var/www/a\\|b.php",
    );
  });

  it("does not exist for inventories and server checks", () => {
    expect(jumpFromAlert(alert({ type: "userlist", raw: { name: "root" } }))).toBeUndefined();
    expect(jumpFromAlert(alert({ time: "never" }))).toBeUndefined();
  });
});

describe("raw documents", () => {
  it("give their fields whether they are events, elements or nonsense", () => {
    expect(fields({ data: { pid: 1 } })).toEqual({ pid: 1 });
    expect(fields({ name: "root" })).toEqual({ name: "root" });
    for (const raw of [null, 7, "x", [1], { data: [1] }]) expect(() => fields(raw)).not.toThrow();
  });

  it("are events only with identity, time and type", () => {
    const event = { id: "1", time: "2026-01-31T09:30:00Z", type: "process", data: { pid: 1 } };
    expect(eventOf(event)?.data).toEqual({ pid: 1 });
    for (const raw of [null, 7, { name: "root" }, { ...event, id: 1 }]) {
      expect(eventOf(raw)).toBeUndefined();
    }
  });

  it("are summed up in one line per type", () => {
    expect(summary("process", { command: "id -u" })).toBe("id -u");
    expect(
      summary("connection", { dir: "in", protocol: "tcp", local: "a:1", remote: "b:2", name: "" }),
    ).toBe("tcp a:1 ← b:2");
    expect(summary("loginlog", { username: "root", remote: "", status: "false" })).toBe("root · ✗");
    expect(
      summary("dns", {
        query: "a.example",
        qtype: "A",
        rcode: "NOERROR",
        answers: ["b.example", "192.0.2.1"],
        name: "/usr/bin/curl",
      }),
    ).toBe("A a.example → NOERROR b.example 192.0.2.1 · /usr/bin/curl");
    expect(summary("dns", { query: "a.example", qtype: "A", rcode: "", name: "" })).toBe(
      "A a.example",
    );
    expect(
      summary("syscall", {
        call: "ptrace",
        target: "/usr/sbin/sshd",
        errno: "EPERM",
        name: "/usr/bin/gdb",
      }),
    ).toBe("ptrace /usr/sbin/sshd · EPERM · /usr/bin/gdb");
    expect(summary("exit", { exit_code: 0, name: "/bin/true" })).toBe("0 · /bin/true");
    expect(summary("exit", { exit_code: 139, signal: "SIGSEGV", name: "/sbin/x" })).toBe(
      "SIGSEGV · /sbin/x",
    );
    expect(summary("unknown", { a: "x", b: 2 })).toBe("x 2");
  });
});

describe("the histogram", () => {
  it("has about sixty buckets of a readable size", () => {
    expect(interval(15 * 60_000)).toBe(30);
    expect(interval(24 * 3_600_000)).toBe(1_800);
    expect(interval(30 * 86_400_000)).toBe(43_200);
  });
});
