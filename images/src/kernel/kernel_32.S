/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The 32-bit demo kernel: checks its data, prints one line on COM1 and on the screen, and halts. Runs wherever it lies. */
#include "console.h"

/* The address of a symbol, with EBP pointing to `here`. */
#define AT(symbol) symbol - here(%ebp)

	.text
	.code32
	.globl	entry
entry:	/* ESI: boot_params, kept. No stack is known yet but the loader's, which may be anywhere. */
	movl	$0x90000, %esp
	call	here
here:	popl	%ebp
	leal	AT(stack_end), %esp
	leal	AT(squares), %edi
	xorl	%ecx, %ecx
1:	movl	%ecx, %eax
	imull	%ecx, %eax
	cmpl	%eax, (%edi, %ecx, 4)
	jne	2f
	incl	%ecx
	cmpl	$2048, %ecx
	jb	1b
	leal	AT(good_text), %ebx
	jmp	3f
2:	leal	AT(bad_text), %ebx
3:	serial_setup
	movl	$SCREEN_LAST_ROW, %edi
	call	print
	leal	AT(at_text), %ebx
	call	print

	/* Where we are, 8 digits. */
	leal	AT(entry), %ecx
	pushl	$8
1:	roll	$4, %ecx
	movl	%ecx, %eax
	andl	$15, %eax
	leal	AT(digits), %ebx
	movb	(%ebx, %eax), %al
	call	put
	decl	(%esp)
	jnz	1b
	popl	%eax
	leal	AT(end_text), %ebx
	call	print
1:	cli
	hlt
	jmp	1b

/* The string at EBX, ended by a zero. */
print:	movb	(%ebx), %al
	testb	%al, %al
	jz	1f
	call	put
	incl	%ebx
	jmp	print
1:	ret

/* AL to COM1, and to the screen at EDI if it can be seen. */
put:	put_serial
	cmpb	$' ', %al
	jb	1f
	movb	%al, (%edi)
	movb	$7, 1(%edi)
	addl	$2, %edi
1:	ret

	.section ".rodata", "a"
good_text:
	.asciz	"Bootscope demo kernel, 32-bit, data intact"
	texts

	.bss
	.balign	16
	.skip	0x1000
stack_end:

	.section ".note.GNU-stack", "", @progbits
