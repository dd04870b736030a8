/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The real-mode part of the demo images: boot sector, setup header, and setup, which asks the BIOS for what
 * boot_params tells the kernel and switches to protected mode.
 *
 * The build defines SETUP_SECTS, SYSSIZE, PAYLOAD_OFFSET, PAYLOAD_LENGTH, INIT_SIZE, KERNEL_INFO_OFFSET and
 * XLOADFLAGS, and ZIMAGE for the old kind: protocol 2.03, boot_params where the boot sector was.
 */
#include "fields.h"

	.code16
	.section ".text", "ax"
	.globl	_start
_start:
#ifdef ZIMAGE
#include "zimage-boot-sector.S"
#define PROTOCOL 0x0203
#define LOADFLAGS 0
#define CODE32_START 0x1000
#define boot_params 0
#define E820_ENTRIES_HERE 32
#else
#include "bzimage-boot-sector.S"
#define PROTOCOL 0x020f
#define LOADFLAGS 1
#define CODE32_START 0x100000
#define E820_ENTRIES_HERE E820_MAX_ENTRIES
#endif

	/* The setup header: "Documentation/arch/x86/boot.rst", in its order. */
	.org	0x1f1
setup_sects:
	.byte	SETUP_SECTS
	.word	1		/* root_flags: read-only */
syssize:
	.long	SYSSIZE
	.word	0		/* ram_size */
	.word	0xffff		/* vid_mode: normal */
	.word	0		/* root_dev */
	.word	0xaa55		/* boot_flag */
	/* The jump is two bytes, its displacement is the header's length. */
	.byte	0xeb, start_of_setup - 1f
1:	.ascii	"HdrS"
	.word	PROTOCOL
	.long	0		/* realmode_swtch */
	.word	0x1000		/* start_sys_seg */
	.word	kernel_version - 0x200
	.byte	0		/* type_of_loader */
loadflags:
	.byte	LOADFLAGS
	.word	0x8000		/* setup_move_size */
code32_start:
	.long	CODE32_START
	.long	0		/* ramdisk_image */
	.long	0		/* ramdisk_size */
	.long	0		/* bootsect_kludge */
	.word	end_of_setup + 0x400 - 0x200	/* heap_end_ptr */
	.byte	0		/* ext_loader_ver */
	.byte	0		/* ext_loader_type */
	.long	0		/* cmd_line_ptr */
	.long	0x37ffffff	/* initrd_addr_max */
#ifndef ZIMAGE
	.long	0x200000	/* kernel_alignment */
	.byte	RELOCATABLE	/* relocatable_kernel */
	.byte	21		/* min_alignment */
	.word	XLOADFLAGS
	.long	2047		/* cmdline_size */
	.long	0		/* hardware_subarch */
	.quad	0		/* hardware_subarch_data */
	.long	PAYLOAD_OFFSET
	.long	PAYLOAD_LENGTH
	.quad	0		/* setup_data */
	.quad	0x1000000	/* pref_address */
	.long	INIT_SIZE
	.long	0		/* handover_offset */
	.long	KERNEL_INFO_OFFSET
#endif
end_of_header:

start_of_setup:
#ifdef ZIMAGE
	/* The E820 map in boot_params goes over what lies here. */
	jmp	1f
	.skip	1024
1:
#endif
	/* A loader comes with DS = our segment; the boot sector leaves it so too. SETUPSEG is 0x20 above. */
	movw	%cs, %ax
	subw	$0x20, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movw	$end_of_stack, %sp
	sti
	cld
	cmpl	$0x5a5aaa55, signature
	jne	halt

#ifndef ZIMAGE
	xorl	%eax, %eax
	movw	$boot_params, %di
	movw	$4096 / 4, %cx
	rep stosl
	movw	$BP_HEADER, %si
	movw	$boot_params + BP_HEADER, %di
	movw	$end_of_header - BP_HEADER, %cx
	rep movsb
#endif

	movw	$setup_text, %si
	call	print

	call	detect_memory
	call	detect_video

#ifdef ZIMAGE
	/* The system moves from 0x10000 down to 0x1000, 4 KiB at a time, up to where setup lies. */
	testb	$1, loadflags
	jnz	2f
	pushw	%ds
	movw	$0x0100, %ax
1:	movw	%ax, %es
	addw	$0x0f00, %ax
	movw	%ax, %ds
	xorw	%si, %si
	xorw	%di, %di
	movw	$0x1000 / 4, %cx
	rep movsl
	subw	$0x0f00 - 0x100, %ax
	cmpw	$0x8000, %ax
	jbe	1b
	popw	%ds
2:
#endif

	call	enable_a20
	cli
	movb	$0xff, %al	/* all interrupts of the second controller, all but its cascade of the first */
	outb	%al, $0xa1
	movb	$0xfb, %al
	outb	%al, $0x21

	xorl	%ebx, %ebx
	movw	%ds, %bx
	shll	$4, %ebx
	leal	gdt(%ebx), %eax
	movl	%eax, gdt_pointer + 2
	leal	protected(%ebx), %eax
	movl	%eax, protected_pointer
	lidtl	no_idt
	lgdtl	gdt_pointer
	leal	boot_params(%ebx), %esi
	movl	code32_start, %ebp
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	*protected_pointer

	.code32
protected:
	movl	$BOOT_DS, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	/* The stack stays where it was, in linear addresses. */
	addl	%ebx, %esp
	xorl	%eax, %eax
	xorl	%ebx, %ebx
	xorl	%ecx, %ecx
	xorl	%edx, %edx
	xorl	%edi, %edi
	xchgl	%ebp, %eax
	jmp	*%eax
	.code16

/* INT 15h E820 to the table in boot_params, E801 and 88h to the two older fields. */
detect_memory:
	xorl	%ebx, %ebx
	movw	$boot_params + BP_E820_TABLE, %di
1:	movl	$0xe820, %eax
	movl	$E820_ENTRY_SIZE, %ecx
	movl	$0x534d4150, %edx
	int	$0x15
	jc	2f
	cmpl	$0x534d4150, %eax
	jne	2f
	incb	boot_params + BP_E820_ENTRIES
	addw	$E820_ENTRY_SIZE, %di
	cmpb	$E820_ENTRIES_HERE, boot_params + BP_E820_ENTRIES
	jae	2f
	testl	%ebx, %ebx
	jnz	1b
2:	xorl	%ecx, %ecx
	xorl	%edx, %edx
	movw	$0xe801, %ax
	int	$0x15
	jc	3f
	jcxz	4f
	movw	%cx, %ax
	movw	%dx, %bx
4:	movzwl	%bx, %ebx	/* 64 KiB blocks above 16 MiB, KiB below */
	shll	$6, %ebx
	movzwl	%ax, %eax
	addl	%ebx, %eax
	movl	%eax, boot_params + BP_ALT_MEM_K
3:	movb	$0x88, %ah
	int	$0x15
	movw	%ax, boot_params + BP_EXT_MEM_K
	ret

detect_video:
	movb	$0x0f, %ah
	int	$0x10
	movb	%al, boot_params + BP_ORIG_VIDEO_MODE
	movb	%ah, boot_params + BP_ORIG_VIDEO_COLS
	movb	$3, %ah		/* BH is the page that the call above gave */
	int	$0x10
	movw	%dx, boot_params + BP_ORIG_X
	movb	$25, boot_params + BP_ORIG_VIDEO_LINES
	movb	$1, boot_params + BP_ORIG_VIDEO_ISVGA
	movw	$16, boot_params + BP_ORIG_VIDEO_POINTS
	ret

/* By the BIOS, else by port 92h, then waits until address line 20 counts. */
enable_a20:
	movw	$0x2401, %ax
	int	$0x15
	call	a20_works
	jne	1f
	inb	$0x92, %al
	orb	$2, %al
	andb	$0xfe, %al
	outb	%al, $0x92
2:	call	a20_works
	je	2b
1:	ret

/* Not equal: what is written at 0:0200 does not appear 1 MiB higher. */
a20_works:
	pushw	%es
	pushw	%fs
	xorw	%ax, %ax
	movw	%ax, %fs
	decw	%ax
	movw	%ax, %es
	movw	%fs:0x200, %ax
	pushw	%ax
	incw	%ax
	movw	%ax, %fs:0x200
	outb	%al, $0x80
	cmpw	%es:0x210, %ax
	jne	1f
	incw	%ax
	movw	%ax, %fs:0x200
	outb	%al, $0x80
	cmpw	%es:0x210, %ax
1:	popw	%fs:0x200
	popw	%fs
	popw	%es
	ret

print:
1:	lodsb
	testb	%al, %al
	jz	2f
	movb	$0x0e, %ah
	movw	$7, %bx
	int	$0x10
	jmp	1b
2:	ret

halt:
	movw	$damaged_text, %si
	call	print
1:	hlt
	jmp	1b

kernel_version:
	.asciz	VERSION_TEXT
setup_text:
	.asciz	"Bootscope demo image: setup\r\n"
damaged_text:
	.asciz	"The setup code is damaged.\r\n"

	.balign	8
gdt:	/* The selectors that the 32-bit boot protocol wants: 10h code, 18h data, flat. */
	.quad	0
	.quad	0
	.quad	0x00cf9a000000ffff
	.quad	0x00cf92000000ffff
end_of_gdt:
gdt_pointer:
	.word	end_of_gdt - gdt - 1
	.long	0
no_idt:
	.word	0
	.long	0
protected_pointer:
	.long	0
	.word	BOOT_CS

signature:
	.long	0x5a5aaa55
	.globl	end_of_setup
end_of_setup:

	.bss
	.balign	16
#ifndef ZIMAGE
boot_params:
	.skip	4096
#endif
	.skip	1024
end_of_stack:
