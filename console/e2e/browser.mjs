// The browser of the end-to-end tests: Debian's Chromium, which trusts exactly one server key.

import { createHash, X509Certificate } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { connect } from "node:tls";

import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";

/**
 * Fetches the server's certificate, verified against `caPem`, and returns the base64 SHA-256 of its
 * public key: the one key the browser is told to trust. Fails when the chain or the name is wrong.
 */
export function pinOf(url, caPem) {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, "");
  return new Promise((resolve, reject) => {
    const servername = /^[\d.]+$|:/.test(host) ? undefined : host;
    const socket = connect({ host, port: Number(port || 443), ca: caPem, servername }, () => {
      const leaf = new X509Certificate(socket.getPeerCertificate(true).raw);
      const key = leaf.publicKey.export({ type: "spki", format: "der" });
      socket.end();
      resolve(createHash("sha256").update(key).digest("base64"));
    });
    socket.setTimeout(10_000, () => socket.destroy(new Error(`no TLS answer from ${url}`)));
    socket.on("error", reject);
  });
}

/** Starts Chromium. `caPath` is needed for https addresses and ignored for the mock's http ones. */
export async function launch(url, caPath) {
  const args = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ];
  if (url.startsWith("https:")) {
    if (!caPath) throw new Error("YINGLONG_CA must name the server's CA certificate (PEM)");
    const pin = await pinOf(url, await readFile(caPath, "utf8"));
    args.push(`--ignore-certificate-errors-spki-list=${pin}`);
  }
  return chromium.launch({ executablePath: CHROMIUM, headless: true, args });
}

/** Collects what no page may do: break the content security policy, throw, or call elsewhere. */
export function watch(page, url) {
  const faults = [];
  const origin = new URL(url).origin;
  page.on("pageerror", (error) => faults.push(`exception: ${error.message}`));
  page.on("console", (message) => {
    if (/content security policy/i.test(message.text())) faults.push(message.text());
  });
  page.on("dialog", (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on("request", (request) => {
    const target = request.url();
    if (!target.startsWith(origin) && !target.startsWith("data:") && !target.startsWith("blob:")) {
      faults.push(`request to ${target}`);
    }
  });
  return faults;
}

/** Saves a picture when YINGLONG_SCREENSHOTS names a folder. */
export async function picture(page, name) {
  const folder = process.env.YINGLONG_SCREENSHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

export async function signIn(page, url, username, password) {
  await page.goto(url);
  await page.getByLabel(/user name|用户名/i).fill(username);
  await page.getByRole("textbox", { name: /^(password|密码)$/i }).fill(password);
  await page.getByRole("button", { name: /sign in|登录/i }).click();
  await page.getByRole("heading", { level: 1, name: /overview|总览/i }).waitFor();
}
