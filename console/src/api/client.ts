/** The one place that talks to the network. */

const BASE = "/api/v1";

/**
 * An answer that is not a success, or none at all (`status` 0). Codes that begin with `client_` are
 * the console's own, for answers that carry none.
 */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly remedy: string,
  ) {
    super(message);
    this.name = "ApiError";
  }
}

let csrfToken = "";
let onSignedOut: () => void = () => {};

/** Remembers the token that writing requests repeat. */
export function setCsrfToken(token: string): void {
  csrfToken = token;
}

/** Sets what happens when the server no longer knows the session. */
export function whenSignedOut(action: () => void): void {
  onSignedOut = action;
}

export type Params = Record<string, string | number | undefined>;

/** A query string without empty values, keys in the given order. */
export function queryString(params: Params): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(params)) {
    if (value !== undefined && value !== "") search.append(key, String(value));
  }
  const text = search.toString();
  return text === "" ? "" : `?${text}`;
}

/** Reads the error body of the API; anything else becomes a readable stand-in. */
export function parseError(status: number, body: string): ApiError {
  try {
    const error = (JSON.parse(body) as { error?: Record<string, unknown> }).error;
    if (error && typeof error.message === "string") {
      const text = (value: unknown) => (typeof value === "string" ? value : "");
      return new ApiError(status, text(error.code), error.message, text(error.remedy));
    }
  } catch {
    // Not JSON: a proxy in between, or no body at all.
  }
  return new ApiError(status, "client_http", `HTTP ${status}`, "");
}

async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (method !== "GET" && csrfToken !== "") headers["X-CSRF-Token"] = csrfToken;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(BASE + path, {
      method,
      headers,
      credentials: "same-origin",
      cache: "no-store",
      body: body === undefined ? null : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, "client_unreachable", "the server does not answer", "");
  }
  const text = await response.text();
  if (!response.ok) {
    if (response.status === 401 && path !== "/session") onSignedOut();
    throw parseError(response.status, text);
  }
  if (text === "") return undefined as T;
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new ApiError(response.status, "client_not_json", "the answer is not JSON", "");
  }
}

export const get = <T>(path: string, params: Params = {}) =>
  request<T>("GET", path + queryString(params));
export const post = <T>(path: string, body?: unknown) => request<T>("POST", path, body);
export const del = <T>(path: string) => request<T>("DELETE", path);

/** Address of the live stream. */
export const streamUrl = (kinds: string) => `${BASE}/stream${queryString({ kinds })}`;
