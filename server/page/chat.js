// chat.js: the page: what it shows of the conversations, and what its buttons and keys do.
import * as client from "./client.js";
import { Markdown } from "./markdown.js";
import * as store from "./store.js";

const $ = (id) => document.getElementById(id);

function element(tag, properties = {}, children = []) {
  const result = Object.assign(document.createElement(tag), properties);
  result.append(...children);
  return result;
}

const button = (textContent, onclick, more = {}) => element("button", { type: "button", textContent, onclick, ...more });

const ideas = ["Tell me a story about a fox and a lighthouse", "Explain why the sky is blue", "Write a haiku about autumn rain", "Write a Python function that reverses a list"];

let model = { name: "", context: undefined };
let key = store.read("key");
const conversations = new Map(store.load_all().map((one) => [one.id, one])); // those that have a message
const running = new Map(); // by a conversation's id: {controller, index, changed}: the answer that is being written
let leaving = false; // the page is being closed, which breaks its connections off
let current = conversations.get(store.shown()) ?? new_chat();

function new_chat(like) {
  try {
    like ??= JSON.parse(store.read("settings"));
  } catch {} // none yet
  return store.new_conversation(like);
}

// Words at the bottom for a while, and for a screen reader.

let toast_timer;
function toast(text, action) {
  $("toast").replaceChildren(text, ...(action ? [action] : []));
  clearTimeout(toast_timer);
  toast_timer = setTimeout(() => $("toast").replaceChildren(), 8000);
}

function save(conversation) {
  if (!conversations.has(conversation.id)) return; // deleted since
  if (!store.save(conversation)) toast("This browser's storage is full: what is new is not kept. Export, and delete what you can spare.");
}

async function copy(text, from) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not a secure context: the old way
    const area = element("textarea", { value: text, className: "unseen" });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    from.focus();
  }
  const before = from.textContent;
  if (before === "Copied") return;
  from.textContent = "Copied";
  setTimeout(() => (from.textContent = before), 1500);
}

// Scrolling: the end stays in view until the reader scrolls away from it.

const scroll = $("scroll");
let at_end = true, last_top = 0, last_height = 0;
function keep_end() {
  if (at_end) scroll.scrollTop = scroll.scrollHeight;
  $("latest").hidden = at_end;
}
function to_end() {
  at_end = true;
  keep_end();
}
scroll.onscroll = () => {
  const { scrollTop, scrollHeight, clientHeight } = scroll;
  if (scrollTop < last_top && scrollHeight >= last_height) at_end = false;
  else if (scrollHeight - scrollTop - clientHeight < 8) at_end = true;
  [last_top, last_height] = [scrollTop, scrollHeight];
  $("latest").hidden = at_end;
};
new ResizeObserver(keep_end).observe(scroll);
$("latest").onclick = () => {
  to_end();
  $("input").focus();
};

// An answer.

function request_of(conversation, asked) {
  const request = { messages: store.messages_of(conversation, asked) };
  for (const { name, usual } of store.sampling_fields) {
    const value = conversation.sampling[name] ?? usual;
    if (value !== undefined) request[name] = value;
  }
  return request;
}

// Answers the node `asked`, at `index`: a new node, or one that failed.
async function answer(conversation, asked, index = conversation.nodes.length) {
  if (running.has(conversation.id)) return;
  const request = request_of(conversation, asked);
  const node = { parent: asked, role: "assistant", text: "" };
  if (request.max_tokens) node.limit = request.max_tokens;
  conversation.nodes[index] = node;
  conversation.leaf = index;
  conversation.time = Date.now();
  const live = { controller: new AbortController(), index, changed() {} };
  running.set(conversation.id, live);
  save(conversation);
  if (conversation === current) {
    draw();
    to_end();
  }
  $("spoken").textContent = "Answering";
  const began = performance.now();
  let first, saved = began, thinking = false;
  try {
    for await (const { choices: [choice], usage } of client.answer(request, key, live.controller.signal)) {
      // Thoughts that the server tells apart are kept as models write them.
      const thought = choice?.delta?.reasoning_content, now = performance.now();
      let text = choice?.delta?.content;
      if (thought) text = (thinking ? "" : "<think>") + thought;
      else if (text && thinking) text = "</think>" + text;
      if (text) thinking = Boolean(thought);
      if (text) {
        first ??= now;
        node.text += text;
        node.tokens = (node.tokens ?? 0) + 1; // about, until the usage comes
        node.first = (first - began) / 1000;
        if (now > first) node.rate = (node.tokens - 1) / ((now - first) / 1000);
      }
      if (choice?.finish_reason) node.end = choice.finish_reason;
      if (usage) {
        if (node.rate) node.rate *= Math.max(usage.completion_tokens - 1, 1) / Math.max(node.tokens - 1, 1);
        node.tokens = usage.completion_tokens;
        node.prompt = usage.prompt_tokens;
        node.cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
      }
      if (now - saved > 2000) {
        save(conversation);
        saved = now;
      }
      live.changed();
    }
    show_trouble();
    if (!model.name) find_model(); // it was not there when the page was opened
  } catch (error) {
    if (leaving) return;
    node.end = live.controller.signal.aborted ? "stopped" : "failed";
    if (node.end === "failed") node.error = error.message;
    if (error.status === 401 && conversation === current) ask_key(error.message, () => answer(conversation, asked, index));
    if (!(error instanceof client.Failure) && node.end === "failed") console.error(error);
  } finally {
    running.delete(conversation.id);
    conversation.time = Date.now();
    save(conversation);
    live.changed(true);
    draw_state();
    $("spoken").textContent = { stopped: "Stopped", failed: "" }[node.end] ?? "The answer is complete";
  }
}

function send(text) {
  if (!text.trim() || running.has(current.id)) return false;
  ask(current.leaf, text);
  return true;
}

// Adds a message behind a node, and answers it.
function ask(parent, text) {
  current.title ||= store.title_of(text);
  current.nodes.push({ parent, role: "user", text });
  conversations.set(current.id, current);
  answer(current, current.nodes.length - 1);
}

// An answer that never had a word, and no message behind it, is replaced; else there are two to choose from.
function retry(index) {
  const { parent, text } = current.nodes[index];
  if (text || index !== current.leaf) answer(current, parent);
  else answer(current, parent, index);
}

const stop = () => running.get(current.id)?.controller.abort();

// Messages.

function versions_of(index) {
  const all = store.versions(current, index), at = all.indexOf(index);
  if (all.length < 2) return [];
  const show = (other, label) => {
    current.leaf = store.newest_below(current, other);
    save(current);
    draw();
    const again = $("messages").querySelector(`[data-index="${other}"] [aria-label="${label}"]`);
    (again?.disabled ? again.parentElement.querySelector("button:enabled") : again)?.focus();
  };
  const step = (by, sign, ariaLabel) => {
    const other = all[at + by];
    return button(sign, () => show(other, ariaLabel), { ariaLabel, className: other === undefined ? "" : "changes", disabled: other === undefined });
  };
  return [element("span", { className: "versions" }, [
    step(-1, "‹", "The version before"), `${at + 1}/${all.length}`, step(1, "›", "The next version")])];
}

function article_of(index, speaker, children) {
  const { role } = current.nodes[index];
  const article = element("article", { className: role }, [element("h2", { className: "unseen", textContent: speaker }), ...children]);
  article.dataset.index = index;
  return article;
}

function view_of_question(index) {
  const { text } = current.nodes[index];
  const article = article_of(index, "You", [
    element("div", { className: "text", textContent: text }),
    element("div", { className: "actions" }, [
      ...versions_of(index),
      button("Copy", ({ target }) => copy(text, target)),
      button("Edit", () => edit(index, article), { className: "changes" }),
    ]),
  ]);
  return article;
}

function edit(index, article) {
  const { parent, text } = current.nodes[index];
  const area = element("textarea", { value: text, rows: Math.min(12, text.split("\n").length + 1), ariaLabel: "The message, changed" });
  const cancel = () => {
    const view = view_of_question(index);
    article.replaceWith(view);
    view.querySelector(".actions .changes:last-child").focus();
  };
  const done = () => {
    if (!area.value.trim() || running.has(current.id)) return;
    if (area.value === text) answer(current, index);
    else ask(parent, area.value);
  };
  area.onkeydown = (event) => {
    if (event.key === "Escape") cancel();
    else if (is_send(event)) done();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  article.replaceChildren(element("form", { onsubmit: (event) => (event.preventDefault(), done()) }, [
    area, element("div", { className: "row" }, [button("Cancel", cancel), element("button", { className: "strong", textContent: "Send" })])]));
  area.focus();
}

const count = (number) => number.toLocaleString("en");

function figures_of({ tokens, rate, first, prompt, cached }, live) {
  if (!tokens) return "";
  const parts = [`${live || prompt === undefined ? "≈ " : ""}${count(tokens)} token${tokens === 1 ? "" : "s"}`];
  if (rate) parts.push(`${rate.toFixed(1)} tokens/s`);
  if (first !== undefined) parts.push(`first after ${first.toFixed(2)} s`);
  if (prompt !== undefined) parts.push(`prompt ${count(prompt)}${cached ? `, ${count(cached)} of it known` : ""}`);
  return parts.join(" · ");
}

function remark_of({ text, end, limit, tokens }) {
  if (end === "length" && limit && tokens >= limit) return `Cut off at ${count(limit)} tokens, which is Max tokens of the settings.`;
  if (end === "length") return `The context is full${model.context ? `: prompt and answer have its ${count(model.context)} tokens` : ""}. A new chat has room again.`;
  if (end === "stopped") return "Stopped.";
  if (end === "stop") return text ? "" : "The model had nothing to say.";
  return end === "failed" ? "" : "The page was closed before the end of this answer.";
}

function view_of_answer(index) {
  const conversation = current, node = conversation.nodes[index], live = running.get(conversation.id);
  const summary = element("summary"), thought_text = element("div");
  const thought = element("details", { className: "thought" }, [summary, thought_text]);
  const text = element("div", { className: "markdown" }), markdown = new Markdown(text);
  const remark = element("p", { className: "remark" });
  const trouble = element("p", { className: "trouble", role: "alert" });
  const figures = element("span", { className: "figures" });
  const copies = button("Copy", ({ target }) => copy(store.parts_of(node.text).answer, target));
  const retries = button("Retry", () => retry(index), { className: "changes" });
  const actions = element("div", { className: "actions" }, [...versions_of(index), copies, retries, figures]);
  const update = () => {
    const writes = live?.index === index && running.get(conversation.id) === live;
    const parts = store.parts_of(node.text);
    thought.hidden = !parts.thought;
    summary.textContent = writes && !parts.answer ? "Thinking…" : "Thoughts";
    thought_text.textContent = parts.thought;
    markdown.show(parts.answer);
    text.classList.toggle("waiting", writes && !parts.answer);
    remark.textContent = writes ? "" : remark_of(node);
    remark.hidden = !remark.textContent;
    trouble.hidden = writes || !node.error;
    if (!trouble.hidden) trouble.replaceChildren(node.error, button("Retry", () => retry(index), { className: "changes" }));
    figures.textContent = figures_of(node, writes);
    copies.hidden = !node.text;
    retries.hidden = writes || !trouble.hidden; // which has a Retry of its own
    keep_end();
  };
  if (live?.index === index) {
    let frame = 0;
    live.changed = (now) => {
      cancelAnimationFrame(frame);
      if (now) update();
      else frame = requestAnimationFrame(update);
    };
  }
  update();
  return article_of(index, "Answer", [thought, text, remark, trouble, actions]);
}

// The whole of it.

function draw() {
  store.set_shown(current.id);
  const shown = store.path(current);
  $("messages").replaceChildren(...shown.map((index) =>
    current.nodes[index].role === "user" ? view_of_question(index) : view_of_answer(index)));
  $("welcome").hidden = shown.length > 0;
  $("messages").hidden = shown.length === 0;
  draw_state();
  keep_end();
}

// What changes while the messages stay.
function draw_state() {
  const title = current.title || "New chat", busy = running.has(current.id);
  $("title").textContent = title;
  document.title = current.title ? `${title} - Mainspring` : "Mainspring";
  $("model").textContent = $("model").title = model.name;
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  $("messages").ariaBusy = String(busy);
  for (const one of document.querySelectorAll("#messages .changes")) one.disabled = busy;
  $("change-key").hidden = !key;

  const last = current.nodes[store.path(current).findLast((index) => current.nodes[index].prompt !== undefined)];
  const used = last ? Math.min(last.prompt + last.tokens, model.context) : 0, room = $("room");
  room.textContent = used ? `${count(used)} of ${count(model.context)} tokens of context` : "";
  room.classList.toggle("full", used > 0.9 * model.context);
  draw_list();
}

function draw_list() {
  if ($("list").querySelector("input")) return; // which has a name half written
  const sorted = [...conversations.values()].sort((a, b) => b.time - a.time);
  const focused = document.activeElement?.closest?.("#list button")?.dataset.id;
  $("list").replaceChildren(...sorted.map((one) => {
    const open = button(one.title, () => show(one), { title: one.title });
    open.dataset.id = one.id;
    if (one === current) open.ariaCurrent = "page";
    const line = element("li", {}, [open,
      button("✎", () => rename(one, line), { ariaLabel: `Rename ${one.title}`, title: "Rename" }),
      button("✕", () => remove(one), { ariaLabel: `Delete ${one.title}`, title: "Delete" })]);
    line.classList.toggle("current", one === current);
    line.classList.toggle("running", running.has(one.id));
    return line;
  }));
  if (focused) $("list").querySelector(`[data-id="${focused}"]`)?.focus();
}

function show(conversation) {
  current = conversation;
  close_side();
  draw();
  to_end();
}

function rename(conversation, line) {
  const input = element("input", { value: conversation.title, maxLength: 200, ariaLabel: "The conversation's name" });
  const end = (keep) => {
    if (!input.isConnected) return;
    input.onblur = null;
    if (keep && input.value.trim()) conversation.title = input.value.trim();
    input.remove();
    save(conversation);
    draw_state();
    $("list").querySelector(`[data-id="${conversation.id}"]`)?.focus();
  };
  input.onkeydown = (event) => {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.stopPropagation();
    end(event.key === "Enter");
  };
  input.onblur = () => end(true);
  line.replaceChildren(input);
  input.select();
}

function remove(conversation) {
  running.get(conversation.id)?.controller.abort();
  conversations.delete(conversation.id);
  store.remove(conversation);
  if (conversation === current) current = new_chat(conversation);
  draw();
  const undo = button("Undo", () => {
    conversations.set(conversation.id, conversation);
    save(conversation);
    toast("");
    show(conversation);
  });
  toast(`“${conversation.title}” is deleted.`, undo);
}

// Controls.

// On a touch screen Enter begins a line, as its keyboard has no Shift+Enter.
const is_send = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing && !matchMedia("(pointer: coarse)").matches;

function fit_input() {
  const input = $("input");
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
}

function submit() {
  if (!send($("input").value)) return;
  $("input").value = "";
  fit_input();
}

$("input").oninput = fit_input;
$("input").onkeydown = (event) => {
  if (!is_send(event)) return;
  event.preventDefault();
  submit();
};
$("composer").onsubmit = (event) => {
  event.preventDefault();
  submit();
};
$("stop").onclick = () => {
  stop();
  $("input").focus();
};
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || document.querySelector("dialog[open]")) return;
  if (document.body.classList.contains("side-open")) close_side();
  else stop();
});
$("messages").onclick = ({ target }) => {
  if (target.matches(".code .copy")) copy(target.closest(".code").querySelector("code").textContent, target);
};
$("ideas").append(...ideas.map((idea) => button(idea, () => send(idea))));
$("new").onclick = () => {
  show(new_chat(current));
  $("input").focus();
};

function open_side(open) {
  document.body.classList.toggle("side-open", open);
  $("menu").ariaExpanded = String(open);
}
const close_side = () => open_side(false);
$("menu").onclick = () => {
  open_side(true);
  $("new").focus();
};
$("shade").onclick = close_side;

const themes = ["system", "light", "dark"];
function set_theme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  $("theme").title = $("theme").ariaLabel = `Theme: ${theme}`;
  $("theme").onclick = () => {
    const next = themes[(themes.indexOf(theme) + 1) % themes.length];
    store.write("theme", next);
    set_theme(next);
  };
}
set_theme(themes.find((theme) => theme === store.read("theme")) ?? "system");

// Settings: what is set and valid holds at once.

for (const { name, label, least, most, whole, usual, help } of store.sampling_fields) {
  const input = element("input", { id: name, type: "number", min: least, max: most, step: whole ? 1 : "any", placeholder: usual ?? "" });
  input.setAttribute("aria-describedby", `${name}-help`);
  $("sampling").append(element("div", {}, [
    element("label", { htmlFor: name, textContent: label }), input, element("small", { id: `${name}-help`, textContent: help })]));
  input.oninput = () => {
    if (!input.validity.valid) return;
    if (input.value === "") delete current.sampling[name];
    else current.sampling[name] = input.valueAsNumber;
    settings_changed();
  };
}
$("system").oninput = () => {
  current.system = $("system").value;
  settings_changed();
};
function settings_changed() {
  save(current);
  store.write("settings", JSON.stringify({ system: current.system, sampling: current.sampling }));
}
function fill_settings() {
  $("system").value = current.system;
  for (const { name } of store.sampling_fields) $(name).value = current.sampling[name] ?? "";
}
$("settings").onclick = () => {
  fill_settings();
  $("options").showModal();
};
$("reset").onclick = () => {
  current.system = "";
  current.sampling = {};
  settings_changed();
  fill_settings();
};

// The API key, and the server.

let when_key_is_there;
function ask_key(why, then) {
  $("key-why").textContent = why;
  $("key").value = key;
  when_key_is_there = then;
  if (!$("key-dialog").open) $("key-dialog").showModal();
  $("key").select();
}
$("key-dialog").querySelector("form").onsubmit = () => {
  key = $("key").value;
  store.write("key", key);
  draw_state();
  when_key_is_there();
};
$("key-cancel").onclick = () => $("key-dialog").close();
$("change-key").onclick = () => ask_key("", find_model);

function show_trouble(text, again) {
  $("server").hidden = !text;
  if (text) $("server").replaceChildren(text, button("Retry", again));
}

async function find_model() {
  try {
    model = await client.model(key);
    show_trouble();
    draw();
  } catch (error) {
    show_trouble(error.message, find_model);
    if (error.status === 401) ask_key(error.message, find_model);
  }
}

// Files.

$("export").onclick = () => {
  if (!conversations.size) return toast("There is no conversation to export yet.");
  const blob = new Blob([store.file_of([...conversations.values()])], { type: "application/json" });
  const link = element("a", { href: URL.createObjectURL(blob), download: "mainspring-conversations.json" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
};
$("import").onclick = () => $("file").click();
$("file").onchange = async () => {
  const [file] = $("file").files;
  try {
    const read = store.read_file(await file.text());
    let added = 0;
    for (const one of read) {
      const same = conversations.get(one.id);
      if (same && store.say_the_same(same, one)) continue;
      if (same) one.id = store.new_conversation().id;
      conversations.set(one.id, one);
      if (!store.save(one)) {
        conversations.delete(one.id);
        throw new Error(`this browser's storage is full after ${added} of ${read.length} conversations`);
      }
      ++added;
    }
    toast(`${added} conversation${added === 1 ? "" : "s"} imported${added < read.length ? `; ${read.length - added} were here already` : ""}.`);
  } catch (error) {
    toast(`${file.name} cannot be imported: ${error.message}.`);
  }
  $("file").value = "";
  draw_state();
};

store.on_change((id) => {
  if (running.has(id)) return;
  const changed = store.load(id), was_shown = current.id === id;
  if (changed) conversations.set(id, changed);
  else conversations.delete(id);
  if (was_shown && changed) current = changed;
  if (was_shown) draw();
  else draw_list();
});
addEventListener("beforeunload", () => (leaving = true));
addEventListener("pagehide", () => {
  for (const id of running.keys()) if (conversations.has(id)) save(conversations.get(id));
});

draw();
to_end();
find_model();
