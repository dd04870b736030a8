/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entry of the 32-bit stub of the i386 bzImage: moves itself with its payload behind the place where the
 * kernel goes, and there calls extract_kernel and jumps to what it returns. Paging stays off.
 *
 * Linked at 0: a symbol's value is its distance from startup_32. ESI points to boot_params throughout.
 */
#include "../setup/fields.h"

#define LOAD_PHYSICAL_ADDR 0x1000000

	.section ".head.text", "ax"
	.code32
	.globl	startup_32
startup_32:
	cld
	cli
	leal	BP_SCRATCH + 4(%esi), %esp
	call	1f
1:	popl	%edx
	subl	$1b, %edx

	leal	gdt(%edx), %eax
	movl	%eax, gdt_pointer + 2(%edx)
	lgdt	gdt_pointer(%edx)
	movl	$BOOT_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss

	/* EBP: where the kernel goes, always the same. EBX: where we go, at the end of its init_size bytes. */
	movl	$LOAD_PHYSICAL_ADDR, %ebp
	movl	%ebp, %ebx
	addl	BP_INIT_SIZE(%esi), %ebx
	subl	$_end, %ebx
	leal	stack_end(%ebx), %esp
	pushl	$0
	popfl

	/* From the end down, since the new place may overlap the old one. */
	pushl	%esi
	leal	_bss - 4(%edx), %esi
	leal	_bss - 4(%ebx), %edi
	movl	$_bss, %ecx
	shrl	$2, %ecx
	std
	rep movsl
	cld
	popl	%esi

	/* The descriptor table is in what may be overwritten. */
	leal	gdt(%ebx), %eax
	movl	%eax, gdt_pointer + 2(%ebx)
	lgdt	gdt_pointer(%ebx)

	leal	relocated(%ebx), %eax
	jmp	*%eax

	.text
relocated:
	xorl	%eax, %eax
	leal	_bss(%ebx), %edi
	leal	_ebss(%ebx), %ecx
	subl	%edi, %ecx
	shrl	$2, %ecx
	rep stosl

	pushl	%ebp
	pushl	%esi
	call	extract_kernel
	popl	%esi
	popl	%ebp
	xorl	%ebx, %ebx
	jmp	*%eax

	.data
	.balign	8
gdt:	.quad	0
	.quad	0
	.quad	0x00cf9a000000ffff	/* 10h: 32-bit code */
	.quad	0x00cf92000000ffff	/* 18h: data */
end_of_gdt:
gdt_pointer:
	.word	end_of_gdt - gdt - 1
	.long	0

	.bss
	.balign	16
	.skip	0x4000
stack_end:
