/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Boot sector of the zImage. The BIOS loads it from a floppy to 0x7c00; it moves to 0x90000, reads setup
 * behind itself and the system to 0x10000, and jumps to setup. Included by setup.S, at offset 0 of its segment.
 */
#define INITSEG 0x9000
#define SETUPSEG 0x9020
#define SYSSEG 0x1000
#define DISK_TABLE_VECTOR 0x78
#define STACK_TOP 0x3ff4

boot_sector:
	movw	$0x07c0, %ax
	movw	%ax, %ds
	movw	$INITSEG, %ax
	movw	%ax, %es
	xorw	%si, %si
	xorw	%di, %di
	movw	$256, %cx
	cld
	rep movsw
	ljmp	$INITSEG, $moved

moved:	/* AX is INITSEG. */
	movw	%ax, %ds
	movw	%ax, %ss
	movw	$STACK_TOP, %sp

	/* A disk parameter table of our own, above the stack: the BIOS's may forbid reads of whole tracks. */
	xorw	%cx, %cx
	movw	%cx, %fs
	lfs	%fs:DISK_TABLE_VECTOR, %si
	movw	$STACK_TOP, %di
	movw	$6, %cx
	fs rep movsw
	movb	$36, 4 + STACK_TOP
	movw	%cx, %fs
	movw	$STACK_TOP, %fs:DISK_TABLE_VECTOR
	movw	%ds, %fs:DISK_TABLE_VECTOR + 2

	xorw	%ax, %ax	/* reset, so that the new table counts */
	xorw	%dx, %dx
	int	$0x13

	/* Sectors a track: the largest number whose last sector can be read. */
	movw	$track_sizes, %si
probe:	lodsb
	cbtw
	movw	%ax, sectors_per_track
	cmpw	$end_of_track_sizes, %si
	jae	probed
	movb	%al, %cl
	movb	$0, %ch
	xorw	%dx, %dx
	movw	$0x0200, %bx
	movw	$0x0201, %ax
	int	$0x13
	jc	probe
probed:

	/* Setup goes to 0x90200: the sectors behind this one. */
	movw	$1, next_sector
	movw	$0x0200, %bx
	movzbw	setup_sects, %ax
	movw	%ax, sectors_left
	call	read_sectors

	/* The system goes to 0x10000 on; each read stays within a track and within 64 KiB. */
	movw	$SYSSEG, %ax
	movw	%ax, %es
	xorw	%bx, %bx
	movw	syssize, %ax
	addw	$31, %ax
	shrw	$5, %ax
	movw	%ax, sectors_left
	call	read_sectors

	movw	$0x3f2, %dx	/* the motor stops */
	xorb	%al, %al
	outb	%al, %dx
	ljmp	$SETUPSEG, $0

/* Reads `sectors_left` from `next_sector` on to ES:BX, and moves ES on at each 64 KiB. */
read_sectors:
	cmpw	$0, sectors_left
	je	1f
	movw	next_sector, %ax
	xorw	%dx, %dx
	divw	sectors_per_track	/* AX track, DX sector */
	movw	%dx, %cx
	movw	sectors_per_track, %si
	subw	%dx, %si	/* to the end of the track */
	cmpw	sectors_left, %si
	jbe	2f
	movw	sectors_left, %si
2:	movw	%bx, %di	/* to the end of the 64 KiB, in sectors */
	negw	%di
	shrw	$9, %di
	jz	3f
	cmpw	%di, %si
	jbe	3f
	movw	%di, %si
3:	incw	%cx
	shrw	%ax		/* AX cylinder, carry: head */
	movb	$0, %dh
	adcb	$0, %dh
	movb	%al, %ch
	movb	$0, %dl
	movw	%si, %ax
	movb	$2, %ah
	pushw	%ax
	int	$0x13
	popw	%ax
	jc	failed
	movb	$0, %ah
	addw	%ax, next_sector
	subw	%ax, sectors_left
	shlw	$9, %ax
	addw	%ax, %bx
	jnc	read_sectors
	movw	%es, %ax
	addw	$0x1000, %ax
	movw	%ax, %es
	jmp	read_sectors
1:	ret

failed:
	movw	$failed_text, %si
1:	lodsb
	testb	%al, %al
2:	jz	2b
	movb	$0x0e, %ah
	movw	$7, %bx
	int	$0x10
	jmp	1b

track_sizes:
	.byte	36, 18, 15, 9
end_of_track_sizes:
sectors_per_track:
	.word	0
next_sector:
	.word	0
sectors_left:
	.word	0
failed_text:
	.asciz	"The floppy can't be read.\r\n"
