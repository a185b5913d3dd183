// client.js: the server's API, and what goes wrong with it in words for a reader.

export class Failure extends Error {
  constructor(message, { status, cause } = {}) {
    super(message, { cause });
    this.status = status;
  }
}

async function failure_of(response, has_key) {
  const { status } = response;
  const error = (await response.json().catch(() => undefined))?.error;
  const said = typeof error?.message === "string" ? error.message : `status ${status}`;
  const seconds = Number(response.headers.get("Retry-After"));
  const later = seconds ? ` Try again in ${seconds} seconds.` : "";
  const words =
    status === 401 ? (has_key ? "The server does not take this API key." : "This server wants an API key.")
    : status === 503 ? (error?.code === "queue_full" ? `The server is busy: ${said}.${later}` : `The server takes no requests now: ${said}.${later}`)
    : error?.code === "context_length_exceeded" ? `The conversation has outgrown the model's context: ${said}. Or start a new chat.`
    : status >= 500 ? `The server failed: ${said}`
    : `The server refused this: ${said}`;
  return new Failure(words, { status });
}

async function ask(path, key, options = {}) {
  const headers = { ...(options.body && { "Content-Type": "application/json" }), ...(key && { Authorization: `Bearer ${key}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "same-origin" });
  } catch (cause) {
    throw new Failure("The server does not answer. Is it running?", { cause });
  }
  if (!response.ok) throw await failure_of(response, Boolean(key));
  return response;
}

// Its name, and how many tokens its context holds.
export async function model(key) {
  const [{ id, meta }] = (await (await ask("v1/models", key)).json()).data;
  return { name: id, context: meta?.context };
}

// The chunks of an answer as they come. Throws Failure, and for an aborted signal anything.
export async function* answer(request, key, signal) {
  const body = JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true } });
  const response = await ask("v1/chat/completions", key, { method: "POST", body, signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const broken = "The connection broke off before the end of the answer.";
  for (let rest = ""; ;) {
    const { value, done } = await reader.read().catch((cause) => {
      throw new Failure(broken, { cause });
    });
    if (done) throw new Failure(broken);
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      if (!event.startsWith("data: ")) continue; // a comment, which says that the server is still there
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Failure(`The server ended the answer: ${chunk.error.message}`);
      yield chunk;
    }
  }
}
