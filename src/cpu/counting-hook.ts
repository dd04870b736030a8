// A block hook's callback that counts without entering JavaScript: in WebAssembly, and as machine code where the host lets us.

import { runsMachineCode } from './host-machine-code.ts';

/*
 * Both are the same function of a hook's four parameters, the last (the user data) pointing to a 32-bit count:
 *   if (--*count == 0) call back with the same parameters.
 */

/**
 * A module that imports the heap as "e" "m" and the callback as "e" "f", and exports the function as "g". In text:
 * (func (export "g") (param $uc i32) (param $address i64) (param $size i32) (param $count i32) (local $left i32)
 *   (i32.store (local.get $count) (local.tee $left (i32.sub (i32.load (local.get $count)) (i32.const 1))))
 *   (if (i32.eqz (local.get $left)) (then (call $f all four parameters))))
 */
// biome-ignore format: one section of the module a line
export const COUNTING_HOOK_WASM = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00,
  0x01, 0x08, 0x01, 0x60, 0x04, 0x7f, 0x7e, 0x7f, 0x7f, 0x00,
  0x02, 0x0e, 0x02, 0x01, 0x65, 0x01, 0x6d, 0x02, 0x00, 0x00, 0x01, 0x65, 0x01, 0x66, 0x00, 0x00,
  0x03, 0x02, 0x01, 0x00,
  0x07, 0x05, 0x01, 0x01, 0x67, 0x00, 0x01,
  0x0a, 0x25, 0x01, 0x23, 0x01, 0x01, 0x7f,
  0x20, 0x03, 0x20, 0x03, 0x28, 0x02, 0x00, 0x41, 0x01, 0x6b, 0x22, 0x04, 0x36, 0x02, 0x00,
  0x20, 0x04, 0x45, 0x04, 0x40, 0x20, 0x00, 0x20, 0x01, 0x20, 0x02, 0x20, 0x03, 0x10, 0x00, 0x0b, 0x0b,
]);

/** Offset from the count to the address of the function to call, which the machine code jumps to. */
export const COUNTING_HOOK_TARGET = 8;

/** The function as machine code for this host, whose C calling convention it follows; null where there is none. */
export function countingHookMachineCode(): Uint8Array | null {
  if (!runsMachineCode()) return null;
  // biome-ignore format: one instruction a line
  return new Uint8Array([
    0xff, 0x09, // dec dword [rcx]
    0x74, 0x01, // jz +1
    0xc3, // ret
    0xff, 0x61, COUNTING_HOOK_TARGET, // jmp [rcx + 8]
  ]);
}
