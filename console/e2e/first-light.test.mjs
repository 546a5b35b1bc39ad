// A command run on this host becomes an alert that a person sees and opens in the console.
//
// Against a real server: YINGLONG_URL, YINGLONG_CA (PEM file), YINGLONG_USER, YINGLONG_PASSWORD;
// the agent of this host must report to it. Without YINGLONG_URL the same flow runs on the mock.
// YINGLONG_SCREENSHOTS names a folder for pictures.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";

import { makeServer } from "../mock/server.mjs";
import { launch, picture, signIn, watch } from "./browser.mjs";

/** How long a command may take to become a visible alert. */
const DEADLINE_MS = 20_000;
const HTML = "<img src=x onerror=alert(1)>";

const real = process.env.YINGLONG_URL;
let url = real;
let mock;
let browser;
let page;
let faults;

const marker = () => `firstlight${randomBytes(6).toString("hex")}`;

/** Runs a shell script as `bash -c <script>`, or tells the mock that somebody did. */
async function run(script) {
  if (mock) {
    const body = JSON.stringify({ alert: `bash -c ${script}` });
    await fetch(`${url}/mock`, { method: "POST", body });
    return;
  }
  // The exit status does not matter: nothing listens on the port.
  await new Promise((done) => execFile("/usr/bin/bash", ["-c", script], { timeout: 5_000 }, done));
}

/** Waits until the list shows the row, taking in what the page announces as new. */
async function rowWith(text) {
  const row = page.getByRole("row").filter({ hasText: text });
  const fresh = page.getByRole("button", { name: /new alerts? · show/i });
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    const left = end - Date.now();
    assert.ok(left > 0, `no alert with \`${text}\` was visible within ${DEADLINE_MS} ms`);
    await row.or(fresh).first().waitFor({ timeout: left });
    if (await row.first().isVisible()) return row.first();
    // The button is gone when another round has taken the news in already.
    await fresh.click({ timeout: 1_000 }).catch(() => {});
    await row.first().waitFor({ timeout: 1_000 }).catch(() => {});
  }
}

/** Runs a script while the alert list is open, and opens the alert it causes. */
async function provoke(script, text, name) {
  // All statuses, because a new server is in learn mode.
  await page.goto(`${url}/alerts?status=all`);
  await page.getByRole("heading", { level: 1, name: "Alerts" }).waitFor();
  await page.getByText("Live", { exact: true }).first().waitFor();
  await run(script);
  const row = await rowWith(text);
  await picture(page, `${name}-list`);
  await row.getByRole("link").first().click();
  await page.getByRole("region", { name: "Raw event" }).waitFor();
  await picture(page, `${name}-alert`);
}

before(async () => {
  if (!real) {
    mock = makeServer();
    await new Promise((resolve) => mock.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${mock.address().port}`;
  }
  url = url.replace(/\/$/, "");
  browser = await launch(url, process.env.YINGLONG_CA);
  const context = await browser.newContext({
    locale: "en-GB",
    viewport: { width: 1440, height: 900 },
  });
  page = await context.newPage();
  page.setDefaultTimeout(DEADLINE_MS);
  faults = watch(page, url);
});

after(async () => {
  await browser?.close();
  mock?.close();
  mock?.closeAllConnections();
});

test("a person signs in and sees the numbers of the overview (C05)", async () => {
  await signIn(
    page,
    url,
    process.env.YINGLONG_USER ?? "admin",
    process.env.YINGLONG_PASSWORD ?? "correct horse battery",
  );
  // A new server is in learn mode, the mock is not.
  for (const name of ["Hosts", /^(Learned|Open) alerts$/, "Events stored"]) {
    const value = page.getByRole("region", { name }).getByRole("link").first();
    await value.waitFor();
    assert.match(await value.innerText(), /^[\d.,]+[a-z]?$/i, `${name} is a number`);
  }
  const hosts = page.getByRole("region", { name: "Hosts" }).getByRole("link").first();
  assert.notEqual(await hosts.innerText(), "0", "this host reports to the server");
  await page.getByRole("link", { name: "Books balance" }).waitFor();
  await picture(page, "overview");
});

test("a shell that opens a connection is a visible alert with its evidence", async () => {
  const mark = marker();
  await provoke(`: ${mark}; exec 3<>/dev/tcp/127.0.0.1/9`, mark, "shell");
  const raw = await page.getByRole("region", { name: "Raw event" }).innerText();
  assert.ok(raw.includes(mark), "the raw event holds the command line");
  const why = page.locator("section", { has: page.getByRole("heading", { name: "Why it fired" }) });
  assert.ok((await why.innerText()).includes(mark), "the matched fields hold the command line");
});

test("markup in a command line is shown as text (C08)", async () => {
  const mark = marker();
  await provoke(`true ${mark} "${HTML}" /dev/tcp/`, mark, "markup");
  const raw = await page.getByRole("region", { name: "Raw event" }).innerText();
  assert.ok(raw.includes(HTML), "the raw event shows the markup");
  assert.equal(await page.locator("img[src=x]").count(), 0, "no element came of it");
});

test("the search finds the event behind the alert (C13)", async () => {
  await page.getByRole("link", { name: "Find in search" }).click();
  await page.getByRole("heading", { level: 1, name: "Search" }).waitFor();
  const row = page.getByRole("row").filter({ hasText: HTML }).first();
  const end = Date.now() + DEADLINE_MS;
  // An event may become searchable a moment after its alert: ask again, as a person would.
  while (!(await row.waitFor({ timeout: 2_000 }).then(() => true, () => false))) {
    assert.ok(Date.now() < end, "the search found nothing within the deadline");
    await page.getByRole("button", { name: "Search" }).click();
  }
  await picture(page, "search");
});

test("no page broke the content security policy, threw, or called elsewhere", () => {
  assert.deepEqual(faults, []);
});
