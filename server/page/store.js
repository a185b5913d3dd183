// store.js: conversations: their shape, the files that carry them, and this browser's storage, which keeps them.
//
// A conversation is a tree, so that an edit or another answer loses nothing: each node names its parent, an earlier node
// (-1: none), and `leaf` is the end of the path that is shown.

// What the server takes (server/api.cpp). `usual` is sent where nothing is set; without one, nothing is.
export const sampling_fields = [
  { name: "temperature", label: "Temperature", least: 0, most: 2, usual: 0.8, help: "0: always the likeliest token" },
  { name: "top_k", label: "Top k", least: 0, most: 0xffffffff, whole: true, usual: 40, help: "From the k likeliest tokens; 0: from all" },
  { name: "top_p", label: "Top p", least: 0, most: 1, usual: 0.95, help: "From the likeliest of this share; 1: off" },
  { name: "min_p", label: "Min p", least: 0, most: 1, usual: 0.05, help: "Least share of the likeliest one's; 0: off" },
  { name: "repeat_penalty", label: "Repeat penalty", least: 0.01, most: 100, usual: 1, help: "Weakens repeated tokens; 1: off" },
  { name: "max_tokens", label: "Max tokens", least: 1, most: 0xffffffff, whole: true, help: "Of an answer; empty: as the context allows" },
  { name: "seed", label: "Seed", least: 0, most: 0xffffffff, whole: true, help: "The same draws the same; empty: a random one" },
];

const is_number = (value) => typeof value === "number" && Number.isFinite(value);
const fits = ({ least, most, whole }, value) =>
  is_number(value) && value >= least && value <= most && (!whole || Number.isInteger(value));

const random_id = () => [...crypto.getRandomValues(new Uint32Array(4))].map((n) => n.toString(36)).join("-");

export const new_conversation = ({ system = "", sampling = {} } = {}) =>
  ({ id: random_id(), title: "", time: Date.now(), system, sampling: { ...sampling }, nodes: [], leaf: -1 });

// The indices of the nodes that are shown, or of those that lead to a node.
export function path(conversation, end = conversation.leaf) {
  const result = [];
  for (let index = end; index >= 0; index = conversation.nodes[index].parent) result.push(index);
  return result.reverse();
}

// The indices of a node and of those that stand for the same turn.
export function versions({ nodes }, index) {
  const { parent, role } = nodes[index];
  return [...nodes.keys()].filter((other) => nodes[other].parent === parent && nodes[other].role === role);
}

// Where the newest path through a node ends.
export function newest_below({ nodes }, index) {
  for (let next = index; next >= 0; next = nodes.findLastIndex(({ parent }) => parent === index)) index = next;
  return index;
}

// What a model with thoughts writes, apart: some begin within them.
export function parts_of(text) {
  const end = text.indexOf("</think>"), thought = (part) => part.replace(/^\s*<think>/, "").trim();
  if (end >= 0) return { thought: thought(text.slice(0, end)), answer: text.slice(end + "</think>".length).trimStart() };
  return /^\s*<think>/.test(text) ? { thought: thought(text), answer: "" } : { thought: "", answer: text };
}

// As the server takes them. Answers that failed before a word are left out, and so are thoughts.
export function messages_of(conversation, end) {
  const result = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  for (const index of path(conversation, end)) {
    const { role, text } = conversation.nodes[index];
    const content = role === "user" ? text : parts_of(text).answer;
    if (!content) continue;
    // Templates want turns to alternate.
    if (result.at(-1)?.role === role) result.at(-1).content += "\n\n" + content;
    else result.push({ role, content });
  }
  return result;
}

export function title_of(text) {
  const [line] = text.trim().split("\n", 1);
  return line.length > 60 ? line.slice(0, 59) + "…" : line;
}

// Checks what comes from outside; throws Error with words for a reader.

function require(condition, message) {
  if (!condition) throw new Error(message);
}

const is_object = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

function node_of(from, index) {
  const wrong = `message ${index + 1} is none`;
  require(is_object(from) && typeof from.text === "string", wrong);
  require(from.role === "user" || from.role === "assistant", wrong);
  require(Number.isInteger(from.parent) && from.parent >= -1 && from.parent < index, wrong);
  const node = { parent: from.parent, role: from.role, text: from.text };
  for (const name of ["end", "error"]) if (typeof from[name] === "string") node[name] = from[name];
  for (const name of ["tokens", "prompt", "cached", "first", "rate", "limit"]) if (is_number(from[name])) node[name] = from[name];
  return node;
}

function conversation_of(from) {
  require(is_object(from) && Array.isArray(from.nodes), "it has no messages");
  const nodes = from.nodes.map(node_of);
  const result = new_conversation();
  if (typeof from.id === "string" && /^[\w-]{1,64}$/.test(from.id)) result.id = from.id;
  if (typeof from.title === "string") result.title = from.title.slice(0, 200);
  result.title ||= title_of(nodes[0]?.text ?? "") || "Without a name";
  if (is_number(from.time)) result.time = from.time;
  if (typeof from.system === "string") result.system = from.system;
  for (const field of sampling_fields)
    if (fits(field, from.sampling?.[field.name])) result.sampling[field.name] = from.sampling[field.name];
  const leaf = Number.isInteger(from.leaf) && from.leaf >= -1 && from.leaf < nodes.length ? from.leaf : nodes.length - 1;
  return { ...result, nodes, leaf };
}

export function say_the_same(a, b) {
  const [one, other] = [a, b].map(({ nodes }) => JSON.stringify(nodes.map(node_of)));
  return one === other;
}

// What `mainspring chat` writes at /save.
function saved_chat(file) {
  const nodes = file.messages.filter((message) => message?.role !== "system")
    .map((message, index) => ({ parent: index - 1, role: message?.role, text: message?.content }));
  const sampling = {};
  const names = { temperature: "temp", top_k: "top-k", top_p: "top-p", min_p: "min-p", repeat_penalty: "repeat-penalty", max_tokens: "predict", seed: "seed" };
  for (const [name, theirs] of Object.entries(names)) sampling[name] = file.parameters?.[theirs];
  const system = file.messages.find((message) => message?.role === "system")?.content;
  return conversation_of({ nodes, system, sampling });
}

export function read_file(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("it is no JSON");
  }
  if (Array.isArray(file?.messages)) return [saved_chat(file)];
  require(Array.isArray(file?.conversations), "it has no conversations");
  return file.conversations.map(conversation_of);
}

export const file_of = (conversations) => JSON.stringify({ conversations }, null, 1);

// This browser's storage. Where it is denied, conversations last as long as the page.

const prefix = "mainspring.", chat = "chat.";
const [local, session] = ["localStorage", "sessionStorage"].map((name) => {
  try {
    return window[name];
  } catch {
    return undefined;
  }
});

export const read = (name) => local?.getItem(prefix + name) ?? "";

// False where there is no room left.
export function write(name, text) {
  try {
    if (text) local?.setItem(prefix + name, text);
    else local?.removeItem(prefix + name);
    return true;
  } catch {
    return false;
  }
}

// The conversation that a page shows, which survives its reload.
export const shown = () => session?.getItem(prefix + "shown") ?? "";
export const set_shown = (id) => session?.setItem(prefix + "shown", id);

export const save = (conversation) => write(chat + conversation.id, JSON.stringify(conversation));
export const remove = ({ id }) => write(chat + id, "");

export function load(id) {
  try {
    return conversation_of(JSON.parse(read(chat + id)));
  } catch {
    return undefined; // of another program, or of an older page
  }
}

export const load_all = () =>
  Object.keys(local ?? {}).filter((name) => name.startsWith(prefix + chat))
    .map((name) => load(name.slice((prefix + chat).length))).filter(Boolean);

// Calls back with the id of each conversation that another page of this server has changed.
export function on_change(call) {
  addEventListener("storage", ({ storageArea, key }) => {
    if (storageArea === local && key?.startsWith(prefix + chat)) call(key.slice((prefix + chat).length));
  });
}
