/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The legacy frame of LZ4: a magic number, then blocks of up to 8 MiB, each with its compressed length. */
#include "decompress.h"

static const uint8_t *in, *in_end;

static size_t more_length(size_t length)
{
	uint8_t byte;

	if (length != 15)
		return length;
	do {
		if (in == in_end)
			fail("lz4: the input ends too early");
		byte = *in++;
		length += byte;
	} while (byte == 255);
	return length;
}

size_t decompress(const uint8_t *input, size_t input_size, uint8_t *output, size_t output_size)
{
	const uint8_t *next = input + 4, *end = input + input_size;
	uint8_t *out = output, *out_end = output + output_size;

	if (input_size < 8 || little32(input) != 0x184c2102)
		fail("lz4: no such stream");
	while (out < out_end && end - next >= 4) {
		uint8_t *block = out;

		in = next + 4;
		if (little32(next) > (size_t)(end - in))
			fail("lz4: the input ends too early");
		in_end = next = in + little32(next);
		while (in < in_end) {
			uint8_t token = *in++;
			size_t distance, length = more_length(token >> 4);

			if (length > (size_t)(in_end - in) || length > (size_t)(out_end - out))
				fail("lz4: too many literals");
			memcpy(out, in, length);
			in += length;
			out += length;
			if (in == in_end)
				break;
			if (in_end - in < 2)
				fail("lz4: the input ends too early");
			distance = in[0] | in[1] << 8;
			in += 2;
			length = more_length(token & 15) + 4;
			if (!distance || distance > (size_t)(out - block) || length > (size_t)(out_end - out))
				fail("lz4: no such match");
			copy_match(out, distance, length);
			out += length;
		}
	}
	return out - output;
}
