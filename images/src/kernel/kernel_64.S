/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 64-bit demo kernel: checks its data, prints one line on COM1 and on the screen, and halts. Runs wherever it lies. */
#include "console.h"

	.text
	.code64
	.ascii	"Bootscope demo kernel"
	.balign	64
	.globl	entry
entry:	/* RSI: boot_params, kept. */
	leaq	stack_end(%rip), %rsp
	leaq	squares(%rip), %rdi
	xorl	%ecx, %ecx
1:	movl	%ecx, %eax
	imull	%ecx, %eax
	cmpl	%eax, (%rdi, %rcx, 4)
	jne	2f
	incl	%ecx
	cmpl	$2048, %ecx
	jb	1b
	leaq	good_text(%rip), %rbx
	jmp	3f
2:	leaq	bad_text(%rip), %rbx
3:	serial_setup
	movl	$SCREEN_LAST_ROW, %edi
	call	print
	leaq	at_text(%rip), %rbx
	call	print

	/* Where we are, 16 digits. */
	leaq	entry(%rip), %rbp
	movl	$16, %r8d
1:	rolq	$4, %rbp
	movl	%ebp, %eax
	andl	$15, %eax
	leaq	digits(%rip), %rbx
	movb	(%rbx, %rax), %al
	call	put
	decl	%r8d
	jnz	1b
	leaq	end_text(%rip), %rbx
	call	print
1:	cli
	hlt
	jmp	1b

/* The string at RBX, ended by a zero. */
print:	movb	(%rbx), %al
	testb	%al, %al
	jz	1f
	call	put
	incq	%rbx
	jmp	print
1:	ret

/* AL to COM1, and to the screen at RDI if it can be seen. */
put:	put_serial
	cmpb	$' ', %al
	jb	1f
	movb	%al, (%rdi)
	movb	$7, 1(%rdi)
	addq	$2, %rdi
1:	ret

	.section ".rodata", "a"
good_text:
	.asciz	"Bootscope demo kernel, 64-bit, data intact"
	texts

	.bss
	.balign	16
	.skip	0x1000
stack_end:

	.section ".note.GNU-stack", "", @progbits
