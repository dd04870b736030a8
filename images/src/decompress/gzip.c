/* SPDX-License-Identifier: GPL-2.0-or-later */
/* gzip (RFC 1952) around deflate (RFC 1951). */
#include "decompress.h"

#define MAX_BITS 15

static const uint8_t *next_byte, *input_end;
static uint32_t bit_buffer;
static int bit_count;
static uint8_t *out_start, *out, *out_end;

static uint32_t bits(int count)
{
	uint32_t value;

	while (bit_count < count) {
		if (next_byte == input_end)
			fail("gzip: the input ends too early");
		bit_buffer |= (uint32_t)*next_byte++ << bit_count;
		bit_count += 8;
	}
	value = bit_buffer & ((1u << count) - 1);
	bit_buffer >>= count;
	bit_count -= count;
	return value;
}

/* A canonical Huffman code: how many codes have each length, and the symbols in the order of their codes. */
struct code {
	uint16_t count[MAX_BITS + 1];
	uint16_t symbol[288];
};

static void make_code(struct code *code, const uint8_t *lengths, int symbols)
{
	uint16_t first[MAX_BITS + 2];
	int i;

	memset(code->count, 0, sizeof(code->count));
	for (i = 0; i < symbols; i++)
		code->count[lengths[i]]++;
	code->count[0] = 0;
	first[1] = 0;
	for (i = 1; i <= MAX_BITS; i++)
		first[i + 1] = first[i] + code->count[i];
	for (i = 0; i < symbols; i++)
		if (lengths[i])
			code->symbol[first[lengths[i]]++] = i;
}

static int symbol(const struct code *code)
{
	int length, value = 0, first = 0, index = 0;

	for (length = 1; length <= MAX_BITS; length++) {
		value = value << 1 | bits(1);
		first <<= 1;
		if (value - first < code->count[length])
			return code->symbol[index + value - first];
		index += code->count[length];
		first += code->count[length];
	}
	fail("gzip: not a Huffman code");
}

static void need_room(size_t size)
{
	if ((size_t)(out_end - out) < size)
		fail("gzip: more output than expected");
}

static const uint16_t length_base[] = { 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31,
					35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258 };
static const uint8_t length_extra[] = { 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2,
					3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0 };

static void compressed_block(const struct code *literals, const struct code *distances)
{
	for (;;) {
		int value = symbol(literals);
		size_t length, distance;
		int extra;

		if (value == 256)
			return;
		if (value < 256) {
			need_room(1);
			*out++ = value;
			continue;
		}
		if (value > 285)
			fail("gzip: no such length");
		length = length_base[value - 257] + bits(length_extra[value - 257]);
		value = symbol(distances);
		if (value > 29)
			fail("gzip: no such distance");
		extra = value < 4 ? 0 : value / 2 - 1;
		distance = (value < 4 ? value : (2 + value % 2) << extra) + 1 + bits(extra);
		if (distance > (size_t)(out - out_start))
			fail("gzip: a match before the start of the output");
		need_room(length);
		copy_match(out, distance, length);
		out += length;
	}
}

static void stored_block(void)
{
	size_t size;

	bit_buffer = bit_count = 0;
	if (input_end - next_byte < 4)
		fail("gzip: the input ends too early");
	size = next_byte[0] | next_byte[1] << 8;
	next_byte += 4;
	if ((size_t)(input_end - next_byte) < size)
		fail("gzip: the input ends too early");
	need_room(size);
	memcpy(out, next_byte, size);
	next_byte += size;
	out += size;
}

static struct code literals, distances;
static uint8_t lengths[320];

static void fixed_codes(void)
{
	memset(lengths, 8, 144);
	memset(lengths + 144, 9, 112);
	memset(lengths + 256, 7, 24);
	memset(lengths + 280, 8, 8);
	make_code(&literals, lengths, 288);
	memset(lengths, 5, 30);
	make_code(&distances, lengths, 30);
}

static void dynamic_codes(void)
{
	static const uint8_t order[] = { 16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 };
	int literal_count = bits(5) + 257, distance_count = bits(5) + 1, length_count = bits(4) + 4;
	int i = 0;

	memset(lengths, 0, 19);
	for (; i < length_count; i++)
		lengths[order[i]] = bits(3);
	make_code(&literals, lengths, 19);
	for (i = 0; i < literal_count + distance_count;) {
		int value = symbol(&literals), repeat = 1;

		if (value == 16) {
			if (!i)
				fail("gzip: no length to repeat");
			value = lengths[i - 1];
			repeat = 3 + bits(2);
		} else if (value == 17) {
			value = 0;
			repeat = 3 + bits(3);
		} else if (value == 18) {
			value = 0;
			repeat = 11 + bits(7);
		}
		if (i + repeat > literal_count + distance_count)
			fail("gzip: too many code lengths");
		while (repeat--)
			lengths[i++] = value;
	}
	make_code(&literals, lengths, literal_count);
	make_code(&distances, lengths + literal_count, distance_count);
}

enum { FHCRC = 2, FEXTRA = 4, FNAME = 8, FCOMMENT = 16 };

size_t decompress(const uint8_t *input, size_t input_size, uint8_t *output, size_t output_size)
{
	int flags, last;

	if (input_size < 18 || input[0] != 0x1f || input[1] != 0x8b || input[2] != 8)
		fail("gzip: no such stream");
	flags = input[3];
	next_byte = input + 10;
	input_end = input + input_size;
	if (flags & FEXTRA)
		next_byte += 2 + (next_byte[0] | next_byte[1] << 8);
	if (flags & FNAME)
		while (*next_byte++)
			;
	if (flags & FCOMMENT)
		while (*next_byte++)
			;
	if (flags & FHCRC)
		next_byte += 2;
	out_start = out = output;
	out_end = output + output_size;
	do {
		last = bits(1);
		switch (bits(2)) {
		case 0:
			stored_block();
			continue;
		case 1:
			fixed_codes();
			break;
		case 2:
			dynamic_codes();
			break;
		default:
			fail("gzip: no such block");
		}
		compressed_block(&literals, &distances);
	} while (!last);
	return out - out_start;
}
