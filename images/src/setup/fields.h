/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Offsets in boot_params ("Documentation/arch/x86/zero-page.rst"), for assembly. */
#define BP_ORIG_X 0x000
#define BP_ORIG_Y 0x001
#define BP_EXT_MEM_K 0x002
#define BP_ORIG_VIDEO_MODE 0x006
#define BP_ORIG_VIDEO_COLS 0x007
#define BP_ORIG_VIDEO_LINES 0x00e
#define BP_ORIG_VIDEO_ISVGA 0x00f
#define BP_ORIG_VIDEO_POINTS 0x010
#define BP_ALT_MEM_K 0x1e0
#define BP_SCRATCH 0x1e4
#define BP_E820_ENTRIES 0x1e8
#define BP_HEADER 0x1f1
#define BP_KERNEL_ALIGNMENT 0x230
#define BP_INIT_SIZE 0x260
#define BP_E820_TABLE 0x2d0
#define E820_ENTRY_SIZE 20
#define E820_MAX_ENTRIES 128

#define BOOT_CS 0x10
#define BOOT_DS 0x18
