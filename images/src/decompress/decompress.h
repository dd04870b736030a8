/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the boot stubs of the demo images and their decompressors have in common: no library, no heap. */
#ifndef DECOMPRESS_H
#define DECOMPRESS_H

#include <stddef.h>
#include <stdint.h>

/* All is linked into one image that runs at any address: no symbol may go through a table of addresses. */
#pragma GCC visibility push(hidden)

/*
 * Decompresses the stream at the start of `input` and returns the number of bytes written to `output`.
 * Bytes behind the stream are ignored. Calls `fail` for a damaged stream and for one that holds more than
 * `output_size` bytes. One source file per format defines this; an image is linked with one of them.
 */
size_t decompress(const uint8_t *input, size_t input_size, uint8_t *output, size_t output_size);

/* Prints the reason and halts. */
void fail(const char *reason) __attribute__((noreturn));

void *memcpy(void *to, const void *from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);

/* Copies a match of an LZ77 format; source and destination may overlap, byte by byte in rising order. */
static inline void copy_match(uint8_t *to, size_t distance, size_t length)
{
	const uint8_t *from = to - distance;

	while (length--)
		*to++ = *from++;
}

static inline uint32_t little32(const uint8_t *p)
{
	return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint32_t big32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

#endif
