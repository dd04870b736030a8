/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Data of the demo kernels: something to compress, and squares that tell whether it came out whole. */
	.section ".rodata", "a"
	.globl	filler
filler:
	.rept	1024
	.ascii	"All that a demo kernel needs to say, it says in one line. ", "\0\0\0\0\0\0"
	.endr

	.data
	.balign	16
	.globl	squares
squares:
	.set	number, 0
	.rept	2048
	.long	number * number
	.set	number, number + 1
	.endr

	.section ".note.GNU-stack", "", @progbits
