// The part of the JavaScript API of WebAssembly that is used here; TypeScript has it only in its DOM library.

export interface WasmMemory {
  readonly buffer: ArrayBuffer;
}
export interface WasmInstance {
  readonly exports: Readonly<Record<string, unknown>>;
}
export type WasmModule = object;
export interface WebAssemblyApi {
  readonly Memory: new (descriptor: { initial: number }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array<ArrayBufferLike>) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: object) => WasmInstance;
  instantiate(source: unknown, imports?: object): Promise<unknown>;
}
export const webAssembly: WebAssemblyApi = (globalThis as unknown as { WebAssembly: WebAssemblyApi })
  .WebAssembly;
