// page.js: runs the package's cases in this browser, shows the results, and keeps them as a report.
import { loadKernels, specialise } from "./kernels/index.js";

const $ = (id) => document.getElementById(id);
const folder = new URL("kernels/", import.meta.url);
const fetched = async (name) => {
  const response = await fetch(new URL(name, folder));
  if (!response.ok) throw new Error(`${response.url}: ${response.status} ${response.statusText}`);
  return response;
};

let kernels, adapter, lost; // of the device in use; why it was lost
let stopping = false, running = false;
const rows = []; // {kernel, one, rank, result, other, element}: every case, its place among its kernel's, what came of it

async function openDevice() {
  adapter = await navigator.gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Error("This browser offers no WebGPU device.");
  const requiredFeatures = ["subgroups"].filter((feature) => adapter.features.has(feature));
  const device = await adapter.requestDevice({ requiredFeatures });
  lost = undefined;
  device.lost.then(({ reason, message }) => {
    lost = `The device was lost (${reason}): ${message}`;
    $("error").textContent = lost;
  });
  kernels = await loadKernels(device, { url: folder });
  const { vendor, architecture, description, subgroupMinSize, subgroupMaxSize } = adapter.info;
  const subgroups = requiredFeatures.length ? `subgroups of ${subgroupMinSize} to ${subgroupMaxSize}` : "no subgroups";
  $("device").textContent = `Device: ${[vendor, architecture, description].filter(Boolean).join(", ") || "unnamed"}; ${subgroups}.`;
}

// What this device lacks for a case; undefined when it can run it.
function lacks({ variant, subgroup_size }) {
  if (variant === "portable") return undefined;
  if (!kernels.device.features.has(variant)) return `this device has no ${variant}`;
  const least = adapter.info.subgroupMinSize;
  return least < subgroup_size ? `for subgroups of ${subgroup_size} or more, this device's may have ${least}` : undefined;
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  if (exponent === 31) return mantissa ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + mantissa / 1024) : 2 ** -14 * (mantissa / 1024));
}

// The largest error in units of its tolerance, 1 being the limit, and the first wrong elements. Equal bits
// agree whatever they are: NaN where neither wrote. Nothing beyond the shape may have changed.
function compare(got, want, { type, shape }, { abs, rel }) {
  const numbers = (bits) =>
    type === "f32" ? new Float32Array(bits.buffer) : type === "f16" ? Array.from(bits, half) : bits;
  const size = shape.reduce((a, b) => a * b, 1), a = numbers(got), b = numbers(want);
  let worst = 0;
  const wrong = [];
  for (let i = 0; i < got.length; ++i) {
    if (got[i] === want[i] || (i < size && a[i] === b[i])) continue;
    const error = i < size ? Math.abs(a[i] - b[i]) / (abs + rel * Math.abs(b[i])) : Infinity;
    const ratio = Number.isNaN(error) ? Infinity : error;
    worst = Math.max(worst, ratio);
    if (ratio > 1) wrong.push(`element ${i}: got ${a[i]}, want ${b[i]}`);
  }
  return { worst, wrong };
}

// The pipeline that a case needs, and how long it took.
async function compile({ kernel, one }) {
  const start = performance.now();
  await kernels.pipeline(kernel, one.overrides, one);
  return performance.now() - start;
}

async function runCase({ kernel, one }, data, compiled) {
  const { device } = kernels;
  const place = ({ type }, [offset, bytes]) =>
    new (type === "f16" ? Uint16Array : Uint32Array)(data.slice(offset, offset + bytes));
  const bindings = {};
  for (const [name, binding] of Object.entries(one.bindings)) bindings[name] = place(binding, binding.before);
  const work = { ...one, bindings };
  const result = { status: "passed", worst: 0 };
  try {
    result.compile_ms = await compiled;
    const start = performance.now();
    device.pushErrorScope("validation");
    const got = await kernels.run(kernel, work).finally(async () => {
      const error = await device.popErrorScope();
      if (error) throw new Error(error.message);
    });
    result.run_ms = performance.now() - start;
    if (lost) throw new Error(lost);
    for (const [name, binding] of Object.entries(one.bindings)) {
      if (!binding.after) continue;
      const { worst, wrong } = compare(got[name], place(binding, binding.after), binding, one.tolerance);
      result.worst = Math.max(result.worst, worst);
      if (wrong.length)
        result.message = [result.message, `${name}: ${wrong.length} wrong`, ...wrong.slice(0, 5)].filter(Boolean).join("\n");
    }
    if (result.message) result.status = "failed";
  } catch (error) {
    return { ...result, status: "failed", message: lost ?? error.message };
  }
  return result;
}

async function run(chosen) {
  if (running) return;
  running = true, stopping = false;
  $("run").textContent = "Stop";
  $("error").textContent = "";
  $("progress").max = chosen.length;
  $("progress").value = 0;
  try {
    if (lost) await openDevice();
    let name, data;
    const compiled = []; // a few ahead, at the same time
    for (let i = 0; i < chosen.length && !stopping && !lost; ++i) {
      const row = chosen[i];
      const reason = lacks(row.one);
      for (let next = compiled.length; next < Math.min(i + 4, chosen.length); ++next) {
        compiled.push(lacks(chosen[next].one) ? undefined : compile(chosen[next]));
        compiled[next]?.catch(() => {}); // told when its turn comes
      }
      if (name !== row.kernel) data = await (await fetched(`cases/${row.kernel}.bin`)).arrayBuffer();
      name = row.kernel;
      row.result = reason ? { status: "skipped", message: reason } : await runCase(row, data, compiled[i]);
      show(row);
      $("progress").value = i + 1;
    }
  } catch (error) {
    $("error").textContent = error.message;
  }
  running = false;
  $("run").textContent = "Run";
  summarise();
}

// The table.

const settings = ({ variant, subgroup_size, overrides }) =>
  [variant + (subgroup_size > 4 ? ` ${subgroup_size}` : ""), ...Object.entries(overrides).map((pair) => pair.join("="))].join(" ");
const number = (value, digits) => (value === undefined ? "" : Number.isFinite(value) ? value.toFixed(digits) : "∞");
const identity = ({ kernel, variant, subgroup_size, overrides, params, grid }) =>
  JSON.stringify([kernel, variant, subgroup_size, overrides, params, grid]);

function addRow(row) {
  const element = (row.element = $("cases").insertRow());
  const cell = (text = "", name = "") => Object.assign(element.insertCell(), { textContent: text, className: name });
  cell(row.kernel).title = kernels.info[row.kernel].summary;
  cell(settings(row.one), "settings").title = JSON.stringify(row.one.params);
  for (const name of ["", "number", "number", "number", ""]) cell("", name);
  const actions = cell();
  const button = (label, onclick) => actions.append(Object.assign(document.createElement("button"), { textContent: label, onclick }));
  button("Run", () => run([row]));
  button("WGSL", () => showSource(row).catch((error) => ($("error").textContent = error.message)));
  show(row);
}

function show(row) {
  const { status = "waiting", worst, compile_ms, run_ms, message = "" } = row.result ?? {};
  const cells = row.element.cells;
  cells[2].textContent = message ? `${status}: ${message}` : status;
  cells[2].className = `${status} settings`;
  cells[3].textContent = number(worst, 3);
  cells[4].textContent = number(compile_ms, 0);
  cells[5].textContent = number(run_ms, 1);
  const { other } = row;
  cells[6].textContent = other ? `${other.status} ${number(other.worst ?? undefined, 3)} ${number(other.run_ms, 1)} ms` : "";
  cells[6].className = other && row.result && other.status !== row.result.status ? "differs" : "";
}

function summarise() {
  const count = { passed: 0, failed: 0, skipped: 0, waiting: 0 };
  for (const { result } of rows) ++count[result?.status ?? "waiting"];
  const parts = Object.entries(count).filter(([, n]) => n).map(([status, n]) => `${n} ${status}`);
  const compared = rows.filter(({ other, result }) => other && result);
  if (compared.length) {
    const differ = compared.filter(({ other, result }) => other.status !== result.status).length;
    parts.push(`${differ} of ${compared.length} differ from the other report`);
  }
  $("summary").textContent = parts.join(", ");
  $("download").disabled = count.waiting === rows.length;
}

function visible() {
  const words = $("filter").value.split(/\s+/).filter(Boolean);
  return rows.filter(({ kernel, one, rank, result }) => {
    if (rank >= Number($("amount").value)) return false;
    const text = `${kernel} ${settings(one)} ${result?.status ?? "waiting"}`;
    return words.every((word) => text.includes(word));
  });
}

function filter() {
  const shown = new Set(visible());
  for (const row of rows) row.element.hidden = !shown.has(row);
}

async function showSource({ kernel, one }) {
  const text = specialise(await kernels.wgsl(kernel, one.variant), kernels.info[kernel], one.overrides);
  $("source").querySelector("pre").textContent = text;
  $("source").showModal();
}

// Reports.

async function report() {
  const { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize } = adapter.info;
  const limits = {};
  for (const name in kernels.device.limits) limits[name] = kernels.device.limits[name];
  const { name, version } = await (await fetched("package.json")).json();
  return {
    package: `${name} ${version}`,
    date: new Date().toISOString(),
    agent: navigator.userAgent,
    adapter: { vendor, architecture, device, description, subgroupMinSize, subgroupMaxSize },
    features: [...adapter.features].sort(),
    limits,
    results: rows.filter(({ result }) => result).map(({ kernel, one, result }) => {
      const { variant, subgroup_size, overrides, params, grid } = one;
      return { kernel, variant, subgroup_size, overrides, params, grid, ...result };
    }),
  };
}

async function download() {
  const blob = new Blob([JSON.stringify(await report(), null, 1)], { type: "application/json" });
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: "mainspring-kernels.json" });
  link.click();
  URL.revokeObjectURL(link.href);
}

async function readOther(file) {
  const other = new Map(JSON.parse(await file.text()).results.map((result) => [identity(result), result]));
  for (const row of rows) {
    row.other = other.get(identity({ kernel: row.kernel, ...row.one }));
    show(row);
  }
  summarise();
}

async function start() {
  await openDevice();
  const names = Object.keys(kernels.info);
  const files = await Promise.all(names.map(async (name) => (await fetched(`cases/${name}.json`)).json()));
  names.forEach((kernel, i) => {
    const count = {}; // by device; the first cases show the most
    for (const one of files[i]) {
      const device = `${one.variant} ${one.subgroup_size}`;
      count[device] = (count[device] ?? -1) + 1;
      rows.push({ kernel, one, rank: count[device] });
    }
  });
  rows.forEach(addRow);
  summarise();
  $("run").onclick = () => (running ? (stopping = true) : run(visible()));
  $("filter").oninput = $("amount").onchange = filter;
  $("download").onclick = download;
  $("other").onchange = ({ target }) =>
    readOther(target.files[0]).catch((error) => ($("error").textContent = `This is no report: ${error.message}`));
  $("run").disabled = false;
}

start().catch((error) => {
  $("device").textContent = "";
  $("error").textContent = error.message;
});
