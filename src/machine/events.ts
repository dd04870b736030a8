// What the machine tells whoever listens: BIOS calls, port accesses, exceptions, as they happen.

export type MachineEvent =
  | {
      readonly kind: 'bios';
      readonly vector: number;
      /** Registers the service got and left, by their 32-bit names; only those it uses. */
      readonly input: Readonly<Record<string, number>>;
      readonly output: Readonly<Record<string, number>>;
      /** CF as the service set it, which means failure; false for services that leave CF alone. */
      readonly carry: boolean;
      /** `INT 15h E820: query system address map`. */
      readonly text: string;
      /** What it wrote into memory, or did to the machine, in a few words: `0x0..0x9fc00 usable`. */
      readonly result: string | null;
    }
  | {
      readonly kind: 'port';
      readonly direction: 'in' | 'out';
      readonly port: number;
      readonly size: 1 | 2 | 4;
      readonly value: number;
      /** `UART`, `PIT`, …; `unknown` where nothing is there. */
      readonly device: string;
    }
  | {
      readonly kind: 'efi';
      /** As the service's row names it: `AllocatePages`, `PciIo.Pci.Read`. */
      readonly service: string;
      /** From 1, all services together. */
      readonly number: number;
      /** `vmlinuz+0xb75c10`: the instruction behind the call, in the image that it is in. */
      readonly caller: string;
      readonly returnAddress: bigint;
      /** Decoded, by name. */
      readonly arguments: Readonly<Record<string, string>>;
      /** `SUCCESS`, `NOT_FOUND`; for services that return no status, the value. */
      readonly status: string;
      readonly instructions: number | null;
      /** `AllocatePages(Type=MaxAddress, …) = SUCCESS (Memory 0x1da67000)`. */
      readonly text: string;
    }
  | {
      readonly kind: 'cpuid';
      readonly leaf: number;
      readonly subleaf: number;
      /** EAX, EBX, ECX, EDX. */
      readonly result: readonly [number, number, number, number];
    }
  | {
      readonly kind: 'exception';
      readonly vector: number;
      readonly address: bigint;
      readonly delivered: boolean;
    };
