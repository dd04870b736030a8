// The one error class of the project: a stable code to match on, and one sentence with the numbers in it.

/**
 * An input, option or environment that Bootscope cannot work with. Thrown where the fact is known;
 * only the command line turns it into text and exit status 2.
 */
export class BootscopeError extends Error {
  /** Stable, kebab-case, prefixed by the room: `image-truncated`, `codec-checksum`, `cpu-no-engine`. */
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'BootscopeError';
    this.code = code;
  }
}
