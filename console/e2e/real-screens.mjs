// Pictures of the pages over a running server, for the documentation and for looking at real data.
//
//   YINGLONG_URL, YINGLONG_CA, YINGLONG_USER, YINGLONG_PASSWORD as for the tests
//   YINGLONG_SCREENSHOTS=folder node e2e/real-screens.mjs [name of a page ...]

import { launch, picture, signIn, watch } from "./browser.mjs";

const { YINGLONG_URL = "", YINGLONG_CA, YINGLONG_USER, YINGLONG_PASSWORD } = process.env;
const url = YINGLONG_URL.replace(/\/$/, "");
const only = process.argv.slice(2);

const VIEWS = [
  { name: "en-light", locale: "en-GB", colorScheme: "light", viewport: { width: 1440, height: 900 } },
  { name: "zh-dark", locale: "zh-CN", colorScheme: "dark", viewport: { width: 1440, height: 900 } },
  { name: "en-light-390", locale: "en-GB", colorScheme: "light", viewport: { width: 390, height: 844 } },
];

const browser = await launch(url, YINGLONG_CA);
const faults = [];
for (const { name, ...options } of VIEWS) {
  const page = await (await browser.newContext(options)).newPage();
  faults.push(watch(page, url));
  await signIn(page, url, YINGLONG_USER, YINGLONG_PASSWORD);
  const read = (path) =>
    page.evaluate((p) => fetch(`/api/v1${p}`).then((answer) => answer.json()), path);
  const { hosts } = await read("/hosts");
  const { alerts } = await read("/alerts?type=process&limit=200");
  // The alert with the most telling evidence.
  const shell = alerts.find((alert) => alert.info.includes("/dev/tcp")) ?? alerts[0];
  const long = alerts.find((alert) => alert.info.length > 1_000);
  const pages = {
    overview: "/",
    alerts: "/alerts",
    alert: shell && `/alerts/${shell.id}`,
    "alert-long": long && `/alerts/${long.id}`,
    hosts: "/hosts",
    host: hosts[0] && `/hosts/${hosts[0].agent_id}`,
    search: `/search?q=${encodeURIComponent("type:process")}`,
    "search-files": `/search?q=${encodeURIComponent("type:file")}`,
    ledger: "/ledger",
  };
  for (const [title, path] of Object.entries(pages)) {
    if (!path || (only.length > 0 && !only.includes(title))) continue;
    await page.goto(url + path);
    await page.locator(".y-state .mantine-Loader-root").first().waitFor({ state: "detached" });
    await page.waitForTimeout(600);
    await picture(page, `${title}-${name}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (wide > 0) faults.push([`${title}-${name} is ${wide} px too wide`]);
  }
}
await browser.close();
const all = [...new Set(faults.flat())];
for (const fault of all) console.error(fault);
process.exitCode = all.length > 0 ? 1 : 0;
