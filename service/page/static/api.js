// The REST API: every request of the page goes through here, with the token of this tab where there is one.

const TOKEN = "switchpoint-token";

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

/** An answer that is not a success. `name` of its type, such as "frozen-step"; `body` has what can be acted on. */
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail || body.title || `the service answered ${status}`);
    this.status = status;
    this.kind = String(body.type || "")
      .split(":")
      .at(-1);
    this.body = body;
  }
}

export async function send(path, { method = "GET", body, headers = {}, signal } = {}) {
  const secret = token.get();
  const response = await fetch(path, {
    method,
    signal,
    cache: "no-store",
    credentials: "same-origin",
    headers: {
      ...(secret ? { Authorization: `Bearer ${secret}` } : {}),
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...headers,
    },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  const error = new Problem(response.status, problem);
  if (response.status === 401) dispatchEvent(new CustomEvent("unauthenticated", { detail: error }));
  throw error;
}

export async function get(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== undefined));
  return (await send(query.size ? `${path}?${query}` : path)).json();
}

export async function post(path, body, headers = {}) {
  return (await send(path, { method: "POST", body, headers })).json();
}

/** All entries of a paged list: `key` names them, `cursor` the parameter that `next` goes into. */
export async function pages(path, key, cursor = "after") {
  const found = [];
  for (let next; next !== null;) {
    const answer = await get(path, next === undefined ? {} : { [cursor]: next });
    found.push(...answer[key]);
    next = answer.next;
  }
  return found;
}

export const pathOf = (run) => `v1/runs/${encodeURIComponent(run)}`;

/** A key for one wish, so that it can be sent again without being done twice. */
export function freshKey() {
  // crypto.randomUUID is for secure contexts alone, and the service may be reached over plain HTTP
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
