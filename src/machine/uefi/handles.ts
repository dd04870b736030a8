// The handle database: which protocols stand on which handle, in the order in which they were installed.

/** A handle is an address that stands for a thing (UEFI 2.10, 7.3); protocols are interfaces by GUID. */
export class HandleDatabase {
  readonly #handles = new Map<bigint, Map<string, bigint>>();

  has(handle: bigint): boolean {
    return this.#handles.has(handle);
  }

  install(handle: bigint, guid: string, address: bigint): boolean {
    let protocols = this.#handles.get(handle);
    if (protocols === undefined) {
      protocols = new Map();
      this.#handles.set(handle, protocols);
    }
    if (protocols.has(guid)) return false;
    protocols.set(guid, address);
    return true;
  }

  /** A handle without protocols is gone. */
  uninstall(handle: bigint, guid: string): boolean {
    const protocols = this.#handles.get(handle);
    if (protocols === undefined || !protocols.delete(guid)) return false;
    if (protocols.size === 0) this.#handles.delete(handle);
    return true;
  }

  /** The interface; undefined where the handle does not have the protocol. */
  get(handle: bigint, guid: string): bigint | undefined {
    return this.#handles.get(handle)?.get(guid);
  }

  protocolsOf(handle: bigint): readonly string[] {
    return [...(this.#handles.get(handle)?.keys() ?? [])];
  }

  /** All handles with a protocol; without one, all handles. */
  find(guid: string | null): readonly bigint[] {
    return [...this.#handles]
      .filter(([, protocols]) => guid === null || protocols.has(guid))
      .map(([handle]) => handle);
  }
}
