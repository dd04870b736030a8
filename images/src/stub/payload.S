/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The compressed kernel, and where it is. The build defines PAYLOAD as the file's name. */
	.section ".rodata..compressed", "a"
	.globl	input_data, input_data_end
	.hidden	input_data, input_data_end
input_data:
	.incbin	PAYLOAD
input_data_end:

#ifndef ZIMAGE
/* kernel_info: "Documentation/arch/x86/boot.rst". */
	.section ".rodata.kernel_info", "a"
	.balign	16
	.globl	kernel_info
kernel_info:
	.ascii	"LToP"
	.long	kernel_info_end - kernel_info
	.long	kernel_info_end - kernel_info
	.long	0x80000000 | 9	/* setup_type_max */
kernel_info_end:
#endif

	.section ".note.GNU-stack", "", @progbits
