/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Serial port and screen of the demo kernels, as assembly that is the same in 32 and 64 bits. */
#define SERIAL_PORT 0x3f8
#define SERIAL_READY 0x20
#define SCREEN_LAST_ROW (0xb8000 + 24 * 160)

	.macro	serial_register register, value
	movw	$SERIAL_PORT + \register, %dx
	movb	$\value, %al
	outb	%al, %dx
	.endm

/* No interrupts, 115200 baud, 8 bits, no parity. */
	.macro	serial_setup
	serial_register 1, 0
	serial_register 3, 0x80
	serial_register 0, 1
	serial_register 1, 0
	serial_register 3, 3
	.endm

/* Waits until COM1 takes a byte and gives it AL; changes AH and EDX. */
	.macro	put_serial
	movb	%al, %ah
	movw	$SERIAL_PORT + 5, %dx
9:	inb	%dx, %al
	testb	$SERIAL_READY, %al
	jz	9b
	movw	$SERIAL_PORT, %dx
	movb	%ah, %al
	outb	%al, %dx
	.endm

	.macro	texts
bad_text:
	.asciz	"Bootscope demo kernel: its data is damaged"
at_text:
	.asciz	", at 0x"
end_text:
	.asciz	"\r\n"
digits:
	.ascii	"0123456789abcdef"
	.endm

