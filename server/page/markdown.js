// markdown.js: Markdown, as models write it, as nodes of a page. A text is never taken for HTML: what a page shows of it
// is built here, links lead to http, https and mailto alone, and images are links. Every step takes about linear time.

const deepest = 8; // of lists and quotes within each other
const most_marks = 16; // of emphasis within each other

function element(tag, properties = {}, children = []) {
  const result = Object.assign(document.createElement(tag), properties);
  for (const child of children) result.append(child);
  return result;
}

// Shows texts in an element, each a longer form of the last: blocks that stay the same stay the same nodes, so that
// what a reader has selected or focused in them does, too.
export class Markdown {
  #sources = [];
  #root;

  constructor(root) {
    this.#root = root;
  }

  show(text) {
    const lines = text.replace(/\r\n?/g, "\n").split("\n");
    const found = blocks(lines, 0);
    const sources = found.map(({ from, to }) => lines.slice(from, to).join("\n"));
    let same = 0;
    while (same < sources.length && sources[same] === this.#sources[same]) ++same;
    while (this.#root.childNodes.length > same) this.#root.lastChild.remove();
    for (const block of found.slice(same)) this.#root.append(block.make());
    this.#sources = sources;
  }
}

// Blocks.

const fence = /^[ \t]*(`{3,}|~{3,})[ \t]*([^`]*)$/;
const heading = /^ {0,3}(#{1,6})[ \t]+(.*)$/;
const rule = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const quote = /^ {0,3}> ?/;
const item = /^([ \t]*)([-*+]|\d{1,9}[.)])(?:[ \t]+|$)/;

const is_blank = (line) => !line.trim();
const unquoted = (line) => line.replace(quote, "");
const cells = (line) =>
  line.trim().replace(/^\||(?<!\\)\|$/g, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
const is_table = (lines, i) =>
  lines[i].includes("|") && lines[i + 1]?.includes("-") && cells(lines[i + 1]).every((cell) => /^:?-+:?$/.test(cell)) &&
  cells(lines[i + 1]).length === cells(lines[i]).length;

// The lines of a text as {from, to, make}: each makes one node.
function blocks(lines, depth) {
  const result = [];
  for (let i = 0; i < lines.length;) {
    if (is_blank(lines[i])) ++i;
    else {
      const block = block_at(lines, i, depth);
      result.push({ from: i, ...block });
      i = block.to;
    }
  }
  return result;
}

const made = (lines, depth) => blocks(lines, depth).map((block) => block.make());

function block_at(lines, i, depth) {
  const line = lines[i];
  let match;
  if ((match = fence.exec(line))) return code(lines, i, match);
  if ((match = heading.exec(line))) {
    const [, { length }, text] = match; // the page's own headings are h1 and h2
    return { to: i + 1, make: () => element(`h${Math.min(length + 2, 6)}`, {}, inline(text.trim().replace(/\s#+$/, ""))) };
  }
  if (rule.test(line)) return { to: i + 1, make: () => element("hr") };
  if (depth < deepest && quote.test(line)) {
    let to = i + 1;
    while (to < lines.length && quote.test(lines[to])) ++to;
    return { to, make: () => element("blockquote", {}, made(lines.slice(i, to).map(unquoted), depth + 1)) };
  }
  if (depth < deepest && item.test(line)) return list(lines, i, depth);
  if (is_table(lines, i)) return table(lines, i);
  let to = i + 1;
  while (to < lines.length && !is_blank(lines[to]) && !interrupts(lines, to, depth)) ++to;
  return { to, make: () => element("p", {}, inline(lines.slice(i, to).map((text) => text.trimEnd()).join("\n").trimStart())) };
}

// Whether a line ends the paragraph above it. A number does so only where a list begins, with 1.
function interrupts(lines, i, depth) {
  const line = lines[i], marker = depth < deepest && item.exec(line)?.[2];
  return fence.test(line) || heading.test(line) || rule.test(line) || (depth < deepest && quote.test(line)) ||
    (marker && !/^\d/.test(marker)) || marker === "1." || marker === "1)" || is_table(lines, i);
}

// Up to the fence that closes it; the text may end before.
function code(lines, i, [, mark, info]) {
  const closes = (line) => {
    const text = line.trim();
    return text.length >= mark.length && text === mark[0].repeat(text.length);
  };
  let end = i + 1;
  while (end < lines.length && !closes(lines[end])) ++end;
  const indent = lines[i].length - lines[i].trimStart().length;
  const make = () => {
    const text = lines.slice(i + 1, end).map((line) => outdented(line, indent)).join("\n");
    return element("figure", { className: "code" }, [
      element("figcaption", {}, [info.trim().split(/\s/)[0] || "text",
        element("button", { type: "button", className: "copy", textContent: "Copy", ariaLabel: "Copy this code" })]),
      element("pre", { tabIndex: 0 }, [element("code", { textContent: text })]),
    ]);
  };
  return { to: Math.min(end + 1, lines.length), make };
}

const indent_of = (line) => /^[ \t]*/.exec(line)[0].replaceAll("\t", "    ").length;

function outdented(line, columns) {
  const indent = indent_of(line);
  return columns ? " ".repeat(Math.max(indent - columns, 0)) + line.trimStart() : line;
}

// Items of one kind. To an item belongs what is indented more than its marker, and lines that go on with its paragraph.
function list(lines, start, depth) {
  const is_number = (marker) => /\d/.test(marker);
  const first = item.exec(lines[start]), indent = indent_of(lines[start]), numbered = is_number(first[2]);
  const items = [];
  let i = start;
  for (let marker; i < lines.length && (marker = item.exec(lines[i]));) {
    if (indent_of(lines[i]) > indent + 1 || is_number(marker[2]) !== numbered || rule.test(lines[i])) break;
    const width = indent_of(lines[i]) + marker[2].length + 1;
    const own = [lines[i].slice(marker[0].length)];
    let next = i + 1;
    for (let j = next; j < lines.length; ++j) {
      if (is_blank(lines[j])) continue;
      const belongs = indent_of(lines[j]) > indent + 1 ||
        (j === next && !item.test(lines[j]) && !interrupts(lines, j, depth));
      if (!belongs) break;
      for (; next <= j; ++next) own.push(outdented(lines[next], width));
    }
    items.push(own);
    i = next;
    while (i < lines.length && is_blank(lines[i])) ++i;
    if (i < lines.length && !item.test(lines[i])) i = next;
  }
  while (i > start && is_blank(lines[i - 1])) --i;
  const make = () => {
    const result = element(numbered ? "ol" : "ul", {}, items.map((own) => {
      const task = /^\[([ xX])\] /.exec(own[0]);
      if (task) own = [(task[1] === " " ? "☐ " : "☑ ") + own[0].slice(4), ...own.slice(1)];
      return element("li", {}, made(own, depth + 1));
    }));
    if (numbered) result.start = parseInt(first[2]);
    return result;
  };
  return { to: i, make };
}

function table(lines, i) {
  let to = i + 2;
  while (to < lines.length && lines[to].includes("|") && !interrupts(lines, to, 0)) ++to;
  const make = () => {
    const aligned = cells(lines[i + 1]).map((cell) =>
      cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : "");
    const row = (line, tag) => {
      const texts = cells(line);
      return element("tr", {}, aligned.map((className, n) => element(tag, { className }, inline(texts[n] ?? ""))));
    };
    const rows = lines.slice(i + 2, to).map((line) => row(line, "td"));
    const whole = element("table", {}, [
      element("thead", {}, [row(lines[i], "th")]), element("tbody", {}, rows)]);
    return element("div", { className: "table", tabIndex: 0 }, [whole]); // which scrolls, where the page must not
  };
  return { to, make };
}

// Inlines.

const special = /[\\`*_~<[]|!\[|https?:\/\//gi;
const ticks = /`+/y;
const link = /!?\[((?:[^[\]\\]|\\.){0,500})\]\(\s{0,9}<?((?:[^\s()<>]|\([^\s()<>]*\)){1,2000})>?(?:\s{1,9}(?:"[^"]*"|'[^']*'))?\s{0,9}\)/y;
const bracketed = /<(https?:\/\/[^\s<>]{1,2000}|mailto:[^\s<>]{1,200})>/iy;
const address = /https?:\/\/[^\s<>"`]{1,2000}/iy;
const line_break = /<br ?\/?>/iy;
const word = /[\p{L}\p{N}]/u;

function match_at(pattern, text, at) {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

// The address, where it is one that a text may lead to.
function safe(href) {
  try {
    const url = new URL(href);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : undefined;
  } catch {
    return undefined;
  }
}

const anchor = (href, children) =>
  element("a", { href, target: "_blank", rel: "noopener noreferrer" }, children);

// Without what ends a sentence, or closes a parenthesis that it does not open.
function trimmed_address(text) {
  text = text.replace(/[.,;:!?'*_~]+$/, "");
  while (text.endsWith(")") && text.split("(").length < text.split(")").length) text = text.slice(0, -1);
  return text;
}

// Nodes and strings.
function inline(text, in_link = false) {
  const open = [{ children: [] }]; // emphasis not yet closed, the innermost last
  const add = (child) => open.at(-1).children.push(child);
  const lonely = new Set(); // lengths of backtick runs that nothing closes
  let at = 0;

  // Marks that nothing closed are text.
  const flatten = (from) => {
    for (const { mark, children } of open.splice(from)) {
      add(mark);
      for (const child of children) add(child);
    }
  };
  const close = (index) => {
    flatten(index + 1);
    const { mark, children } = open.pop();
    add(element(mark === "~~" ? "del" : mark.length === 2 ? "strong" : "em", {}, children));
  };

  const escape = () => {
    const next = text[at + 1] ?? "";
    add(/[!-/:-@[-`{-~]/.test(next) ? next : "\\" + next);
    at += 1 + next.length;
  };
  const code_span = () => {
    const { length } = match_at(ticks, text, at)[0];
    const runs = /`+/g;
    runs.lastIndex = at + length;
    let run;
    if (!lonely.has(length))
      while ((run = runs.exec(text)) && run[0].length !== length);
    if (run) {
      const inner = text.slice(at + length, run.index);
      const padded = inner.startsWith(" ") && inner.endsWith(" ") && inner.trim();
      add(element("code", { textContent: padded ? inner.slice(1, -1) : inner }));
      at = run.index + length;
    } else {
      lonely.add(length);
      add("`".repeat(length));
      at += length;
    }
  };
  const emphasis = () => {
    const c = text[at];
    let end = at;
    while (text[end] === c) ++end;
    const before = text[at - 1] ?? " ", after = text[end] ?? " ";
    let opens = after.trim() !== "", closes = before.trim() !== "", left = end - at;
    if (c === "_") (opens &&= !word.test(before)), (closes &&= !word.test(after));
    if (c === "~" && left !== 2) opens = closes = false;
    at = end;
    while (closes && left) {
      const index = open.findLastIndex(({ mark }) => mark?.[0] === c && mark.length <= left);
      if (index < 0) break;
      left -= open[index].mark.length;
      close(index);
    }
    for (; left && opens && left <= 3 && open.length <= most_marks; left -= open.at(-1).mark.length)
      open.push({ mark: c.repeat(Math.min(left, 2)), children: [] });
    if (left) add(c.repeat(left));
  };
  const other = () => {
    const found = match_at(link, text, at) ?? match_at(bracketed, text, at) ?? match_at(address, text, at);
    const brk = match_at(line_break, text, at);
    if (brk) {
      add(element("br"));
      at += brk[0].length;
      return;
    }
    let whole = found?.[0], label, target;
    if (found?.[2]) [, label, target] = found;
    else if (found) {
      target = found[1] ?? trimmed_address(whole);
      if (!found[1]) whole = target;
    }
    const href = target && !in_link && safe(target);
    if (!href) {
      add(text[at]);
      ++at;
      return;
    }
    add(anchor(href, label === undefined ? [target] : label.trim() ? inline(label, true) : [target]));
    at += whole.length;
  };

  for (let found; (found = match_at(special, text, at));) {
    if (found.index > at) add(text.slice(at, found.index));
    at = found.index;
    const c = text[at];
    if (c === "\\") escape();
    else if (c === "`") code_span();
    else if ("*_~".includes(c)) emphasis();
    else other();
  }
  if (at < text.length) add(text.slice(at));
  flatten(1);
  return open[0].children;
}
