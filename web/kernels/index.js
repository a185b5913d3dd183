// index.js: Mainspring's kernels on a WebGPU device: modules, pipelines, bind groups, Params. No dependencies.

/** Workgroups as (x, y, 1) with x within what a dimension may have; the kernels skip the surplus. */
export function fold(groups) {
  const most = 65535;
  return groups <= most ? [groups, 1, 1] : [most, Math.ceil(groups / most), 1];
}

/** A kernel's WGSL with its overrides as constants: of the prelude only, which must be, or of all. */
export function specialise(wgsl, info, overrides, all = true) {
  for (const { name, type, prelude } of info.overrides) {
    if (!all && !prelude) continue;
    const declared = new RegExp(`^(?:const|override) ${name}\\s*:\\s*\\w+\\s*=[^;]*;`, "m");
    wgsl = wgsl.replace(declared, `const ${name}: ${type} = ${literal(type, overrides[name])};`);
  }
  return wgsl;
}

function literal(type, value) {
  const text = String(value);
  return type === "f32" && !/[.e]/.test(text) ? `${text}.0` : text;
}

/** Reads the package's files; `url` is its folder, the one of this module if left out. */
export async function loadKernels(device, { url = new URL(".", import.meta.url) } = {}) {
  const read = async (name) => {
    const file = new URL(name, url);
    if (file.protocol === "file:") // Node, whose fetch has no files
      return (await import("node:fs/promises")).readFile(file, "utf8");
    const response = await fetch(file);
    if (!response.ok) throw new Error(`${file}: ${response.status} ${response.statusText}`);
    return response.text();
  };
  return new Kernels(device, read, JSON.parse(await read("kernels.json")));
}

export class Kernels {
  #read;
  #texts = new Map(); // promises, by variant and name
  #modules = new Map(); // promises, by text
  #pipelines = new Map(); // promises, by what makes them

  constructor(device, read, info) {
    this.device = device;
    this.info = info;
    this.variant = device.features.has("subgroups") ? "subgroups" : "portable";
    this.#read = read;
  }

  /** The module's text, with every override at its default. */
  wgsl(name, variant = this.variant) {
    return remember(this.#texts, `${variant}/${name}`, (key) => this.#read(`wgsl/${key}.wgsl`));
  }

  /** Every override's value: those given, else the defaults. Throws for what it may not be, and what the kernel refuses. */
  overrides(name, given = {}, variant = this.variant) {
    const info = this.#kernel(name);
    const values = {};
    for (const declared of info.overrides) {
      const lacks = declared.needs_subgroups && variant === "portable";
      const value = given[declared.name] ?? (lacks ? false : declared.default);
      if (!declared.values.includes(value))
        throw new Error(`${name}: ${declared.name} is ${JSON.stringify(value)}; it may be ${declared.values.join(", ")}`);
      if (lacks && value) throw new Error(`${name}: ${declared.name} on a device without the feature "subgroups"`);
      values[declared.name] = value;
    }
    requireNames(name, "override", Object.keys(given), Object.keys(values));
    for (const { where, reason } of info.refused)
      if (Object.entries(where).every(([key, refused]) => refused.includes(values[key])))
        throw new Error(`${name}: ${JSON.stringify(values)}: ${reason}`);
    return values;
  }

  /** A kernel specialised, ready to be encoded. Compiled once; an Error has the compiler's words. */
  pipeline(name, overrides = {}, { variant = this.variant, entry = "main" } = {}) {
    const values = this.overrides(name, overrides, variant);
    const key = JSON.stringify([name, variant, entry, values]);
    return remember(this.#pipelines, key, () => this.#compile(name, variant, entry, values));
  }

  /** One dispatch on its own, waited for. Typed arrays are uploaded; those that the kernel writes come back anew. */
  async run(name, { overrides, params, bindings, grid, variant, entry }) {
    const { device } = this;
    const pipeline = await this.pipeline(name, overrides, { variant, entry });
    const buffers = {}, back = {}, mine = [];
    const make = (size, usage) => {
      mine.push(device.createBuffer({ label: name, size, usage }));
      return mine.at(-1);
    };
    try {
      for (const [key, data] of Object.entries(bindings)) {
        buffers[key] = data;
        if (!ArrayBuffer.isView(data)) continue;
        const bytes = roundUp(data.byteLength); // so that arrays of vec4 hold the last element
        buffers[key] = make(bytes, GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC);
        const padded = new Uint8Array(bytes);
        padded.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
        device.queue.writeBuffer(buffers[key], 0, padded);
        if (pipeline.writes(key)) back[key] = make(bytes, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
      }
      const group = pipeline.bind(params, buffers);
      const encoder = device.createCommandEncoder({ label: name });
      const pass = encoder.beginComputePass({ label: name });
      pipeline.dispatch(pass, group, grid);
      pass.end();
      for (const key in back) encoder.copyBufferToBuffer(buffers[key], 0, back[key], 0, back[key].size);
      device.queue.submit([encoder.finish()]);
      group.release();
      await device.queue.onSubmittedWorkDone();
      const results = {};
      for (const key in back) {
        await back[key].mapAsync(GPUMapMode.READ);
        const { constructor: Type, length } = bindings[key];
        results[key] = new Type(back[key].getMappedRange().slice(0, bindings[key].byteLength), 0, length);
      }
      return results;
    } finally {
      for (const buffer of mine) buffer.destroy();
    }
  }

  #kernel(name) {
    const info = Object.hasOwn(this.info, name) ? this.info[name] : undefined;
    if (!info) throw new Error(`there is no kernel "${name}"`);
    return info;
  }

  async #compile(name, variant, entry, values) {
    const { device } = this;
    const info = this.#kernel(name);
    const code = specialise(await this.wgsl(name, variant), info, values, false);
    const module = await remember(this.#modules, code, async () => {
      device.pushErrorScope("validation");
      const made = device.createShaderModule({ label: name, code });
      const scope = device.popErrorScope(); // at once: other compiles push theirs
      const [{ messages }, error] = await Promise.all([made.getCompilationInfo(), scope]);
      const words = messages.filter((m) => m.type === "error").map((m) => `line ${m.lineNum}: ${m.message}`);
      if (error || words.length)
        throw new Error(`${name} does not compile for ${variant}: ${words.join("\n") || error.message}`);
      return made;
    });
    const layout = device.createBindGroupLayout({
      label: name,
      entries: info.bindings.map(({ binding, access }) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type: access } })),
    });
    const constants = {};
    for (const { name: key, prelude } of info.overrides) if (!prelude) constants[key] = Number(values[key]);
    const pipeline = await device.createComputePipelineAsync({
      label: name,
      layout: device.createPipelineLayout({ label: name, bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: entry, constants },
    });
    return new Pipeline(device, name, info, values, layout, pipeline);
  }
}

export class Pipeline {
  constructor(device, name, info, overrides, layout, pipeline) {
    Object.assign(this, { device, name, info, overrides, layout, pipeline });
  }

  /** Whether a binding is one that the kernel writes. */
  writes(binding) {
    return this.info.bindings.some(({ name, access }) => name === binding && access === "storage");
  }

  /** Params as the kernel lays them out. Every field must be there. */
  pack(params) {
    const fields = this.info.params;
    requireNames(this.name, "parameter", Object.keys(params), fields.map(({ name }) => name));
    const view = new DataView(new ArrayBuffer(roundUp(4 * fields.length)));
    for (const { name, type, offset } of fields) {
      if (params[name] === undefined) throw new Error(`${this.name}: the parameter ${name} is missing`);
      const set = { u32: view.setUint32, i32: view.setInt32, f32: view.setFloat32 }[type];
      set.call(view, offset, Number(params[name]), true);
    }
    return view.buffer;
  }

  /** The bind group for these Params and buffers, with release() for the memory that it owns. Bindings that the
   *  overrides leave unused may be left out. A buffer is a GPUBuffer or {buffer, offset, size}. */
  bind(params, bindings) {
    const { device, info } = this;
    const names = info.bindings.map(({ name }) => name);
    requireNames(this.name, "binding", Object.keys(bindings), names.slice(1));
    const owned = [];
    const make = (usage, size) => {
      owned.push(device.createBuffer({ label: this.name, size, usage }));
      return owned.at(-1);
    };
    const packed = this.pack(params);
    const uniform = make(GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST, packed.byteLength);
    device.queue.writeBuffer(uniform, 0, packed);
    const entries = names.map((name, binding) => {
      const given = binding === 0 ? uniform : bindings[name] ?? make(GPUBufferUsage.STORAGE, 256);
      return { binding, resource: given.buffer ? given : { buffer: given } };
    });
    const group = device.createBindGroup({ label: this.name, layout: this.layout, entries });
    group.release = () => owned.forEach((buffer) => buffer.destroy());
    return group;
  }

  /** Encodes the kernel into a compute pass. */
  dispatch(pass, group, grid) {
    pass.setPipeline(this.pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...grid);
  }
}

function roundUp(bytes) {
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

function requireNames(kernel, what, given, known) {
  const wrong = given.find((name) => !known.includes(name));
  if (wrong !== undefined) throw new Error(`${kernel} has no ${what} ${wrong}; it has ${known.join(", ") || "none"}`);
}

// The promise under a key, made on first demand; one that fails is forgotten.
function remember(map, key, make) {
  if (!map.has(key)) {
    const promise = Promise.resolve(make(key));
    map.set(key, promise);
    promise.catch(() => map.delete(key));
  }
  return map.get(key);
}
