/* SPDX-License-Identifier: GPL-2.0-or-later */
/* LZMA: a range coder with adaptive probabilities over literals, matches and repeated matches. */
#include "lzma-decoder.h"

#define POSITION_STATES 16
#define STATES 12
#define LOW_LENGTHS 8
#define HIGH_LENGTHS 256
#define PROBABILITY_BITS 11
#define SHIFT 5
#define SHORTEST_MATCH 2

typedef uint16_t probability;

struct lengths {
	probability is_not_low, is_high;
	probability low[POSITION_STATES][LOW_LENGTHS];
	probability middle[POSITION_STATES][LOW_LENGTHS];
	probability high[HIGH_LENGTHS];
};

static struct {
	probability is_match[STATES][POSITION_STATES];
	probability is_repeat[STATES];
	probability is_not_repeat0[STATES];
	probability is_not_repeat1[STATES];
	probability is_not_repeat2[STATES];
	probability is_long_repeat0[STATES][POSITION_STATES];
	probability distance_slot[4][64];
	probability distance_special[128];
	probability distance_align[16];
	struct lengths match, repeat;
	probability literal[0x300 << 4];
} model;

static void normalize(struct lzma *lzma)
{
	if (lzma->range >> 24)
		return;
	if (lzma->in == lzma->in_end)
		fail("lzma: the input ends too early");
	lzma->range <<= 8;
	lzma->code = lzma->code << 8 | *lzma->in++;
}

static uint32_t bit(struct lzma *lzma, probability *chance)
{
	uint32_t bound;

	normalize(lzma);
	bound = (lzma->range >> PROBABILITY_BITS) * *chance;
	if (lzma->code < bound) {
		lzma->range = bound;
		*chance += ((1 << PROBABILITY_BITS) - *chance) >> SHIFT;
		return 0;
	}
	lzma->range -= bound;
	lzma->code -= bound;
	*chance -= *chance >> SHIFT;
	return 1;
}

static uint32_t tree(struct lzma *lzma, probability *chances, int depth)
{
	uint32_t node = 1;
	int i;

	for (i = 0; i < depth; i++)
		node = node << 1 | bit(lzma, &chances[node]);
	return node - (1u << depth);
}

/* The same with the lowest bit first. */
static uint32_t reverse_tree(struct lzma *lzma, probability *chances, int depth)
{
	uint32_t node = 1, value = 0;
	int i;

	for (i = 0; i < depth; i++) {
		uint32_t one = bit(lzma, &chances[node]);

		node = node << 1 | one;
		value |= one << i;
	}
	return value;
}

static uint32_t direct_bits(struct lzma *lzma, int count)
{
	uint32_t value = 0;

	while (count--) {
		normalize(lzma);
		lzma->range >>= 1;
		value <<= 1;
		if (lzma->code >= lzma->range) {
			lzma->code -= lzma->range;
			value |= 1;
		}
	}
	return value;
}

static uint32_t read_length(struct lzma *lzma, struct lengths *lengths, uint32_t position)
{
	if (!bit(lzma, &lengths->is_not_low))
		return SHORTEST_MATCH + tree(lzma, lengths->low[position], 3);
	if (!bit(lzma, &lengths->is_high))
		return SHORTEST_MATCH + 8 + tree(lzma, lengths->middle[position], 3);
	return SHORTEST_MATCH + 16 + tree(lzma, lengths->high, 8);
}

static uint32_t read_distance(struct lzma *lzma, uint32_t length)
{
	uint32_t context = length - SHORTEST_MATCH < 4 ? length - SHORTEST_MATCH : 3;
	uint32_t slot = tree(lzma, model.distance_slot[context], 6);
	uint32_t distance;
	int count;

	if (slot < 4)
		return slot;
	count = slot / 2 - 1;
	distance = (2 | slot % 2) << count;
	if (slot < 14)
		return distance + reverse_tree(lzma, model.distance_special + distance - slot, count);
	distance += direct_bits(lzma, count - 4) << 4;
	return distance + reverse_tree(lzma, model.distance_align, 4);
}

static void read_literal(struct lzma *lzma)
{
	size_t position = lzma->out - lzma->out_start;
	uint32_t previous = position ? lzma->out[-1] : 0;
	uint32_t context = ((position & lzma->literal_position_mask) << lzma->literal_context_bits) +
			   (previous >> (8 - lzma->literal_context_bits));
	probability *chances = model.literal + 0x300 * context;
	uint32_t node = 1;

	if (lzma->state >= 7) {
		/* Behind a match the byte that it would have gone on with is a good guess. */
		uint32_t guess = lzma->out[-(ptrdiff_t)lzma->distance[0] - 1];

		while (node < 0x100) {
			uint32_t expected = guess >> 7 & 1, one = bit(lzma, &chances[0x100 + (expected << 8) + node]);

			guess <<= 1;
			node = node << 1 | one;
			if (one != expected)
				break;
		}
	}
	while (node < 0x100)
		node = node << 1 | bit(lzma, &chances[node]);
	*lzma->out++ = node;
	lzma->state = lzma->state < 4 ? 0 : lzma->state < 10 ? lzma->state - 3 : lzma->state - 6;
}

void lzma_reset_state(struct lzma *lzma)
{
	probability *chance = (probability *)&model;
	size_t i;

	for (i = 0; i < sizeof(model) / sizeof(*chance); i++)
		chance[i] = 1 << (PROBABILITY_BITS - 1);
	lzma->state = 0;
	for (i = 0; i < 4; i++)
		lzma->distance[i] = 0;
}

void lzma_reset(struct lzma *lzma, uint8_t properties)
{
	if (properties >= 9 * 5 * 5)
		fail("lzma: no such properties");
	lzma->literal_context_bits = properties % 9;
	lzma->literal_position_mask = (1u << properties / 9 % 5) - 1;
	lzma->position_mask = (1u << properties / 45) - 1;
	if (lzma->literal_context_bits + properties / 9 % 5 > 4)
		fail("lzma: more than 4 bits of literal context");
	lzma_reset_state(lzma);
}

void lzma_start_range(struct lzma *lzma)
{
	if (lzma->in_end - lzma->in < 5 || lzma->in[0])
		fail("lzma: no range coder starts here");
	lzma->range = 0xffffffff;
	lzma->code = big32(lzma->in + 1);
	lzma->in += 5;
}

void lzma_decode(struct lzma *lzma)
{
	while (lzma->out < lzma->out_end) {
		uint32_t position = (lzma->out - lzma->out_start) & lzma->position_mask, length, state = lzma->state;

		if (!bit(lzma, &model.is_match[state][position])) {
			read_literal(lzma);
			continue;
		}
		if (!bit(lzma, &model.is_repeat[state])) {
			lzma->distance[3] = lzma->distance[2];
			lzma->distance[2] = lzma->distance[1];
			lzma->distance[1] = lzma->distance[0];
			length = read_length(lzma, &model.match, position);
			lzma->distance[0] = read_distance(lzma, length);
			lzma->state = state < 7 ? 7 : 10;
			if (lzma->distance[0] == 0xffffffff)
				return;
		} else {
			if (!bit(lzma, &model.is_not_repeat0[state])) {
				if (!bit(lzma, &model.is_long_repeat0[state][position])) {
					lzma->state = state < 7 ? 9 : 11;
					length = 1;
					goto copy;
				}
			} else {
				uint32_t distance = lzma->distance[1];

				if (bit(lzma, &model.is_not_repeat1[state])) {
					distance = lzma->distance[2];
					if (bit(lzma, &model.is_not_repeat2[state])) {
						distance = lzma->distance[3];
						lzma->distance[3] = lzma->distance[2];
					}
					lzma->distance[2] = lzma->distance[1];
				}
				lzma->distance[1] = lzma->distance[0];
				lzma->distance[0] = distance;
			}
			length = read_length(lzma, &model.repeat, position);
			lzma->state = state < 7 ? 8 : 11;
		}
copy:
		if (lzma->distance[0] >= (size_t)(lzma->out - lzma->out_start) ||
		    length > (size_t)(lzma->out_end - lzma->out))
			fail("lzma: no such match");
		copy_match(lzma->out, (size_t)lzma->distance[0] + 1, length);
		lzma->out += length;
	}
}
