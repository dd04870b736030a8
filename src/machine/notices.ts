// Things the guest asked for that the machine does not have: each once, with how often it was asked.

/** Counts notices by their text, in the order they first came. */
export class NoticeList {
  readonly #counts = new Map<string, number>();

  add(text: string): void {
    this.#counts.set(text, (this.#counts.get(text) ?? 0) + 1);
  }

  /** `port 0x1234 has no device, reads 0xff (3 times)`. */
  get texts(): readonly string[] {
    return [...this.#counts].map(([text, count]) => (count === 1 ? text : `${text} (${count} times)`));
  }
}
