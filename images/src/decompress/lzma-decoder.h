/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The LZMA decoder that .lzma and .xz files share; the output is its dictionary. */
#ifndef LZMA_DECODER_H
#define LZMA_DECODER_H

#include "decompress.h"

struct lzma {
	const uint8_t *in, *in_end;
	uint8_t *out_start, *out, *out_end;
	uint32_t range, code;
	uint32_t state, distance[4];
	uint32_t literal_context_bits, literal_position_mask, position_mask;
};

/* Takes the properties byte (lc + 9 * (lp + 5 * pb)) and resets state and probabilities. */
void lzma_reset(struct lzma *lzma, uint8_t properties);
/* Resets state and probabilities, keeps the properties. */
void lzma_reset_state(struct lzma *lzma);
/* Takes the 5 bytes that start a range coder. */
void lzma_start_range(struct lzma *lzma);
/* Decodes until `out` has reached `out_end`, or to the end marker if there is one before. */
void lzma_decode(struct lzma *lzma);

#endif
