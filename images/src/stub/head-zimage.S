/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entry of the zImage's stub, linked at 0x1000 where setup moved it: calls decompress_kernel the way stubs
 * before 2.6.22 did, with a structure for buffers (which only high-loaded kernels need), and jumps to 1 MiB.
 */
#include "../setup/fields.h"

#define KERNEL 0x100000

	.section ".head.text", "ax"
	.code32
	.globl	startup_32
startup_32:
	cld
	cli
	movl	$BOOT_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	movl	$stack_end, %esp

	/* While address line 20 is off, 1 MiB is 0. */
	xorl	%eax, %eax
1:	incl	%eax
	movl	%eax, 0
	cmpl	%eax, KERNEL
	je	1b

	pushl	$0
	popfl
	xorl	%eax, %eax
	movl	$_bss, %edi
	movl	$_ebss, %ecx
	subl	%edi, %ecx
	rep stosb

	subl	$16, %esp
	movl	%esp, %eax
	pushl	%esi
	pushl	%eax
	call	decompress_kernel
	orl	%eax, %eax
	jnz	1f
	popl	%esi
	popl	%esi
	xorl	%ebx, %ebx
	ljmp	$BOOT_CS, $KERNEL

1:	hlt			/* never: it would ask for a move to 1 MiB */
	jmp	1b

	.bss
	.balign	16
	.skip	0x1000
stack_end:
