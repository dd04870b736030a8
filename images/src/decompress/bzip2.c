/* SPDX-License-Identifier: GPL-2.0-or-later */
/* bzip2: Huffman codes, run lengths, move-to-front and the Burrows-Wheeler transform, undone in this order. */
#include "decompress.h"

#define MAX_BLOCK 900000
#define MAX_LENGTH 20
#define GROUP_SIZE 50

static const uint8_t *next_byte, *input_end;
static uint32_t bit_buffer;
static int bit_count;

static uint32_t bits(int count)
{
	uint32_t value = 0;

	while (count--) {
		if (!bit_count) {
			if (next_byte == input_end)
				fail("bzip2: the input ends too early");
			bit_buffer = *next_byte++;
			bit_count = 8;
		}
		value = value << 1 | (bit_buffer >> --bit_count & 1);
	}
	return value;
}

struct code {
	uint16_t count[MAX_LENGTH + 1];
	uint16_t symbol[258];
};

static struct code codes[6];
static uint8_t selectors[32768];
/* Each entry: the byte in the low 8 bits, then the index of the next entry. */
static uint32_t transform[MAX_BLOCK];

static void read_code(struct code *code, int symbols)
{
	uint8_t lengths[258];
	int i, wanted, index = 0, length = bits(5);

	memset(code->count, 0, sizeof(code->count));
	for (i = 0; i < symbols; i++) {
		while (bits(1))
			length += bits(1) ? -1 : 1;
		if (length < 1 || length > MAX_LENGTH)
			fail("bzip2: no such code length");
		lengths[i] = length;
		code->count[length]++;
	}
	for (wanted = 1; wanted <= MAX_LENGTH; wanted++)
		for (i = 0; i < symbols; i++)
			if (lengths[i] == wanted)
				code->symbol[index++] = i;
}

static int symbol(const struct code *code)
{
	int length, value = 0, first = 0, index = 0;

	for (length = 1; length <= MAX_LENGTH; length++) {
		value = value << 1 | bits(1);
		first <<= 1;
		if (value - first < code->count[length])
			return code->symbol[index + value - first];
		index += code->count[length];
		first += code->count[length];
	}
	fail("bzip2: not a Huffman code");
}

/* Moves the entry at `index` to the front and returns it. */
static uint8_t to_front(uint8_t *list, int index)
{
	uint8_t value = list[index];

	memmove(list + 1, list, index);
	list[0] = value;
	return value;
}

static uint32_t read_block(uint32_t limit)
{
	uint8_t list[256];
	uint32_t used, size = 0, run = 0, run_bit = 1;
	int i, j, symbols, groups, selector_count, group = -1, left = 0;

	symbols = 0;
	used = bits(16);
	for (i = 0; i < 16; i++) {
		uint32_t row = used >> (15 - i) & 1 ? bits(16) : 0;

		for (j = 0; j < 16; j++)
			if (row >> (15 - j) & 1)
				list[symbols++] = i * 16 + j;
	}
	symbols += 2;
	groups = bits(3);
	selector_count = bits(15);
	if (groups < 2 || groups > 6 || !selector_count)
		fail("bzip2: no such number of codes");
	{
		uint8_t order[6] = { 0, 1, 2, 3, 4, 5 };

		for (i = 0; i < selector_count; i++) {
			for (j = 0; bits(1); j++)
				if (j >= groups - 1)
					fail("bzip2: no such code");
			selectors[i] = to_front(order, j);
		}
	}
	for (i = 0; i < groups; i++)
		read_code(&codes[i], symbols);
	for (;;) {
		int value;

		if (!left--) {
			if (++group >= selector_count)
				fail("bzip2: too few selectors");
			left = GROUP_SIZE - 1;
		}
		value = symbol(&codes[selectors[group]]);
		/* Runs of the front byte are written in base 2 with the digits 1 and 2. */
		if (value < 2) {
			run += run_bit << value;
			run_bit <<= 1;
			if (run > limit)
				fail("bzip2: a block is too long");
			continue;
		}
		if (size + run >= limit)
			fail("bzip2: a block is too long");
		while (run) {
			transform[size++] = list[0];
			run--;
		}
		run_bit = 1;
		if (value == symbols - 1)
			return size;
		transform[size++] = to_front(list, value - 1);
	}
}

size_t decompress(const uint8_t *input, size_t input_size, uint8_t *output, size_t output_size)
{
	uint32_t limit;
	size_t written = 0;

	if (input_size < 14 || input[0] != 'B' || input[1] != 'Z' || input[2] != 'h' || input[3] < '1' ||
	    input[3] > '9')
		fail("bzip2: no such stream");
	limit = (input[3] - '0') * 100000;
	next_byte = input + 4;
	input_end = input + input_size;
	for (;;) {
		uint32_t high = bits(24), low = bits(24), start, size, at, i;
		uint32_t first[256], count[256] = { 0 };
		int repeated = 0;
		uint8_t previous = 0;

		bits(32);
		if (high == 0x177245 && low == 0x385090)
			return written;
		if (high != 0x314159 || low != 0x265359)
			fail("bzip2: no such block");
		if (bits(1))
			fail("bzip2: a block of the obsolete randomised kind");
		start = bits(24);
		size = read_block(limit);
		if (start >= size)
			fail("bzip2: no such start");
		for (i = 0; i < size; i++)
			count[transform[i] & 0xff]++;
		for (i = 0, at = 0; i < 256; i++) {
			first[i] = at;
			at += count[i];
		}
		for (i = 0; i < size; i++)
			transform[first[transform[i] & 0xff]++] |= i << 8;
		at = transform[start] >> 8;
		for (i = 0; i < size; i++) {
			uint8_t value = transform[at] & 0xff;
			uint32_t copies = 1;

			at = transform[at] >> 8;
			/* Four equal bytes are followed by the number of further ones. */
			if (repeated == 4) {
				copies = value;
				value = previous;
				repeated = 0;
			} else {
				repeated = repeated && value == previous ? repeated + 1 : 1;
			}
			if (output_size - written < copies)
				fail("bzip2: more output than expected");
			memset(output + written, value, copies);
			written += copies;
			previous = value;
		}
	}
}
