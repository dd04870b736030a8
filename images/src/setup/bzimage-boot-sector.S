/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Boot sector of the bzImages: says that they need a boot loader. Included by setup.S, at offset 0 of its segment. */
boot_sector:
	ljmp	$0x07c0, $1f
1:	movw	%cs, %ax
	movw	%ax, %ds
	movw	$loader_text, %si
	cld
2:	lodsb
	testb	%al, %al
	jz	3f
	movb	$0x0e, %ah
	movw	$7, %bx
	int	$0x10
	jmp	2b
3:	hlt
	jmp	3b
loader_text:
	.asciz	"This demo kernel needs a boot loader.\r\n"
