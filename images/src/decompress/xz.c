/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first block of an .xz file: LZMA2, with or without the filter for x86 code; the checks are not verified. */
#include "lzma-decoder.h"

#define FILTER_X86 4
#define FILTER_LZMA2 0x21

static const uint8_t *lzma2(const uint8_t *in, const uint8_t *end, uint8_t *output, size_t *size)
{
	struct lzma lzma = { .out_start = output, .out = output };
	uint8_t *limit = output + *size;

	for (;;) {
		uint32_t control, unpacked, packed;

		if (end - in < 6)
			fail("xz: the input ends too early");
		control = *in++;
		if (!control)
			break;
		if (control < 0x80) {
			if (control > 2)
				fail("xz: no such chunk");
			unpacked = (in[0] << 8 | in[1]) + 1;
			in += 2;
			if (unpacked > (size_t)(limit - lzma.out) || unpacked > (size_t)(end - in))
				fail("xz: a chunk is too long");
			memcpy(lzma.out, in, unpacked);
			lzma.out += unpacked;
			in += unpacked;
			continue;
		}
		unpacked = ((control & 0x1f) << 16 | in[0] << 8 | in[1]) + 1;
		packed = (in[2] << 8 | in[3]) + 1;
		in += 4;
		if (control >= 0xc0)
			lzma_reset(&lzma, *in++);
		else if (control >= 0xa0)
			lzma_reset_state(&lzma);
		if (unpacked > (size_t)(limit - lzma.out) || packed > (size_t)(end - in))
			fail("xz: a chunk is too long");
		lzma.in = in;
		lzma.in_end = in += packed;
		lzma.out_end = lzma.out + unpacked;
		lzma_start_range(&lzma);
		lzma_decode(&lzma);
	}
	*size = lzma.out - output;
	return in;
}

static int is_sign_byte(uint8_t byte)
{
	return byte == 0x00 || byte == 0xff;
}

/*
 * Turns the absolute targets of CALL and JMP back into displacements. The encoder remembers in `mask` which
 * of the bytes before looked like opcodes too, and leaves out what would be ambiguous; so must we.
 */
static void undo_x86_filter(uint8_t *bytes, size_t size)
{
	static const uint8_t mask_allowed[8] = { 1, 1, 1, 0, 1, 0, 0, 0 };
	static const uint8_t mask_byte[8] = { 0, 1, 2, 2, 3, 3, 3, 3 };
	size_t i, last = (size_t)-1;
	uint32_t mask = 0;

	if (size < 5)
		return;
	for (i = 0; i < size - 4; i++) {
		uint32_t value;

		if ((bytes[i] & 0xfe) != 0xe8)
			continue;
		last = i - last;
		if (last > 3) {
			mask = 0;
		} else {
			mask = mask << (last - 1) & 7;
			if (mask && (!mask_allowed[mask] || is_sign_byte(bytes[i + 4 - mask_byte[mask]]))) {
				last = i;
				mask = mask << 1 | 1;
				continue;
			}
		}
		last = i;
		if (!is_sign_byte(bytes[i + 4])) {
			mask = mask << 1 | 1;
			continue;
		}
		value = little32(bytes + i + 1);
		for (;;) {
			uint32_t shift;

			value -= (uint32_t)i + 5;
			if (!mask)
				break;
			shift = mask_byte[mask] * 8;
			if (!is_sign_byte(value >> (24 - shift)))
				break;
			value ^= (1u << (32 - shift)) - 1;
		}
		value = (value & 0x01ffffff) | -(value & 0x01000000);
		bytes[i + 1] = value;
		bytes[i + 2] = value >> 8;
		bytes[i + 3] = value >> 16;
		bytes[i + 4] = value >> 24;
		i += 4;
		mask = 0;
	}
}

static uint32_t number(const uint8_t **in)
{
	uint32_t value = 0;
	int shift = 0;

	do
		value |= (uint32_t)(**in & 0x7f) << shift;
	while (*(*in)++ & 0x80 && (shift += 7) < 28);
	return value;
}

size_t decompress(const uint8_t *input, size_t input_size, uint8_t *output, size_t output_size)
{
	static const uint8_t magic[] = { 0xfd, '7', 'z', 'X', 'Z', 0 };
	const uint8_t *in = input + 12;
	uint32_t header_size, flags, filters, has_x86 = 0;
	unsigned int i;

	for (i = 0; i < sizeof(magic); i++)
		if (input[i] != magic[i])
			fail("xz: no such stream");
	header_size = (in[0] + 1) * 4;
	flags = in[1];
	in += 2;
	if (flags & 0x40)
		number(&in);
	if (flags & 0x80)
		number(&in);
	for (filters = (flags & 3) + 1; filters--;) {
		uint32_t id = number(&in), size = number(&in);

		if (id == FILTER_X86 && filters)
			has_x86 = 1;
		else if (id != FILTER_LZMA2 || filters)
			fail("xz: a filter that is not known here");
		in += size;
	}
	lzma2(input + 12 + header_size, input + input_size, output, &output_size);
	if (has_x86)
		undo_x86_filter(output, output_size);
	return output_size;
}
