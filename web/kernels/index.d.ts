// index.d.ts: the types of index.js; those of WebGPU come with TypeScript or @webgpu/types.
import type { KernelTypes } from "./kernels.js";

export type { KernelTypes };
export type KernelName = keyof KernelTypes;
export type Overrides<K extends KernelName> = KernelTypes[K]["overrides"];
export type Params<K extends KernelName> = KernelTypes[K]["params"];
export type Bindings<K extends KernelName, T> = { [B in KernelTypes[K]["bindings"]]?: T };
export type Variant = "portable" | "subgroups";
export type Grid = [x: number, y: number, z: number];
export type Data = Float32Array | Uint32Array | Int32Array | Uint16Array | Uint8Array;

/** What kernels.json says of a kernel. */
export interface KernelInfo {
  summary: string;
  header: string;
  /** How many workgroups it takes. */
  grid: string;
  /** What it does not take beside shapes that disagree. */
  limits: string;
  /** Whether it computes otherwise on devices with subgroups. */
  subgroups: boolean;
  /** Of its cases, each of which has its own: that of most, and the widest. */
  tolerance: Record<"usual" | "widest", { abs: number; rel: number }>;
  entries: string[];
  bindings: { binding: number; name: string; access: "uniform" | "read-only-storage" | "storage"; type: string; comment: string }[];
  params: { name: string; type: "u32" | "i32" | "f32"; offset: number; comment: string }[];
  /** `values`: all that it may be. `sizing`: changes no result. `prelude`: a `const` of the text, not an override.
   *  `needs_subgroups`: true is refused without the feature. */
  overrides: {
    name: string;
    type: "bool" | "u32" | "i32" | "f32";
    default: number | boolean;
    values: (number | boolean)[];
    tested: (number | boolean)[];
    needs_subgroups: boolean;
    sizing: boolean;
    prelude: boolean;
    comment: string;
  }[];
  /** Combinations of tested values that the kernel does not take. */
  refused: { where: Record<string, (number | boolean)[]>; reason: string }[];
  replaces: { file: string; entry: string; overrides: Record<string, string>; params: Record<string, string>; decision: string }[];
  /** How many there are in cases/NAME.json. */
  cases: number;
}

export interface BoundGroup extends GPUBindGroup {
  /** Destroys the Params and stand-ins made for it, once the work that uses it is submitted. */
  release(): void;
}

/** Workgroups as (x, y, 1) with x within what a dimension may have; the kernels skip the surplus. */
export function fold(groups: number): Grid;

/** A kernel's WGSL with its overrides as constants: of the prelude only, which must be, or of all. */
export function specialise(wgsl: string, info: KernelInfo, overrides: Record<string, number | boolean>, all?: boolean): string;

/** Reads the package's files; `url` is its folder, the one of this module if left out. */
export function loadKernels(device: GPUDevice, options?: { url?: string | URL }): Promise<Kernels>;

export class Kernels {
  private constructor();
  readonly device: GPUDevice;
  readonly info: Record<KernelName, KernelInfo>;
  /** What the device's features choose. */
  readonly variant: Variant;
  /** The module's text, with every override at its default. */
  wgsl(name: KernelName, variant?: Variant): Promise<string>;
  /** Every override's value: those given, else the defaults. Throws for what it may not be, and what the kernel refuses. */
  overrides<K extends KernelName>(name: K, given?: Overrides<K>, variant?: Variant): Required<Overrides<K>>;
  /** A kernel specialised, ready to be encoded. Compiled once; an Error has the compiler's words. */
  pipeline<K extends KernelName>(name: K, overrides?: Overrides<K>, options?: { variant?: Variant; entry?: string }): Promise<Pipeline<K>>;
  /** One dispatch on its own, waited for. Typed arrays are uploaded; those that the kernel writes come back anew. */
  run<K extends KernelName>(
    name: K,
    work: {
      overrides?: Overrides<K>;
      params: Params<K>;
      bindings: Bindings<K, Data | GPUBuffer>;
      grid: Grid;
      variant?: Variant;
      entry?: string;
    },
  ): Promise<Bindings<K, Data>>;
}

export class Pipeline<K extends KernelName = KernelName> {
  private constructor();
  readonly name: K;
  readonly info: KernelInfo;
  readonly overrides: Required<Overrides<K>>;
  readonly layout: GPUBindGroupLayout;
  readonly pipeline: GPUComputePipeline;
  /** Whether a binding is one that the kernel writes. */
  writes(binding: KernelTypes[K]["bindings"]): boolean;
  /** Params as the kernel lays them out. Every field must be there. */
  pack(params: Params<K>): ArrayBuffer;
  /** The bind group for these Params and buffers. Bindings that the overrides leave unused may be left out. */
  bind(params: Params<K>, bindings: Bindings<K, GPUBuffer | GPUBufferBinding>): BoundGroup;
  /** Encodes the kernel into a compute pass. */
  dispatch(pass: GPUComputePassEncoder, group: GPUBindGroup, grid: Grid): void;
}
