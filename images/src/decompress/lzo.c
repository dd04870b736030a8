/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file format of lzop with blocks of LZO1X. */
#include "decompress.h"

static const uint8_t *in, *in_end;

static uint8_t byte(void)
{
	if (in == in_end)
		fail("lzo: the input ends too early");
	return *in++;
}

static uint32_t long_length(uint32_t field, uint32_t mask)
{
	uint32_t length = field & mask;

	if (length)
		return length;
	length = mask;
	for (;;) {
		uint8_t more = byte();

		if (more)
			return length + more;
		length += 255;
	}
}

static uint8_t *literals(uint8_t *out, uint8_t *out_end, uint32_t count)
{
	if (count > (size_t)(out_end - out) || count > (size_t)(in_end - in))
		fail("lzo: too many literals");
	memcpy(out, in, count);
	in += count;
	return out + count;
}

static void decompress_block(uint8_t *start, uint8_t *out_end)
{
	uint8_t *out = start;
	/* Literals before this instruction: 0 to 3 behind a match, 4 for a longer run. It decides what 0..15 mean. */
	uint32_t state = 0;

	if (in < in_end && *in > 17) {
		uint32_t count = *in++ - 17;

		out = literals(out, out_end, count);
		state = count < 4 ? count : 4;
	}
	for (;;) {
		uint32_t op = byte(), length, distance, trailing;

		if (op < 16 && state == 0) {
			out = literals(out, out_end, 3 + long_length(op, 15));
			state = 4;
			continue;
		}
		trailing = op & 3;
		if (op >= 64) {
			length = op >= 128 ? 5 + (op >> 5 & 3) : 3 + (op >> 5 & 1);
			distance = (byte() << 3) + (op >> 2 & 7) + 1;
		} else if (op >= 16) {
			uint32_t field;

			length = 2 + (op >= 32 ? long_length(op, 31) : long_length(op, 7));
			field = byte();
			field |= byte() << 8;
			distance = op >= 32 ? (field >> 2) + 1 : 16384 + ((op & 8) << 11) + (field >> 2);
			trailing = field & 3;
			if (op < 32 && distance == 16384) {
				if (out != out_end)
					fail("lzo: a block is too short");
				return;
			}
		} else {
			length = state == 4 ? 3 : 2;
			distance = (byte() << 2) + (op >> 2) + (state == 4 ? 2049 : 1);
		}
		if (distance > (size_t)(out - start) || length > (size_t)(out_end - out))
			fail("lzo: no such match");
		copy_match(out, distance, length);
		out = literals(out + length, out_end, trailing);
		state = trailing;
	}
}

enum { ADLER32_D = 1, ADLER32_C = 2, FILTER = 0x800, CRC32_D = 0x100, CRC32_C = 0x200 };

size_t decompress(const uint8_t *input, size_t input_size, uint8_t *output, size_t output_size)
{
	static const uint8_t magic[] = { 0x89, 'L', 'Z', 'O', 0, '\r', '\n', 0x1a, '\n' };
	const uint8_t *next = input + 9, *end = input + input_size;
	size_t written = 0;
	uint32_t version, flags;
	unsigned int i;

	for (i = 0; i < sizeof(magic); i++)
		if (input[i] != magic[i])
			fail("lzo: no such stream");
	version = next[0] << 8 | next[1];
	/* Version, library, needed version, method and level; the last two words came with 0x940. */
	next += version >= 0x940 ? 8 : 5;
	flags = big32(next);
	next += 4 + (flags & FILTER ? 4 : 0) + 4 + (version >= 0x940 ? 8 : 4);
	next += 1 + next[0] + 4;
	while (end - next >= 8) {
		uint32_t size = big32(next), compressed = big32(next + 4);

		if (!size)
			break;
		next += 8;
		next += 4 * (!!(flags & ADLER32_D) + !!(flags & CRC32_D));
		if (compressed < size)
			next += 4 * (!!(flags & ADLER32_C) + !!(flags & CRC32_C));
		if (compressed > (size_t)(end - next) || size > output_size - written)
			fail("lzo: a block is too long");
		in = next;
		next = in_end = in + compressed;
		if (compressed == size)
			memcpy(output + written, in, size);
		else
			decompress_block(output + written, output + written + size);
		written += size;
	}
	return written;
}
