/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Zstandard frames without a dictionary (RFC 8878); the output is the window. */
#include "decompress.h"

#define MAX_FSE_LOG 9
#define MAX_HUFFMAN_LOG 11
#define MAX_BLOCK (128 * 1024)

/* Bits are read from the last byte of a stream towards its first; the highest set bit of the last byte is a mark. */
struct stream {
	const uint8_t *start;
	/* Unread bits from `start` on; negative when more were read than there are, which counts as zeroes. */
	ptrdiff_t bits;
};

static void open_stream(struct stream *stream, const uint8_t *start, size_t size)
{
	uint8_t last;
	int mark = 7;

	if (!size || !(last = start[size - 1]))
		fail("zstd: a bit stream without its mark");
	while (!(last >> mark))
		mark--;
	stream->start = start;
	stream->bits = (ptrdiff_t)(size - 1) * 8 + mark;
}

static uint32_t bit_at(const struct stream *stream, ptrdiff_t index)
{
	return index < 0 ? 0 : stream->start[index >> 3] >> (index & 7) & 1;
}

/* The next bits without taking them. */
static uint32_t peek(const struct stream *stream, int count)
{
	uint32_t value = 0;
	int i;

	for (i = 1; i <= count; i++)
		value = value << 1 | bit_at(stream, stream->bits - i);
	return value;
}

static uint32_t take(struct stream *stream, int count)
{
	uint32_t value = peek(stream, count);

	stream->bits -= count;
	return value;
}

struct fse_entry {
	uint8_t symbol, bits;
	uint16_t base;
};

struct fse {
	int log;
	struct fse_entry entries[1 << MAX_FSE_LOG];
};

static int highest_bit(uint32_t value)
{
	int bit = 0;

	while (value >>= 1)
		bit++;
	return bit;
}

/* RFC 8878, 4.1.1: spreads the symbols over the states. Counts of -1 are of symbols "less than one". */
static void build_fse(struct fse *fse, const int16_t *counts, int symbols, int log)
{
	uint32_t size = 1u << log, high = size, position = 0, step = (size >> 1) + (size >> 3) + 3, state;
	uint16_t next[256];
	int i, j;

	fse->log = log;
	for (i = 0; i < symbols; i++) {
		next[i] = counts[i] < 0 ? 1 : counts[i];
		if (counts[i] < 0)
			fse->entries[--high].symbol = i;
	}
	for (i = 0; i < symbols; i++) {
		for (j = 0; j < counts[i]; j++) {
			fse->entries[position].symbol = i;
			do
				position = (position + step) & (size - 1);
			while (position >= high);
		}
	}
	for (state = 0; state < size; state++) {
		struct fse_entry *entry = &fse->entries[state];
		uint32_t value = next[entry->symbol]++;

		entry->bits = log - highest_bit(value);
		entry->base = (value << entry->bits) - size;
	}
}

/* A table description, its bits from the first byte on (RFC 8878, 4.1.1); returns the bytes it takes. */
static size_t read_fse(struct fse *fse, const uint8_t *in, size_t size, int max_log, int max_symbols)
{
	struct stream forward = { .start = in };
	int16_t counts[256];
	ptrdiff_t at = 4, end = (ptrdiff_t)size * 8;
	int32_t remaining;
	int log, symbols = 0;

	if (!size)
		fail("zstd: a table is missing");
	log = (in[0] & 15) + 5;
	if (log > max_log)
		fail("zstd: a table is too large");
	remaining = (1 << log) + 1;
	while (remaining > 1) {
		/* Values below `cut` need one bit less. */
		int i, width = highest_bit(remaining) + 1;
		uint32_t cut = (1u << width) - 1 - remaining, value = 0;

		if (symbols >= max_symbols || at + width > end + 7)
			fail("zstd: a damaged table");
		for (i = 0; i < width - 1; i++)
			value |= (at + i < end ? bit_at(&forward, at + i) : 0) << i;
		if (value < cut) {
			at += width - 1;
		} else {
			value |= (at + i < end ? bit_at(&forward, at + i) : 0) << i;
			at += width;
			if (value >= 1u << (width - 1))
				value -= cut;
		}
		counts[symbols++] = (int)value - 1;
		remaining -= value ? (int)value - 1 : 1;
		if (value == 1) {
			uint32_t zeroes;

			do {
				if (at + 2 > end)
					fail("zstd: a damaged table");
				zeroes = bit_at(&forward, at) | bit_at(&forward, at + 1) << 1;
				at += 2;
				for (i = 0; i < (int)zeroes; i++) {
					if (symbols >= max_symbols)
						fail("zstd: a damaged table");
					counts[symbols++] = 0;
				}
			} while (zeroes == 3);
		}
	}
	if (remaining != 1 || at > end)
		fail("zstd: a damaged table");
	build_fse(fse, counts, symbols, log);
	return (at + 7) / 8;
}

static struct {
	int log;
	uint8_t symbol[1 << MAX_HUFFMAN_LOG], bits[1 << MAX_HUFFMAN_LOG];
} huffman;

static size_t read_huffman(const uint8_t *in, size_t size)
{
	uint8_t weights[256];
	uint32_t total = 0, rest, position = 0;
	int i, j, count, weight;
	size_t used;

	if (!size)
		fail("zstd: a Huffman table is missing");
	if (in[0] >= 128) {
		count = in[0] - 127;
		used = 1 + (count + 1) / 2;
		if (used > size)
			fail("zstd: the input ends too early");
		for (i = 0; i < count; i++)
			weights[i] = i % 2 ? in[1 + i / 2] & 15 : in[1 + i / 2] >> 4;
	} else {
		static struct fse fse;
		struct stream stream;
		uint32_t states[2];
		size_t table;

		used = 1 + in[0];
		if (used > size)
			fail("zstd: the input ends too early");
		table = read_fse(&fse, in + 1, in[0], 6, 256);
		open_stream(&stream, in + 1 + table, in[0] - table);
		states[0] = take(&stream, fse.log);
		states[1] = take(&stream, fse.log);
		/* Two states take turns; when the bits are used up the other state holds the last weight. */
		for (count = 0;; count++) {
			struct fse_entry *entry = &fse.entries[states[count % 2]];

			if (count > 253)
				fail("zstd: too many Huffman weights");
			weights[count] = entry->symbol;
			if (stream.bits < entry->bits) {
				weights[count + 1] = fse.entries[states[(count + 1) % 2]].symbol;
				count += 2;
				break;
			}
			states[count % 2] = entry->base + take(&stream, entry->bits);
		}
	}
	for (i = 0; i < count; i++)
		if (weights[i])
			total += 1u << (weights[i] - 1);
	if (!total)
		fail("zstd: an empty Huffman table");
	huffman.log = highest_bit(total) + 1;
	rest = (1u << huffman.log) - total;
	if (huffman.log > MAX_HUFFMAN_LOG || rest & (rest - 1))
		fail("zstd: a damaged Huffman table");
	/* The last symbol's weight is what fills the table. */
	weights[count++] = highest_bit(rest) + 1;
	for (weight = 1; weight <= huffman.log; weight++) {
		for (i = 0; i < count; i++) {
			if (weights[i] != weight)
				continue;
			for (j = 0; j < 1 << (weight - 1); j++) {
				huffman.symbol[position] = i;
				huffman.bits[position++] = huffman.log + 1 - weight;
			}
		}
	}
	return used;
}

static void huffman_stream(const uint8_t *in, size_t size, uint8_t *out, size_t count)
{
	struct stream stream;

	open_stream(&stream, in, size);
	while (count--) {
		uint32_t index = peek(&stream, huffman.log);

		*out++ = huffman.symbol[index];
		stream.bits -= huffman.bits[index];
	}
	if (stream.bits)
		fail("zstd: damaged literals");
}

static uint8_t literals[MAX_BLOCK];
static size_t literal_count;

/* RFC 8878, 3.1.1.3.1; returns the bytes of the section. */
static size_t read_literals(const uint8_t *in, size_t size)
{
	uint32_t kind = in[0] & 3, format = in[0] >> 2 & 3;
	size_t header, compressed, used, streams, i, quarter;
	uint64_t fields = 0;

	for (i = 0; i < 5 && i < size; i++)
		fields |= (uint64_t)in[i] << (8 * i);
	if (kind < 2) {
		header = format == 1 ? 2 : format == 3 ? 3 : 1;
		literal_count = format == 1 ? fields >> 4 & 0xfff : format == 3 ? fields >> 4 & 0xfffff : fields >> 3 & 0x1f;
		used = header + (kind ? 1 : literal_count);
		if (literal_count > MAX_BLOCK || used > size)
			fail("zstd: too many literals");
		if (kind)
			memset(literals, in[header], literal_count);
		else
			memcpy(literals, in + header, literal_count);
		return used;
	}
	{
		int width = format < 2 ? 10 : format == 2 ? 14 : 18;

		header = format < 2 ? 3 : format == 2 ? 4 : 5;
		literal_count = fields >> 4 & ((1u << width) - 1);
		compressed = fields >> (4 + width) & ((1u << width) - 1);
	}
	used = header + compressed;
	if (literal_count > MAX_BLOCK || used > size)
		fail("zstd: too many literals");
	in += header;
	if (kind == 2) {
		size_t table = read_huffman(in, compressed);

		in += table;
		compressed -= table;
	}
	streams = format ? 4 : 1;
	if (streams == 1) {
		huffman_stream(in, compressed, literals, literal_count);
		return used;
	}
	quarter = (literal_count + 3) / 4;
	if (compressed < 6 || literal_count < 3 * quarter)
		fail("zstd: damaged literals");
	{
		const uint8_t *data = in + 6;
		size_t left = compressed - 6;

		for (i = 0; i < 4; i++) {
			size_t length = i < 3 ? (size_t)(in[2 * i] | in[2 * i + 1] << 8) : left;

			if (length > left)
				fail("zstd: damaged literals");
			huffman_stream(data, length, literals + i * quarter,
				       i < 3 ? quarter : literal_count - 3 * quarter);
			data += length;
			left -= length;
		}
	}
	return used;
}

static const int16_t default_literal_lengths[36] = { 4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2,
						     2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1 };
static const int16_t default_match_lengths[53] = { 1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1,
						   1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
						   1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1 };
static const int16_t default_offsets[29] = { 1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1,
					     1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1 };

static const uint32_t literal_length_base[36] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18,
						  20, 22, 24, 28, 32, 40, 48, 64, 128, 256, 512, 1024, 2048, 4096,
						  8192, 16384, 32768, 65536 };
static const uint8_t literal_length_bits[36] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1,
						 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
static const uint32_t match_length_base[21] = { 35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, 131, 259, 515, 1027,
						2051, 4099, 8195, 16387, 32771, 65539 };
static const uint8_t match_length_bits[21] = { 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

static struct fse literal_lengths, match_lengths, offsets;
static size_t repeated[3];

static size_t read_table(struct fse *fse, uint32_t mode, const uint8_t *in, size_t size, const int16_t *counts,
			 int symbols, int log, int max_log)
{
	switch (mode) {
	case 0:
		build_fse(fse, counts, symbols, log);
		return 0;
	case 1:
		if (!size)
			fail("zstd: the input ends too early");
		fse->log = 0;
		fse->entries[0] = (struct fse_entry){ .symbol = in[0] };
		return 1;
	case 2:
		return read_fse(fse, in, size, max_log, symbols);
	default:
		return 0;
	}
}

/* The distance that an offset value means; values 1 to 3 name one of the last three (RFC 8878, 3.1.1.5). */
static size_t distance_of(size_t value, size_t literal_length)
{
	size_t index, distance;

	if (value > 3) {
		repeated[2] = repeated[1];
		repeated[1] = repeated[0];
		return repeated[0] = value - 3;
	}
	index = value - 1 + !literal_length;
	if (!index)
		return repeated[0];
	distance = index == 3 ? repeated[0] - 1 : repeated[index];
	if (index > 1)
		repeated[2] = repeated[1];
	repeated[1] = repeated[0];
	return repeated[0] = distance;
}

static uint32_t next_state(const struct fse *fse, uint32_t state, struct stream *stream)
{
	const struct fse_entry *entry = &fse->entries[state];

	return entry->base + take(stream, entry->bits);
}

static uint8_t *compressed_block(const uint8_t *in, size_t size, uint8_t *start, uint8_t *out, uint8_t *end)
{
	const uint8_t *in_end = in + size, *literal = literals;
	uint32_t count, modes, literal_state = 0, match_state = 0, offset_state = 0;
	struct stream stream;

	if (!size)
		fail("zstd: an empty block");
	in += read_literals(in, size);
	if (in == in_end)
		fail("zstd: a block without sequences");
	count = *in++;
	if (count >= 128) {
		if (in_end - in < 2)
			fail("zstd: the input ends too early");
		if (count == 255) {
			count = (in[0] | in[1] << 8) + 0x7f00;
			in += 2;
		} else {
			count = ((count - 128) << 8) + *in++;
		}
	}
	if (count) {
		if (in == in_end)
			fail("zstd: the input ends too early");
		modes = *in++;
		in += read_table(&literal_lengths, modes >> 6, in, in_end - in, default_literal_lengths, 36, 6, 9);
		in += read_table(&offsets, modes >> 4 & 3, in, in_end - in, default_offsets, modes >> 4 & 2 ? 32 : 29, 5, 8);
		in += read_table(&match_lengths, modes >> 2 & 3, in, in_end - in, default_match_lengths, 53, 6, 9);
		open_stream(&stream, in, in_end - in);
		literal_state = take(&stream, literal_lengths.log);
		offset_state = take(&stream, offsets.log);
		match_state = take(&stream, match_lengths.log);
	}
	while (count--) {
		uint32_t literal_code = literal_lengths.entries[literal_state].symbol;
		uint32_t match_code = match_lengths.entries[match_state].symbol;
		uint32_t offset_code = offsets.entries[offset_state].symbol;
		size_t value, length, match, distance;

		if (literal_code > 35 || match_code > 52 || offset_code > 31)
			fail("zstd: no such sequence");
		value = ((size_t)1 << offset_code) + take(&stream, offset_code);
		match = match_code < 32 ? match_code + 3
					: match_length_base[match_code - 32] + take(&stream, match_length_bits[match_code - 32]);
		length = literal_length_base[literal_code] + take(&stream, literal_length_bits[literal_code]);
		distance = distance_of(value, length);
		if (count) {
			literal_state = next_state(&literal_lengths, literal_state, &stream);
			match_state = next_state(&match_lengths, match_state, &stream);
			offset_state = next_state(&offsets, offset_state, &stream);
		}
		if (length > (size_t)(literals + literal_count - literal) || length > (size_t)(end - out))
			fail("zstd: too many literals");
		memcpy(out, literal, length);
		literal += length;
		out += length;
		if (!distance || distance > (size_t)(out - start) || match > (size_t)(end - out))
			fail("zstd: no such match");
		copy_match(out, distance, match);
		out += match;
	}
	{
		size_t rest = literals + literal_count - literal;

		if (rest > (size_t)(end - out))
			fail("zstd: more output than expected");
		memcpy(out, literal, rest);
		return out + rest;
	}
}

size_t decompress(const uint8_t *input, size_t input_size, uint8_t *output, size_t output_size)
{
	static const uint8_t dictionary_id_size[4] = { 0, 1, 2, 4 }, content_size_size[4] = { 0, 2, 4, 8 };
	const uint8_t *in = input + 5, *in_end = input + input_size;
	uint8_t *out = output, *end = output + output_size;
	uint32_t descriptor, single_segment, header, last;

	if (input_size < 9 || little32(input) != 0xfd2fb528)
		fail("zstd: no such frame");
	descriptor = input[4];
	single_segment = descriptor >> 5 & 1;
	in += !single_segment + dictionary_id_size[descriptor & 3] + content_size_size[descriptor >> 6];
	if (single_segment && !(descriptor >> 6))
		in++;
	repeated[0] = 1;
	repeated[1] = 4;
	repeated[2] = 8;
	do {
		size_t size;

		if (in_end - in < 3)
			fail("zstd: the input ends too early");
		header = in[0] | in[1] << 8 | (uint32_t)in[2] << 16;
		in += 3;
		last = header & 1;
		size = header >> 3;
		switch (header >> 1 & 3) {
		case 0:
			if (size > (size_t)(in_end - in) || size > (size_t)(end - out))
				fail("zstd: a block is too long");
			memcpy(out, in, size);
			in += size;
			out += size;
			break;
		case 1:
			if (in == in_end || size > (size_t)(end - out))
				fail("zstd: a block is too long");
			memset(out, *in++, size);
			out += size;
			break;
		case 2:
			if (size > (size_t)(in_end - in))
				fail("zstd: a block is too long");
			out = compressed_block(in, size, output, out, end);
			in += size;
			break;
		default:
			fail("zstd: no such block");
		}
	} while (!last);
	return out - output;
}
