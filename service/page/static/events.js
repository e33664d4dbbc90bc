// Server-sent events through fetch, which, unlike EventSource, can send a token.
//
// The stream goes on where it broke off (Last-Event-ID), after a pause that grows while the service is away. It is
// given up when nothing has come for a while: the service sends a comment now and then to show that it is there.

import { send } from "./api.js";

const SILENCE_MS = 45_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5_000;

/**
 * Follows the events at `path` until the function it returns is called.
 *
 * onOpen(): the stream has begun, also again after a break; what was read before may be old.
 * onEvent({id, event, data}): one event, its data parsed.
 * onState(state, error): "connecting", "live", "away" (it will be tried again) or "refused" (it will not).
 */
export function follow(path, { onOpen, onEvent, onState }) {
  const stopped = new AbortController();
  let last = null;

  async function once() {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    stopped.signal.addEventListener("abort", stop);
    let silence = setTimeout(stop, SILENCE_MS);
    try {
      const headers = { Accept: "text/event-stream", ...(last === null ? {} : { "Last-Event-ID": last }) };
      const response = await send(path, { headers, signal: attempt.signal });
      onState("live");
      onOpen();
      for await (const event of parse(response.body, () => {
        clearTimeout(silence);
        silence = setTimeout(stop, SILENCE_MS);
      })) {
        last = event.id ?? last;
        onEvent({ ...event, data: JSON.parse(event.data) });
      }
    } finally {
      clearTimeout(silence);
      stopped.signal.removeEventListener("abort", stop);
    }
  }

  (async () => {
    let pause = FIRST_PAUSE_MS;
    onState("connecting");
    while (!stopped.signal.aborted) {
      const begun = Date.now();
      let error = null;
      try {
        await once();
      } catch (caught) {
        error = caught;
      }
      if (stopped.signal.aborted) return;
      if (error?.status >= 400 && error.status < 500 && error.status !== 429) {
        onState("refused", error);
        return;
      }
      onState("away", error);
      pause = Date.now() - begun > 5_000 ? FIRST_PAUSE_MS : Math.min(2 * pause, LONGEST_PAUSE_MS);
      await new Promise((resolve) => setTimeout(resolve, pause * (0.75 + Math.random() / 2)));
    }
  })();
  return () => stopped.abort();
}

/** The events of a body of bytes, as {id, event, data: text}; calls `heard` for whatever comes, comments too. */
export async function* parse(body, heard = () => {}) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let event = {};
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      text += value;
      const lines = text.split(/\r\n|\n|\r(?!$)/);
      text = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (event.data !== undefined) yield { event: "message", ...event };
          event = {};
          continue;
        }
        const [, field, content] = /^([^:]*):? ?(.*)$/s.exec(line);
        if (field === "data") event.data = event.data === undefined ? content : `${event.data}\n${content}`;
        else if (field === "id" || field === "event") event[field] = content;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
