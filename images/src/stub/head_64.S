/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Entry of the 64-bit stub, at 0x100000 or wherever a loader put it: startup_32 builds page tables for the
 * first 4 GiB and goes to long mode; startup_64 moves the stub with its payload behind the place where the
 * kernel goes, and there calls extract_kernel and jumps to what it returns.
 *
 * Linked at 0: a symbol's value is its distance from startup_32. RSI points to boot_params throughout.
 */
#include "../setup/fields.h"

#define LOAD_PHYSICAL_ADDR 0x1000000
#define CR4_PAE 0x20
#define MSR_EFER 0xc0000080
#define EFER_LME 0x100
#define CR0_PROTECTED_PAGED 0x80000001
#define TABLE_ENTRY 0x7		/* present, writable, user */
#define LARGE_PAGE 0x183	/* present, writable, 2 MiB, global */
#define PAGES_OF_TABLES 6

	.section ".head.text", "ax"
	.code32
	.globl	startup_32
startup_32:
	cld
	cli
	/* Where are we? The only memory that is ours without knowing is a scratch word in boot_params. */
	leal	BP_SCRATCH + 4(%esi), %esp
	call	1f
1:	popl	%ebp
	subl	$1b, %ebp

	leal	gdt(%ebp), %eax
	movl	%eax, gdt_pointer + 2(%ebp)
	lgdt	gdt_pointer(%ebp)
	movl	$BOOT_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	leal	stack_end(%ebp), %esp

	movl	$0x80000000, %eax
	cpuid
	cmpl	$0x80000001, %eax
	jb	no_long_mode
	movl	$0x80000001, %eax
	cpuid
	btl	$29, %edx
	jnc	no_long_mode

	/* EBX: where the stub is going to be, at the end of the kernel's init_size bytes. */
	movl	%ebp, %ebx
	movl	BP_KERNEL_ALIGNMENT(%esi), %eax
	decl	%eax
	addl	%eax, %ebx
	notl	%eax
	andl	%eax, %ebx
	cmpl	$LOAD_PHYSICAL_ADDR, %ebx
	jae	1f
	movl	$LOAD_PHYSICAL_ADDR, %ebx
1:	addl	BP_INIT_SIZE(%esi), %ebx
	subl	$_end, %ebx

	movl	%cr4, %eax
	orl	$CR4_PAE, %eax
	movl	%eax, %cr4

	/* One page of level 4, one of level 3, four of level 2. */
	leal	pgtable(%ebx), %edi
	xorl	%eax, %eax
	movl	$PAGES_OF_TABLES * 1024, %ecx
	rep stosl
	leal	pgtable(%ebx), %edi
	leal	0x1000 + TABLE_ENTRY(%edi), %eax
	movl	%eax, (%edi)
	leal	pgtable + 0x1000(%ebx), %edi
	leal	0x1000 + TABLE_ENTRY(%edi), %eax
	movl	$4, %ecx
1:	movl	%eax, (%edi)
	addl	$0x1000, %eax
	addl	$8, %edi
	decl	%ecx
	jnz	1b
	leal	pgtable + 0x2000(%ebx), %edi
	movl	$LARGE_PAGE, %eax
	movl	$4 * 512, %ecx
1:	movl	%eax, (%edi)
	addl	$0x200000, %eax
	addl	$8, %edi
	decl	%ecx
	jnz	1b
	leal	pgtable(%ebx), %eax
	movl	%eax, %cr3

	movl	$MSR_EFER, %ecx
	rdmsr
	orl	$EFER_LME, %eax
	wrmsr

	leal	startup_64(%ebp), %eax
	pushl	$BOOT_CS
	pushl	%eax
	movl	$CR0_PROTECTED_PAGED, %eax
	movl	%eax, %cr0
	lret

no_long_mode:
	hlt
	jmp	no_long_mode

	.code64
	.org	0x200		/* "64-bit Boot Protocol" */
	.globl	startup_64
startup_64:
	cld
	cli
	xorl	%eax, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs

	/* RBP: where the kernel goes. RBX: where we go. A 64-bit loader did not run startup_32. */
	leaq	startup_32(%rip), %rbp
	movl	BP_KERNEL_ALIGNMENT(%rsi), %eax
	decl	%eax
	addq	%rax, %rbp
	notq	%rax
	andq	%rax, %rbp
	cmpq	$LOAD_PHYSICAL_ADDR, %rbp
	jae	1f
	movq	$LOAD_PHYSICAL_ADDR, %rbp
1:	movl	BP_INIT_SIZE(%rsi), %ebx
	subl	$_end, %ebx
	addq	%rbp, %rbx

	leaq	stack_end(%rbx), %rsp
	pushq	$0
	popfq

	/* From the end down, since the new place may overlap the old one. */
	pushq	%rsi
	leaq	_bss - 8(%rip), %rsi
	leaq	_bss - 8(%rbx), %rdi
	movl	$_bss, %ecx
	shrl	$3, %ecx
	std
	rep movsq
	cld
	popq	%rsi

	/* The descriptor table is in what may be overwritten. */
	leaq	gdt(%rbx), %rax
	movq	%rax, gdt_pointer + 2(%rbx)
	lgdt	gdt_pointer(%rbx)

	leaq	relocated(%rbx), %rax
	jmp	*%rax

	.text
relocated:
	xorl	%eax, %eax
	leaq	_bss(%rip), %rdi
	leaq	_ebss(%rip), %rcx
	subq	%rdi, %rcx
	shrq	$3, %rcx
	rep stosq

	movq	%rsi, %r15
	movq	%r15, %rdi
	movq	%rbp, %rsi
	call	extract_kernel
	movq	%r15, %rsi
	jmp	*%rax

	.data
	.balign	8
gdt:	.quad	0
	.quad	0
	.quad	0x00af9a000000ffff	/* 10h: 64-bit code */
	.quad	0x00cf92000000ffff	/* 18h: data */
end_of_gdt:
gdt_pointer:
	.word	end_of_gdt - gdt - 1
	.quad	0

	.bss
	.balign	16
	.skip	0x4000
stack_end:

	.section ".pgtable", "aw", @nobits
	.balign	4096
pgtable:
	.skip	PAGES_OF_TABLES * 4096
