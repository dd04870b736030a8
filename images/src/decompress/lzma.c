/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The .lzma file format: properties, dictionary size, decompressed size (or all ones), data. */
#include "lzma-decoder.h"

size_t decompress(const uint8_t *input, size_t input_size, uint8_t *output, size_t output_size)
{
	struct lzma lzma = { .in = input + 13, .in_end = input + input_size, .out_start = output, .out = output };
	uint32_t size, size_high;

	if (input_size < 18)
		fail("lzma: the input ends too early");
	size = little32(input + 5);
	size_high = little32(input + 9);
	if (size_high == 0 && size < output_size)
		output_size = size;
	else if (size_high != 0xffffffff && (size_high || size > output_size))
		fail("lzma: more output than expected");
	lzma.out_end = output + output_size;
	lzma_reset(&lzma, input[0]);
	lzma_start_range(&lzma);
	lzma_decode(&lzma);
	return lzma.out - output;
}
